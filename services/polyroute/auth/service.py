"""AuthService: messages into questions for the domain, and its answers into messages."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from polyroute.api.auth.v1 import auth_pb2 as pb
from polyroute.api.auth.v1 import auth_pb2_grpc
from polyroute.auth.keyring import Keyring
from polyroute.auth.keys import Key
from polyroute.auth.revocations import RevocationFeed
from polyroute.auth.verdicts import Verdicts

Context = grpc.aio.ServicerContext[Any, Any]


class AuthService(auth_pb2_grpc.AuthServiceServicer):
    """Accounts, projects and keys, over the contract.

    Args:
        verdicts: Says whose a credential is.
        keyring: Creates, lists and revokes keys.
        feed: Revocations as they happen.
        fresh_for: Seconds for which a verdict may be used without asking again.
        usable_for: Seconds for which it may be used while this service does not answer.
    """

    def __init__(
        self, verdicts: Verdicts, keyring: Keyring, feed: RevocationFeed, *, fresh_for: float, usable_for: float
    ) -> None:
        self._verdicts = verdicts
        self._keyring = keyring
        self._feed = feed
        self._fresh_for = _duration(fresh_for)
        self._usable_for = _duration(usable_for)

    async def Authorize(self, request: pb.AuthorizeRequest, context: Context) -> pb.AuthorizeResponse:  # noqa: N802
        """Says who presents a credential."""
        key = await self._verdicts.authorize(request.credential)
        return pb.AuthorizeResponse(
            verdict=pb.Verdict(
                caller=pb.Caller(
                    account_id=key.account_id,
                    project_id=key.project_id,
                    key_id=key.id,
                    key_prefix=key.prefix,
                    key_name=key.name,
                ),
                fresh_for=self._fresh_for,
                usable_for=self._usable_for,
                models=key.models,
                expire_time=_timestamp(key.expires),
            )
        )

    async def WatchRevocations(  # noqa: N802
        self, request: pb.WatchRevocationsRequest, context: Context
    ) -> AsyncGenerator[pb.WatchRevocationsResponse]:
        """Pushes every revocation as it happens."""
        async with aclosing(self._feed.watch(request.revision)) as batches:
            async for batch in batches:
                yield pb.WatchRevocationsResponse(revision=batch.revision, key_ids=batch.key_ids, reset=batch.reset)

    async def CreateKey(self, request: pb.CreateKeyRequest, context: Context) -> pb.CreateKeyResponse:  # noqa: N802
        """Creates a key."""
        key, secret = await self._keyring.create(
            project_id=request.project_id,
            name=request.name,
            models=tuple(request.models),
            lifetime=_seconds(request.lifetime) if request.HasField("lifetime") else None,
            request_id=request.request_id,
        )
        return pb.CreateKeyResponse(key=_message(key), secret=secret)

    async def ListKeys(self, request: pb.ListKeysRequest, context: Context) -> pb.ListKeysResponse:  # noqa: N802
        """Lists keys, newest first."""
        page, next_token = await self._keyring.page(
            project_id=request.project_id,
            size=request.page_size,
            token=request.page_token,
            show_ended=request.show_ended,
        )
        return pb.ListKeysResponse(keys=map(_message, page), next_page_token=next_token)

    async def RevokeKey(self, request: pb.RevokeKeyRequest, context: Context) -> pb.RevokeKeyResponse:  # noqa: N802
        """Revokes a key for good."""
        return pb.RevokeKeyResponse(key=_message(await self._keyring.revoke(request.key)))


def _message(key: Key) -> pb.Key:
    return pb.Key(
        id=key.id,
        project_id=key.project_id,
        prefix=key.prefix,
        name=key.name,
        create_time=_timestamp(key.created),
        revoke_time=_timestamp(key.revoked),
        expire_time=_timestamp(key.expires),
        models=key.models,
    )


def _timestamp(micros: int | None) -> Timestamp | None:
    if micros is None:
        return None
    timestamp = Timestamp()
    timestamp.FromMicroseconds(micros)
    return timestamp


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
