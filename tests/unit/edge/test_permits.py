"""What a key may do."""

import pytest

from polyroute.api.auth.v1.auth_pb2 import KeyScope, PlanInForce, PlanScope, Verdict
from polyroute.api.chat.v1.chat_pb2 import (
    OPERATION_CHAT,
    OPERATION_COUNT_TOKENS,
    OPERATION_EMBEDDING,
    OPERATION_RELAY,
    OPERATION_RERANK,
    EncodedRequest,
    Operation,
    RequestFacts,
)
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.router.v1.router_pb2 import SORT_BY_PRICE, Model, Preferences, SortKey
from polyroute.edge.call import Call
from polyroute.edge.permits import bind, may_use, models_in, permit
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError

BOUND = Verdict(
    scope=KeyScope(
        operations=[OPERATION_CHAT], routes=["/v1/chat/*", "/x"], source_ranges=["10.0.0.0/8", "2001:db8::/32"]
    ),
)


def judged(
    verdict: Verdict = BOUND,
    operation: Operation.ValueType = OPERATION_CHAT,
    route: str = "/v1/chat/completions",
    source: str = "10.1.2.3",
) -> bool:
    """Whether the call may be made."""
    try:
        permit(verdict, operation=operation, route=route, source=source)
    except MeshError as error:
        return error.reason != pb.REASON_NOT_PERMITTED
    return True


def test_nothing_binds_a_plain_key() -> None:
    """Whoever uses it, for whatever, from wherever."""
    assert judged(Verdict(), OPERATION_EMBEDDING, "/y", "")


@pytest.mark.parametrize("source", ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"])
def test_what_is_allowed_passes(source: str) -> None:
    """From each of its networks."""
    assert judged(source=source)
    assert judged(route="/x")


@pytest.mark.parametrize("source", ["11.0.0.1", "::1", "", "unix:", "10.1.2.3:80", "10.1.2.3 ", "::ffff:11.0.0.1"])
def test_other_places_are_refused(source: str) -> None:
    """And so is whatever is no address."""
    assert not judged(source=source)


@pytest.mark.parametrize("route", ["/v1/chat", "/x/", "/X", "", "/v1/embeddings"])
def test_other_routes_are_refused(route: str) -> None:
    """A route without a star is that route alone."""
    assert not judged(route=route)


@pytest.mark.parametrize(
    ("routes", "route", "expected"),
    [
        (["/v1/embeddings"], "/embeddings", True),
        (["/v1/embeddings"], "/embeddings/", True),
        (["/v1/embeddings"], "/openai/v1/embeddings", True),
        (["/v1/embeddings"], "/openai/deployments/small/embeddings", True),
        (["/embeddings"], "/v1/embeddings", True),
        (["/v1/audio/*"], "/audio/speech", True),
        (["/v1/embeddings"], "/responses", False),
        (["/v1/embeddings"], "/passthrough/east/v1/embeddings", False),
        (["/v1/*"], "/passthrough/east/embeddings", False),
        (["/v1/*"], "/v1beta/models/small:embedContent", False),
        (["/v1/chat/completions"], "/polyroute.api.gateway.v1.GatewayService/Chat", False),
        (["/polyroute.api.gateway.v1.GatewayService/Chat"], "/polyroute.api.gateway.v1.GatewayService/Chat", True),
        (["/polyroute.api.gateway.v1.GatewayService/*"], "/polyroute.api.gateway.v1.GatewayService/Embed", True),
        (["/polyroute.api.gateway.v1.GatewayService/Chat"], "/v1/chat/completions", False),
    ],
)
def test_a_route_holds_for_every_spelling_of_its_door(routes: list[str], route: str, expected: bool) -> None:
    """And opens nothing else."""
    assert expected == judged(Verdict(scope=KeyScope(routes=routes)), route=route)


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([], ["talks", "embeds", "anything"]),
        ([OPERATION_EMBEDDING], ["embeds", "anything"]),
        ([OPERATION_COUNT_TOKENS], ["talks", "anything"]),
        ([OPERATION_RERANK], ["anything"]),
        ([OPERATION_RELAY], ["talks", "embeds", "anything"]),
    ],
)
def test_models_are_listed_that_serve_what_a_key_may_do(
    operations: list[Operation.ValueType], expected: list[str]
) -> None:
    """One whose work is not known may serve any."""
    models = [
        Model(name="talks", operations=[OPERATION_CHAT]),
        Model(name="embeds", operations=[OPERATION_EMBEDDING]),
        Model(name="anything"),
    ]
    verdict = Verdict(scope=KeyScope(operations=operations))

    assert expected == [model.name for model in models if may_use(verdict, model)]


def test_other_work_is_refused() -> None:
    """By name."""
    assert not judged(operation=OPERATION_EMBEDDING)


