"""What the caller's preferences do to a plan, and what the record says of it."""

from collections import Counter
from typing import Any

import pytest

from polyroute.api.chat.v1.chat_pb2 import (
    OPERATION_IMAGE,
    OPERATION_RERANK,
    OPERATION_SPEECH,
    OPERATION_TRANSCRIPTION,
    Operation,
)
from polyroute.api.errors.v1.errors_pb2 import REASON_NO_DEPLOYMENT, REASON_NOT_PERMITTED
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.router.decide import decide
from polyroute.router.snapshot import CatalogStore
from tests.fakes.catalogs import NOW, ask, opened
from tests.unit.router.live import live, spread, window

FACTS = """
models:
  m:
    deployments:
      - {provider: p, model: a, region: cn-beijing, price: {input: 1, output: 4, request: 5},
         context: 8000, max_output: 500, quantization: fp8, data: {trains: false, retains: false}, tags: [gold]}
      - {provider: q, model: b, region: cn-east, price: {input: 2, output: 3}, context: 4000, max_output: 900,
         quantization: bf16, data: {zdr: true}, tags: [gold, green]}
      - {provider: q, model: c, region: eu, data: {trains: true}}
"""
LIVE = live(
    p__a=window(latency=spread(300, 900), throughput=spread(40)),
    q__b=window(latency=spread(200, 400), throughput=spread(20)),
)


def store(text: str = FACTS) -> CatalogStore:
    """A catalog of three deployments: the live figures of the third are unknown."""
    made = opened(text, "p", "q")
    made.measure(LIVE)
    return made


def asked(wishes: pb.Preferences, model: str = "m", request_id: str = "r-1", **facts: Any) -> pb.DecideRequest:
    """A request with preferences that wants the full record."""
    request = ask(model, request_id, **facts)
    request.preferences.CopyFrom(wishes)
    request.explain = True
    return request


def answered(wishes: pb.Preferences, text: str = FACTS, **kwargs: Any) -> pb.DecideResponse:
    """A decision under preferences."""
    return decide(asked(wishes, **kwargs), store(text).view, NOW)


def plan(response: pb.DecideResponse) -> list[str]:
    """The last letters of the plan's deployments."""
    return [attempt.deployment[-1] for attempt in response.plan.attempts]


def order(wishes: pb.Preferences, text: str = FACTS, **kwargs: Any) -> str:
    """The plan of a call that does not explore, as one word."""
    for number in range(50):
        response = answered(wishes, text, **{"request_id": f"r-{number}", **kwargs})
        if not response.record.explored:
            return "".join(plan(response))
    raise AssertionError("every call explored")


def sort(*keys: int | pb.SortKey, **fields: Any) -> pb.Preferences:
    """Preferences with sort keys."""
    return pb.Preferences(
        sort=[key if isinstance(key, pb.SortKey) else pb.SortKey(by=key) for key in keys],  # type: ignore[arg-type]
        **fields,
    )


def upto(value: float) -> pb.DoubleRange:
    """A range without a beginning."""
    return pb.DoubleRange(max=value)


