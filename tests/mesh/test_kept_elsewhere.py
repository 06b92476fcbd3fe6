"""What a vendor keeps, named in other formats, in disguise, without a mark, or after its key is gone."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import orjson
import pytest
import pytest_asyncio

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.gateway.v1 import gateway_pb2
from polyroute.api.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from tests.mesh.gateway import SECONDS, deployment, grpc_door, running
from tests.mesh.keeping import KEYS, MARK, Stage, keeping, made, page, project, told
from tests.mesh.raw import RawVendor, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """See `Stage`."""
    async with keeping(tmp_path_factory.mktemp("gateway")) as stage:
        yield stage


async def test_messages_with_a_file(stage: Stage) -> None:
    """An Anthropic document goes to its key; the arguments of a caller's own tools are nobody's ids."""
    made_at = await stage.ask("POST", "/v1/files", {}, **{"x-polyroute-provider": "c"})
    name, key = made_at.json["id"], stage.last[1]
    tool = {"type": "tool_use", "id": "t", "name": "open", "input": {"file_id": "any-of-mine"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "ok"}
    document = {"type": "document", "source": {"type": "file", "file_id": name}}
    body = {"model": "claude", "max_tokens": 5}
    used = set()
    for _ in range(len(KEYS)):
        messages = [{"role": "user", "content": [document]}]
        await stage.ask("POST", "/v1/messages", {**body, "messages": messages})
        used.add(stage.last[1])
    sent = orjson.loads(stage.vendor.seen[-1].body)["messages"][0]["content"][0]["source"]["file_id"]
    foreign = await stage.ask("POST", "/v1/messages", {**body, "messages": messages}, key=stage.other)
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": [tool]}]
    plain = await stage.ask(
        "POST", "/v1/messages", {**body, "messages": [*turns, {"role": "user", "content": [result]}]}
    )

    assert ({key}, "file-in") == (used, sent)
    assert (404, "not_found_error") == (foreign.status, foreign.error["type"])
    assert 400 == plain.status  # it reached the vendor, which answers so


async def test_a_file_at_google(stage: Stage) -> None:
    """Google writes ids as addresses; other addresses are everybody's."""
    uri = "https://generativelanguage.googleapis.com/v1beta/files/abc"
    stage.vendor.replies.append(Reply((orjson.dumps({"file": {"name": "files/abc", "uri": uri}}),)))
    answer = await stage.ask("POST", "/passthrough/g/upload/v1beta/files", {})
    file, key = answer.json["file"], stage.last[1]

    def body(uri: str) -> dict[str, Any]:
        return {"contents": [{"role": "user", "parts": [{"fileData": {"mimeType": "a/b", "fileUri": uri}}]}]}

    path = "/v1beta/models/gem:generateContent"
    used = set()
    for _ in range(len(KEYS)):
        await stage.ask("POST", path, body(file["uri"]))
        used.add(stage.last[1])
    sent = orjson.loads(stage.vendor.seen[-1].body)["contents"][0]["parts"][0]["fileData"]["fileUri"]
    refused = [
        await stage.ask("POST", path, body(uri)),
        await stage.ask("POST", path, body(file["uri"]), key=stage.other),
    ]
    film = await stage.ask("POST", path, body("https://www.youtube.com/watch?v=1"))

    assert ({key}, uri) == (used, sent)
    assert file["name"].startswith("files/abc@g~")
    assert [(404, "NOT_FOUND")] * 2 == [(one.status, one.error["status"]) for one in refused]
    assert 400 == film.status  # the vendor's


async def test_typed_conversations(stage: Stage) -> None:
    """gRPC callers name files as they got them over HTTP."""
    name, key = await made(stage, "files")

    async def ask(file_id: str, secret: str) -> grpc.StatusCode:
        part = chat_pb2.Part(file=chat_pb2.FilePart(media=chat_pb2.Media(file_id=file_id)))
        message = chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[part])
        chat = chat_pb2.ChatRequest(model="m", messages=[message])
        metadata = (("authorization", f"Bearer {secret}"),)
        async with grpc_door(stage.gateway) as channel:
            call = GatewayServiceStub(channel).Chat(
                gateway_pb2.ChatRequest(chat=chat), timeout=SECONDS, metadata=metadata
            )
            return await call.code()

    before = len(stage.vendor.seen)
    refused = [await ask(name, stage.other), await ask("file-in", stage.mine)]
    unseen = len(stage.vendor.seen) == before
    await asyncio.gather(*(ask(name, stage.mine) for _ in range(3)))

    assert ([grpc.StatusCode.NOT_FOUND] * 2, True) == (refused, unseen)
    assert {key} == {one.headers["authorization"].removeprefix("Bearer ") for one in stage.vendor.seen[before:]}
    assert b"file-in" in stage.vendor.seen[-1].body
    assert b"~" not in stage.vendor.seen[-1].body


