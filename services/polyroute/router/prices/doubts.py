"""What in a new price is probably a mistake: a figure per token or per thousand that was meant per million, a slip."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from polyroute.api.router.v1.router_pb2 import Price, PriceTier
from polyroute.router.fields import NANOS

JUMP: Final = 1000  # times what was in force
_LEAST: Final = NANOS // 10_000  # nano-USD per million: a hundredth of a cent
_MOST: Final = 10_000 * NANOS
_TOKENS: Final = ("input", "output", "cache_read", "cache_write", "reasoning")
_OPTIONAL: Final = ("cache_read", "cache_write", "reasoning", "request")


def figures(price: Price) -> dict[str, int]:
    """The figures that a price gives, nano-USD per million, by their names; those of its tiers too."""
    found = {"input": price.input, "output": price.output}  # always set
    found |= {name: getattr(price, name) for name in _OPTIONAL if price.HasField(name)}
    found |= {f"other.{name}": value for name, value in sorted(price.other.items())}
    for tier in price.tiers:
        found |= {f"{bounds_of(tier)}.{name}": value for name, value in figures(tier.price).items()}
    return found


def bounds_of(tier: PriceTier) -> str:
    """Which calls a tier holds for, in words."""
    words = [f"prompt>{tier.above}"] if tier.above else []
    words += [f"answer>{tier.answer_above}"] if tier.answer_above else []
    return " ".join([*words, "reasoned"] if tier.reasoned else words)


def doubts(before: Price | None, after: Price) -> Iterator[str]:
    """Why a new price should not be taken without a second look.

    Args:
        before: What is in force; None when nothing is known.
        after: The new price.
    """
    old = figures(before) if before is not None else {}
    for name, value in figures(after).items():
        if name.rpartition(".")[2] in _TOKENS and value and not _LEAST <= value <= _MOST:
            yield f"{name} is {usd(value)} USD per million tokens: is it meant per million?"
        was = old.get(name, 0)
        if was and value and not Fraction(1, JUMP) < Fraction(value, was) < JUMP:
            yield f"{name} goes from {usd(was)} to {usd(value)} USD per million, {JUMP} times or more"


def usd(nano: int) -> str:
    """Nano-USD as dollars, exactly."""
    whole, part = divmod(abs(nano), NANOS)
    text = f"{whole}.{part:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if nano < 0 else text