@pytest.mark.parametrize(
    ("wishes", "passing", "name", "observed"),
    [
        (pb.Preferences(only=["Q"]), "bc", "only", ["not on the list", "Q", "Q"]),
        (pb.Preferences(only=["p/a", "q/eu"]), "ac", "only", ["p/a", "not on the list", "q/eu"]),
        (pb.Preferences(ignore=["q"]), "a", "ignore", ["not on the list", "q", "q"]),
        (pb.Preferences(regions=["CN"]), "ab", "region", ["cn-beijing", "cn-east", "eu"]),
        (pb.Preferences(tags=["gold", "green"]), "b", "tags", ["lacks green", "has gold, green", "lacks gold, green"]),
        (pb.Preferences(quantizations=["fp8", "unknown"]), "ac", "quantization", ["fp8", "bf16", "unknown"]),
        (
            pb.Preferences(data_collection=pb.DATA_COLLECTION_DENY),
            "ab",
            "data_collection",
            ["trains: no, retains: no", "zero retention", "trains: yes, retains unknown"],
        ),
        (
            pb.Preferences(zdr=True),
            "b",
            "zdr",
            ["zero retention unknown", "zero retention: yes", "zero retention unknown"],
        ),
        (
            pb.Preferences(input_price=pb.Int64Range(min=1, max=1_000_000_000)),
            "a",
            "input_price",
            [
                "1 USD per million of at least 0.000000001 and at most 1",
                "2 USD per million of at least 0.000000001 and at most 1",
                "unknown",
            ],
        ),
        (
            pb.Preferences(max_price=pb.MaxPrice(request=4_999_999_999)),
            "b",
            "max_price.request",
            ["5 USD per million of at most 4.999999999", "0 USD per million of at most 4.999999999", "unknown"],
        ),
        (
            pb.Preferences(latency_milliseconds=upto(899)),
            "bc",
            "latency",
            ["900 ms of at most 899", "400 ms of at most 899", "unknown"],
        ),
        (
            pb.Preferences(throughput=pb.DoubleRange(min=30)),
            "ac",
            "throughput",
            ["40 tokens/s of at least 30", "20 tokens/s of at least 30", "unknown"],
        ),
        (
            pb.Preferences(input_length=pb.Int64Range(min=8000)),
            "ac",
            "input_length",
            ["8000 tokens of at least 8000", "4000 tokens of at least 8000", "unknown"],
        ),
        (
            pb.Preferences(output_length=pb.Int64Range(min=600)),
            "bc",
            "output_length",
            ["500 tokens of at least 600", "900 tokens of at least 600", "unknown"],
        ),
    ],
)
def test_filter_says_what_it_saw(wishes: pb.Preferences, passing: str, name: str, observed: list[str]) -> None:
    """Each filter lets pass exactly whom it should, and its verdicts hold the number or word it compared."""
    record = answered(wishes).record

    verdicts = [next(one for one in candidate.verdicts if one.filter == name) for candidate in record.candidates]
    assert observed == [verdict.observed for verdict in verdicts]
    assert list(passing) == [letter for letter, verdict in zip("abc", verdicts, strict=True) if verdict.passed]
    assert list(passing) == [candidate.deployment[-1] for candidate in record.candidates if candidate.position]


def test_region_is_a_whole_word() -> None:
    """`cn` holds `cn-east`, and `c` does not."""
    with pytest.raises(
        MeshError, match=r"region \(cn-beijing\) rules out p/a; region \(cn-east\) rules out q/b"
    ) as caught:
        answered(pb.Preferences(regions=["c"]))

    assert REASON_NO_DEPLOYMENT == caught.value.reason


def test_price_first_and_a_tie_falls_to_the_next_key() -> None:
    """The lowest output price wins; where two are the same to the nano-dollar, the lower input price, asked or not."""
    text = """
    models:
      m:
        deployments:
          - {provider: p, model: a, price: {input: "2.000000001", output: 3}}
          - {provider: p, model: b, price: {input: 2, output: 3}}
          - {provider: p, model: c, price: {input: 9, output: "2.999999999"}}
          - p/d
    router: {max_attempts: 4}
    """
    keys = sort(pb.SORT_BY_OUTPUT_PRICE, pb.SORT_BY_INPUT_PRICE)

    assert {"cbad"} == {order(keys, text, request_id=f"r-{i}") for i in range(20)}
    assert {"cbad"} == {order(sort(pb.SORT_BY_OUTPUT_PRICE), text, request_id=f"r-{i}") for i in range(20)}


def test_equal_input_prices_are_told_apart_by_the_other_price() -> None:
    """The lower one comes first, after every key that was named."""
    text = """
    models:
      m:
        deployments:
          - {provider: p, model: a, context: 9000, price: {input: 2, output: 4}}
          - {provider: p, model: b, context: 8000, price: {input: 2, output: 3}}
          - {provider: p, model: c, context: 9000, price: {input: 2, output: 5}}
    router: {max_attempts: 3}
    """
    named = sort(pb.SORT_BY_INPUT_PRICE, pb.SORT_BY_INPUT_LENGTH)

    assert {"bac"} == {order(sort(pb.SORT_BY_INPUT_PRICE), text, request_id=f"r-{i}") for i in range(20)}
    assert {"acb"} == {order(named, text, request_id=f"r-{i}") for i in range(20)}


def test_price_is_of_this_calls_tokens() -> None:
    """Long prompts go where prompts are cheap, long answers where answers are."""
    keys = sort(pb.SORT_BY_PRICE)

    assert "ab" == order(keys, input_tokens_estimate=3000, max_output_tokens=10)[:2]
    assert "ba" == order(keys, input_tokens_estimate=10, max_output_tokens=500)[:2]


