"""What the HTTP door refuses, with the status and the JSON that clients branch on."""

import asyncio
import gzip
import secrets
import zlib
from collections.abc import AsyncGenerator, Mapping

import orjson
import pytest

from tests.mesh.conftest import Stage
from tests.mesh.gateway import SECONDS, Answer, question

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


def refused(answer: Answer, status: int, code: str | None, param: str | None = None) -> None:
    """The answer is an error in OpenAI's form."""
    assert status == answer.status
    assert "application/json" == answer.headers["content-type"]
    assert {"message", "type", "param", "code"} == answer.error.keys()
    assert (code, param) == (answer.error["code"], answer.error["param"])
    assert answer.error["message"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer "},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"authorization": "Bearer sk-somebody-elses"},
        {"authorization": "Bearer pr-" + "A" * 43},
        {"authorization": "Bearer ' OR 1=1 --"},
        {"authorization": "Bearer " + "x" * 5000},
        {"api-key": "nope"},
        {"x-api-key": "nope"},
    ],
)
async def test_no_good_key(stage: Stage, headers: dict[str, str]) -> None:
    """Every way of not having a key gets the same 401, at every door."""
    before = stage.a.requests

    chat = await stage.gateway.post(body=GOOD, headers=headers)
    models = await stage.gateway.get("/v1/models", headers=headers)

    refused(chat, 401, "invalid_api_key")
    if "x-api-key" in headers:  # so ask Anthropic's clients, who are answered in their own form
        assert (401, "authentication_error") == (models.status, models.error["type"])
    else:
        refused(models, 401, "invalid_api_key")
        assert chat.error == models.error
    assert before == stage.a.requests


@pytest.mark.parametrize("name", ["authorization", "api-key", "x-api-key"])
async def test_a_key_is_found_where_clients_put_it(stage: Stage, name: str) -> None:
    """The key is taken from any of the headers in use."""
    value = f"bearer {stage.gateway.key}" if name == "authorization" else stage.gateway.key

    answer = await stage.gateway.post(body=GOOD, headers={name: value})

    assert 200 == answer.status


@pytest.mark.parametrize("stream", [False, True])
async def test_unknown_model(stage: Stage, stream: bool) -> None:
    """404 with the code that clients know, and the name that may have been meant."""
    answer = await stage.gateway.chat(model="pare", stream=stream)

    refused(answer, 404, "model_not_found", answer.error["param"])
    assert "'pair'" in answer.error["message"]


async def test_a_model_that_cannot_do_it(stage: Stage) -> None:
    """A model that serves no completions says so instead of trying."""
    answer = await stage.gateway.post("/v1/completions", {"model": "m", "prompt": "x"})

    refused(answer, 400, "no_deployment")
    assert "operation" in answer.error["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"nonsense", None),
        (b"[]", None),
        (b"null", None),
        (b'\xff\xfe{"model":"m"}', None),
        (b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}', None),
        (b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}', None),
        (GOOD[:-1] + b',"temperature":NaN}', None),
        (GOOD[:-1] + b',"temperature":Infinity}', None),
        (GOOD[:-1] + b',"temperature":1e400}', "temperature"),
        (GOOD[:-1] + b',"model":"pair"}', "model"),
        (GOOD[:-1] + b',"m\\u006fdel":"pair"}', "model"),
        (GOOD[:-1] + b',"deep":' + b"[" * 65 + b"]" * 65 + b"}", None),
        (GOOD[:-1] + b',"deep":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}", None),
        (GOOD[:-1] + b',"stream":"yes"}', "stream"),
        (GOOD[:-1] + b',"n":1000000000}', "n"),
        (GOOD[:-1] + b',"max_tokens":-1}', "max_tokens"),
        (GOOD + b"{}", None),
        (b'{"messages":[{"role":"user","content":"hi"}]}', "model"),
        (b'{"model":"","messages":[{"role":"user","content":"hi"}]}', "model"),
        (b'{"model":7,"messages":[{"role":"user","content":"hi"}]}', "model"),
        (b'{"model":"' + b"m" * 257 + b'","messages":[{"role":"user","content":"hi"}]}', "model"),
        (b'{"model":"m"}', "messages"),
        (b'{"model":"m","messages":[]}', "messages"),
        (b'{"model":"m","messages":"hi"}', "messages"),
        (b'{"model":"m","messages":[{"content":"hi"}]}', "messages[0]"),
    ],
)
async def test_a_bad_body(stage: Stage, body: bytes, param: str | None) -> None:
    """400 that names the member where there is one to name; no vendor hears of it."""
    before = stage.a.requests

    answer = await stage.gateway.post(body=body)

    refused(answer, 400, "invalid_request", param)
    assert before == stage.a.requests


