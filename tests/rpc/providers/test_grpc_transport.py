"""Vendors that are asked over gRPC: what goes out, what is made of what comes back, and of what does not."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import grpc
import orjson
import pytest

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import FINISH_REASON_STOP, EncodedRequest, Usage
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.providers.v1 import providers_pb2_grpc
from polyroute.api.providers.v1.providers_pb2 import KnownModel, Target
from polyroute.mesh.errors import MeshError
from polyroute.mesh.node import Service
from polyroute.providers.carrier import Carriers
from polyroute.providers.conversation import converse
from polyroute.providers.grpc_transport import GrpcTransport
from polyroute.providers.http import target
from polyroute.providers.roster import Roster
from polyroute.providers.service import ProvidersService
from polyroute.providers.transport import MAX_ANSWER_BYTES, Limits, Transport
from tests.rpc.providers.calls import (
    ANSWER,
    LAST,
    STREAM,
    WHOLE,
    Cut,
    Refuse,
    Step,
    Wait,
    account,
    ask,
    line,
    piece,
    vendor,
)
from tests.rpc.providers.wire import ANSWER as HTTP_ANSWER
from tests.rpc.providers.wire import LONG, PATIENT, SHORT, SOON, Heard, request, whole, wire
from tests.rpc.providers.wire import account as web_account

Link = Callable[..., Awaitable[grpc.aio.Channel]]

QUESTION = chat_pb2.ChatRequest(
    model="m",
    messages=[chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[chat_pb2.Part(text=chat_pb2.TextPart(text="hi"))])],
)
ONE_TWO = (piece("one "), piece("two"))
USED = Usage(input_tokens=5, output_tokens=2)


def fault(heard: Heard) -> str:
    """The fault with which an attempt ended."""
    assert isinstance(heard.error, MeshError)
    return pb.Fault.Name(heard.error.fault).removeprefix("FAULT_")


class TestAnswers:
    async def test_stream_for_a_caller_of_the_typed_door(self) -> None:
        """Steps as they come, then usage and the reason why it ended."""
        async with vendor([*ONE_TWO, LAST]) as there:
            heard = await ask(there.url, chat=QUESTION)

        assert heard.error is None
        assert "one two" == heard.text
        assert USED == heard.usage
        assert FINISH_REASON_STOP == heard.finished.reason
        assert "up-7" == heard.started.upstream_request_id
        assert {"x-ratelimit-remaining": "9"} == heard.started.headers
        assert [STREAM] == there.methods

    async def test_stream_for_a_client_of_another_dialect(self) -> None:
        """Translated, event by event."""
        async with vendor([*ONE_TWO, LAST]) as there:
            heard = await ask(there.url)
        events = [orjson.loads(line[6:]) for line in heard.data.splitlines() if line.startswith(b"data: ")]

        assert "one two" == "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
        assert "stop" == events[-1]["choices"][0]["finish_reason"]
        assert USED == heard.usage

    async def test_whole_answer(self) -> None:
        """Asked for with the method that gives one."""
        async with vendor([ANSWER]) as there:
            heard = await ask(there.url, stream=False)

        assert "one two" == orjson.loads(heard.data)["choices"][0]["message"]["content"]
        assert USED == heard.usage
        assert [WHOLE] == there.methods

    async def test_request(self) -> None:
        """The model upstream, the key, and nothing that belongs to HTTP alone."""
        async with vendor([ANSWER]) as there:
            await ask(there.url, stream=False)
        [sent], [metadata] = there.sent, there.metadata

        assert ("up", "hi") == (sent.model, sent.messages[0].content[0].text)
        assert "Bearer sk-1" == metadata["authorization"]
        assert metadata["user-agent"].startswith("polyroute ")
        assert {"authorization", "user-agent"} == set(metadata)

    async def test_metadata_that_cannot_be_sent_is_left_out(self) -> None:
        """A header of one call may hold anything."""
        where = target("http://127.0.0.1:1/a/b", {"x-bad": "\xe9", "grpc-timeout": "1S", "x-key-bin": "x", "x-ok": "1"})
        async with vendor([ANSWER]) as there:
            to = replace(target(there.url + WHOLE, {}), head=where.head.replace(b"/a/b", WHOLE.encode()), rpc=True)
            transport = GrpcTransport()
            answer = await transport.post(to, b"", PATIENT, {"x-more": "2", "x-line": "a\nb", "Bad Name": "x"})
            answer.close()
            await transport.close()
        [metadata] = there.metadata

        assert {"x-ok": "1", "x-more": "2"} == {name: metadata[name] for name in metadata if name[0] != "u"}

    async def test_one_connection_for_many_calls(self) -> None:
        """At the same time, and one after the other."""
        transport = GrpcTransport()
        script: list[Step] = [0.01, *ONE_TWO, LAST]
        async with vendor(*[script] * 6) as there:
            first = await asyncio.gather(*(ask(there.url, transport=transport, chat=QUESTION) for _ in range(5)))
            heard = [*first, await ask(there.url, transport=transport, chat=QUESTION)]
            channels = len(transport._channels)
            await transport.close()

        assert ["one two"] * 6 == [one.text for one in heard]
        assert 1 == channels

    async def test_long_text(self) -> None:
        """Far more than a window of the connection."""
        pieces = [piece("x" * 100_000)] * 20
        async with vendor([*pieces, LAST]) as there:
            heard = await ask(there.url, chat=QUESTION)

        assert 2_000_000 == len(heard.text)

    async def test_each_target_goes_its_way(self) -> None:
        """HTTP over HTTP, calls over gRPC."""

        class Saying:
            def __init__(self, word: str) -> None:
                self.word = word

            async def post(self, *_: Any) -> Any:
                return self.word

        carriers = Carriers(Saying("http"), Saying("rpc"))
        ways = [target("http://x/", {}), target("http://x/", {}, rpc=True)]

        went: list[Any] = [await carriers.post(way, b"", PATIENT) for way in ways]

        assert ["http", "rpc"] == went


REFUSALS = [
    (Refuse(grpc.StatusCode.UNAVAILABLE, "busy"), "SERVER", "503"),
    (Refuse(grpc.StatusCode.INTERNAL, "oops"), "SERVER", "500"),
    (Refuse(grpc.StatusCode.UNKNOWN, ""), "SERVER", "500"),
    (Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "too fast", (("retry-after", "3"),)), "RATE", "429"),
    (Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "your team has used all available credits"), "QUOTA", "429"),
    (Refuse(grpc.StatusCode.UNAUTHENTICATED, "no"), "CREDENTIAL", "401"),
    (Refuse(grpc.StatusCode.PERMISSION_DENIED, "no"), "CREDENTIAL", "403"),
    (Refuse(grpc.StatusCode.INVALID_ARGUMENT, "bad seed"), "CLIENT", "400"),
    (Refuse(grpc.StatusCode.INVALID_ARGUMENT, "this model's maximum context length is 8"), "CONTEXT", "400"),
    (Refuse(grpc.StatusCode.INVALID_ARGUMENT, "This model's maximum prompt length is 8 but ..."), "CONTEXT", "400"),
    (Refuse(grpc.StatusCode.INVALID_ARGUMENT, "Incorrect API key provided: xx"), "CREDENTIAL", "400"),
    (Refuse(grpc.StatusCode.NOT_FOUND, "no such model"), "MODEL_GONE", "404"),
    (Refuse(grpc.StatusCode.DEADLINE_EXCEEDED, "too slow"), "STALL", "504"),
    (Refuse(grpc.StatusCode.UNIMPLEMENTED, "what"), "SERVER", "501"),
]


async def test_behind_the_service(link: Link) -> None:
    """Accounts of both kinds side by side: each request goes the way of its account."""
    roster, transport, rpc = Roster(), Transport(), GrpcTransport()
    async with vendor([*ONE_TWO, LAST]) as there, wire([whole(HTTP_ANSWER)]) as web:
        accounts = {"acme": account(there.url), "web": web_account(web.url)}
        roster.replace(accounts, {name: [KnownModel(id="up")] for name in accounts})
        service = ProvidersService(roster, transport, Carriers(transport, rpc))
        channel = await link("providers", Service(providers_pb2_grpc.add_ProvidersServiceServicer_to_server, service))
        stub: Any = providers_pb2_grpc.ProvidersServiceStub(channel)
        heard = Heard([response async for response in stub.Generate(request(chat=QUESTION), timeout=LONG)])
        to = Target(deployment="web/up", provider="web", upstream_model="up")
        other = Heard([one async for one in stub.Generate(request(target=to, stream=False), timeout=LONG)])
        await rpc.close()
        await transport.close()

    assert "one two" == heard.text
    assert b"one two" in other.data


class TestFaults:
    @pytest.mark.parametrize("chat", [None, QUESTION], ids=["whole", "stream"])
    @pytest.mark.parametrize(("refusal", "name", "status"), REFUSALS)
    async def test_refusal(self, refusal: Refuse, name: str, status: str, chat: Any) -> None:
        """Its status says what it is, its words say it better."""
        async with vendor([refusal]) as there:
            heard = await (ask(there.url, chat=chat) if chat else ask(there.url, stream=False))

        assert name == fault(heard)
        assert status == heard.error.metadata["upstream_status"]
        assert "acme/up" == heard.error.metadata["deployment"]
        assert (3.0 if refusal.metadata else None) == heard.error.retry_after
        assert [] == heard.events

    async def test_failure_in_the_middle(self) -> None:
        """What came before it is handed on."""
        async with vendor([piece("one "), Refuse(grpc.StatusCode.INTERNAL, "oops\nand more")]) as there:
            heard = await ask(there.url, chat=QUESTION)

        assert "one " == heard.text
        assert "SERVER" == fault(heard)
        assert "oops and more" == heard.error.message

    async def test_connection_that_ends_before_any_answer(self) -> None:
        """The call may have arrived."""
        async with vendor([Cut()]) as there, line(there) as url:
            heard = await ask(url, chat=QUESTION)

        assert "AMBIGUOUS" == fault(heard)

    async def test_connection_that_ends_in_the_middle(self) -> None:
        """Cut, not failed."""
        async with vendor([piece("one "), 0.05, Cut()]) as there, line(there) as url:
            heard = await ask(url, chat=QUESTION)

        assert "one " == heard.text
        assert "TRUNCATED" == fault(heard)

    async def test_nobody_there(self) -> None:
        """Nothing was sent."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            heard = await ask(f"http://127.0.0.1:{taken.getsockname()[1]}", chat=QUESTION)

        assert "CONNECT" == fault(heard)

    async def test_nobody_who_answers(self) -> None:
        """A connection that is never accepted is given up in time."""
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen()
            limits = replace(PATIENT, connect=SHORT)
            heard = await ask(f"http://127.0.0.1:{deaf.getsockname()[1]}", limits, chat=QUESTION)

        assert "CONNECT" == fault(heard)
        assert "timeout" == heard.error.metadata["cause"]

    async def test_vendor_that_is_back(self) -> None:
        """Its address is tried again, by a call that comes later."""
        transport = GrpcTransport()
        async with vendor([ANSWER]) as there:
            port = there.port
            assert None is (await ask(there.url, transport=transport, stream=False)).error
        server = grpc.aio.server(handlers=[there])
        there.scripts.append([ANSWER])
        assert isinstance((await ask(there.url, transport=transport, stream=False)).error, MeshError)
        assert port == server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        heard = Heard(error="not yet")
        async with asyncio.timeout(LONG):
            while heard.error:
                heard = await ask(there.url, transport=transport, stream=False)
                await asyncio.sleep(0.02)
        await server.stop(None)
        await transport.close()

        assert USED == heard.usage

    async def test_end_without_a_word(self) -> None:
        """A call that is said to have worked, and gave nothing, is no answer."""
        async with vendor([]) as there:
            heard = await ask(there.url, chat=QUESTION)

        assert "BAD_ANSWER" == fault(heard)

    @pytest.mark.parametrize("stream", [False, True])
    async def test_message_that_is_none(self, stream: bool) -> None:
        """Bytes of another kind."""
        async with vendor([b"\xff\xff<html>"]) as there:
            heard = await ask(there.url, stream=stream)

        assert "BAD_ANSWER" == fault(heard)

    async def test_message_that_is_too_large(self) -> None:
        """Refused before it is read."""
        async with vendor([b"x" * (MAX_ANSWER_BYTES + 1)]) as there:
            heard = await ask(there.url, stream=False)

        assert "BAD_ANSWER" == fault(heard)

    async def test_request_that_is_too_large(self) -> None:
        """The vendor's runtime says so in words of its own, under the code of a rate that is limited."""
        text = "x" * (5 * 1024 * 1024)
        body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": text}]})
        async with vendor([ANSWER]) as there:
            heard = await ask(there.url, stream=False, encoded=EncodedRequest(dialect="openai.chat", body=body))

        assert "CLIENT" == fault(heard)


