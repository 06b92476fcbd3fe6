"""Which names mean what, and which catalogs are refused."""

import pytest

from polyroute.api.chat.v1.chat_pb2 import (
    CAPABILITY_TOOLS,
    CAPABILITY_VISION,
    OPERATION_CHAT,
    OPERATION_COMPLETION,
    OPERATION_EMBEDDING,
)
from polyroute.api.providers.v1.providers_pb2 import KnownModel, Provider
from polyroute.api.router.v1.router_pb2 import Plan, Price
from polyroute.router.build import build
from polyroute.router.catalog import Alias, CatalogError, Model, deployment_of
from tests.fakes.catalogs import opened, read

FOUND = Provider(
    name="local",
    discovered=True,
    models=[KnownModel(id="tiny", operations=[OPERATION_CHAT], capabilities=[CAPABILITY_TOOLS], context_tokens=8192)],
)
OPEN = Provider(name="hub", open_ended=True)


def problems(text: str, *providers: Provider) -> tuple[str, ...]:
    """Why a catalog is refused."""
    with pytest.raises(CatalogError) as caught:
        build(read(text), providers or (Provider(name="openai"), Provider(name="azure")))
    return caught.value.problems


def test_misspelt_provider_is_told_with_the_right_one() -> None:
    """An unknown provider names its path and the provider that was meant."""
    expected = ("models.m.deployments[1].provider: unknown provider 'opnai', did you mean 'openai'?",)

    assert expected == problems("{models: {m: {deployments: [openai/a, opnai/a]}}}")


def test_all_faults_are_told_together() -> None:
    """One look at the error is enough to mend the file."""
    text = """
    models: {smart: {deployments: [{provider: openai, model: a, name: x}, {provider: azure, model: a, name: x}]}}
    aliases: {a: b, b: {a: 1, smart: 1}, c: smrt, smart: openai/a}
    """
    expected = (
        "models.smart.deployments[1].name: the name 'x' is taken by another deployment",
        "aliases.a: stands for itself, by way of 'b'",
        "aliases.b: stands for itself, by way of 'a'",
        "aliases.smart: is the name of a model as well",
        "aliases.c: unknown model 'smrt', did you mean 'smart'?",
    )

    assert sorted(expected) == sorted(problems(text))


def test_alias_of_itself_is_refused() -> None:
    """The shortest cycle."""
    assert ("aliases.a: stands for itself, by way of 'a'",) == problems("{aliases: {a: a}}")


def test_long_chain_of_aliases_is_good() -> None:
    """Depth alone is no cycle, and diamonds are none."""
    store = opened("{models: {m: {deployments: [p/m]}}, aliases: {a: {b: 1, c: 1}, b: d, c: d, d: m}}", "p")

    assert "" == store.status.error
    first = store.view.catalog.aliases[0]
    assert ["m"] == [model.name for model in store.view.catalog.targets(first)]


def test_same_deployment_twice_is_numbered() -> None:
    """Names are unique without being asked for, around those that were given."""
    store = opened(
        "{models: {a: {deployments: [p/x, p/x, {provider: q, model: y, name: p/x#3}, p/x]}, b: {deployments: [p/x]}}}",
        "p",
        "q",
    )

    names = [deployment.name for model in store.view.catalog.models for deployment in model.deployments]

    assert ["p/x", "p/x#2", "p/x#3", "p/x#4", "p/x#5"] == names


def test_version_is_of_the_content() -> None:
    """The same content has the same version, any change another."""
    text = "{models: {m: {deployments: [{provider: p, model: m, price: {input: 1, output: 2}}]}}}"
    one, same = build(read(text), None), build(read(text), None)
    other = build(read(text.replace("output: 2", "output: 3")), None)

    assert one.version == same.version
    assert one.version != other.version
    assert 12 == len(one.version)


def test_names_match_exactly_first_then_in_any_case() -> None:
    """Two names that differ by case are two; a third spelling finds the first."""
    catalog = opened("{models: {GPT: {deployments: [p/a]}, gpt: {deployments: [p/b]}}}").view.catalog

    assert ["GPT", "gpt", "GPT", None] == [
        entry and entry.name for entry in map(catalog.lookup, ("GPT", "gpt", "Gpt", "g"))
    ]


def test_found_models_join_unless_configured() -> None:
    """A found provider's models are there by themselves; a configured name stays the operator's."""
    free = opened("{models: {m: {deployments: [p/m]}}}", "p", FOUND).view.catalog
    taken = opened("{models: {tiny: {deployments: [p/m]}}}", "p", FOUND).view.catalog

    tiny = free.entries["tiny"]
    assert isinstance(tiny, Model)
    assert ["local/tiny"] == [deployment.name for deployment in tiny.deployments]
    assert 8192 == tiny.deployments[0].context_tokens
    assert frozenset({CAPABILITY_TOOLS}) == tiny.deployments[0].capabilities
    assert ["tiny"] == [model.name for model in taken.models]
    assert ["p/m"] == [deployment.name for deployment in taken.models[0].deployments]