async def test_without_a_key_no_model_is_known(stage: Stage) -> None:
    """Whoever has no key does not learn which models there are."""
    refused(await stage.gateway.post(body=question(model="no-such"), headers={}), 401, "invalid_api_key")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", {"POST"}),
        ("DELETE", "/chat/completions", {"POST"}),
        ("PUT", "/v1/embeddings", {"POST"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("DELETE", "/v1/models/m", {"GET", "HEAD"}),
        ("POST", "/health/live", {"GET", "HEAD"}),
    ],
)
async def test_wrong_method(stage: Stage, method: str, path: str, allowed: set[str]) -> None:
    """405 with `allow`, as RFC 9110 section 15.5.6 wants it."""
    async with stage.gateway.session.request(
        method, stage.gateway.url + path, headers=stage.gateway.headers()
    ) as response:
        answer = Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read())

    refused(answer, 405, answer.error["code"])
    assert allowed == {name.strip() for name in answer.headers["allow"].split(",")}


@pytest.mark.parametrize("path", ["/v1/nothing", "/v2/chat/completions", "/v1/chat/completions/more"])
async def test_no_such_path(stage: Stage, path: str) -> None:
    """404 in the same form."""
    refused(await stage.gateway.post(path, GOOD), 404, "not_found")


async def test_too_large_by_its_own_word(stage: Stage) -> None:
    """A content-length beyond the bound is refused before the body is sent."""
    reader, writer = await asyncio.open_connection(*stage.gateway.address)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {stage.gateway.key}\r\n"
    writer.write(f"{head}content-length: 1000000000\r\n\r\n".encode())

    async with asyncio.timeout(1):
        status = await reader.readline()
        headers = await reader.readuntil(b"\r\n\r\n")

    assert status.startswith(b"HTTP/1.1 413 ")
    assert b"x-should-retry: false" in headers
    writer.close()