@pytest.mark.parametrize(
    ("operation", "dear", "cheap", "facts"),
    [
        (OPERATION_IMAGE, "other: {images: 40000}", "other: {images: 10000}", {}),
        (OPERATION_IMAGE, "other: {images: 30000}", "request: 100000", {"choices": 4}),
        (OPERATION_RERANK, "other: {search_units: 2000}", "request: 1", {}),
        (OPERATION_TRANSCRIPTION, "other: {audio_milliseconds: 0.1}", "request: 100", {"input_tokens_estimate": 600}),
        (OPERATION_SPEECH, "other: {input_characters: 30}", "other: {audio_milliseconds: 0.1}", {}),
    ],
)
def test_price_is_of_this_calls_units(operation: int, dear: str, cheap: str, facts: dict[str, Any]) -> None:
    """Pictures by their number, sound by its length, one search; whoever asks for less is first."""
    word = Operation.Name(operation).removeprefix("OPERATION_").lower()  # type: ignore[arg-type]
    text = f"""
    models:
      m:
        operations: [{word}]
        deployments:
          - {{provider: p, model: a, price: {{input: 0, output: 0, {dear}}}}}
          - {{provider: q, model: b, price: {{input: 0, output: 0, {cheap}}}}}
    """

    assert "ba" == order(sort(pb.SORT_BY_PRICE), text, operation=operation, **facts)


def test_searches_of_a_conversation_are_up_to_the_model() -> None:
    """What it may look up and what it may not does not make it dear."""
    text = """
    models:
      m:
        deployments:
          - {provider: p, model: a, price: {input: 1, output: 1, other: {web_search_requests: 10000}}}
          - {provider: q, model: b, price: {input: 2, output: 2}}
    """

    assert "ab" == order(sort(pb.SORT_BY_PRICE), text)


def test_answers_that_a_deployment_cannot_give() -> None:
    """Whoever cannot give as long an answer as the caller bounds is left out, each call by its own bound."""
    made = store()

    def passing(answer: int, *, lengths: bool = True) -> str:
        wishes = pb.Preferences() if lengths else pb.Preferences(allow_filter_prompt_length=False)
        response = decide(asked(wishes, max_output_tokens=answer), made.view, NOW)
        return "".join(sorted(plan(response)))

    [first, *_] = answered(pb.Preferences(), max_output_tokens=501).record.candidates
    said = [(one.passed, one.observed) for one in first.verdicts if one.filter == "answer"]

    assert ["abc", "bc", "bc", "c"] == [passing(answer) for answer in (500, 501, 512, 901)]
    assert "abc" == passing(901, lengths=False)
    assert [(False, "asks for 501 of 500")] == said


def test_answers_that_no_deployment_can_give() -> None:
    """The caller is told its own bound, and whom it rules out."""
    made = opened("{models: {m: {deployments: [{provider: p, model: a, max_output: 100}]}}}", "p")
    for answer in (200, 300):
        with pytest.raises(MeshError) as caught:
            decide(ask("m", max_output_tokens=answer), made.view, NOW)

        assert REASON_NO_DEPLOYMENT == caught.value.reason
        assert f"answer (asks for {answer} tokens) rules out p/a" in caught.value.message


def test_highest_prices_of_pictures_and_sound() -> None:
    """Who asks for none of either costs nothing there; an unknown price is too high."""
    text = """
    models:
      m:
        deployments:
          - {provider: p, model: a, price: {input: 1, output: 1, other: {images: 40000, audio_milliseconds: 0.2}}}
          - {provider: q, model: b, price: {input: 1, output: 1, other: {images: 10000, audio_milliseconds: 0.1}}}
          - {provider: q, model: c, price: {input: 1, output: 1}}
          - {provider: q, model: d}
    """

    def passing(**most: int) -> str:
        return "".join(sorted(order(pb.Preferences(max_price=pb.MaxPrice(**most)), text)))

    assert ["bc", "abc"] == [passing(image=nanos) for nanos in (10**13, 4 * 10**13)]
    assert ["bc", "abc"] == [passing(audio=nanos) for nanos in (10**8, 2 * 10**8)]


