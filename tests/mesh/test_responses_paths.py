"""What stands beside `/v1/responses`: counting and compacting; by the address of a deployment."""

from collections.abc import AsyncGenerator

import orjson
import pytest
import pytest_asyncio

from polyroute.api.metrics.v1 import metrics_pb2
from tests.fakes.works import COUNTED
from tests.spoken import Stage, speaking

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATCH = {"type": "custom", "name": "apply_patch", "format": {"type": "text"}}
BODY = {
    "input": [{"role": "user", "content": "how many tokens are these?"}],
    "instructions": "be brief",
    "tools": [PATCH],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """One gateway before every format."""
    async with speaking(tmp_path_factory.mktemp("gateway")) as stage:
        yield stage


def at(model: str, what: str) -> str:
    """The path of a deployment."""
    return f"/openai/deployments/{model}/responses/{what}"


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("openai.responses", "/v1/responses/input_tokens"),
        ("anthropic.messages", "/v1/messages/count_tokens"),
        ("bedrock.converse", "/count-tokens"),
        ("gemini.generate", ":countTokens"),
    ],
)
async def test_vendors_that_count_are_asked(stage: Stage, model: str, path: str) -> None:
    """In their own formats, free-text tools included."""
    answer = await stage.gateway.post(at(model, "input_tokens"), BODY)

    assert (200, {"object": "response.input_tokens", "input_tokens": COUNTED}) == (answer.status, answer.json)
    assert stage.vendors.last.path.partition("?")[0].endswith(path)


async def test_others_are_estimated(stage: Stage) -> None:
    """Nobody is asked."""
    before = len(stage.vendors.seen)

    answer = await stage.gateway.post(at("openai.chat", "input_tokens"), BODY)

    assert 5 < answer.json["input_tokens"] < 200
    assert before == len(stage.vendors.seen)


async def test_compacting_passes_to_a_vendor_that_has_it(stage: Stage) -> None:
    """Body and answer as they are but for the model's name; the call is on record and metered."""
    answer = await stage.gateway.post(at("openai.responses", "compact"), {"model": "openai.responses", **BODY})

    assert (200, "response.compaction") == (answer.status, answer.json["object"])
    [item] = answer.json["output"]
    assert ("compaction", "cmp_1") == (item["type"], item["id"])
    assert item["encrypted_content"].startswith("c2VhbGVk@openai.responses~")
    seen = stage.vendors.last
    assert "/v1/responses/compact" == seen.path
    assert {"model": "up-responses", **BODY} == orjson.loads(seen.body)
    record = await stage.gateway.recorded(answer)
    assert metrics_pb2.OUTCOME_COMPLETED == record.outcome
    assert (10, 5) == (record.usage.input_tokens, record.usage.output_tokens)


@pytest.mark.parametrize("model", ["openai.chat", "anthropic.messages", "gemini.generate", "bedrock.converse"])
async def test_compacting_is_refused_elsewhere(stage: Stage, model: str) -> None:
    """A clear 400; nobody is asked."""
    before = len(stage.vendors.seen)

    answer = await stage.gateway.post(at(model, "compact"), BODY)

    assert (400, "unsupported_parameter") == (answer.status, answer.error["code"])
    assert "cannot compact" in answer.error["message"]
    assert before == len(stage.vendors.seen)
