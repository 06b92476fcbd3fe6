"""What the doors hand to the path of a call."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, EncodedRequest, RequestFacts
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.modality.v1.modality_pb2 import Task
from polyroute.api.providers.v1.providers_pb2 import EmbedInput, RelayRequest
from polyroute.api.router.v1.router_pb2 import Hints, Plan, Preferences
from polyroute.edge.admission import Admission
from polyroute.edge.capacity import Rooms
from polyroute.edge.hearing import Lasting
from polyroute.edge.marks import Named
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError


@dataclass(slots=True)
class Call:
    """What a door hands in.

    Attributes:
        credential: The caller's key as presented.
        facts: What was read from the request.
        body: The question, typed or as the client sent it.
        raw: The bytes that `body` holds, until they were looked through: a message copies them each time it is asked.
        deadline: Loop time at which the call must be over.
        trail: What becomes known of it.
        headers: The client's headers that the vendor may see.
        preferences: What the caller wants of the deployments; None when it says nothing.
        hints: What the content looks like, for a model that is to be chosen by it.
        session: Ties calls together that should stay at one deployment; empty for none.
        policy: The policy that it names, or that its key does; empty leaves that to the operator's rules.
        regions: Where its key lets it go; empty means anywhere.
        hurried: The caller set the deadline: whoever would not make it need not be tried.
        explain: The caller wants the whole decision record.
        route: Path of the HTTP request or the RPC.
        source: Address it comes from; empty when unknown.
        criticality: What the call says of how much it matters; see `turnstile.criticality_of`.
        key_mark: Fingerprint of the vendor's key that made what the request refers to; empty when any will do.
        admission: What the call takes of its key's limits and budget.
        rooms: What its attempts take of their deployments; None until it was let in.
        lasting: An answer that goes on although the caller has left; None while nobody left.
    """

    credential: str
    facts: RequestFacts
    body: ChatRequest | EncodedRequest | EmbedInput | Task
    deadline: float
    trail: Trail
    headers: Mapping[str, str] = field(default_factory=dict)
    preferences: Preferences | None = None
    hints: Hints | None = None
    session: str = ""
    policy: str = ""
    regions: Sequence[str] = ()
    hurried: bool = False
    explain: bool = False
    route: str = ""
    source: str = ""
    criticality: str = ""
    key_mark: bytes = b""
    admission: Admission | None = None
    rooms: Rooms | None = None
    lasting: Lasting | None = None
    raw: bytes = b""


@dataclass(slots=True)
class Relayed:
    """A request for a vendor's own API.

    Attributes:
        credential: The caller's key as presented.
        facts: Of operation RELAY; the model is `provider/model` where the body names one.
        request: What is passed on.
        deadline: Loop time at which the call must be over.
        trail: What becomes known of it.
        named: What it refers to, already in the vendor's words in `request`.
        rooms: What it takes of its deployment; None until it was let in.
    """

    credential: str
    facts: RequestFacts
    request: RelayRequest
    deadline: float
    trail: Trail
    named: Sequence[Named] = ()
    route: str = ""
    source: str = ""
    criticality: str = ""
    admission: Admission | None = None
    rooms: Rooms | None = None


def plan_of(call: Call) -> Plan:
    """The call's plan; it has one once it was decided."""
    assert call.trail.decision is not None  # noqa: S101 - decided before any attempt
    return call.trail.decision.plan


def time_left(call: Call | Relayed) -> float:
    """Seconds until the call's deadline.

    Raises:
        MeshError: REASON_DEADLINE; there are none.
    """
    left = call.deadline - asyncio.get_running_loop().time()
    if left <= 0:
        raise MeshError(pb.REASON_DEADLINE, "the call's time is over")
    return left