def test_latency_is_the_ninetieth_percentile_unless_said_otherwise() -> None:
    """The lowest live P90 first; unknown ones last; the percentile can be chosen."""
    figures = live(
        p__a=window(latency=spread(100, 900, 950)),
        q__b=window(latency=spread(200, 400, 1000)),
    )
    made = opened(FACTS, "p", "q")
    made.measure(figures)

    def first(percentile: int) -> str:
        wishes = sort(pb.SortKey(by=pb.SORT_BY_LATENCY, percentile=percentile))
        plans = [decide(asked(wishes, request_id=f"r-{i}"), made.view, NOW) for i in range(20)]
        return "".join(next(plan(response) for response in plans if not response.record.explored))

    assert ["bac", "abc", "bac", "bac", "abc"] == [first(percentile) for percentile in (0, 50, 75, 90, 99)]


def speeds(*pairs: tuple[float, float]) -> CatalogStore:
    """Deployments a, b, c and so on with so much latency and throughput."""
    names = "abcdefgh"[: len(pairs)]
    text = (
        f"{{models: {{m: {{deployments: [{', '.join(f'p/{name}' for name in names)}]}}}}, router: {{max_attempts: 8}}}}"
    )
    made = opened(text, "p")
    windows = {
        f"p__{name}": window(latency=spread(latency), throughput=spread(throughput))
        for name, (latency, throughput) in zip(names, pairs, strict=True)
    }
    made.measure(live(**windows))
    return made


def test_tolerance_makes_the_second_key_matter() -> None:
    """Latencies within a tenth of the best count as equal, and then the throughput decides; so on from the next one."""
    made = speeds((100, 10), (109, 30), (110, 20), (111, 99), (200, 1), (219, 2))

    def ranked(*keys: int | pb.SortKey) -> str:
        return "".join(plan(decide(asked(sort(*keys)), made.view, NOW)))

    assert "bcadfe" == ranked(pb.SORT_BY_LATENCY, pb.SORT_BY_THROUGHPUT)
    assert "abcdef" == ranked(pb.SORT_BY_LATENCY)
    assert "abcdef" == ranked(pb.SortKey(by=pb.SORT_BY_LATENCY, tolerance=0), pb.SORT_BY_THROUGHPUT)
    assert "dbcafe" == ranked(pb.SortKey(by=pb.SORT_BY_LATENCY, tolerance=0.2), pb.SORT_BY_THROUGHPUT)
    assert "fedcba" == ranked(pb.SortKey(by=pb.SORT_BY_LATENCY, order=pb.SORT_ORDER_DESCENDING))
    assert "dbcafe" == ranked(pb.SORT_BY_THROUGHPUT)


def test_bands_are_in_the_record() -> None:
    """Each candidate shows its figure and the band that it fell into, for each key that had something to decide."""
    made = speeds((100, 10), (109, 30), (200, 1))

    record = decide(asked(sort(pb.SORT_BY_LATENCY, pb.SORT_BY_THROUGHPUT)), made.view, NOW).record

    assert [
        [("latency_p90", 100), ("latency_p90_band", 0), ("throughput_p50", 10), ("throughput_p50_band", 1)],
        [("latency_p90", 109), ("latency_p90_band", 0), ("throughput_p50", 30), ("throughput_p50_band", 0)],
        [("latency_p90", 200), ("latency_p90_band", 1)],
    ] == [[(term.name, term.value) for term in candidate.terms if "_p" in term.name] for candidate in record.candidates]


def test_unknown_figures_get_a_few_calls() -> None:
    """Whoever is unknown comes last, but for a few calls that learn its figures, with the best one behind it."""
    made = store()
    request = asked(sort(pb.SORT_BY_LATENCY))
    request.explain = False
    responses = []
    for i in range(3000):
        request.request_id = f"r-{i}"
        responses.append(decide(request, made.view, NOW))
    plans = Counter(("".join(plan(response)), response.record.explored) for response in responses)

    assert {("bac", False), ("cba", True)} == set(plans)
    assert 0.01 < plans["cba", True] / 3000 < 0.03


def test_nobody_explores_without_a_way_back() -> None:
    """With one attempt only, an unknown deployment would risk the call; and by price there is nothing to learn."""
    view = store().view
    single = asked(sort(pb.SORT_BY_LATENCY, allow_fallbacks=False))
    price = asked(sort(pb.SORT_BY_INPUT_PRICE))
    explored = 0
    for request in (single, price):
        request.explain = False
        for i in range(300):
            request.request_id = f"r-{i}"
            explored += decide(request, view, NOW).record.explored

    assert 0 == explored