def test_one_model_of_two_found_providers() -> None:
    """Two providers that serve the same id make one model with two deployments."""
    twin = Provider(name="twin", discovered=True, models=[KnownModel(id="tiny")])

    catalog = opened("{}", FOUND, twin).view.catalog

    assert [["local/tiny", "twin/tiny"]] == [[one.name for one in model.deployments] for model in catalog.models]


def test_provider_and_model_address_one_provider() -> None:
    """`provider/model` finds the configured deployments of that provider, by the vendor's id or the public name."""
    catalog = opened("{models: {m: {deployments: [p/id, q/id, p/id]}}}", "p", "q").view.catalog

    for name in ("p/id", "p/m", "P/Id"):
        model = catalog.lookup(name)
        assert isinstance(model, Model)
        assert "m" == model.name
        assert ["p/id", "p/id#2"] == [deployment.name for deployment in model.deployments]


def test_open_ended_provider_passes_names_on() -> None:
    """Anything is asked of a provider that takes anything; control characters are not."""
    catalog = opened("{}", OPEN, "p").view.catalog

    model = catalog.lookup("hub/org/new-model")
    assert isinstance(model, Model)
    assert ("hub", "org/new-model") == (model.deployments[0].provider, model.deployments[0].upstream_model)
    assert [None, None, None, None] == [catalog.lookup(name) for name in ("hub/", "p/x", "hub", "hub/a\nb")]


def test_what_nobody_but_a_caller_names_says_so() -> None:
    """In its plans, and in records; what an alias of the operator leads to does not."""
    catalog = opened("{models: {m: {deployments: [hub/known]}}, aliases: {a: hub/chosen}}", OPEN).view.catalog

    def passed_on(name: str) -> list[bool]:
        model = catalog.lookup(name)
        assert isinstance(model, Model)
        [one] = model.deployments
        [attempt] = Plan.FromString(one.attempt).attempts
        return [attempt.passed_on, deployment_of(one.message).passed_on]

    assert [[True] * 2, [False] * 2, [False] * 2] == [passed_on(f"hub/{n}") for n in ("any", "known", "chosen")]


def test_operators_names_win_over_found_ones() -> None:
    """A configured model whose name looks like `provider/model` stays what the operator made it."""
    catalog = opened("{models: {local/tiny: {deployments: [p/m]}}}", "p", FOUND).view.catalog

    model = catalog.lookup("local/tiny")

    assert isinstance(model, Model)
    assert ["p"] == [deployment.provider for deployment in model.deployments]


def test_alias_may_lead_to_a_provider_directly() -> None:
    """Found models, `provider/model` and names that are passed on are targets too."""
    store = opened("{aliases: {a: {tiny: 1, local/tiny: 1, hub/any: 1}}}", FOUND, OPEN)

    assert "" == store.status.error
    assert isinstance(store.view.catalog.lookup("A"), Alias)


def test_alias_waits_for_its_provider() -> None:
    """Before the providers are heard, an alias is without what only they can make known."""
    store = opened("{models: {m: {deployments: [p/m]}}, aliases: {a: {tiny: 1, m: 2}, b: tiny, c: b}}")
    before = {alias.name: alias.targets for alias in store.view.catalog.aliases}
    store.offer([Provider(name="p"), FOUND])
    after = {alias.name for alias in store.view.catalog.aliases}

    assert {"a": (("m", 2),)} == before
    assert {"a", "b", "c"} == after


def test_what_the_operator_leaves_out_is_filled_in() -> None:
    """Price, limits, operations and capabilities come from the provider where the catalog does not say."""
    provider = Provider(
        name="p",
        models=[
            KnownModel(
                id="x",
                operations=[OPERATION_EMBEDDING],
                capabilities=[CAPABILITY_VISION],
                context_tokens=100,
                max_output_tokens=10,
                price=Price(input=1, output=2, version="list"),
            )
        ],
    )
    text = "{models: {m: {deployments: [p/x, {provider: p, model: x, context: 50, capabilities: []}, p/y]}}}"

    filled, said, unknown = opened(text, provider).view.catalog.models[0].deployments

    assert (100, 10, frozenset({CAPABILITY_VISION})) == (
        filled.context_tokens,
        filled.max_output_tokens,
        filled.capabilities,
    )
    assert frozenset({OPERATION_EMBEDDING}) == filled.operations
    assert Price(input=1, output=2, version="list") == filled.price
    assert (50, frozenset()) == (said.context_tokens, said.capabilities)
    assert (0, None, None) == (unknown.context_tokens, unknown.capabilities, unknown.price)
    assert frozenset({OPERATION_CHAT, OPERATION_COMPLETION}) == unknown.operations
