"""Arguments of a call that come in pieces: values by their paths, texts in parts.

https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling#streaming-fc. Paths are JSON Paths
(RFC 9535) of member names and places in lists only.
"""

import re
from itertools import pairwise
from typing import Any, Final

from polyroute.dialects import jsontools
from polyroute.dialects.asking import bad_answer, objects_in

MAX_DEPTH: Final = 64

_STEP: Final = re.compile(
    r"\.(?P<name>[^.\[\]]+)|\[(?P<place>\d{1,6})\]|\['(?P<single>(?:[^'\\]|\\.)*)'\]|\[\"(?P<double>(?:[^\"\\]|\\.)*)\"\]"
)
_ESCAPE: Final = re.compile(r"\\(.)")


class PartialArguments:
    """The arguments of one call in the making."""

    def __init__(self) -> None:
        self._root: dict[str, Any] = {}
        self._open = ""  # path of the text that goes on

    def put(self, members: dict[str, Any]) -> None:
        """Arguments that came whole."""
        self._root |= members

    def feed(self, pieces: object) -> None:
        """Takes `partialArgs`.

        Raises:
            MeshError: FAULT_BAD_ANSWER for a path that leads nowhere.
        """
        for piece in objects_in(pieces):
            path = piece.get("jsonPath")
            if not isinstance(path, str):
                raise bad_answer("the provider sent an argument without a path")
            self._set(path, _value_of(piece))
            self._open = path if piece.get("willContinue") is True else ""

    def text(self) -> str:
        """The arguments so far, as JSON."""
        return jsontools.dumps(self._root).decode()

    def _set(self, path: str, value: Any) -> None:
        steps = _steps(path)
        target: Any = self._root
        for step, following in pairwise(steps):
            target = _child(target, step, [] if isinstance(following, int) else {})
        last = steps[-1]
        before = _child(target, last, None)
        if isinstance(before, str) and isinstance(value, str) and self._open == path:
            value = before + value
        target[last] = value


def _value_of(piece: dict[str, Any]) -> Any:
    for name in ("stringValue", "numberValue", "boolValue"):
        if name in piece:
            return piece[name]
    return None


def _steps(path: str) -> list[str | int]:
    steps: list[str | int] = []
    place = 1
    while place < len(path):
        found = _STEP.match(path, place)
        if not found or len(steps) >= MAX_DEPTH:
            raise bad_answer("the provider sent an argument with a path that cannot be followed")
        kind = found.lastgroup or ""
        text = found.group(kind)
        steps.append(int(text) if kind == "place" else text if kind == "name" else _ESCAPE.sub(r"\1", text))
        place = found.end()
    if not steps or not path.startswith("$"):
        raise bad_answer("the provider sent an argument with a path that cannot be followed")
    return steps


def _child(target: Any, step: str | int, default: Any) -> Any:
    """What stands at one step, put there when nothing does."""
    if isinstance(target, dict) and isinstance(step, str):
        return target.setdefault(step, default)
    if isinstance(target, list) and isinstance(step, int) and step <= len(target):
        if step == len(target):
            target.append(default)
        return target[step]
    raise bad_answer("the provider sent an argument with a path that cannot be followed")