@pytest.mark.parametrize("length", ["content-length: 5000000", "transfer-encoding: chunked"])
@pytest.mark.parametrize("key", ["", "authorization: Bearer pr-nobodys\r\n"], ids=["none", "unknown"])
async def test_large_bodies_are_for_those_who_have_a_key(stage: Stage, key: str, length: str) -> None:
    """Whoever has none hears so before anything of the body is read: memory is not filled by strangers."""
    reader, writer = await asyncio.open_connection(*stage.gateway.address)
    writer.write(f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{key}{length}\r\n\r\n".encode())

    async with asyncio.timeout(2):
        status = await reader.readline()

    assert status.startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_a_large_body_of_a_gemini_client(stage: Stage) -> None:
    """Its key may stand in the query."""
    text = {"contents": [{"role": "user", "parts": [{"text": "x" * 80_000}]}]}
    path = f"/v1beta/models/m:generateContent?key={stage.gateway.key}"
    answer = await stage.gateway.post(path, text, headers={"content-type": "application/json"})

    assert 200 == answer.status


async def test_too_large_as_it_comes(stage: Stage) -> None:
    """A chunked body without an end is refused once it is past the bound."""
    sent = 0

    async def endless() -> AsyncGenerator[bytes]:
        nonlocal sent
        yield b'{"model":"m","messages":[{"role":"user","content":"'
        while sent < 50_000_000:
            sent += 10_000
            yield b"x" * 10_000
            await asyncio.sleep(0)

    async with stage.gateway.session.post(
        f"{stage.gateway.url}/v1/chat/completions", data=endless(), headers=stage.gateway.headers()
    ) as response:
        body = orjson.loads(await response.read())

    assert 413 == response.status
    assert "request_too_large" == body["error"]["code"]
    assert sent < 5_000_000


async def test_headers_too_large(stage: Stage) -> None:
    """Headers beyond the bound are refused while they come, and the connection ends."""
    reader, writer = await asyncio.open_connection(*stage.gateway.address)
    writer.write(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-filler: " + b"x" * 20_000)

    async with asyncio.timeout(1):
        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 431 ")
    writer.close()


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP", gzip.compress)]
)
async def test_a_compressed_body(stage: Stage, encoding: str, pack: object) -> None:
    """A compressed body is opened, and goes to the vendor plain."""
    text = "hello " * 200
    packed = pack(orjson.dumps(question(text)))  # type: ignore[operator]

    answer = await stage.gateway.post(body=packed, headers=stage.gateway.headers(**{"content-encoding": encoding}))

    assert 200 == answer.status
    assert text == orjson.loads(stage.a.seen[-1].body)["messages"][0]["content"]
    assert "content-encoding" not in stage.a.seen[-1].headers


@pytest.mark.parametrize("size", [250_000, 50_000_000])
async def test_a_compressed_body_that_swells(stage: Stage, size: int) -> None:
    """A bomb is refused by its opened size, without opening more than that."""
    packed = gzip.compress(mtime=0, data=b'{"model":"m","pad":"' + b"0" * size + b'"}')

    answer = await stage.gateway.post(body=packed, headers=stage.gateway.headers(**{"content-encoding": "gzip"}))

    refused(answer, 413, "request_too_large")


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("br", GOOD), ("zstd", GOOD), ("gzip, gzip", GOOD), ("gzip", GOOD), ("gzip", gzip.compress(GOOD, mtime=0)[:-9])],
)
async def test_a_body_that_cannot_be_opened(stage: Stage, encoding: str, body: bytes) -> None:
    """An encoding that is unknown, not true, or cut off."""
    headers = stage.gateway.headers(**{"content-encoding": encoding})

    answer = await stage.gateway.post(body=body, headers=headers)

    refused(answer, 400, "invalid_request", answer.error["param"])


async def test_a_refusal_has_its_own_id_and_the_clients(stage: Stage) -> None:
    """Support can find a refused call; a client's own id comes back, unless it could break a header."""
    asked = secrets.token_hex(8)

    answer = await stage.gateway.chat(headers=stage.gateway.headers(**{"x-client-request-id": asked}), model="no")
    other = await stage.gateway.chat(headers=stage.gateway.headers(**{"x-client-request-id": "é"}), model="no")

    assert asked == answer.headers["x-client-request-id"]
    assert answer.headers["x-request-id"] != other.headers["x-request-id"]
    assert "x-client-request-id" not in other.headers


async def test_the_door_serves_on_after_a_refusal(stage: Stage) -> None:
    """A refused request leaves its connection usable, where it had been read to its end."""
    reader, writer = await asyncio.open_connection(*stage.gateway.address)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {stage.gateway.key}\r\n"
    statuses = []
    for body in (b"{", GOOD, b"[]", GOOD):
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        status, _ = await _answer(reader)
        statuses.append(status)

    assert [400, 200, 400, 200] == statuses
    writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, Mapping[str, str]]:
    async with asyncio.timeout(SECONDS):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        await reader.readexactly(int(headers["content-length"]))
    return int(lines[0].split()[1]), headers
