"""The caller's `provider` object: what each field means, and what is said of a wrong one."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.errors.v1.errors_pb2 import REASON_INVALID_REQUEST
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.dialects.preferences import _READERS, SORT_WORDS, read_models, read_preferences
from polyroute.mesh.errors import MeshError


def read(tree: object) -> pb.Preferences:
    """The preferences in a tree."""
    return read_preferences(orjson.dumps(tree))


def refused(tree: object) -> MeshError:
    """Why a tree is refused."""
    with pytest.raises(MeshError) as caught:
        read(tree)
    assert REASON_INVALID_REQUEST == caught.value.reason
    return caught.value


def keys(preferences: pb.Preferences) -> list[str]:
    """The sort keys in words."""
    return [pb.SortBy.Name(key.by).removeprefix("SORT_BY_").lower() for key in preferences.sort]


def test_nothing_is_no_wish() -> None:
    """Null, an empty object and fields that are null say the same."""
    assert pb.Preferences() == read(None) == read({}) == read({"only": None, "sort": None, "zdr": None})


def test_lists_and_ranges() -> None:
    """The form with lists: prices in USD, latency in seconds, throughput in tokens per second, lengths in tokens."""
    preferences = read(
        {
            "only": ["east", "west"],
            "ignore": ["south"],
            "order": ["west", "east/eu"],
            "sort": ["output_price", "input_price"],
            "input_price_range": [0.1, 2],
            "output_price_range": [None, "8.000000001"],
            "throughput_range": [20, 1000],
            "latency_range": [0.25, 1.5],
            "input_length_range": {"min": 8000},
            "output_length_range": [],
            "allow_filter_prompt_length": False,
            "allow_fallbacks": False,
        }
    )

    assert (
        pb.Preferences(
            only=["east", "west"],
            ignore=["south"],
            order=["west", "east/eu"],
            sort=[pb.SortKey(by=pb.SORT_BY_OUTPUT_PRICE), pb.SortKey(by=pb.SORT_BY_INPUT_PRICE)],
            input_price=pb.Int64Range(min=100_000_000, max=2_000_000_000),
            output_price=pb.Int64Range(max=8_000_000_001),
            throughput=pb.DoubleRange(min=20, max=1000),
            latency_milliseconds=pb.DoubleRange(min=250, max=1500),
            input_length=pb.Int64Range(min=8000),
            allow_filter_prompt_length=False,
            allow_fallbacks=False,
        )
        == preferences
    )


def test_words_and_bounds() -> None:
    """The form with words: soft bounds with percentiles, prices per million tokens and per request."""
    preferences = read(
        {
            "require_parameters": True,
            "data_collection": "deny",
            "zdr": True,
            "enforce_distillable_text": True,
            "quantizations": ["fp8", "BF16"],
            "sort": {"by": "throughput", "partition": "none"},
            "preferred_min_throughput": {"p50": 100, "p90": 50},
            "preferred_max_latency": 2,
            "max_price": {"prompt": "1", "completion": 2, "request": 0.001, "image": "0.04", "audio": 0.0043},
        }
    )

    assert (
        pb.Preferences(
            require_parameters=True,
            data_collection=pb.DATA_COLLECTION_DENY,
            zdr=True,
            tags=["distillable"],
            quantizations=["fp8", "bf16"],
            sort=[pb.SortKey(by=pb.SORT_BY_THROUGHPUT)],
            partition=pb.PARTITION_NONE,
            preferred_min_throughput=[pb.Threshold(percentile=50, value=100), pb.Threshold(percentile=90, value=50)],
            preferred_max_latency=[pb.Threshold(percentile=50, value=2000)],
            max_price=pb.MaxPrice(
                input=1_000_000_000,
                output=2_000_000_000,
                request=1_000_000_000_000,
                image=40_000_000_000_000,
                audio=71_666_667,  # per million milliseconds, as the catalog rounds a price per minute
            ),
        )
        == preferences
    )


def test_own_fields() -> None:
    """Regions, a bound in milliseconds, tags, fallback models; the tighter of two bounds counts."""
    preferences = read({"region": "eu", "max_latency_ms": 800, "latency_range": [0, 2], "tags": ["a"], "models": "m"})

    assert (["eu"], ["a"], ["m"]) == (list(preferences.regions), list(preferences.tags), list(preferences.models))
    assert 800 == preferences.latency_milliseconds.max
    assert 800 == read({"latency_range": [0, 2], "max_latency_ms": 800}).latency_milliseconds.max


def test_key_with_percentile_and_tolerance() -> None:
    """Each key of a sort may say how it is compared."""
    preferences = read({"sort": [{"by": "latency", "percentile": "p99", "tolerance": 0.2, "order": "asc"}, "price"]})

    expected = pb.SortKey(by=pb.SORT_BY_LATENCY, order=pb.SORT_ORDER_ASCENDING, percentile=99, tolerance=0.2)
    assert [expected, pb.SortKey(by=pb.SORT_BY_PRICE)] == list(preferences.sort)


def test_order_of_sort_keys_is_a_sort() -> None:
    """`order` is documented twice: as a list of providers, and as a list of sort keys. A real sort wins over those."""
    assert ["latency", "throughput"] == keys(read({"order": ["latency", "throughput"]}))
    assert ["input_price"] == keys(read({"order": ["latency"], "sort": "input_price"}))
    assert ["input_price"] == keys(read({"sort": "input_price", "order": ["latency"]}))
    assert ["latency", "east"] == list(read({"order": ["latency", "east"]}).order)


def test_only_and_ignore_that_overlap_are_unprocessable() -> None:
    """A name on both lists is a contradiction, in any case of its letters: 422."""
    error = refused({"only": ["east", "West"], "ignore": ["west"]})

    assert "provider.ignore: 'West' is in provider.only as well" == error.message
    assert {"param": "provider.ignore", "status": "422"} == error.metadata


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([], "provider: must be an object, not a list"),
        ({"srot": "price"}, "provider.srot: unknown field, did you mean 'sort'?"),
        ({"sort": "prize"}, "provider.sort: unknown value 'prize', did you mean 'price'?"),
        ({"sort": ["price", 3]}, "provider.sort[1]: must be a string, an object or a list of these, not a number"),
        ({"sort": [{"by": "price", "partition": "none"}]}, "provider.sort[0].partition: unknown field; known are by"),
        ({"sort": {}}, "provider.sort.by: must be one of input_price"),
        (
            {"sort": {"by": "latency", "percentile": "p95"}},
            "provider.sort.percentile: unknown value 'p95', did you mean",
        ),
        ({"sort": {"by": "latency", "tolerance": 11}}, "provider.sort.tolerance: must be from 0 to 10"),
        ({"only": "x" * 257}, "provider.only: must be 1 to 256 bytes of printable text"),
        ({"only": [""]}, "provider.only[0]: must be 1 to 256 bytes of printable text"),
        ({"only": ["a", 1]}, "provider.only[1]: must be a string, not a number"),
        ({"only": {}}, "provider.only: must be a list of strings, not an object"),
        ({"only": ["a"] * 257}, "provider.only: must have at most 256 items"),
        ({"zdr": 1}, "provider.zdr: must be true or false, not a number"),
        ({"latency_range": [1]}, "provider.latency_range: must be a list of two numbers, not a list"),
        ({"latency_range": ["1", 2]}, "provider.latency_range[0]: must be a number, not a string"),
        ({"latency_range": [2, 1]}, "provider.latency_range: begins at 2.000000 and ends below it at 1.000000"),
        ({"latency_range": {"mx": 1}}, "provider.latency_range.mx: unknown field, did you mean 'max'?"),
        ({"latency_range": [-1, 2]}, "provider.latency_range[0]: must be from 0 to 1e+15"),
        ({"input_price_range": [True, 2]}, "provider.input_price_range[0]: must be a number or a decimal string"),
        ({"input_price_range": ["x", 2]}, "provider.input_price_range[0]: is not a decimal number"),
        ({"input_price_range": ["nan", 2]}, "provider.input_price_range[0]: is out of range"),
        ({"max_price": {"image": -1}}, "provider.max_price.image: is out of range"),
        ({"enable_image_base64": "yes"}, "provider.enable_image_base64: must be true or false, not a string"),
        ({"max_price": {"promt": 1}}, "provider.max_price.promt: unknown field, did you mean 'prompt'?"),
        ({"preferred_max_latency": {"p5": 1}}, "provider.preferred_max_latency.p5: unknown field, did you mean 'p75'?"),
        ({"quantizations": ["fp9"]}, "provider.quantizations[0]: unknown value 'fp9', did you mean"),
        ({"data_collection": "never"}, "provider.data_collection: unknown value 'never'; known are allow, deny"),
    ],
)
def test_wrong_field_is_told_by_its_path(tree: Any, message: str) -> None:
    """Each error names its place, what was expected, and a field or word that was probably meant."""
    error = refused(tree)

    assert error.message.startswith(message)
    assert error.message.partition(":")[0] == error.metadata["param"]
    assert [error.metadata["param"]] == [path for path, _ in error.violations]


def test_what_is_not_json_is_told() -> None:
    """Bytes that are no JSON are an error like any other."""
    with pytest.raises(MeshError, match="provider: is not JSON"):
        read_preferences(b"{")


def test_models_of_the_body() -> None:
    """The list of fallback models, which stands beside the `provider` object."""
    assert ["a", "b"] == read_models(b'["a", "b"]')
    assert [] == read_models(b"null")
    with pytest.raises(MeshError, match=r"models\[1\]: must be a string"):
        read_models(b'["a", 1]')


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from(sorted(_READERS))


@given(st.dictionaries(FIELDS, JSON, max_size=4))
def test_any_json_is_read_or_refused_with_a_path(tree: dict[str, Any]) -> None:
    """No value makes another error than the one with a path, and what is read is within the contract."""
    raw = json.dumps(tree).encode()
    error = None
    try:
        preferences = read_preferences(raw)
    except MeshError as caught:
        error = caught

    if error is None:
        assert preferences == pb.Preferences.FromString(preferences.SerializeToString())
    else:
        assert error.metadata["param"].startswith("provider")


@given(st.decimals(0, 1000, places=12), st.decimals(0, 1000, places=12))
def test_price_bounds_let_nothing_in_from_outside(one: Any, other: Any) -> None:
    """Bounds finer than a nano-dollar are rounded into the range."""
    low, high = sorted((one, other))

    found = read({"input_price_range": [str(low), str(high)]}).input_price

    assert low * 10**9 <= found.min < low * 10**9 + 1
    assert high * 10**9 - 1 < found.max <= high * 10**9


def test_words_of_one_documentation() -> None:
    """Its quality first is the share of successes; how pictures come is no matter of routing."""
    read_so = read({"sort": "exacto", "enable_image_base64": True, "enable_image_origin_data": False})

    assert pb.Preferences(sort=[pb.SortKey(by=pb.SORT_BY_SUCCESS_RATE)]) == read_so
    assert ["success_rate"] == keys(read({"sort": {"by": "exacto", "partition": "model"}}))


@given(st.lists(st.sampled_from(sorted(set(SORT_WORDS) - {"exacto"})), min_size=1, max_size=8))
def test_every_key_can_be_sorted_by(names: list[str]) -> None:
    """A word, a list of words and a list of objects say the same."""
    assert names == keys(read({"sort": names})) == keys(read({"sort": [{"by": name} for name in names]}))
