"""The vendors as a page of Markdown, made from what the code knows of them; `docs/providers.md` is that."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.providers.registry import all_vendors
from polyroute.providers.traits import Traits
from polyroute.providers.vendor import Vendor

_WORK: Final = {
    pb.OPERATION_CHAT: "conversation",
    pb.OPERATION_COMPLETION: "completion",
    pb.OPERATION_EMBEDDING: "vectors",
    pb.OPERATION_RERANK: "reranking",
    pb.OPERATION_IMAGE: "pictures",
    pb.OPERATION_SPEECH: "speech",
    pb.OPERATION_TRANSCRIPTION: "transcription",
    pb.OPERATION_MODERATION: "checks",
    pb.OPERATION_COUNT_TOKENS: "counting",
}
_INTRODUCTION: Final = """\
# Providers

<!-- Written by `make docs` from the files in services/polyroute/providers/vendors. -->

An account in the configuration names one of these vendors, or is named as one:

```yaml
providers:
  dashscope: {region: ap-southeast-1, keys: ["${DASHSCOPE_API_KEY}"]}
  paris: {vendor: vertex, region: europe-west9, settings: {project: acme}}
```

Several keys are used in turn; one that is refused, or has no quota or rate left, rests until it is likely to work
again. A `base_url` stands in place of the vendor's address, with or without the version at its end.
"""
_DIALECTS: Final = """\
## What they do

The wire formats in which each vendor is asked, the one that is preferred first. A client's request in one of them is
passed on byte for byte; others are translated. **Bold**: the tests read real traffic of this vendor in this format. The
others follow the vendor's documentation.
"""
_ADDRESSES: Final = """\
## Where they are

A key in the environment makes an account by itself, but for those in brackets, which are often there for other work.
Names in braces are settings of the account.
"""
_REFUSALS: Final = """\
## What their models refuse

Parameters that are left out, and named in the answer's record, or content for which another deployment is tried. The
patterns are matched with the model's id at the vendor; no pattern means every model.
"""


def capability_table() -> str:
    """The whole page."""
    vendors = [vendor for vendor in all_vendors().values() if vendor.speaks]
    parts = [_INTRODUCTION, _DIALECTS, *_abilities(vendors), "", _ADDRESSES, *_places(vendors), ""]
    return "\n".join([*parts, _REFUSALS, *_traits(vendors), ""])


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    names = list(columns)
    yield f"| {' | '.join(names)} |"
    yield "|" + "---|" * len(names)
    yield from (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _abilities(vendors: Iterable[Vendor]) -> Iterator[str]:
    rows = ([f"`{vendor.name}`", *(_formats(vendor, work) for work in _WORK)] for vendor in vendors)
    return _table(["vendor", *_WORK.values()], rows)


def _formats(vendor: Vendor, work: pb.Operation.ValueType) -> str:
    names = vendor.dialects.get(work, ())
    return ", ".join(f"**{name}**" if name in vendor.recorded else name for name in names)


def _places(vendors: Iterable[Vendor]) -> Iterator[str]:
    rows = ([f"`{vendor.name}`", _address(vendor), _regions(vendor), _keys(vendor)] for vendor in vendors)
    return _table(["vendor", "address", "regions and settings", "key"], rows)


def _address(vendor: Vendor) -> str:
    if vendor.name == "local":
        return "this machine"
    own = ", ".join(f"`${name}`" for name in vendor.url_env)
    return f"`{vendor.base_url}`" + (f" or {own}" if own else "") if vendor.base_url else "the account's `base_url`"


def _regions(vendor: Vendor) -> str:
    regions = [f"`{name}`" for name in vendor.regions]
    settings = [_setting(name, setting.env, setting.default) for name, setting in vendor.settings.items()]
    return ", ".join([*regions, *settings])


def _setting(name: str, env: Iterable[str], default: str) -> str:
    notes = [*(f"`${variable}`" for variable in env), *([f"else `{default}`"] if default else [])]
    return f"{name} ({', '.join(notes)})" if notes else name


def _keys(vendor: Vendor) -> str:
    names = ", ".join(f"`{name}`" for name in vendor.key_env)
    if names and not vendor.discover:
        names = f"({names})"
    needless = "none needed" if vendor.keyless else "the machine's own" if vendor.credential.needless else ""
    return "; ".join(part for part in (names, needless) if part) or "in the file"


def _traits(vendors: Iterable[Vendor]) -> Iterator[str]:
    rows = (
        [f"`{vendor.name}`", " ".join(f"`{pattern}`" for pattern in traits.models), refusals]
        for vendor in vendors
        for traits in vendor.models
        if (refusals := "; ".join(_refusals(traits)))
    )
    dropped = ([f"`{vendor.name}`", "", _listed(vendor.quirks.drop)] for vendor in vendors if vendor.quirks.drop)
    return _table(["vendor", "models", "what"], sorted([*rows, *dropped]))


def _refusals(traits: Traits) -> Iterator[str]:
    if traits.refused:
        yield _listed(traits.refused)
    if traits.refused_thinking:
        unasked = ", which they do unless told not to" if traits.thinks_unasked else ""
        yield f"while they think{unasked}: {_listed(traits.refused_thinking)}"
    yield from (f"`{name}` beside `{other}`" for name, other in traits.not_with.items())
    yield from _renamed(traits.renamed)
    if traits.tools_in:
        yield f"tools but in {traits.tools_in}"
    lacking = {
        "instructions, which are sent as the user's words": not traits.system,
        "tools": not traits.tools,
        "pictures": traits.images == "none",
        "pictures by address": traits.images == "data",
        "sound": not traits.audio,
        "documents": not traits.files,
    }
    yield from (what for what, refused in lacking.items() if refused)


def _renamed(renamed: Mapping[str, str]) -> Iterator[str]:
    yield from (f"`{old}`, sent as `{new}`" for old, new in renamed.items())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


if __name__ == "__main__":
    print(capability_table(), end="")  # noqa: T201 - what `make docs` writes
