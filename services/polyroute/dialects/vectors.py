"""Vectors out of the JSON of vendors whose embeddings are not in the form of `openai.embeddings`."""

from typing import Any

from polyroute.dialects.asking import bad_answer
from polyroute.dialects.openai.meter import object_of

__all__ = ["object_of", "vectors_in"]

_NUMBERS = (int, float)


def vectors_in(value: object) -> list[list[float]]:
    """A list of vectors, each a list of numbers.

    Raises:
        MeshError: FAULT_BAD_ANSWER for anything else.
    """
    if not isinstance(value, list) or not value:
        raise bad_answer("the provider's answer holds no vectors")
    return [_vector(item) for item in value]


def _vector(value: Any) -> list[float]:
    if not isinstance(value, list) or not value or not all(type(number) in _NUMBERS for number in value):
        raise bad_answer("the provider's answer holds no vectors")
    return [float(number) for number in value]
