"""What bounds a key bounds it at vendors' own APIs as well, where no router judges a request."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from polyroute.api.auth.v1 import auth_pb2
from tests.mesh.gateway import SECONDS, Gateway, running
from tests.mesh.raw import RawVendor

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHEAP = b'{"model":"cheap"}'
AZURE = "/passthrough/a/openai/deployments/{}/chat/completions"
GEMINI = "/passthrough/a/models/{}:generateContent"


@dataclass
class Stage:
    """A gateway before one vendor."""

    gateway: Gateway
    vendor: RawVendor

    async def key(self, *models: str, **scope: Any) -> str:
        """A new key's secret."""
        request = auth_pb2.CreateKeyRequest(name="bound", models=models, scope=auth_pb2.KeyScope(**scope))
        made = await self.gateway.auth().CreateKey(request, timeout=SECONDS)
        return str(made.secret)

    async def send(self, key: str, path: str, body: bytes = b"", method: str = "POST") -> tuple[int, bool]:
        """What a path as it is written is answered, and whether the vendor saw it."""
        before = len(self.vendor.seen)
        lines = [
            f"{method} {path} HTTP/1.1",
            "host: gateway",
            f"authorization: Bearer {key}",
            "content-type: application/json",
            "x-polyroute-provider: a",
            "connection: close",
            f"content-length: {len(body)}",
        ]
        reader, writer = await asyncio.open_connection(*self.gateway.address)
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        async with asyncio.timeout(SECONDS):
            answer = await reader.read()
        writer.close()
        return int(answer.split(b" ")[1]), len(self.vendor.seen) > before


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """See `Stage`."""
    folder = tmp_path_factory.mktemp("gateway")
    edge = {"unmarked_ids": True}  # so that any path is one of something
    async with RawVendor() as vendor, running(folder, {"a": vendor.url}, edge=edge) as gateway:
        yield Stage(gateway, vendor)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (AZURE.format("gold"), CHEAP),
        (AZURE.format("gold").replace("deployments", "Deployments"), CHEAP),
        (AZURE.format("gold").replace("deployments/", "deployments%2f"), CHEAP),
        (AZURE.format("cheap"), b'{"model":"gold"}'),
        (GEMINI.format("gold"), CHEAP),
        (GEMINI.format("gold"), b"{}"),
        ("/passthrough/a/model/gold/converse", CHEAP),
        ("/passthrough/a/batches", CHEAP),
        ("/passthrough/a/ai/run/@cf/gold", CHEAP),
        ("/passthrough/a/projects/p/endpoints/17:predict", CHEAP),
        ("/passthrough/a/x?model=gold", CHEAP),
        ("/passthrough/a/chat/completions", b'{"model":"cheap","Model":"gold"}'),
        ("/passthrough/a/chat/completions", b'{"model":"cheap","mod\\u0065ls":["gold"]}'),
        ("/passthrough/a/chat/completions", b'{"model":1e400}'),
        (GEMINI.format("cheap").replace("generateContent", "free"), CHEAP),
        ("/passthrough/a/chat/completions", b"{}"),
        ("/passthrough/a/chat/completions", b""),
    ],
)
async def test_other_models_are_refused(stage: Stage, path: str, body: bytes) -> None:
    """Wherever a request names them."""
    status, reached = await stage.send(await stage.key("cheap"), path, body)

    assert (403, False) == (status, reached)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gold","model":"cheap"}',
        b'{"mod\\u0065l":"gold","model":"cheap"}',
        b'{"mod\\u0065l":"cheap"}',
        b'{"model":"\\ud800"}',
        b"[1]",
    ],
)
async def test_what_parsers_read_differently_is_refused(stage: Stage, body: bytes) -> None:
    """A model must be named once, in plain letters; other keys' bodies are the vendor's business."""
    bound = await stage.send(await stage.key("cheap"), "/passthrough/a/chat/completions", body)
    free = await stage.send(stage.gateway.key, "/passthrough/a/chat/completions", body)

    assert (bound[0] in (400, 403), False) == (True, bound[1])
    assert (200, True) == free


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (AZURE.format("cheap"), CHEAP),
        (AZURE.format("cheap"), b'{"messages":[]}'),
        (GEMINI.format("cheap"), b'{"contents":[{"parts":[{"text":"model"}]}]}'),
        ("/passthrough/a/chat/completions", b'{"tools":[{"model":"gold"}],"model":"cheap"}'),
        ("/passthrough/a/projects/p/endpoints/openapi/chat/completions", CHEAP),
    ],
)
async def test_own_models_are_reached(stage: Stage, path: str, body: bytes) -> None:
    """Named in the path, in the body or in both."""
    assert (200, True) == await stage.send(await stage.key("cheap"), path, body)


@pytest.mark.parametrize("scope", [{"regions": ["eu"]}, {"policies": ["inland"]}])
async def test_keys_that_the_router_bounds(stage: Stage, scope: dict[str, Any]) -> None:
    """Where a vendor's own API runs is not known, and no policy is asked: such keys may not go there."""
    key = await stage.key(**scope)

    assert (403, False) == await stage.send(key, "/passthrough/a/chat/completions", CHEAP)
    assert (403, False) == await stage.send(key, "/v1/files", method="GET")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/../chat/completions",
        "/v1/files/..%2fchat/completions",
        "/v1/files/%2e%2E/chat/completions",
        "/v1/files/%252e%252e/chat/completions",
        "/v1/files/..%5cchat/completions",
        "/v1/files/..;x/chat/completions",
        "/v1/files/./x",
        "/v1/files/..",
        "/v1/files/..%2fchat%2fcompletions@a",
        "/v1/files/../organization/admin_api_keys",
        "/passthrough/a/../x",
    ],
)
async def test_paths_that_climb(stage: Stage, path: str) -> None:
    """A key for some routes gets nowhere else by dots, however they are written."""
    key = await stage.key(routes=["/v1/files*", "/passthrough/*"])

    assert (400, False) == await stage.send(key, path, CHEAP)
    assert (200, True) == await stage.send(key, "/v1/files/..a/.b/c...", CHEAP)


@pytest.mark.parametrize("path", ["/v1/f%69les/abc", "/%70assthrough/a/models", "/v1/files%2fabc"])
async def test_paths_in_another_spelling(stage: Stage, path: str) -> None:
    """Are nothing's, also without a key."""
    assert (404, False) == await stage.send("", path, method="GET")