class TestBounds:
    async def test_no_first_token(self) -> None:
        """The call ends at the vendor as well."""
        async with vendor([Wait()]) as there:
            heard = await ask(there.url, replace(PATIENT, first_token=SHORT), chat=QUESTION)
            await gone(there)

        assert "STALL" == fault(heard)

    async def test_no_whole_answer(self) -> None:
        """The same for an answer that comes whole."""
        async with vendor([Wait()]) as there:
            heard = await ask(there.url, replace(PATIENT, first_token=SHORT), stream=False)
            await gone(there)

        assert "STALL" == fault(heard)

    async def test_pieces_without_content_are_no_first_token(self) -> None:
        """Whoever only says that he is there is not answering."""
        empty: list[Step] = [0.04, piece()]
        async with vendor([piece(), *empty * 20, Wait()]) as there:
            heard = await ask(there.url, replace(PATIENT, first_token=4 * SHORT), chat=QUESTION)

        assert "STALL" == fault(heard)

    async def test_no_next_token(self) -> None:
        """What came before is handed on."""
        async with vendor([piece("one "), Wait()]) as there:
            heard = await ask(there.url, replace(PATIENT, inter_token=SHORT), chat=QUESTION)
            await gone(there)

        assert "one " == heard.text
        assert "STALL" == fault(heard)

    async def test_whole_attempt(self) -> None:
        """However lively it is."""
        lively: list[Step] = [0.02, piece("x")]
        async with vendor([piece("x"), *lively * 500]) as there:
            heard = await ask(there.url, Limits(LONG, LONG, LONG, 2 * SHORT), chat=QUESTION)

        assert heard.text
        assert "STALL" == fault(heard)

    async def test_caller_who_leaves(self) -> None:
        """Within a quarter of a second the vendor need not work any more."""
        transport = GrpcTransport()
        async with vendor([piece("one "), Wait()]) as there:
            steps = converse(request(chat=QUESTION), account(there.url), transport, PATIENT)
            await anext(steps)
            await there.begun.wait()
            await steps.aclose()
            await gone(there, within=0.25)
            await transport.close()

        assert 1 == there.left

    async def test_caller_who_leaves_while_waiting(self) -> None:
        """Nothing has come yet."""
        transport = GrpcTransport()
        async with vendor([Wait()]) as there:
            waiting = asyncio.create_task(ask(there.url, transport=transport, chat=QUESTION))
            await there.begun.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await gone(there, within=0.25)
            await transport.close()

        assert 1 == there.left

    async def test_caller_who_leaves_while_connecting(self) -> None:
        """A connection that is awaited may be given up; the transport works on."""
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen()
            transport = GrpcTransport()
            where = f"http://127.0.0.1:{deaf.getsockname()[1]}"
            waiting = asyncio.create_task(ask(where, transport=transport, chat=QUESTION))
            await asyncio.sleep(SHORT)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await transport.close()

        assert waiting.cancelled()


async def gone(there: Any, *, within: float = SOON) -> None:
    """The vendor has been told that nobody waits any more."""
    async with asyncio.timeout(within):
        while not there.left:
            await asyncio.sleep(0.001)
