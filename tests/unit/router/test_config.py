"""The catalog as an operator writes it."""

import pytest
from pydantic import ValidationError

from polyroute.mesh.config import validated
from polyroute.mesh.roles import ConfigError
from polyroute.router.config import CatalogConfig, PriceConfig
from polyroute.router.fields import checked_name, nanos
from tests.fakes.catalogs import opened

FREE = {"provider": "p", "model": "m", "weight": 0}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2.00", 2_000_000_000),
        (10, 10_000_000_000),
        (0.2, 200_000_000),
        ("0.000000001", 1),
        ("1e-3", 1_000_000),
        (0, 0),
    ],
)
def test_price_is_exact(written: object, expected: int) -> None:
    """A price is read as whole nano-USD, a float by its shortest decimal form."""
    assert expected == nanos(written)


@pytest.mark.parametrize("written", ["0.0000000001", "-1", "nan", "inf", "1e400", "two", True, None, "", float("nan")])
def test_price_that_is_not_exact_is_refused(written: object) -> None:
    """What is finer than a nano-dollar, negative or no number is an error, never rounded."""
    with pytest.raises(ValueError, match=r"price|decimal"):
        nanos(written)


@pytest.mark.parametrize("name", ["", " a", "a\n", "a\x00b", "e\u0301", "a\u200bb", "x" * 257, "é" * 129])
def test_bad_name_is_refused(name: str) -> None:
    """Names that cannot be told apart by eye, or are too long, do not enter a catalog."""
    with pytest.raises(ValueError, match="name"):
        checked_name(name)


def test_string_is_provider_and_model() -> None:
    """A deployment in short form is split at its first slash."""
    config = CatalogConfig.model_validate({"models": {"m": {"deployments": ["hub/org/model"]}}})

    deployment = config.models["m"].deployments[0]

    assert ("hub", "org/model") == (deployment.provider, deployment.model)


def test_defaults() -> None:
    """Nothing written gives three attempts and the documented times."""
    router = CatalogConfig().router

    assert 3 == router.max_attempts
    assert (5, None, None, 600) == tuple(router.timeouts.model_dump().values())


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        (
            {"models": {"m": {"deployments": [{"provider": "p", "model": "m", "weight": 0}]}}},
            "models.m.deployments.0.weight",
        ),
        ({"models": {"m": {"deployments": []}}}, "models.m.deployments"),
        ({"models": {"m": {"deployments": ["just-a-model"]}}}, "models.m.deployments.0"),
        ({"models": {"m": {"deployments": ["p/m"], "operations": ["talk"]}}}, "models.m.operations.0"),
        ({"aliases": {"a": {"m": 0}}}, "aliases.a.targets.m"),
        ({"router": {"max_attempt": 2}}, "router.max_attempt"),
    ],
)
def test_fault_names_its_place(tree: dict[str, object], place: str) -> None:
    """Each fault of the configuration names its path."""
    with pytest.raises(ValidationError) as caught:
        CatalogConfig.model_validate(tree)

    assert place == ".".join(str(part) for part in caught.value.errors()[0]["loc"])


def test_short_forms_are_in_the_schema() -> None:
    """Editors get a JSON Schema with the words of the catalog, and with every form that may be written."""
    schema = CatalogConfig.model_json_schema()

    deployments = schema["$defs"]["ModelConfig"]["properties"]["deployments"]["items"]["anyOf"]
    aliases = schema["properties"]["aliases"]["additionalProperties"]["anyOf"]
    assert "vision" in schema["$defs"]["DeploymentConfig"]["properties"]["capabilities"]["anyOf"][0]["items"]["enum"]
    assert {"type": "string"} in deployments
    assert {"type": "string"} in aliases


def test_unknown_key_is_answered_with_the_right_one() -> None:
    """The mesh's reader finds its way into deployments."""
    tree = {"models": {"m": {"deployments": [{"provider": "p", "model": "m", "wieght": 2}]}}}

    with pytest.raises(ConfigError, match=r"models\.m\.deployments\.0\.wieght: unknown key, did you mean 'weight'\?"):
        validated(CatalogConfig, tree)


def test_price_of_pictures_and_sound() -> None:
    """By one of each, without a price of tokens; the same figures as in a price list."""
    tree = {"image": "0.04", "audio_minute": "0.006"}
    rows = {"models": {"p/m": {**tree}}}
    text = "{models: {m: {deployments: [{provider: p, model: m, price: %s}]}}}"
    [own] = opened(text % tree, "p").view.catalog.models[0].deployments
    listing = opened(f"{{models: {{m: {{deployments: [p/m]}}}}, prices: {rows}}}", "p")
    [listed] = listing.view.catalog.models[0].deployments

    assert own.price is not None
    assert listed.price is not None
    assert {"images": 4 * 10**13, "audio_milliseconds": 10**8} == dict(own.price.other) == dict(listed.price.other)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"input": 1}, "output: needed where nothing but tokens is charged"),
        ({}, "input and output: needed"),
        ({"image": 1, "other": {"images": 1}}, r"image and other\.images are two prices of the same"),
        ({"image": 10_000}, "less than or equal"),
    ],
)
def test_price_that_is_not_whole_is_refused(written: dict[str, object], words: str) -> None:
    """A forgotten figure is not a free one, and nothing has two prices."""
    with pytest.raises(ValidationError, match=words):
        PriceConfig.model_validate(written)
