"""Calls of an answer that is being written, from their first pieces to the event that closes them."""

from typing import Any

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Part
from polyroute.dialects.responses import items
from polyroute.dialects.responses.batch import Batch
from polyroute.dialects.responses.common import own_state
from polyroute.dialects.responses.drafts import Call, call_event
from polyroute.dialects.responses.output import Output


class OpenCalls:
    """The calls of one answer, of which several may be open at once.

    Args:
        output: Where they go.
        batch: The steps at hand.

    Attributes:
        begun: The calls by the index of their steps.
    """

    def __init__(self, output: Output, batch: Batch) -> None:
        self._output = output
        self._batch = batch
        self.begun: dict[int, Call] = {}

    def say(self, step: pb.ToolCallDelta) -> None:
        """Says a piece of a call, and opens it with the first."""
        call = self.begun.get(step.index)
        if call is None:
            call = self.begun[step.index] = self._open(step)
        if step.arguments:
            call.pieces.append(step.arguments)
            self._output.about(call, f"{call_event(call.whole)}.delta", delta=step.arguments)
            if call.done:  # too late for the event that closed it, not for the whole answer
                call.whole[items.CALLS[call.whole["type"]]] = "".join(call.pieces)
        if step.HasField("state"):
            call.state = step.state

    def _open(self, step: pb.ToolCallDelta) -> Call:
        kind = "custom_tool_call" if step.kind == pb.TOOL_KIND_CUSTOM else "function_call"
        state = self._batch.own_ahead("tool_call")
        whole: dict[str, Any] = {
            **state,
            "id": self._output.new_id(kind, state.get("id")),
            "type": kind,
            "status": "in_progress",
            "call_id": step.id,
            "name": step.name,
            items.CALLS[kind]: "",
        }
        return Call(self._output.announce(whole), whole)

    def _close(self, call: Call) -> None:
        call.done = True
        member = items.CALLS[call.whole["type"]]
        call.whole[member] = said = "".join(call.pieces)
        call.whole["status"] = "completed"
        part = Part(tool_call=pb.ToolCall(id=call.whole["call_id"]), state=call.state)
        own = own_state(part)
        if own is not None:
            call.whole |= {name: item for name, item in own.items() if name != "id"}
        self._output.about(call, f"{call_event(call.whole)}.done", **{member: said})
        self._output.emit("response.output_item.done", output_index=call.index, item=call.whole)
        if call.state is not None and own is None:
            self._output.carry(part)

    def close(self) -> None:
        """Closes those that are open."""
        for call in list(self.begun.values()):
            if not call.done:
                self._close(call)
