"""Requests that are hidden behind others, too large, or that a parser cannot hold; and connections near their end."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.mesh.conftest import Stage
from tests.mesh.gateway import SECONDS, running
from tests.mesh.raw import RawVendor

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATHS = ("/v1/chat/completions", "/v1/messages", "/v1/responses")


async def exchanged(stage: Stage, sent: bytes) -> bytes:
    """Everything that is answered to some bytes."""
    reader, writer = await asyncio.open_connection(*stage.gateway.address)
    writer.write(sent)
    async with asyncio.timeout(SECONDS):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("apart", [False, True])
async def test_trailers_are_no_headers(stage: Stage, *, apart: bool) -> None:
    """A credential behind the body is none, whether or not its bytes come with the body's."""
    body = b'{"model":"m","messages":[]}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%b\r\n" % (len(body), body)
    tail = b"0\r\nauthorization: Bearer %b\r\n\r\n" % stage.gateway.key.encode()
    reader, writer = await asyncio.open_connection(*stage.gateway.address)
    if apart:
        writer.write(head)
        await asyncio.sleep(0.02)
        writer.write(chunk)
        await asyncio.sleep(0.02)
        writer.write(tail)
    else:
        writer.write(head + chunk + tail)
    async with asyncio.timeout(SECONDS):
        answer = await reader.read()
    writer.close()

    assert b"HTTP/1.1 401 " == answer[:13]


async def test_trailers_without_an_end(stage: Stage) -> None:
    """Are bounded like headers."""
    _, writer = await asyncio.open_connection(*stage.gateway.address)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ")
    sent = 0
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(SECONDS):
            while sent < 50_000_000:
                writer.write(b"y" * 10_000)
                await writer.drain()
                sent += 10_000
                await asyncio.sleep(0)
    writer.close()

    assert sent < 5_000_000


@pytest.mark.parametrize("header", [b"x-filler: " + b"x" * 100_000 + b"\r\n", b"a: b\r\n" * 10_000, b"a:\r\n" * 1_200])
@pytest.mark.parametrize("before", [b"", b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n"])
async def test_large_headers_that_come_at_once(stage: Stage, header: bytes, before: bytes) -> None:
    """Bounded in bytes and in number, and nothing behind them is read as another request."""
    sent = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n" + header + b"\r\n" + b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    answer = await exchanged(stage, before + sent)

    assert [b"431"] == [line.split(b" ")[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")][-1:]
    assert 1 == answer.count(b"HTTP/1.1") or before


async def test_a_large_body_behind_small_headers(stage: Stage) -> None:
    """What is read in one piece with them is not taken for headers."""
    answer = await stage.gateway.chat("x" * 50_000)

    assert 200 == answer.status


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("member", [b'"user":1e400', b'"metadata":1e400', b'"metadata":{"user_id":1e400}'])
async def test_numbers_beyond_all_bounds(stage: Stage, path: str, member: bytes) -> None:
    """400 in the caller's own dialect, with the member's name."""
    body = b'{"model":"m","max_tokens":5,"input":"hi","messages":[{"role":"user","content":"hi"}],%b}' % member

    answer = await stage.gateway.post(path, body)

    assert (400, "invalid_request_error") == (answer.status, answer.error["type"])
    assert member.split(b'"')[1].decode() in answer.error["message"]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n", "stop"])
async def test_doubled_members(stage: Stage, name: str) -> None:
    """What is held for a call must be what the vendor reads."""
    value = "[]" if name == "stop" else "1"
    body = f'{{"model":"m","{name}":{value},"messages":[],"{name}":{value}}}'.encode()

    answer = await stage.gateway.post(body=body)

    assert (400, name) == (answer.status, answer.error["param"])


@pytest.mark.parametrize("name", ["max_output_tokens", "previous_response_id"])
async def test_doubled_members_of_responses(stage: Stage, name: str) -> None:
    """The same at their door."""
    value = '"resp_1"' if name.startswith("prev") else "1"
    body = f'{{"model":"m","{name}":{value},"input":"hi","{name}":{value}}}'.encode()

    answer = await stage.gateway.post("/v1/responses", body)

    assert (400, name) == (answer.status, answer.error["param"])


async def test_answers_near_the_end_say_so(tmp_path: Path) -> None:
    """While the process waits before it stops, no connection is kept: the next request would meet its end."""
    async with RawVendor() as vendor:
        async with running(tmp_path, {"v": vendor.url}, mesh={"drain_delay": 1.0}) as gateway:
            body = b'{"model":"none","messages":[]}'
            lines = ["POST /v1/chat/completions HTTP/1.1", "host: x", f"authorization: Bearer {gateway.key}"]
            asked = "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body
            page = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n"
            kept = [(request, *await asyncio.open_connection(*gateway.address)) for request in (asked, page)]
            before = []
            for request, reader, writer in kept:
                writer.write(request)
                before.append(await reader.readuntil(b"\r\n\r\n"))

            async def late() -> list[bytes]:
                await asyncio.sleep(0.3)
                for request, _, writer in kept:
                    writer.write(request)
                async with asyncio.timeout(SECONDS):
                    return [await reader.read() for _, reader, _ in kept]

            asking = asyncio.create_task(late())
        after = await asking
    for _, _, writer in kept:
        writer.close()

    assert [False, False] == [b"connection: close" in answer for answer in before]
    assert [True, True] == [b"connection: close" in answer for answer in after]
