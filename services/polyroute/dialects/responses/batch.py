"""The steps of an answer that came together, and what the later ones tell of an earlier one.

An id is told with the first event of an item and stands in the state that ends it; log probabilities go out with their
text and come after it. Where both came in one batch, they are found by looking ahead.
"""

from typing import Any

from polyroute.api.chat.v1.chat_pb2 import ChatEvent, Part, VendorState
from polyroute.dialects import jsontools
from polyroute.dialects.responses.common import own_state


class Batch:
    """One batch of steps.

    Attributes:
        events: The steps.
        place: Which of them is at hand.
    """

    def __init__(self) -> None:
        self.events: list[ChatEvent] = []
        self.place = 0

    def _state_ahead(self, kind: str) -> VendorState | None:
        """The state that ends what begins with this step, when it has come already; ids are told before anything."""
        index = self.events[self.place].tool_call.index
        for event in self.events[self.place :]:
            found = event.WhichOneof("event")
            if found == "logprobs" or (kind == found == "tool_call" and event.tool_call.index != index):
                continue
            if found != kind:
                return None
            step: Any = getattr(event, kind)
            if step.HasField("state"):
                state: VendorState = step.state
                return state
        return None

    def own_ahead(self, kind: str) -> dict[str, Any]:
        """The state that ends what begins with this step, decoded, when it has come already and is of this dialect."""
        state = self._state_ahead(kind)
        return own_state(Part(state=state)) or {} if state else {}

    def item_ahead(self) -> dict[str, Any]:
        """What the state of the text at hand says of its message."""
        item = self.own_ahead("text").get("item")
        return item if isinstance(item, dict) else {}

    def tokens_ahead(self) -> list[Any]:
        """The log probabilities of the text at hand, which follow it."""
        following = self.events[self.place + 1 : self.place + 2]
        return tokens_of(following[0].logprobs) if following and following[0].HasField("logprobs") else []


def tokens_of(logprobs: bytes) -> list[Any]:
    """The tokens of a text with their log probabilities."""
    value = jsontools.loads(logprobs) if logprobs else None
    content = value.get("content") if isinstance(value, dict) else None
    return content if isinstance(content, list) else []
