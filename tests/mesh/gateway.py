"""A whole gateway in the test's own process: every role, real sockets at the doors, bytes in and bytes out."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import orjson
import yaml

from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from polyroute.api.metrics.v1.metrics_pb2 import CallRecord, ListCallsRequest
from polyroute.api.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from polyroute.cli.config import load
from polyroute.cli.roles import Process
from polyroute.mesh import lifecycle
from polyroute.mesh.node import Node
from polyroute.mesh.roles import ROLES

SECONDS: Final = 10.0  # bound of everything here that waits
SPARE: Final = 200
PRICE: Final = {"input": "1.5", "output": "6", "cache_read": "0.15"}  # USD per million

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return orjson.loads(self.body)

    @property
    def error(self) -> Any:
        """The `error` member of the body."""
        return self.json["error"]

    @property
    def events(self) -> list[bytes]:
        """The data of each event of a stream."""
        return events_of(self.body)


@dataclass
class Gateway:
    """A running gateway and the key that opens it."""

    node: Node
    process: Process
    config: Path
    key: str
    session: aiohttp.ClientSession
    models: Tree = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The HTTP door, without a version."""
        return self.node.bound["http"]

    @property
    def door(self) -> str:
        """The gRPC door, `host:port`."""
        return self.node.bound["edge"]

    @property
    def address(self) -> tuple[str, int]:
        """The HTTP door's host and port."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def headers(self, **more: str) -> dict[str, str]:
        """What a JSON request with the key needs."""
        return {"authorization": f"Bearer {self.key}", "content-type": "application/json", **more}

    def call(
        self, path: str = "/v1/chat/completions", body: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> Any:
        """A POST under way: `async with gateway.call(...) as response`."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        return self.session.post(self.url + path, data=data, headers=self.headers() if headers is None else headers)

    async def post(
        self, path: str = "/v1/chat/completions", body: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """POSTs a body (bytes as they are, anything else as JSON) and reads the whole answer."""
        async with self.call(path, body, headers=headers) as response:
            return await whole(response)

    async def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """GETs a page."""
        async with self.session.get(
            self.url + path, headers=self.headers() if headers is None else headers
        ) as response:
            return await whole(response)

    async def chat(self, text: str = "hello", *, headers: Mapping[str, str] | None = None, **members: Any) -> Answer:
        """Asks the model `m`."""
        return await self.post(body=question(text, **members), headers=headers)

    def auth(self) -> AuthServiceStub:
        """AuthService, as an operator reaches it."""
        return AuthServiceStub(self.node.channel("auth"))

    def metrics(self) -> MetricsServiceStub:
        """MetricsService, as an operator reaches it."""
        return MetricsServiceStub(self.node.channel("metrics"))

    async def record(self, request_id: str) -> CallRecord:
        """The record of a call, once metrics has it."""
        async with asyncio.timeout(SECONDS):
            while True:
                listed = await self.metrics().ListCalls(ListCallsRequest(request_id=request_id), timeout=SECONDS)
                if listed.records:
                    return listed.records[0]
                await asyncio.sleep(0.01)

    async def recorded(self, answer: Answer) -> CallRecord:
        """The record of an answered call."""
        return await self.record(answer.headers["x-request-id"])

    async def latest(self, count: int = 1) -> list[CallRecord]:
        """The newest records, newest first, once there are `count` of them."""
        async with asyncio.timeout(SECONDS):
            while True:
                listed = await self.metrics().ListCalls(ListCallsRequest(page_size=count), timeout=SECONDS)
                if len(listed.records) >= count:
                    return list(listed.records)
                await asyncio.sleep(0.01)

    def rewrite(self, **sections: Any) -> None:
        """Writes the configuration file anew with some sections replaced."""
        tree = yaml.safe_load(self.config.read_text())
        self.config.write_text(yaml.safe_dump({**tree, **sections}, sort_keys=False))


async def whole(response: aiohttp.ClientResponse) -> Answer:
    """An answer, read to its end."""
    body = await response.read()
    return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, body)


