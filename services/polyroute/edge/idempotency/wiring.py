"""Builds what makes calls once per key."""

from polyroute.api.idempotency.v1.idempotency_pb2_grpc import IdempotencyServiceStub
from polyroute.edge.authorizer import Authorizer
from polyroute.edge.config import EdgeConfig
from polyroute.edge.idempotency.claims import Claims
from polyroute.edge.idempotency.once import Once
from polyroute.mesh.node import Node


def assembled(node: Node, config: EdgeConfig, authorizer: Authorizer) -> Once:
    """Calls of this edge that name a key; `claims.run` prolongs their leases, `close` waits for the last of them."""
    stub = IdempotencyServiceStub(node.channel("metrics"))
    claims = Claims(stub, timeout=config.decide_seconds, lease=config.idempotency_lease)
    return Once(authorizer, claims, grace=node.config.drain_grace)
