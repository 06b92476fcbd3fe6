"""What makes two requests one, what is kept of an answer, and what is not."""

import asyncio
import json
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.auth.v1.auth_pb2 import Caller, KeyScope, Verdict
from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.idempotency.v1.idempotency_pb2 import (
    ENTRY_STATE_CLAIMED,
    ENTRY_STATE_DONE,
    ENTRY_STATE_MISMATCH,
    ENTRY_STATE_NOT_KEPT,
    Answer,
    ClaimRequest,
    ClaimResponse,
    SettleRequest,
)
from polyroute.edge.idempotency.canonical import canonical, number
from polyroute.edge.idempotency.claims import Claim, Claims, Kept
from polyroute.edge.idempotency.once import counts
from polyroute.edge.idempotency.request import Request, content_of, request_of
from polyroute.edge.idempotency.tape import MOST_STREAM, MOST_WHOLE, Tape
from polyroute.mesh.errors import MeshError

VERDICT = Verdict(caller=Caller(account_id="a", project_id="p", key_id="k"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def bits(text: str) -> float:
    (value,) = struct.unpack(">d", bytes.fromhex(text))
    return float(value)


@pytest.mark.parametrize(
    ("ieee", "written"),
    [  # RFC 8785, appendix B
        ("0000000000000000", b"0"),
        ("8000000000000000", b"0"),
        ("0000000000000001", b"5e-324"),
        ("8000000000000001", b"-5e-324"),
        ("7fefffffffffffff", b"1.7976931348623157e+308"),
        ("ffefffffffffffff", b"-1.7976931348623157e+308"),
        ("4340000000000000", b"9007199254740992"),
        ("c340000000000000", b"-9007199254740992"),
        ("4430000000000000", b"295147905179352830000"),
        ("44b52d02c7e14af5", b"9.999999999999997e+22"),
        ("44b52d02c7e14af6", b"1e+23"),
        ("44b52d02c7e14af7", b"1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", b"999999999999999700000"),
        ("444b1ae4d6e2ef4f", b"999999999999999900000"),
        ("444b1ae4d6e2ef50", b"1e+21"),
        ("3eb0c6f7a0b5ed8c", b"9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", b"0.000001"),
        ("41b3de4355555553", b"333333333.3333332"),
        ("41b3de4355555557", b"333333333.33333343"),
        ("becbf647612f3696", b"-0.0000033333333333333333"),
        ("43143ff3c1cb0959", b"1424953923781206.2"),
    ],
)
def test_numbers_are_written_as_the_standard_shows(ieee: str, written: bytes) -> None:
    """Every value of the RFC's own table."""
    assert written == number(bits(ieee))


def test_document_of_the_standard_has_its_canonical_form() -> None:
    """RFC 8785, 3.2.2 and 3.2.3: literals, escapes, and members in the order of their UTF-16 code units."""
    body = rb"""{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"""
    ordered = '{"\\u20ac":1,"\\r":2,"\\ufb33":3,"1":4,"\\ud83d\\ude00":5,"\\u0080":6,"\\u00f6":7}'

    assert (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    ).encode() == canonical(body)
    assert '{"\\r":2,"1":4,"\x80":6,"ö":7,"€":1,"😀":5,"\ufb33":3}'.encode() == canonical(ordered.encode())


@given(JSON)
def test_every_spelling_has_one_form(value: object) -> None:
    """Whatever the order, the spaces and the escapes; and the form is its own."""
    spellings = [
        json.dumps(value),
        json.dumps(value, ensure_ascii=False),
        json.dumps(value, indent=3, sort_keys=True),
    ]

    forms = {canonical(spelling.encode()) for spelling in spellings}

    assert len(forms) == 1
    assert forms == {canonical(form) for form in forms}


@pytest.mark.parametrize("body", [b"", b"{", b'{"a":NaN}', b"[" * 5000 + b"]" * 5000, b"\xff"])
def test_what_is_no_document_stays_as_it_is(body: bytes) -> None:
    """It is refused elsewhere; here it is only told apart."""
    assert body == canonical(body)


def test_large_whole_numbers_are_told_apart() -> None:
    """Two seeds that would be one as doubles are two requests."""
    assert canonical(b'{"seed":9007199254740993}') != canonical(b'{"seed":9007199254740992}')


def test_form_is_the_same_whatever_its_boundary() -> None:
    """Clients draw the boundary anew for every try."""
    form = '--{0}\r\nContent-Disposition: form-data; name="{1}"\r\n\r\n{2}\r\n--{0}--\r\n'

    def content(boundary: str, name: str, value: str) -> bytes:
        return content_of(form.format(boundary, name, value).encode(), f"multipart/form-data; boundary={boundary}", b"")

    assert content("abc", "model", "m") == content("xyz", "model", "m")
    assert content("abc", "model", "m") != content("abc", "model", "n")
    assert content("abc", "model", "m") != content("abc", "mode", "lm")


def test_query_counts_unless_it_says_who_asks() -> None:
    """`alt=sse` gives another answer; `key` is a credential."""
    plain = content_of(b"{}", "application/json", b"")

    assert plain == content_of(b"{ }", "application/json", b"key=pr-1")
    assert plain != content_of(b"{}", "application/json", b"alt=sse&key=pr-1")


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_key_has_1_to_255_characters(key: str) -> None:
    """The parameter is named."""
    with pytest.raises(MeshError) as refused:
        request_of(VERDICT, "POST /v1/x", key, b"{}")

    assert (pb.REASON_INVALID_REQUEST, "idempotency-key") == (refused.value.reason, refused.value.metadata["param"])
    assert request_of(VERDICT, "POST /v1/x", "x" * 255, b"{}").entry


def test_entries_are_of_a_tenant_a_route_and_a_key() -> None:
    """Keys of one project share them; a key that may do less has its own."""
    other_key = Verdict(caller=Caller(account_id="a", project_id="p", key_id="k2"))
    other_project = Verdict(caller=Caller(account_id="a", project_id="p2", key_id="k"))
    bound = Verdict(caller=VERDICT.caller, models=["m"])
    scoped = Verdict(caller=VERDICT.caller, scope=KeyScope(operations=[OPERATION_CHAT]))

    entry = request_of(VERDICT, "POST /v1/x", "i", b"{}").entry

    assert entry == request_of(other_key, "POST /v1/x", "i", b"[]").entry
    different = {
        request_of(verdict, route, key, b"{}").entry
        for verdict, route, key in [
            (other_project, "POST /v1/x", "i"),
            (bound, "POST /v1/x", "i"),
            (VERDICT, "POST /v1/y", "i"),
            (VERDICT, "POST /v1/x", "j"),
        ]
    }
    assert len(different - {entry}) == 4
    assert request_of(scoped, "r", "i", b"").entry == request_of(bound, "r", "i", b"").entry


def test_answer_opens_only_for_the_request_that_it_was_given_to() -> None:
    """Neither the key alone nor the body alone is enough."""
    asked = request_of(VERDICT, "r", "i", b"body")
    sealed = asked.seal(b"the answer")

    assert b"answer" not in sealed
    assert request_of(VERDICT, "r", "i", b"body").unseal(sealed) == b"the answer"
    for other in (request_of(VERDICT, "r", "i", b"another"), request_of(VERDICT, "r", "j", b"body")):
        with pytest.raises(MeshError):
            other.unseal(sealed)


class Line:
    """A connection that says what it was told."""

    def __init__(self) -> None:
        self.lost = False
        self.said: list[object] = []

    def whole(self, status: int, headers: object, body: bytes) -> None:
        self.said.append((status, body))

    def open(self, status: int, headers: object) -> None:
        self.said.append(status)

    async def piece(self, data: bytes, *, last: bool) -> None:
        self.said.append((data, last))

    def cut(self) -> None:
        self.said.append("cut")


HEADERS = [(b"content-type", b"text/event-stream"), (b"x-request-id", b"1")]


async def test_last_of_a_stream_waits_until_it_is_kept() -> None:
    """Keep-alives pass and are no part of the answer."""
    line, ping = Line(), b": ping\n\n"
    tape = Tape(line, ping)  # type: ignore[arg-type] # as much of a connection as is needed

    tape.open(200, HEADERS)
    await tape.piece(ping, last=False)
    await tape.piece(b"one", last=False)
    await tape.piece(b"two", last=True)

    assert [200, (ping, False), (b"one", False)] == line.said
    assert (200, "text/event-stream", b"onetwo") == (tape.status, tape.content_type, tape.body)
    await tape.release()
    assert (b"two", True) == line.said[-1]


@pytest.mark.parametrize(("size", "kept"), [(MOST_STREAM, True), (MOST_STREAM + 1, False)])
async def test_stream_is_kept_up_to_its_bound(size: int, kept: bool) -> None:
    """What is larger is passed on as before, and not held in memory."""
    tape = Tape(Line(), b"")  # type: ignore[arg-type]

    tape.open(200, HEADERS)
    await tape.piece(b"x" * (size - 1), last=False)
    await tape.piece(b"x", last=True)

    assert kept == (tape.body is not None)


@pytest.mark.parametrize(("size", "kept"), [(MOST_WHOLE, True), (MOST_WHOLE + 1, False)])
async def test_whole_answers_may_be_larger(size: int, kept: bool) -> None:
    """Pictures are."""
    line = Line()
    tape = Tape(line, b"")  # type: ignore[arg-type]

    tape.whole(200, HEADERS, b"x" * size)

    assert not line.said
    assert kept == (tape.body is not None)
    await tape.release()
    assert len(line.said) == 1


async def test_answer_without_an_end_is_not_kept() -> None:
    """It was cut, or never finished."""
    line = Line()
    tape = Tape(line, b"")  # type: ignore[arg-type]

    tape.open(200, HEADERS)
    await tape.piece(b"x", last=False)

    assert tape.body is None
    tape.cut()
    await tape.release()
    assert (None, "cut") == (tape.body, line.said[-1])


class Entries:
    """The other side of claims: one answer to all of them, once it is told to give it."""

    def __init__(self, found: ClaimResponse) -> None:
        self.found = found
        self.told = asyncio.Event()
        self.claims: list[str] = []
        self.settled: list[SettleRequest] = []

    async def Claim(self, request: ClaimRequest, timeout: float) -> ClaimResponse:  # noqa: ASYNC109 - a stub's
        self.claims.append(request.claim)
        await self.told.wait()
        return self.found

    async def Settle(self, request: SettleRequest, timeout: float) -> None:  # noqa: ASYNC109 - a stub's
        self.settled.append(request)


ASKED = request_of(VERDICT, "r", "i", b"body")


async def claimed(claims: Claims, entries: Entries, *asked: Request) -> list[Claim | Kept | BaseException]:
    """What becomes of requests that come at the same moment."""
    waiting = [asyncio.ensure_future(claims.claim(one, f"c{number}")) for number, one in enumerate(asked)]
    await asyncio.sleep(0)
    entries.told.set()
    return await asyncio.gather(*waiting, return_exceptions=True)


def reasons(outcomes: Sequence[object]) -> list[int]:
    """Of those that were refused."""
    return [one.reason for one in outcomes if isinstance(one, MeshError)]


async def test_duplicates_of_one_moment_ask_once() -> None:
    """One of them has the entry; the others are told to come back."""
    entries = Entries(ClaimResponse(state=ENTRY_STATE_CLAIMED))

    first, *others = await claimed(Claims(entries, timeout=1, lease=1), entries, ASKED, ASKED, ASKED)

    assert ["c0"] == entries.claims
    assert isinstance(first, Claim)
    assert [pb.REASON_IDEMPOTENCY_RUNNING] * 2 == reasons(others)


async def test_duplicates_of_one_moment_share_an_answer() -> None:
    """That was kept, and one that was refused is refused to all."""
    kept = Entries(
        ClaimResponse(state=ENTRY_STATE_DONE, claim="old", answer=Answer(status=200, sealed=ASKED.seal(b"answer")))
    )
    gone = Entries(ClaimResponse(state=ENTRY_STATE_NOT_KEPT, claim="old"))

    answers = await claimed(Claims(kept, timeout=1, lease=1), kept, ASKED, ASKED)
    refused = await claimed(Claims(gone, timeout=1, lease=1), gone, ASKED, ASKED)

    assert [Kept("old", 200, "", b"answer")] * 2 == answers
    assert [pb.REASON_IDEMPOTENCY_NOT_KEPT] * 2 == reasons(refused)
    assert (1, 1) == (len(kept.claims), len(gone.claims))


async def test_another_request_of_the_same_moment_asks_for_itself() -> None:
    """Whose the entry is was not known yet."""
    entries = Entries(ClaimResponse(state=ENTRY_STATE_MISMATCH, claim="old"))

    found = await claimed(
        Claims(entries, timeout=1, lease=1), entries, ASKED, request_of(VERDICT, "r", "i", b"another")
    )

    assert ["c0", "c1"] == entries.claims
    assert [pb.REASON_IDEMPOTENCY_MISMATCH] * 2 == reasons(found)


async def test_request_that_ends_while_it_asks_gives_back_what_it_may_have() -> None:
    """Nobody would make its call; those that waited with it come back."""
    entries = Entries(ClaimResponse(state=ENTRY_STATE_CLAIMED))
    claims = Claims(entries, timeout=1, lease=1)
    first, second = (asyncio.ensure_future(claims.claim(ASKED, name)) for name in ("c0", "c1"))
    await asyncio.sleep(0)

    first.cancel()
    (refused,) = await asyncio.gather(second, return_exceptions=True)
    await claims.close()

    assert [pb.REASON_IDEMPOTENCY_RUNNING] == reasons([refused])
    assert [("c0", True)] == [(one.claim, one.released) for one in entries.settled]


def upstream(fault: pb.Fault.ValueType) -> MeshError:
    return MeshError.upstream(fault, "no")


@pytest.mark.parametrize(
    ("error", "tried", "committed", "status", "kept"),
    [
        (None, True, True, 200, True),
        (None, False, False, 200, False),
        (MeshError(pb.REASON_RATE_LIMITED, "no"), False, False, 429, False),
        (MeshError(pb.REASON_SERVICE_UNAVAILABLE, "no"), True, False, 503, False),
        (MeshError(pb.REASON_DEADLINE, "no"), True, False, 504, False),
        (upstream(pb.FAULT_AMBIGUOUS), True, False, 504, False),
        (upstream(pb.FAULT_SERVER), True, False, 502, False),
        (upstream(pb.FAULT_UNSUPPORTED), True, False, 400, False),
        (upstream(pb.FAULT_CLIENT), True, False, 400, True),
        (upstream(pb.FAULT_CONTEXT), True, False, 400, True),
        (upstream(pb.FAULT_FILTER), True, False, 400, True),
        (upstream(pb.FAULT_TRUNCATED), True, True, 200, True),
        (MeshError(pb.REASON_DEADLINE, "no"), True, True, 200, True),
        (None, True, True, 429, False),
        (None, True, True, 503, False),
        (None, True, True, 404, True),
    ],
)
def test_what_counts_as_the_one_answer(
    error: MeshError | None, tried: bool, committed: bool, status: int, kept: bool
) -> None:
    """Whatever was charged for, and a vendor's last word; nothing that another try may be spared."""
    assert kept == counts(error, tried=tried, committed=committed, status=status)
