"""Steps of an answer as an `openai.responses` stream, and as the whole answer that its last event holds.

Clients of this format are strict: an item is announced before anything is said of it, keeps its id to the end, and is
whole in the event that closes it; the last event holds the whole answer. Several calls may be open at once, everything
else is one after the other.
"""

from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, ChatResponse, Part, VendorState
from polyroute.dialects import jsontools, states
from polyroute.dialects.events import take_apart
from polyroute.dialects.openai import parts
from polyroute.dialects.openai.common import create_time
from polyroute.dialects.responses import items
from polyroute.dialects.responses.answer import flat_annotation
from polyroute.dialects.responses.batch import Batch, tokens_of
from polyroute.dialects.responses.common import (
    ECHO,
    RESPONSES,
    carry,
    made_id,
    objects,
    own_state,
    status_of,
    text_of,
    usage_json,
)
from polyroute.dialects.responses.drafts import ENTRIES, Entry, OpenItem, index_of
from polyroute.dialects.responses.envelope import envelope
from polyroute.dialects.responses.open_calls import OpenCalls
from polyroute.dialects.responses.output import Output

_LEVELS: Final = ("choice.", "delta.", "tool_call.", "part.")


class ResponsesWriter:
    """Writes one stream; see `dialect.StreamWriter`. The answer ends in the batch in which its finish reason comes.

    Args:
        request_id: The call, a UUIDv7; empty keeps the vendor's id.
        model: Model as the client named it.
    """

    def __init__(self, *, request_id: str, model: str) -> None:
        self._request_id = request_id
        self._model = model
        self._created = create_time(0, request_id)
        self._batch = Batch()
        self._output = Output()
        self._open: OpenItem | None = None
        self._calls = OpenCalls(self._output, self._batch)
        self._drawn: dict[str, Any] | None = None  # an image generation call whose picture comes next
        self._text: dict[str, Any] | None = None  # the entry with the last text
        self._own = False  # the texts bring their annotations in a state of this dialect
        self._sound = bytearray()
        self._transcript: list[str] = []
        self._extensions: dict[str, bytes] = {}
        self._usage: pb.Usage | None = None
        self._finished: pb.ChoiceFinished | None = None
        self._ended = False
        self.answer: dict[str, Any] = {}  # the whole answer, once it has ended

    def feed(self, events: list[ChatEvent]) -> bytes:
        """Whole SSE events for these steps; see `dialect.StreamWriter`."""
        batch = self._batch
        batch.events = [event for event in events if not event.choice]  # this format has one answer
        for place, event in enumerate(batch.events):
            batch.place = place
            if not self._ended:
                self._step(event)
        if self._finished and not self._ended:
            self._end(self._finished)
        out = b"".join(self._output.events)
        self._output.events.clear()
        return out

    def _step(self, event: ChatEvent) -> None:
        kind = event.WhichOneof("event") or ""
        if not self._output.answer_id:
            self._begin(event.start)
        if self._drawn is not None and kind not in ("image", "usage", "logprobs"):
            self._add_whole(self._take_drawn())
        match kind:
            case "text":
                self._say("output_text", event.text.text, event.text)
            case "refusal":
                self._say("refusal", event.refusal.text, None)
            case "reasoning":
                self._think(event.reasoning)
            case "tool_call":
                if event.tool_call.index not in self._calls.begun:
                    self._close_open()
                self._calls.say(event.tool_call)
            case "logprobs":
                self._weigh(event.logprobs)
            case "audio":
                self._hear(event.audio)
            case "image":
                self._draw(event.image)
                self._carry_state(event)
            case "usage":
                self._usage = event.usage
            case "finished":
                self._finished = event.finished
        self._note(event)

    def _begin(self, start: pb.AnswerStart) -> None:
        vendors = start.id if start.id.startswith("resp_") or not self._request_id else ""
        self._output.answer_id = vendors or f"resp_{self._request_id or made_id('answer', self._model)}"
        self._created = start.create_time or self._created
        begun = self._answer("in_progress")
        self._output.emit("response.created", response=begun)
        self._output.emit("response.in_progress", response=begun)

    def _answer(self, status: str) -> dict[str, Any]:
        """The answer as far as it has come."""
        usage = usage_json(self._usage) if self._usage else None
        told = {"created_at": self._created, "model": self._model, "output": list(self._output.items), "usage": usage}
        return envelope(self._output.answer_id, status, told)

    def _say(self, kind: str, text: str, step: pb.TextDelta | None) -> None:
        opened = self._message()
        entry = opened.entry
        if entry is None or entry.kind != kind:
            entry = self._output.open_entry(opened, kind)
            if kind == "output_text":
                self._text = entry.whole
        tokens = self._batch.tokens_ahead() if kind == "output_text" else []
        if text:
            entry.pieces.append(text)
            told: dict[str, Any] = {"content_index": entry.index, "delta": text}
            if kind == "output_text":
                told["logprobs"] = tokens
                entry.whole["logprobs"] += tokens
            self._output.about(opened, f"{ENTRIES[kind][1]}.delta", **told)
        if step is not None and step.HasField("state"):
            self._seal_text(opened, entry, step.state)

    def _message(self) -> OpenItem:
        """The message that is open, or a new one."""
        opened = self._open
        if opened is not None and opened.kind == "message":
            ahead = self._batch.item_ahead() if opened.sealed else {}
            is_text = self._batch.events[self._batch.place].HasField("text")
            if not (opened.sealed and is_text) or ahead.get("id") == opened.whole["id"]:
                return opened
        self._close_all()
        state = self._batch.item_ahead()
        whole = {
            **state,
            "id": self._output.new_id("message", state.get("id")),
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        index = self._output.announce(whole)
        self._open = OpenItem("message", index, whole)
        return self._open

    def _seal_text(self, opened: OpenItem, entry: Entry, state: VendorState) -> None:
        """Ends a text with its state; another dialect's follows in an item of its own."""
        part = Part(text=pb.TextPart(), state=state)
        opened.sealed = True
        if state.dialect != RESPONSES:
            opened.carriers.append(part)
            return
        self._own = True
        own = own_state(part) or {}
        if isinstance(own.get("part"), dict):
            entry.whole |= {name: item for name, item in own["part"].items() if name not in ("type", "text")}
        if isinstance(own.get("item"), dict):
            opened.whole |= {name: item for name, item in own["item"].items() if name not in opened.whole}
            opened.whole["status"] = text_of(own["item"].get("status")) or "in_progress"
        self._output.close_entry(opened)

    def _think(self, step: pb.ReasoningDelta) -> None:
        state = step.state if step.HasField("state") else None
        if state and state.dialect == RESPONSES and state.kind != items.REASONING:
            self._opaque(Part(reasoning=pb.ReasoningPart(), state=state))
            return
        if not step.text and state is None:
            return
        opened = self._open
        if opened is None or opened.kind != "reasoning":
            self._close_all()
            known = self._batch.own_ahead("reasoning").get("id")
            whole = {"id": self._output.new_id("reasoning", known), "type": "reasoning", "summary": []}
            opened = self._open = OpenItem("reasoning", self._output.announce(whole), whole)
        if step.text:
            self._say_thought(opened, step)
        if state is not None:
            self._seal_reasoning(opened, Part(reasoning=pb.ReasoningPart(redacted=step.redacted), state=state))

    def _say_thought(self, opened: OpenItem, step: pb.ReasoningDelta) -> None:
        kind, place = ("summary_text", "summary") if step.summary else ("reasoning_text", "content")
        lengths = self._batch.own_ahead("reasoning").get("lengths")
        known = lengths.get(place) if isinstance(lengths, dict) else None
        for number, text in enumerate(items.paragraphs(step.text, known)):
            entry = opened.entry
            if number or entry is None or entry.kind != kind:
                entry = self._output.open_entry(opened, kind)
            if text:
                entry.pieces.append(text)
                self._output.about(opened, f"{ENTRIES[kind][1]}.delta", **{index_of(kind): entry.index}, delta=text)

    def _seal_reasoning(self, opened: OpenItem, part: Part) -> None:
        self._output.close_entry(opened)
        own = own_state(part)
        if own is None or own.get("id", opened.whole["id"]) != opened.whole["id"]:
            # encrypted content holds for its own id only, which is not the one that was told
            opened.whole["encrypted_content"] = carry(part)
        else:
            own.pop("lengths", None)
            opened.whole |= {name: value for name, value in own.items() if name not in opened.whole}
        self._close_all()

    def _opaque(self, part: Part) -> None:
        whole = items.opaque_item(part)
        if part.state.kind == items.CONTENT_PART:
            self._output.add_entry(self._message(), whole)
            return
        if part.state.kind == items.IMAGE and "result" not in whole:
            self._close_all()
            self._drawn = whole
        else:
            self._add_whole(whole)

    def _take_drawn(self) -> dict[str, Any]:
        drawn, self._drawn = self._drawn or {"type": items.IMAGE}, None
        return drawn

    def _add_whole(self, whole: dict[str, Any]) -> None:
        """An item that comes all at once."""
        self._close_all()
        whole.setdefault("id", self._output.new_id(text_of(whole.get("type")), ""))
        index = self._output.announce(whole)
        self._output.emit("response.output_item.done", output_index=index, item=whole)

    def _draw(self, image: pb.ImagePart) -> None:
        form = image.media.media_type.partition("/")[2] if self._drawn is None else ""
        whole = self._take_drawn()
        whole.setdefault("status", "completed")
        if image.media.data:
            whole |= {"result": jsontools.packed(image.media.data)}
            whole |= {"output_format": form} if form else {}
        elif image.media.url:
            whole["result"] = image.media.url
        self._add_whole(whole)

    def _carry_state(self, event: ChatEvent) -> None:
        state = states.unpacked(event.extensions[states.OF_PART]) if states.OF_PART in event.extensions else None
        if state:
            self._output.carry(Part(image=pb.ImagePart(), state=state))

    def _close_open(self) -> None:
        opened, self._open = self._open, None
        if opened is None:
            return
        self._output.close_entry(opened)
        if opened.whole.get("status") == "in_progress":
            opened.whole["status"] = "completed"
        self._output.emit("response.output_item.done", output_index=opened.index, item=opened.whole)
        for part in opened.carriers:
            self._output.carry(part)

    def _close_all(self) -> None:
        self._close_open()
        self._calls.close()

    def _weigh(self, logprobs: bytes) -> None:
        before = self._batch.events[self._batch.place - 1] if self._batch.place else None
        if before is not None and before.HasField("text") and before.text.text:
            return  # they went out with it
        if self._text is not None:
            self._text["logprobs"] = [*self._text["logprobs"], *tokens_of(logprobs)]

    def _hear(self, step: pb.AudioDelta) -> None:
        if step.data:
            self._sound += step.data
            self._output.emit("response.audio.delta", delta=jsontools.packed(step.data))
        if step.transcript:
            self._transcript.append(step.transcript)
            self._output.emit("response.audio.transcript.delta", delta=step.transcript)

    def _end_sound(self) -> None:
        if not self._sound and not self._transcript:
            return
        sound, transcript = jsontools.packed(self._sound), "".join(self._transcript)
        opened = self._open if self._open and self._open.kind == "message" else self._message()
        self._output.add_entry(opened, {"type": items.SOUND, "data": sound, "transcript": transcript})
        self._output.emit("response.audio.done")
        self._output.emit("response.audio.transcript.done")

    def _note(self, event: ChatEvent) -> None:
        for name, raw in event.extensions.items():
            if name == "delta.annotations" and not self._own:
                self._annotate(jsontools.loads(raw))
            elif not name.startswith(_LEVELS):
                self._extensions[name] = raw

    def _annotate(self, notes: object) -> None:
        """Citations from the sibling dialect, on the text that came last."""
        if self._text is None:
            return
        listed = self._text["annotations"]
        for note in objects(notes):
            listed.append(flat_annotation(note))
            entry = self._open.entry if self._open else None
            if self._open and entry and entry.whole is self._text:
                self._output.about(
                    self._open,
                    "response.output_text.annotation.added",
                    content_index=entry.index,
                    annotation_index=len(listed) - 1,
                    annotation=listed[-1],
                )

    def _end(self, finished: pb.ChoiceFinished) -> None:
        if self._drawn is not None:
            self._add_whole(self._take_drawn())
        self._end_sound()
        status, details = status_of(finished.reason, finished.vendor_reason)
        if status == "incomplete" and self._open and self._open.kind == "message":
            self._open.whole["status"] = status
        self._close_all()
        self._calls.close(last=True)
        out = self._answer(status)
        out["incomplete_details"] = details
        if status == "failed":
            out["error"] = {"code": "server_error", "message": "the provider failed while answering"}
        echo = jsontools.loads(self._extensions.pop(ECHO, b"{}"))
        out |= echo if isinstance(echo, dict) else {}
        parts.put_extras(out, self._extensions)
        self._ended = True
        self.answer = out
        if f"response.{status}" in ("response.queued", "response.in_progress"):
            status = "incomplete"
        self._output.emit(f"response.{status}", response=out)


def write_answer(response: ChatResponse, *, request_id: str, model: str) -> bytes:
    """See `dialect.Dialect.write_answer`."""
    writer = ResponsesWriter(request_id=request_id, model=model)
    writer.feed(take_apart(response))
    if not writer.answer:  # a response without a choice
        writer.feed([ChatEvent(finished=pb.ChoiceFinished())])
    return jsontools.dumps(writer.answer)
