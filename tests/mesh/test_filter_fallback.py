"""A policy that names whom to ask instead when a vendor's content filter refuses: once, and before any content."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

import orjson
import pytest
import pytest_asyncio

from bench.vendor import Vendor
from polyroute.api.errors.v1 import errors_pb2
from tests.mesh.gateway import Answer, Gateway, deployment, running, text_of
from tests.mesh.raw import RawVendor, Reply, events, json

pytestmark = pytest.mark.asyncio(loop_scope="module")

both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
REFUSED: Final = json(b'{"error":{"message":"no","code":"content_filter"}}', status=400)
FILTERED: Final = json(
    b'{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"content_filter"}]}'
)
FILTERED_STREAM: Final = events(
    b'{"id":"x","choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}',
    b'{"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"content_filter"}]}',
    b"[DONE]",
)
CUT_OFF: Final = events(
    b'{"id":"x","choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}]}',
    b'{"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"content_filter"}]}',
    b"[DONE]",
)


@dataclass
class Stage:
    """Each policy rules the model of its name, which is on the raw vendor, then on `b`; `lenient` is on `b` alone."""

    gateway: Gateway
    strict: RawVendor
    b: Vendor

    async def ask(self, policy: str = "open", *, stream: bool = False) -> Answer:
        """A question under a policy, with the decision's record in the answer."""
        headers = self.gateway.headers(**{"x-polyroute-explain": "true"})
        return await self.gateway.chat(model=policy, stream=stream, headers=headers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """See `Stage`."""
    async with RawVendor() as raw, Vendor() as b:
        policies = {
            "open": {"content_policy_fallback": "lenient"},
            "once": {"content_policy_fallback": "lenient", "max_attempts": 1},
            "nowhere": {"content_policy_fallback": "missing"},
            "default": {},
        }
        models = {
            policy: {
                "deployments": [
                    deployment("raw", name=f"{policy}:raw", priority=0),
                    deployment("b", name=f"{policy}:b", priority=1),
                ]
            }
            for policy in policies
        }
        models["lenient"] = {"deployments": [deployment("b", "lenient", name="lenient:b")]}
        rules = [{"policy": policy, "models": [policy]} for policy in policies]
        async with running(
            tmp_path_factory.mktemp("gateway"),
            {"raw": raw.url, "b": b.url},
            models,
            policies=policies,
            routing={"rules": rules},
        ) as gateway:
            yield Stage(gateway, raw, b)


def served(answer: Answer) -> str:
    """Which deployment answered."""
    return answer.headers.get("x-polyroute-deployment", "")


@both_ways
@pytest.mark.parametrize("policy", ["open", "once"])
async def test_a_refusal_goes_to_the_named_model(stage: Stage, policy: str, *, stream: bool) -> None:
    """Past the same model elsewhere, and beyond the number of attempts; both attempts are on record."""
    stage.strict.queue(REFUSED)

    answer = await stage.ask(policy, stream=stream)
    record = await stage.gateway.recorded(answer)

    assert (200, "lenient:b") == (answer.status, served(answer))
    assert [f"{policy}:raw", "lenient:b"] == [attempt.deployment for attempt in record.attempts]
    assert errors_pb2.FAULT_FILTER == record.attempts[0].fault
    assert "lenient" == record.model


@both_ways
async def test_an_answer_that_is_only_a_refusal_is_one(stage: Stage, *, stream: bool) -> None:
    """A vendor may refuse with 200 and the reason `content_filter`."""
    stage.strict.queue(FILTERED_STREAM if stream else FILTERED)

    answer = await stage.ask(stream=stream)

    assert (200, "lenient:b") == (answer.status, served(answer))
    assert b"content_filter" not in answer.body.partition(b'"polyroute"')[0]


async def test_what_was_handed_out_stays(stage: Stage) -> None:
    """A stream that its filter cuts off after some content is passed through as it is."""
    stage.strict.queue(CUT_OFF)

    answer = await stage.ask(stream=True)

    assert (200, "open:raw") == (answer.status, served(answer))
    assert "one" == text_of(answer.events)


@pytest.mark.parametrize("policy", ["default", "nowhere"])
async def test_the_refusal_stands_where_nobody_is_named(stage: Stage, policy: str) -> None:
    """No filter shopping by default; and none by a name that leads nowhere."""
    stage.strict.queue(REFUSED)

    answer = await stage.ask(policy)
    record = await stage.gateway.recorded(answer)

    assert (400, "content_filter") == (answer.status, answer.error["code"])
    assert [f"{policy}:raw"] == [attempt.deployment for attempt in record.attempts]


async def test_another_failure_does_not_go_there(stage: Stage) -> None:
    """What a filter has nothing to do with fails over as ever."""
    stage.strict.queue(Reply(status=500))

    answer = await stage.ask()

    assert (200, "open:b") == (answer.status, served(answer))


@pytest.mark.parametrize(
    ("policy", "said"), [("open", "lenient:b"), ("nowhere", "unknown model 'missing'"), ("default", None)]
)
async def test_the_decision_says_who_would_be_asked(stage: Stage, policy: str, said: str | None) -> None:
    """Or why nobody would."""
    answer = await stage.ask(policy)

    assert said == orjson.loads(answer.body)["polyroute"]["decision"].get("content_policy_fallback")