@pytest.mark.parametrize(
    "path",
    [
        "/passthrough/a/v1//files/file-in",
        "/passthrough/a/v1/Files/file-in",
        "/passthrough/a/v1/fil%65s/file-in",
        "/passthrough/a/v1/fil%2565s/file-in",
        "/passthrough/a/v1/files;x/file-in",
        "/passthrough/a/v1%2ffiles/file-in",
        "/passthrough/a/v1/responses//resp_1",
        "/passthrough/a/v1/batches\\batch_1",
    ],
)
async def test_paths_in_disguise(stage: Stage, path: str) -> None:
    """What a vendor could read as the path of a thing must be written as one."""
    before = len(stage.vendor.seen)
    address = f"http://{':'.join(map(str, stage.gateway.address))}"
    reader, writer = await asyncio.open_connection(*stage.gateway.address)
    lines = [f"GET {path} HTTP/1.1", f"host: {address}", f"authorization: Bearer {stage.mine}", "connection: close"]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    async with asyncio.timeout(SECONDS):
        answer = await reader.read()
    writer.close()

    assert (b"400", before) == (answer.split(b" ")[1], len(stage.vendor.seen))


@pytest.mark.parametrize("member", ["file\\u005fid", "fil\\u0065_id"])
async def test_names_in_escapes(stage: Stage, member: str) -> None:
    """Are read as vendors read them; a name that stands twice is refused."""
    before = len(stage.vendor.seen)
    template = '{"model":"m","messages":[{"role":"user","content":[{"type":"file","file":{%s}}]}]}'

    async def ask(inner: str) -> int:
        async with stage.gateway.call(body=(template % inner).encode()) as response:
            return int(response.status)

    assert 404 == await ask(f'"{member}":"file-in"')
    assert 400 == await ask(f'"{member}":"file-in","file_id":"file-in"')
    assert before == len(stage.vendor.seen)


async def test_a_key_that_is_gone(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What it made is not there any more, and no other key is tried in silence."""
    async with RawVendor(told) as vendor:
        account = {"vendor": "openai", "base_url": vendor.url, "keys": ["sk-one"]}
        models = {"m": {"deployments": [deployment("a")]}}
        async with running(tmp_path_factory.mktemp("gateway"), {"a": account}, models) as gateway:
            asked = Stage(gateway, vendor, gateway.key, "")
            name, _ = await made(asked, "responses")
            gateway.rewrite(providers={"a": {**account, "keys": ["sk-two"]}})
            async with asyncio.timeout(SECONDS):
                while asked.last[1] != "sk-two":
                    await asked.ask("POST", "/v1/files", {})
                    await asyncio.sleep(0.05)
            before = len(vendor.seen)
            got = await asked.ask("GET", f"/v1/responses/{name}")
            followed = await asked.ask(
                "POST", "/v1/responses", {"model": "m", "input": "on", "previous_response_id": name}
            )
            unseen = before == len(vendor.seen)

    assert [(404, True)] * 2 == [(one.status, "no more" in one.error["message"]) for one in (got, followed)]
    assert unseen


async def test_ids_without_marks_where_the_operator_lets_them(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Anybody can name what the vendor keeps, as with the vendor's own key; marks of others still open nothing."""
    async with RawVendor(told) as vendor:
        account = {"vendor": "openai", "base_url": vendor.url, "keys": KEYS}
        models = {"m": {"deployments": [deployment("a")]}}
        edge = {"unmarked_ids": True}
        async with running(tmp_path_factory.mktemp("gateway"), {"a": account}, models, edge=edge) as gateway:
            asked = Stage(gateway, vendor, gateway.key, await project(gateway))
            name, _ = await made(asked, "files")
            bare = await asked.ask("GET", "/v1/files/file-in")
            foreign = await asked.ask("GET", f"/v1/files/{name}", key=asked.other)

            vendor.replies.append(page("x", "y"))
            listed = await asked.ask("GET", "/v1/files")

    assert (200, 404) == (bare.status, foreign.status)
    assert MARK.search(bare.json["id"])
    assert ["x", "y"] == [MARK.sub("", thing["id"]) for thing in listed.json["data"]]