def question(text: str = "hello", model: str = "m", **members: Any) -> Tree:
    """A chat request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **members}


def events_of(body: bytes) -> list[bytes]:
    """The data of each event; fails on any framing but one `data:` line and a blank line, both ended by LF."""
    if not body:
        return []
    assert body.endswith(b"\n\n")
    frames = body[:-2].split(b"\n\n")
    data = [frame for frame in frames if not frame.startswith(b":")]
    assert all(frame.startswith(b"data: ") and b"\n" not in frame and b"\r" not in frame for frame in data)
    return [frame.removeprefix(b"data: ") for frame in data]


def text_of(events: Iterable[bytes]) -> str:
    """The words of a stream."""
    words = ""
    for event in events:
        if event != b"[DONE]":
            for choice in orjson.loads(event).get("choices", ()):
                words += choice["delta"].get("content") or ""
    return words


def deployment(provider: str = "v", model: str = "up", **settings: Any) -> Tree:
    """A deployment with a price."""
    return {"provider": provider, "model": model, "price": PRICE, **settings}


def keys_of(provider: str) -> list[str]:
    """Keys of a provider: so many that one which a test has spoilt does not fail the next test."""
    return [f"sk-{provider}", *(f"sk-{provider}-{number}" for number in range(SPARE))]


def tree_of(
    directory: Path, key: str, providers: Mapping[str, str | Tree], models: Tree | None = None, **sections: Any
) -> Tree:
    """A configuration: providers by name, with their base URLs or settings; `m` on the first of them unless said."""
    first = next(iter(providers), "v")
    tree: Tree = {
        "data_dir": str(directory / "data"),
        "mesh": {"drain_delay": 0, "drain_grace": 2},
        "auth": {"bootstrap_key": key},
        "provider": {"discover": False},
        "router": {"reload_interval": 0.05, "health": False},  # or one test's failures would change the next one's plan
        "edge": {"http": {"listen": "127.0.0.1:0"}, "grpc": {"listen": "127.0.0.1:0"}},
        "providers": {
            name: {"vendor": "openai_compatible", "base_url": given, "keys": keys_of(name)}
            if isinstance(given, str)
            else given
            for name, given in providers.items()
        },
        "models": models or {"m": {"deployments": [deployment(first)]}},
    }
    for name, section in sections.items():
        tree[name] = merged(tree.get(name, {}), section)
    return tree


def merged(base: Any, above: Any) -> Any:
    """Two mappings laid over each other, all the way down."""
    if isinstance(base, dict) and isinstance(above, dict):
        return {**base, **{name: merged(base.get(name), value) for name, value in above.items()}}
    return above


@asynccontextmanager
async def running(
    directory: Path, providers: Mapping[str, str | Tree], models: Tree | None = None, **sections: Any
) -> AsyncGenerator[Gateway]:
    """Runs a gateway before vendors at these base URLs, or with these settings."""
    key = f"pr-{secrets.token_hex(32)}"
    path = directory / "polyroute.yaml"
    path.write_text(yaml.safe_dump(tree_of(directory, key, providers, models, **sections), sort_keys=False))
    process = Process(load(path), path, {}, frozenset(ROLES), announce=lambda _: None)
    process.config.data_dir.mkdir(parents=True, exist_ok=True)  # a test may have put something there
    node = process.node()
    try:
        async with (
            lifecycle.running(process.table(node)),
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS), auto_decompress=False) as session,
        ):
            await ready(node)
            yield Gateway(node, process, path, key, session)
    finally:
        await node.close()


async def ready(node: Node) -> None:
    """Returns when every role says that it serves."""
    async with asyncio.timeout(SECONDS):
        while not all([await node.healthy(role) for role in ROLES]):
            await asyncio.sleep(0.005)


@asynccontextmanager
async def grpc_door(gateway: Gateway) -> AsyncGenerator[grpc.aio.Channel]:
    """A plain channel to the gRPC door, as an application opens one."""
    async with grpc.aio.insecure_channel(gateway.door) as channel:
        yield channel