def test_order_comes_first() -> None:
    """Names in `order` are tried first, the others after them."""
    assert "cab" == order(pb.Preferences(order=["q/c", "p"]))
    assert "ba" == order(pb.Preferences(order=["q/b"], sort=[pb.SortKey(by=pb.SORT_BY_INPUT_PRICE)]))[:2]


def test_order_without_fallbacks_is_the_whole_list() -> None:
    """With `allow_fallbacks` false only those in `order` are tried; without an order the first choice alone."""
    response = answered(pb.Preferences(order=["q"], allow_fallbacks=False))

    assert {"b", "c"} == set(plan(response))
    alone = answered(sort(pb.SORT_BY_INPUT_PRICE, allow_fallbacks=False))
    assert (["a"], 1) == (plan(alone), alone.plan.max_attempts)


def test_filters_on_live_figures_are_lifted_rather_than_leave_nobody() -> None:
    """With fallbacks the call is served by the best there is, and the record says so; without it is refused."""
    wishes = sort(pb.SORT_BY_LATENCY, latency_milliseconds=upto(1), ignore=["q/c"])

    response = answered(wishes)

    assert ["b", "a"] == plan(response)
    assert response.record.relaxed
    assert [False, False] == [
        next(one.passed for one in candidate.verdicts if one.filter == "latency")
        for candidate in response.record.candidates[:2]
    ]
    assert not answered(pb.Preferences(latency_milliseconds=upto(1))).record.relaxed  # the unknown one passes
    wishes.allow_fallbacks = False
    with pytest.raises(MeshError, match=r"latency \(900 ms of at most 1\) rules out p/a"):
        answered(wishes)


def test_filters_on_money_and_privacy_are_never_lifted() -> None:
    """A price cap is a promise: nobody under it means that nobody serves."""
    with pytest.raises(MeshError, match=r"max_price\.input"):
        answered(pb.Preferences(max_price=pb.MaxPrice(input=1)))


def test_soft_bounds_put_behind() -> None:
    """Whoever is slower than preferred goes after the others, and is not left out."""
    slow = pb.Preferences(preferred_min_throughput=[pb.Threshold(percentile=50, value=30)], ignore=["q/c"])
    late = pb.Preferences(preferred_max_latency=[pb.Threshold(percentile=90, value=500)], ignore=["q/c"])

    assert ("ab", "ba") == (order(slow), order(late))


def test_prompt_length_filter_can_be_switched_off() -> None:
    """Deployments that seem too short for the prompt are left out, unless the caller says not to."""
    kept = answered(pb.Preferences(allow_filter_prompt_length=False), input_tokens_estimate=6000)

    assert {"a", "c"} == set(plan(answered(pb.Preferences(), input_tokens_estimate=6000)))
    assert {"a", "b", "c"} == set(plan(kept))


TWO = """
models:
  m:
    deployments:
      - {provider: p, model: a, price: {input: 9, output: 9}}
      - {provider: p, model: b, price: {input: 8, output: 8}}
  n: {deployments: [{provider: p, model: c, price: {input: 1, output: 1}}]}
aliases: {other: n}
router: {max_attempts: 2}
"""


def test_fallback_models_come_after_the_model_itself() -> None:
    """Each model gets an attempt, in their order; with partition none all deployments are compared."""
    by_price = [pb.SortKey(by=pb.SORT_BY_PRICE)]
    apart = answered(pb.Preferences(models=["other"], sort=by_price), TWO)
    together = answered(pb.Preferences(models=["n"], sort=by_price, partition=pb.PARTITION_NONE), TWO)

    assert (["b", "c"], ["c", "b"]) == (plan(apart), plan(together))
    assert ("n", "n") == (together.plan.model, together.record.resolved_model)
    assert ["m", "n"] == [attempt.model for attempt in apart.plan.attempts]
    assert ("m", "other -> n") == (apart.plan.model, apart.record.alias)


def test_no_wish_lifts_a_fallback_model() -> None:
    """The order of models holds before prices and soft bounds; only partition none compares across them."""
    text = """
    models:
      m: {deployments: [{provider: p, model: a, price: {input: 9, output: 9}}]}
      n: {deployments: [{provider: q, model: b, price: {input: 1, output: 1}}]}
    """
    bound = [pb.Threshold(percentile=50, value=250)]  # which a misses and b keeps
    apart = sort(pb.SORT_BY_PRICE, models=["n"], preferred_max_latency=bound)
    together = sort(pb.SORT_BY_PRICE, models=["n"], preferred_max_latency=bound, partition=pb.PARTITION_NONE)

    assert (["a", "b"], ["b", "a"]) == (plan(answered(apart, text)), plan(answered(together, text)))


