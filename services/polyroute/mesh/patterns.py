"""Names that stand for several: one that ends in `*` stands for all that begin so."""

from collections.abc import Iterable


def covers(pattern: str, name: str) -> bool:
    """Whether a pattern stands for a name."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def covered(patterns: Iterable[str], name: str) -> bool:
    """Whether one of some patterns stands for a name."""
    return any(covers(pattern, name) for pattern in patterns)