class TestBind:
    def bound(self, scope: KeyScope | None, **wishes: object) -> Call:
        trail = Trail("r-1", tags={"team": "own", "feature": "x"})
        call = Call("", RequestFacts(model="m"), EncodedRequest(), 0.0, trail, **wishes)  # type: ignore[arg-type] # its fields
        bind(call, Verdict(scope=scope))
        return call

    def test_key_without_bounds_leaves_a_call_as_it_is(self) -> None:
        """And may name no policy."""
        call = self.bound(None)

        assert ("", (), None) == (call.policy, call.regions, call.preferences)
        with pytest.raises(MeshError) as caught:
            self.bound(None, policy="cheap")
        assert (pb.REASON_NOT_PERMITTED, "policy") == (caught.value.reason, caught.value.metadata["param"])

    def test_first_policy_of_a_key_rules_calls_that_name_none(self) -> None:
        """Those that it lists may be named; others may not."""
        scope = KeyScope(policies=["inland", "cheap"])

        assert ("inland", "cheap") == (self.bound(scope).policy, self.bound(scope, policy="cheap").policy)
        with pytest.raises(MeshError):
            self.bound(scope, policy="fast")

    def test_tags_of_the_key_stand_above_the_callers(self) -> None:
        """What a call is attributed to is not the caller's to change."""
        call = self.bound(KeyScope(tags={"team": "billing"}))

        assert {"team": "billing", "feature": "x"} == dict(call.trail.tags)

    def test_defaults_are_for_what_a_call_does_not_say(self) -> None:
        """Field by field: the caller's own stands, a flag that it takes back as well."""
        scope = KeyScope(
            provider_defaults=b'{"only": ["west"], "zdr": true, "require_parameters": true, "order": ["a"]}'
        )
        said = Preferences(zdr=False, order=["b"], sort=[SortKey(by=SORT_BY_PRICE)])
        call = self.bound(scope, preferences=said)
        again = self.bound(scope)

        assert (
            Preferences(
                only=["west"], order=["b"], zdr=False, require_parameters=True, sort=[SortKey(by=SORT_BY_PRICE)]
            )
            == call.preferences
        )
        assert call.facts.require_parameters
        assert again.preferences is not None
        assert (True, ["a"]) == (again.preferences.zdr, list(again.preferences.order))

    def test_what_a_call_names_is_taken_at_its_word(self) -> None:
        """A default is no bound."""
        scope = KeyScope(provider_defaults=b'{"only": ["a"], "require_parameters": true}', regions=["eu"])
        call = self.bound(scope)
        own = self.bound(scope, preferences=Preferences(only=["b"]))

        assert (["a"], True, ["eu"]) == (
            list(call.preferences.only) if call.preferences else [],
            call.facts.require_parameters,
            list(call.regions),
        )
        assert own.preferences is not None
        assert ["b"] == list(own.preferences.only)


@pytest.mark.parametrize(
    ("path", "models"),
    [
        ("/openai/deployments/gold/chat/completions?api-version=1", ["gold"]),
        ("/openai//Deployments//gold", ["gold"]),
        ("/openai/deployments%2Fgo%6cd/x", ["gold"]),
        ("/v1beta/models/gold:streamGenerateContent?alt=sse", ["gold"]),
        ("/publishers/google/models/gold", ["gold"]),
        ("/models/ft:gpt:acme:7", ["ft:gpt:acme:7"]),
        ("/model/arn%3Aaws/converse", ["arn:aws"]),
        ("/models/gold:predict", ["gold"]),
        ("/models/gold:free", ["gold:free"]),
        ("/v1/engines/gold/completions", ["gold"]),
        ("/models/a/deployments/b?model=c", ["a", "b", "c"]),
        ("/v1/models", []),
        ("/v1/models/", []),
        ("/v1/supermodels/gold", []),
        ("/v1/chat/completions?limit=2", []),
    ],
)
def test_models_in_paths(path: str, models: list[str]) -> None:
    """As Azure, Gemini, Bedrock and OpenAI name them, however they are written."""
    assert models == models_in(path)


PLAN = PlanInForce(
    name="basic",
    scope="prj_1",
    opens=PlanScope(models=["small-*", "m"], operations=[OPERATION_CHAT, OPERATION_EMBEDDING], routes=["/v1/*"]),
)


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Verdict(), [True, True, True]),
        (BOUND, [True, False, True]),
        (Verdict(plan=PLAN), [True, True, False]),
        (Verdict(scope=BOUND.scope, plan=PLAN), [True, False, False]),
    ],
)
def test_a_call_is_permitted_by_the_key_and_by_the_plan(verdict: Verdict, expected: list[bool]) -> None:
    """What one of them refuses is refused."""
    chat = judged(verdict, route="/v1/chat/completions")
    vectors = judged(verdict, OPERATION_EMBEDDING, "/v1/embeddings")
    elsewhere = judged(verdict, route="/x")

    assert expected == [chat, vectors, elsewhere]


@pytest.mark.parametrize(
    ("operation", "route", "said"),
    [
        (OPERATION_RERANK, "/v1/rerank", "the plan of this key does not include rerank"),
        (OPERATION_CHAT, "/x", "the plan of this key does not include /x"),
    ],
)
def test_a_refusal_says_that_it_is_the_plans(operation: Operation.ValueType, route: str, said: str) -> None:
    """With the plan's name."""
    with pytest.raises(MeshError) as caught:
        permit(Verdict(plan=PLAN), operation=operation, route=route, source="")

    error = caught.value
    assert (pb.REASON_NOT_PERMITTED, said) == (error.reason, error.message)
    assert ("plan", "basic") == (error.metadata["cause"], error.metadata["plan"])


@pytest.mark.parametrize(
    ("models", "plan", "expected"),
    [
        ((), None, {"m", "small-1", "large"}),
        (("m", "large"), None, {"m", "large"}),
        ((), PLAN, {"m", "small-1"}),
        (("m", "large"), PLAN, {"m"}),
        (("large",), PLAN, set()),
    ],
)
def test_models_are_those_of_the_key_and_of_the_plan(
    models: tuple[str, ...], plan: PlanInForce | None, expected: set[str]
) -> None:
    """One that only one of them permits is not listed."""
    verdict = Verdict(models=models, plan=plan)

    assert expected == {name for name in ("m", "small-1", "large") if may_use(verdict, Model(name=name))}
