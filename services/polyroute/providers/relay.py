"""A request to a vendor's own API and its answer, both as they are, under the account's credentials.

What the answer says of its usage is read where it is in a dialect that the account speaks at that path; files, batches
and the like say nothing of it.
"""

import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.providers.v1.providers_pb2 import RelayRequest, RelayResponse
from polyroute.dialects.dialect import BrokenStreamError, Framer, Meter, Metered
from polyroute.dialects.registry import DIALECTS
from polyroute.mesh.errors import MeshError
from polyroute.providers.account import Account
from polyroute.providers.http import Target
from polyroute.providers.transport import Answer, Limits, Transport

LARGEST: Final = 8 * 1024 * 1024  # bytes of a whole answer that is read for its usage
# Headers of the connection, not of the answer (RFC 9110, section 7.6.1), and what the framing here says anew.
_HOP: Final = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


# What vendors keep, which the doors have at the paths of the API that it came with, whatever the vendor's address is.
_KEPT: Final = re.compile(
    r"/(?:files|batches|uploads|responses|conversations|vector_stores|messages/batches)(?=[/?]|$)"
)
_ENDS: Final = ("/chat/completions", "/responses", "/messages")


async def relay(
    request: RelayRequest, account: Account, transport: Transport, limits: Limits
) -> AsyncGenerator[RelayResponse]:
    """Passes one request on.

    Raises:
        MeshError: REASON_UPSTREAM when the vendor cannot be reached or its answer breaks off; REASON_NOT_FOUND when the
            account has the one key no more that will do.
    """
    key = account.key(mark=request.key_mark)
    answer: Answer | None = None
    try:
        target = account.elsewhere(request.method, placed(account, request.path), key)
        headers = {**request.headers, **await account.authorize(key, target, request.body)}
        answer = await transport.post(target, request.body, limits, headers)
        reading = Reading(_dialect(account, target), answer)
        yield RelayResponse(
            status=answer.status, headers=_passed(answer.headers), key_mark=key.mark, provider=account.name
        )
        while data := await answer.read(first=False):
            reading.feed(data)
            yield RelayResponse(data=data)
        yield RelayResponse(last=True, usage=reading.usage())
    except MeshError as error:
        error.metadata = {"provider": account.name, **error.metadata}
        raise
    finally:
        if answer is not None:
            answer.close()


def placed(account: Account, path: str) -> str:
    """A path below the account's address: of what a vendor keeps, beside its conversations; any other as it is."""
    if not _KEPT.match(path):
        return path
    places = [spoken.path for spoken in account.vendor.speaks if spoken.dialect in DIALECTS]
    ends = _ENDS[-1:] if path.startswith(_ENDS[-1]) else _ENDS
    beside = (place.removesuffix(end) for end in ends for place in places if place.endswith(end))
    return next(beside, "") + path


def _passed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in _HOP and value.isascii()}


def _dialect(account: Account, target: Target) -> str:
    """The dialect that the account speaks at the target's path; empty when it is none that clients speak as well."""
    path = target.head.split(b" ", 2)[1].split(b"?")[0].decode("latin-1")
    return next((name for name, end in _ends(account) if path.endswith(end)), "")


def _ends(account: Account) -> Iterable[tuple[str, str]]:
    for spoken in account.vendor.speaks:
        if spoken.dialect in DIALECTS:
            for place in {spoken.path, spoken.stream_path} - {""}:
                yield spoken.dialect, place.partition("?")[0].rpartition("}")[2]


class Reading:
    """Reads usage from what passes; whatever cannot be read is passed all the same.

    Args:
        dialect: Of the answer; empty when it is unknown.
        answer: Its headers.
    """

    def __init__(self, dialect: str, answer: Answer) -> None:
        self._dialect = DIALECTS.get(dialect) if answer.ok else None
        self._framer: Framer | None = None
        self._meter: Meter | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._usage: Usage | None = None
        if self._dialect is not None:
            self._framer = self._dialect.framing(answer.content_type)
            self._meter = self._dialect.meter(hide_usage=False) if self._framer is not None else None

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        if self._dialect is None:
            return
        if self._framer is None or self._meter is None:
            self._size += len(data)
            self._pieces.append(data)
            if self._size > LARGEST:
                self._dialect, self._pieces = None, []
            return
        metered: Metered | None = None
        try:
            metered = self._meter.feed(self._framer.feed(data))
        except BrokenStreamError as broken:
            metered, self._dialect = broken.metered, None
        except MeshError as error:
            if error.fault != errors_pb2.FAULT_BAD_ANSWER:
                raise
            self._dialect = None  # it is not in this dialect after all
        if metered is not None and metered.usage is not None:
            self._usage = metered.usage

    def usage(self) -> Usage | None:
        """What the answer said; None when it said nothing that is understood."""
        if self._dialect is None or self._framer is not None:
            return self._usage
        try:
            return self._dialect.read_answer_facts(b"".join(self._pieces)).usage
        except MeshError:  # an answer in another form, which is the caller's business
            return None
