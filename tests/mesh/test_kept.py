"""What a vendor keeps is its project's alone, and is asked for with the key that made it."""

import re
from collections.abc import AsyncGenerator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.mesh.keeping import KEYS, MARK, SEALED, Stage, keeping, made, page
from tests.mesh.raw import Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """See `Stage`."""
    async with keeping(tmp_path_factory.mktemp("gateway")) as stage:
        yield stage


ROUTES = [
    ("responses", "GET", "/v1/responses/{}", None),
    ("responses", "GET", "/responses/{}?stream=false", None),
    ("responses", "DELETE", "/v1/responses/{}", None),
    ("responses", "POST", "/v1/responses/{}/cancel", {}),
    ("responses", "GET", "/v1/responses/{}/input_items?after=msg_1", None),
    ("responses", "POST", "/v1/responses", {"model": "m", "input": "on", "previous_response_id": "{}"}),
    ("responses", "POST", "/v1/responses", {"model": "m", "input": "on", "stream": True, "previous_response_id": "{}"}),
    ("responses", "POST", "/passthrough/a/v1/responses", {"model": "m", "input": "on", "previous_response_id": "{}"}),
    ("responses", "GET", "/passthrough/a/v1/responses/{}", None),
    ("conversations", "GET", "/v1/conversations/{}", None),
    ("conversations", "GET", "/v1/conversations/{}/items", None),
    ("conversations", "POST", "/v1/responses", {"model": "m", "input": "on", "conversation": "{}"}),
    ("conversations", "POST", "/v1/responses", {"model": "m", "input": "on", "conversation": {"id": "{}"}}),
    ("files", "GET", "/v1/files/{}", None),
    ("files", "GET", "/openai/files/{}/content", None),
    ("files", "DELETE", "/v1/files/{}", None),
    ("files", "GET", "/v1/files?after={}", None),
    ("files", "GET", "/passthrough/a/v1/files/{}/content", None),
    ("files", "POST", "/v1/batches", {"input_file_id": "{}", "endpoint": "/v1/responses"}),
    ("files", "POST", "/v1/vector_stores", {"file_ids": ["{}"]}),
    ("files", "POST", "/passthrough/a/v1/fine_tuning/jobs", {"model": "m", "training_file": "{}"}),
    (
        "files",
        "POST",
        "/v1/responses",
        {"model": "m", "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "{}"}]}]},
    ),
    (
        "files",
        "POST",
        "/v1/chat/completions",
        {"model": "m", "messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "{}"}}]}]},
    ),
    ("batches", "GET", "/v1/batches/{}", None),
    ("batches", "POST", "/v1/batches/{}/cancel", {}),
    ("batches", "GET", "/v1/messages/batches/{}/results", None),
    ("vector_stores", "GET", "/v1/vector_stores/{}/files", None),
]


def filled(body: Any, text: str) -> Any:
    """A body with an id in its place."""
    return None if body is None else orjson.loads(orjson.dumps(body).replace(b'{}"', text.encode() + b'"'))


@pytest.mark.parametrize(("kind", "method", "path", "body"), ROUTES)
async def test_what_is_made_is_its_makers(stage: Stage, kind: str, method: str, path: str, body: Any) -> None:
    """Its project gets it from the key that made it, every time; to another project it is not there, nor unmarked."""
    name, key = await made(stage, kind)
    own = MARK.sub("", name)
    before = len(stage.vendor.seen)
    foreign = await stage.ask(method, path.format(name), filled(body, name), key=stage.other)
    bare = await stage.ask(method, path.format(own), filled(body, own))
    changed = name[:-1] + ("A" if name[-1] != "A" else "B")
    forged = await stage.ask(method, path.format(changed), filled(body, changed))

    assert before == len(stage.vendor.seen)
    assert [404] * 3 == [foreign.status, bare.status, forged.status], (foreign.body, bare.body, forged.body)
    assert {"not_found"} == {one.error["code"] for one in (foreign, bare, forged)}

    used = set()
    for _ in range(len(KEYS)):
        await stage.ask(method, path.format(name), filled(body, name))
        seen = stage.vendor.seen[-1]
        used.add(stage.last[1])

        assert before < len(stage.vendor.seen)
        assert "~" not in seen.path
        assert own in seen.path + seen.body.decode()
        assert MARK.search(seen.path + seen.body.decode()) is None
    assert {key} == used


async def test_keys_take_turns_at_new_things(stage: Stage) -> None:
    """What is made is spread over the keys, and each thing knows its own."""
    found = {(await made(stage, "files"))[1] for _ in range(6)}

    assert set(KEYS) == found


async def test_a_batch_names_its_files_marked(stage: Stage) -> None:
    """So that they can be fetched; what callers wrote is theirs."""
    answer = await stage.ask("POST", "/v1/batches", {"endpoint": "/v1/responses"})
    batch = answer.json

    for name in ("id", "input_file_id", "output_file_id"):
        assert MARK.search(batch[name]), name
    assert (None, {"was": "file_x"}) == (batch["error_file_id"], batch["metadata"])
    assert 200 == (await stage.ask("GET", f"/v1/files/{batch['output_file_id']}/content")).status


async def test_contents_pass_as_they_are(stage: Stage) -> None:
    """Also those that look like an answer."""
    name, _ = await made(stage, "files")

    assert b'{"id":"file-in"}' == (await stage.ask("GET", f"/v1/files/{name}/content")).body


@pytest.mark.parametrize("stream", [False, True])
async def test_sealed_reasoning_goes_back_to_its_key(stage: Stage, stream: bool) -> None:
    """Also from a client that keeps no ids, as Codex; another project's is not passed on."""
    question = {"model": "m", "input": "hi", "store": False, "provider": {"only": ["a"]}, "stream": stream}
    answer = await stage.ask("POST", "/v1/responses", question)
    key = stage.last[1]
    sealed = {one.decode() for one in re.findall(rb'"encrypted_content":"([^"]+)', answer.body)}
    item = {"type": "reasoning", "summary": [], "encrypted_content": sealed.pop()}
    follow = {"model": "m", "input": [item, {"role": "user", "content": "on"}]}
    used = set()
    for _ in range(len(KEYS)):
        assert 200 == (await stage.ask("POST", "/v1/responses", follow)).status
        used.add(stage.last[1])
    sent = orjson.loads(stage.vendor.seen[-1].body)["input"][0]["encrypted_content"]

    assert set() == sealed
    assert ({key}, SEALED) == (used, sent)
    assert 404 == (await stage.ask("POST", "/v1/responses", follow, key=stage.other)).status


async def test_an_echo_is_marked(stage: Stage) -> None:
    """The answer that was followed is told under the id that the client knows."""
    name, _ = await made(stage, "responses")
    follow = await stage.ask("POST", "/v1/responses", {"model": "m", "input": "on", "previous_response_id": name})

    assert name == follow.json["previous_response_id"]


async def test_things_of_two_keys_do_not_mix(stage: Stage) -> None:
    """No vendor has both."""
    found: dict[str, str] = {}
    while len(found) < 2:
        name, key = await made(stage, "files")
        found[key] = name
    answer = await stage.ask("POST", "/v1/vector_stores", {"file_ids": list(found.values())})

    assert (400, "file_ids") == (answer.status, answer.error["param"])


@pytest.mark.parametrize("kind", ["batches", "files", "vector_stores"])
async def test_lists_show_a_project_its_own(stage: Stage, kind: str) -> None:
    """Under the ids that it got when they were made; pages with nothing of it are passed over."""
    own = []
    for number in range(2):
        stage.vendor.replies.append(Reply((orjson.dumps({"id": f"own-{kind}-{number}", "object": "x"}),)))
        own.append((await stage.ask("POST", f"/v1/{kind}", {})).json["id"])
    stage.vendor.replies += [
        page("x", "y", more=True),
        page("z", f"own-{kind}-0", "w", f"own-{kind}-1", "v", more=True),
    ]
    mine = await stage.ask("GET", f"/v1/{kind}?limit=5")
    keys = {seen.headers["authorization"] for seen in stage.vendor.seen[-2:]}
    asked = stage.last[0]
    stage.vendor.replies.append(page(f"own-{kind}-0"))
    on = await stage.ask("GET", f"/v1/{kind}?limit=5&after={mine.json['data'][-1]['id']}")
    continued = stage.last[0]
    stage.vendor.replies += [page(f"own-{kind}-0", "x", more=True), page(f"own-{kind}-1")]
    others = await stage.ask("GET", f"/passthrough/a/v1/{kind}", key=stage.other)

    assert own == [thing["id"] for thing in mine.json["data"]]
    assert (own[0], own[1], True) == (mine.json["first_id"], mine.json["last_id"], mine.json["has_more"])
    assert all(MARK.search(thing["input_file_id"]) for thing in mine.json["data"])
    assert (1, f"/{kind}?limit=5&after=y") == (len(keys), asked.removeprefix("/v1"))
    assert ([own[0]], f"/{kind}?limit=5&after=own-{kind}-1") == (
        [thing["id"] for thing in on.json["data"]],
        continued.removeprefix("/v1"),
    )
    assert ([], None, False) == (others.json["data"], others.json["last_id"], others.json["has_more"])


async def test_lists_at_google(stage: Stage) -> None:
    """Their things have names, and their pages tokens."""
    files = [{"name": f"files/{name}", "uri": f"https://g/v1beta/files/{name}"} for name in ("x", "listed")]
    stage.vendor.replies.append(Reply((orjson.dumps({"file": files[1]}),)))
    made_at = await stage.ask("POST", "/passthrough/g/upload/v1beta/files", {})
    stage.vendor.replies.append(Reply((orjson.dumps({"files": files[:1], "nextPageToken": "t"}),)))
    stage.vendor.replies.append(Reply((orjson.dumps({"files": files}),)))
    listed = await stage.ask("GET", "/passthrough/g/v1beta/files?pageSize=1")

    assert {"files": [made_at.json["file"]]} == listed.json
    assert stage.last[0].endswith("/files?pageSize=1&pageToken=t")