def test_unknown_fallback_model_is_told() -> None:
    """A misspelt fallback would be missed when it is needed most."""
    with pytest.raises(MeshError, match="unknown model 'oter', did you mean 'other'"):
        answered(pb.Preferences(models=["oter"]), TWO)


def test_list_of_models_in_the_name() -> None:
    """The same for applications that can send nothing but a name."""
    response = decide(ask("models:[n, m]"), store(TWO).view, NOW)

    assert ["n", "m"] == [attempt.model for attempt in response.plan.attempts]


def test_name_and_body_both_filter() -> None:
    """What the name says holds beside what the body says; the body's sort wins."""
    request = asked(sort(pb.SORT_BY_INPUT_PRICE, ignore=["q/c"]), model="m:output_price:provider=q")

    response = decide(request, store().view, NOW)

    assert ["b"] == plan(response)
    assert "m:output_price:provider=q" == response.record.requested_model
    assert "ba" == order(pb.Preferences(), model="m:output_price")[:2]


@pytest.mark.parametrize(
    ("model", "models", "permitted"),
    [
        ("m", [], ["m"]),
        ("M:latency", [], ["m"]),
        ("other", [], ["other"]),
        ("m", ["n"], ["m", "n"]),
    ],
)
def test_permitted_names(model: str, models: list[str], permitted: list[str]) -> None:
    """A key that may use a model may use it sorted, filtered and in any case."""
    request = asked(pb.Preferences(models=models), model=model)
    request.permitted_models.extend(permitted)

    assert decide(request, store(TWO).view, NOW).plan.attempts


@pytest.mark.parametrize(
    ("model", "models", "permitted"),
    [
        ("n", [], ["m"]),
        ("n:latency", [], ["m"]),
        ("models:[m,n]", [], ["m"]),
        ("m", ["n"], ["m"]),
        ("m", ["other"], ["m", "n"]),
        ("p/c", [], ["m"]),
        ("auto", [], ["m"]),
    ],
)
def test_names_that_are_not_permitted(model: str, models: list[str], permitted: list[str]) -> None:
    """No form of a name leads a key to a model that it may not use."""
    request = asked(pb.Preferences(models=models), model=model)
    request.permitted_models.extend(permitted)

    with pytest.raises(MeshError) as caught:
        decide(request, store(f"{TWO}\nrouting: {{auto: {{models: [n]}}}}").view, NOW)

    assert REASON_NOT_PERMITTED == caught.value.reason


@pytest.mark.parametrize(
    ("model", "models", "permitted", "opened", "said"),
    [
        ("m", [], [], ["m"], None),
        ("M:latency", [], ["m"], ["*"], None),
        ("other", [], ["m", "other"], ["o*"], None),
        ("m", ["n"], ["m", "n"], ["m", "n*"], None),
        ("n", [], [], ["m*"], "the plan of this key does not include n"),
        ("n", [], ["m"], ["n"], "this key may not use n"),
        ("m", ["n"], ["m", "n"], ["m"], "the plan of this key does not include n"),
        ("m", [], ["n"], ["m"], "this key may not use m"),
        ("auto", [], [], ["m"], "the plan of this key does not include auto"),
        ("auto", ["m"], ["auto", "n"], [], "this key may not use m"),
    ],
)
def test_a_key_and_its_plan_both_have_to_permit_a_model(
    model: str, models: list[str], permitted: list[str], opened: list[str], said: str | None
) -> None:
    """The plan by patterns as well; who refuses is said."""
    request = asked(pb.Preferences(models=models), model=model)
    request.permitted_models.extend(permitted)
    request.plan_models.extend(opened)
    view = store(f"{TWO}\nrouting: {{auto: {{models: [n]}}}}").view

    if said is None:
        assert decide(request, view, NOW).plan.attempts
        return
    with pytest.raises(MeshError) as caught:
        decide(request, view, NOW)

    error = caught.value
    assert (REASON_NOT_PERMITTED, said) == (error.reason, error.message)
    assert ("the plan" in said) == (error.metadata.get("cause") == "plan")
