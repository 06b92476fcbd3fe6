"""A vendor that keeps whatever it is asked for, and a gateway with two projects before several of its accounts."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from polyroute.api.auth.v1 import admin_pb2, auth_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from tests.mesh.gateway import SECONDS, Answer, Gateway, deployment, running, whole
from tests.mesh.raw import EVENTS, JSON, RawVendor, Reply, Seen

KEYS = ["sk-one", "sk-two", "sk-three"]
MARK = re.compile(r"@[^@~]+~[\w-]{32}")
USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
SEALED = "gAAAA/sealed+by=="


def told(seen: Seen) -> Reply:
    """What a vendor answers that keeps whatever it is asked for."""
    path = seen.path.partition("?")[0]
    if path.endswith("/responses"):
        return responded(seen)
    if path.endswith("/content"):
        return Reply((b'{"id":"file-in"}',))
    if path.endswith("/batches"):
        batch = {"id": "batch_1", "object": "batch", "input_file_id": "file-in", "output_file_id": "file-out"}
        return Reply((orjson.dumps({**batch, "error_file_id": None, "metadata": {"was": "file_x"}}),))
    if path.endswith("/files"):
        return Reply((b'{"id":"file-in","object":"file","filename":"q.jsonl"}',))
    if path.endswith(("/messages", "/chat/completions")) or ":generate" in path:
        return Reply((b'{"error":{"message":"seen"}}',), status=400)
    own = path.rsplit("/", 1)[1] if not path.endswith(("/cancel", "/input_items", "/items")) else path.split("/")[-2]
    return Reply((orjson.dumps({"id": own, "object": "thing"}),))


def responded(seen: Seen) -> Reply:
    """A stored answer with sealed reasoning, in the form that was asked for."""
    output = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": SEALED},
        {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]},
    ]
    asked = orjson.loads(seen.body)
    answer: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "model": "m",
        "status": "completed",
        "output": output,
    }
    answer |= {"usage": USAGE, "previous_response_id": asked.get("previous_response_id")}
    if not asked.get("stream"):
        return Reply((orjson.dumps(answer),))
    steps = [
        {"type": "response.created", "response": {**answer, "output": [], "usage": None}},
        {"type": "response.output_item.done", "output_index": 0, "item": output[0]},
        {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 1, "delta": "hi"},
        {"type": "response.completed", "response": answer},
    ]
    return Reply(tuple(b"data: " + orjson.dumps(step) + b"\n\n" for step in steps), kind=EVENTS)


@dataclass
class Stage:
    """A gateway before one vendor's two accounts, and two projects."""

    gateway: Gateway
    vendor: RawVendor
    mine: str
    other: str

    async def ask(self, method: str, path: str, body: Any = None, *, key: str = "", **headers: str) -> Answer:
        """A request with the key of the first project, unless said."""
        data = None if body is None else orjson.dumps(body)
        said = {"authorization": f"Bearer {key or self.mine}", "x-polyroute-provider": "a", **headers}
        if body is not None:
            said["content-type"] = JSON
        async with self.gateway.session.request(method, self.gateway.url + path, data=data, headers=said) as response:
            return await whole(response)

    @property
    def last(self) -> tuple[str, str]:
        """The last path that the vendor saw, and its key."""
        seen = self.vendor.seen[-1]
        headers = seen.headers
        key = headers.get("authorization", "").removeprefix("Bearer ")
        return seen.path, key or headers.get("x-api-key", "") or headers.get("x-goog-api-key", "")


@asynccontextmanager
async def keeping(directory: Path) -> AsyncGenerator[Stage]:
    """Runs both."""
    async with RawVendor(told) as vendor:
        accounts = {
            "a": {"vendor": "openai", "base_url": vendor.url, "keys": KEYS},
            "b": {"vendor": "openai", "base_url": vendor.url, "keys": ["sk-b"]},
            "c": {"vendor": "anthropic", "base_url": vendor.url, "keys": KEYS},
            "g": {"vendor": "gemini", "base_url": vendor.url, "keys": KEYS},
        }
        models = {
            "m": {"deployments": [deployment("b"), deployment("a")]},
            "claude": {"deployments": [deployment("c", "claude-sonnet-4-5")]},
            "gem": {"deployments": [deployment("g", "gemini-2.5-flash")]},
        }
        async with running(directory, accounts, models) as gateway:
            yield Stage(gateway, vendor, *[await project(gateway) for _ in range(2)])


async def project(gateway: Gateway) -> str:
    """The key of a new project."""
    secret = (gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
    admin = AdminServiceStub(gateway.node.channel("auth"))
    metadata = (("polyroute-admin", secret),)
    account = admin_pb2.CreateAccountRequest(name="tenant")
    created = await admin.CreateAccount(account, timeout=SECONDS, metadata=metadata)
    inside = admin_pb2.CreateProjectRequest(account_id=created.account.id, name="p")
    made = await admin.CreateProject(inside, timeout=SECONDS, metadata=metadata)
    request = auth_pb2.CreateKeyRequest(project_id=made.project.id, name="k")
    return str((await gateway.auth().CreateKey(request, timeout=SECONDS)).secret)


async def made(stage: Stage, kind: str) -> tuple[str, str]:
    """The id of something new of the first project, and the vendor's key that made it."""
    body = {"model": "m", "input": "hi", "provider": {"only": ["a"]}} if kind == "responses" else {"purpose": "x"}
    answer = await stage.ask("POST", f"/v1/{kind}", body)
    assert 200 == answer.status, answer.body
    return answer.json["id"], stage.last[1]


def page(*names: str, more: bool = False, **members: Any) -> Reply:
    """A page of a vendor's list."""
    things = [{"id": name, "object": "batch", "input_file_id": "file-of-" + name} for name in names]
    ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
    return Reply((orjson.dumps({"object": "list", "data": things, **ends, "has_more": more, **members}),))
