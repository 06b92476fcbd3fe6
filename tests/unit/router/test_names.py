"""What may stand where a request names its model."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.errors.v1.errors_pb2 import REASON_INVALID_REQUEST, REASON_MODEL_NOT_FOUND
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.router.names import SORT_WORDS, Asked, asked

CATALOG = frozenset({"m", "east/m", "fast", "m:8b", "latency", "x:latency"})


def read(name: str) -> Asked:
    """What a name asks for, of a catalog with a few names and a provider that takes anything."""
    return asked(name, lambda one: one in CATALOG, lambda one: one in CATALOG or one.startswith("hub/"))


def wishes(name: str) -> pb.Preferences:
    """What a name says beside the model."""
    return read(name).preferences


def refused(name: str) -> MeshError:
    """Why a name is refused."""
    with pytest.raises(MeshError) as caught:
        read(name)
    return caught.value


@pytest.mark.parametrize("name", [*sorted(CATALOG), "unknown", "hub/llama:8b", "hub/a:b:c", "unknown:latency"])
def test_name_stands_for_itself(name: str) -> None:
    """Names of the catalog, whatever colons are in them; and names that are left to a provider or to nobody."""
    assert Asked((name,), pb.Preferences()) == read(name)


@pytest.mark.parametrize(
    ("name", "base", "keys"),
    [
        ("m:latency", "m", [pb.SORT_BY_LATENCY]),
        ("m:Latency+throughput", "m", [pb.SORT_BY_LATENCY, pb.SORT_BY_THROUGHPUT]),
        ("m:output_price|input_price", "m", [pb.SORT_BY_OUTPUT_PRICE, pb.SORT_BY_INPUT_PRICE]),
        ("m:nitro", "m", [pb.SORT_BY_THROUGHPUT]),
        ("m:floor", "m", [pb.SORT_BY_PRICE]),
        ("m:8b:latency", "m:8b", [pb.SORT_BY_LATENCY]),
        ("x:latency:price", "x:latency", [pb.SORT_BY_PRICE]),
        ("east/m:price", "east/m", [pb.SORT_BY_PRICE]),
        ("hub/llama:price", "hub/llama", [pb.SORT_BY_PRICE]),
    ],
)
def test_sort(name: str, base: str, keys: list[int]) -> None:
    """What follows the longest name that the catalog holds is how its deployments are sorted."""
    found = read(name)

    assert (base,) == found.names
    assert keys == [key.by for key in found.preferences.sort]


def test_sort_and_filters() -> None:
    """Milliseconds, tokens per second, USD per million tokens; `<` leaves its bound out, to the last nano-dollar."""
    found = wishes("m:throughput:latency<500,input_price<1.0,output_price<=2,throughput>=20,input_length>1000")

    assert (
        pb.Preferences(
            sort=[pb.SortKey(by=pb.SORT_BY_THROUGHPUT)],
            latency_milliseconds=pb.DoubleRange(max=math.nextafter(500, 0)),
            input_price=pb.Int64Range(max=999_999_999),
            output_price=pb.Int64Range(max=2_000_000_000),
            throughput=pb.DoubleRange(min=20),
            input_length=pb.Int64Range(min=1001),
        )
        == found
    )


def test_price_is_of_both_directions() -> None:
    """A bound of the price bounds prompt and answer."""
    bound = pb.Int64Range(max=1_500_000_000)

    assert pb.Preferences(input_price=bound, output_price=bound) == wishes("m::price<=1.5")


@pytest.mark.parametrize("name", ["m::provider=a|b,ignore=c", "m::only=a,b,ignore=c", "m:provider=a,b,ignore=c"])
def test_lists_of_names(name: str) -> None:
    """A list goes on over commas until the next filter; an empty sort may be left out with its colon."""
    assert pb.Preferences(only=["a", "b"], ignore=["c"]) == wishes(name)


def test_other_lists() -> None:
    """Order, regions, tags and quantizations."""
    found = wishes("m::order=a,region=eu|us,tag=gold,quantization=fp8")

    assert pb.Preferences(order=["a"], regions=["eu", "us"], tags=["gold"], quantizations=["fp8"]) == found


def test_list_of_models() -> None:
    """Models to be tried one after the other, in brackets."""
    assert ("m", "fast") == read("models:[m, 'fast']").names
    assert REASON_INVALID_REQUEST == refused("models:[m,,]").reason


def test_auto() -> None:
    """The gateway chooses, by price unless told otherwise; a model that is called `auto` wins."""
    assert [((), "cost_first"), ((), "quality_first"), ((), "latency_critical")] == [
        (read(name).names, read(name).mode) for name in ("auto", "auto:quality_first", "auto:Latency_critical")
    ]
    assert "" == asked("auto", lambda one: one == "auto", lambda _: False).mode
    error = refused("auto:fastest")
    assert REASON_MODEL_NOT_FOUND == error.reason
    assert "is followed by one of cost_first, quality_first, latency_critical" in error.message


@pytest.mark.parametrize(
    ("name", "reason", "message"),
    [
        ("m:latncy", REASON_MODEL_NOT_FOUND, "'m' is one, but 'latncy' is no sort key, did you mean 'latency'?"),
        ("m:70b", REASON_MODEL_NOT_FOUND, "'m' is one, but '70b' is no sort key"),
        ("m:latency:fast", REASON_INVALID_REQUEST, "'fast' is no filter such as latency<500"),
        ("m::latncy<5", REASON_INVALID_REQUEST, "'latncy<5' is no filter, did you mean 'latency'?"),
        ("m::latency<x", REASON_INVALID_REQUEST, "'x' is not a number"),
        ("m::latency<-1", REASON_INVALID_REQUEST, "'-1' is out of range"),
        ("m::provider=", REASON_INVALID_REQUEST, "'provider' lacks a name"),
        ("m::provider<5", REASON_INVALID_REQUEST, "'provider<5' is no filter; known are latency, throughput, price"),
        ("m::latency=5", REASON_INVALID_REQUEST, "'latency=5' is no filter; known are"),
    ],
)
def test_error_names_what_was_meant(name: str, reason: int, message: str) -> None:
    """What follows a known model is understood or refused, never ignored."""
    error = refused(name)

    assert reason == error.reason
    assert message in error.message
    assert name in error.message


@given(st.text(st.sampled_from("m:8blatency<>=|,+p.x"), max_size=24))
def test_any_name_is_read_or_refused(name: str) -> None:
    """No name makes another error than the two."""
    reason = None
    try:
        found = read(name)
    except MeshError as error:
        reason = error.reason

    assert reason in {None, REASON_MODEL_NOT_FOUND, REASON_INVALID_REQUEST}
    assert reason is not None or len(found.names) == 1


@given(st.lists(st.sampled_from(sorted(SORT_WORDS)), min_size=1, max_size=4), st.integers(0, 10**6))
def test_forms_add_up(words: list[str], bound: int) -> None:
    """Any sort with any filter says both."""
    found = wishes(f"m:{'+'.join(words)}:output_length<={bound}")

    assert [SORT_WORDS[word] for word in words] == [key.by for key in found.sort]
    assert bound == found.output_length.max
