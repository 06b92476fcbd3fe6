"""Calls of an answer that is being written, from their first pieces to the event that closes them."""

from typing import Any

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Part
from polyroute.dialects.responses import actions, items
from polyroute.dialects.responses.batch import Batch
from polyroute.dialects.responses.common import own_state
from polyroute.dialects.responses.drafts import HELD, Call, call_event
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
            self._tell_held()  # before this one, as the model said them
            call = self.begun[step.index] = self._open(step)
        if step.arguments:
            call.pieces.append(step.arguments)
        if step.arguments and call.index != HELD:
            self._output.about(call, f"{call_event(call.whole)}.delta", delta=step.arguments)
            if call.done:  # too late for the event that closed it, not for the whole answer
                call.whole[items.CALLS[call.whole["type"]]] = "".join(call.pieces)
        if step.HasField("state"):
            call.state = step.state

    def _open(self, step: pb.ToolCallDelta) -> Call:
        action = actions.OF_KIND.get(step.kind)
        if action:  # nothing tells of an action in pieces
            return Call(HELD, {"type": action.call, "call_id": step.id, "name": step.name})
        kind = "custom_tool_call" if step.kind == pb.TOOL_KIND_CUSTOM else "function_call"
        return self._announced(kind, step, self._batch.own_ahead("tool_call"))

    def _announced(self, kind: str, step: pb.ToolCallDelta, state: dict[str, Any]) -> Call:
        whole: dict[str, Any] = {
            **state,
            "id": self._output.new_id(kind, state.get("id")),
            "type": kind,
            "status": "in_progress",
            "call_id": step.id,
            "name": step.name,
            **({"namespace": step.namespace} if step.namespace else {}),
            items.CALLS[kind]: "",
        }
        return Call(self._output.announce(whole), whole)

    def _act(self, call: Call) -> None:
        """Tells of an action that is whole; of one that cannot be read as a call of a function, whose text it keeps."""
        action = actions.OF_CALL[call.whole["type"]]
        asked = actions.made_of(action, "".join(call.pieces))
        part = Part(tool_call=pb.ToolCall(id=call.whole["call_id"]), state=call.state)
        own = own_state(part) or {}
        if asked is None:
            step = pb.ToolCallDelta(id=call.whole["call_id"], name=call.whole["name"])
            opened = self._announced("function_call", step, {})
            opened.pieces, opened.state = call.pieces, call.state
            self._output.about(opened, f"{call_event(opened.whole)}.delta", delta="".join(call.pieces))
            self._close(opened)
            return
        whole = {
            "id": self._output.new_id(action.call, own.get("id")),
            "type": action.call,
            "status": "in_progress",
            "call_id": call.whole["call_id"],
            action.member: asked,
        }
        index = self._output.announce(whole)
        whole |= {"status": "completed", **{name: item for name, item in own.items() if name != "id"}}
        self._output.emit("response.output_item.done", output_index=index, item=whole)
        self._carry(part)

    def _carry(self, part: Part) -> None:
        if part.HasField("state") and own_state(part) is None:
            self._output.carry(part)

    def _close(self, call: Call) -> None:
        call.done = True
        if call.index == HELD:
            self._act(call)
            return
        member = items.CALLS[call.whole["type"]]
        call.whole[member] = said = "".join(call.pieces)
        call.whole["status"] = "completed"
        part = Part(tool_call=pb.ToolCall(id=call.whole["call_id"]), state=call.state)
        own = own_state(part)
        if own is not None:
            call.whole |= {name: item for name, item in own.items() if name != "id"}
        self._output.about(call, f"{call_event(call.whole)}.done", **{member: said})
        self._output.emit("response.output_item.done", output_index=call.index, item=call.whole)
        self._carry(part)

    def _tell_held(self) -> None:
        """Tells of actions that are whole, up to the first call that is still being made: clients keep this order."""
        for call in self.begun.values():
            if not call.done and (call.index != HELD or self._waits(call)):
                return
            if not call.done:
                self._close(call)

    def close(self, *, last: bool = False) -> None:
        """Closes those that are open; `last` also those that nothing can be made of, for there is no more to come."""
        for call in list(self.begun.values()):
            if not call.done and (last or not self._waits(call)):
                self._close(call)

    def _waits(self, call: Call) -> bool:
        action = actions.OF_CALL.get(call.whole["type"])
        return action is not None and actions.made_of(action, "".join(call.pieces)) is None
