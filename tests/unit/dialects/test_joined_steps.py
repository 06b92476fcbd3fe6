"""Pieces of one text that came together are one piece; nothing else about an answer changes."""

from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent
from polyroute.dialects.events import assemble, joined, text_step

SEAL = pb.VendorState(dialect="d", kind="k", data=b"s")
STEPS = st.one_of(
    st.builds(text_step, st.text(max_size=3), st.integers(0, 1)),
    st.builds(lambda text: ChatEvent(text=pb.TextDelta(text=text, state=SEAL)), st.text(max_size=2)),
    st.builds(lambda text: ChatEvent(text=pb.TextDelta(text=text), extensions={"delta.x": b"1"}), st.text(max_size=2)),
    st.builds(lambda text: ChatEvent(reasoning=pb.ReasoningDelta(text=text)), st.text(max_size=3)),
    st.builds(lambda: ChatEvent(logprobs=b"{}")),
    st.builds(lambda text: ChatEvent(tool_call=pb.ToolCallDelta(index=0, arguments=text)), st.text(max_size=3)),
)


def copies(steps: list[ChatEvent]) -> list[ChatEvent]:
    """The same steps, which may be changed."""
    return [ChatEvent.FromString(step.SerializeToString()) for step in steps]


@given(st.lists(STEPS, max_size=12))
def test_joined_steps_make_the_same_answer(steps: list[ChatEvent]) -> None:
    """Whatever lies between the texts, and whatever hangs on them."""
    found = joined(copies(steps))

    assert assemble(copies(steps)) == assemble(found)
    assert len(found) <= len(steps)


def test_pieces_of_one_choice_become_one() -> None:
    """The first says what hangs on it, a seal ends it, and another choice is another text."""
    first = ChatEvent(text=pb.TextDelta(text="a"), extensions={"delta.x": b"1"})
    sealed = ChatEvent(text=pb.TextDelta(text="d", state=SEAL))
    steps = [first, text_step("b"), text_step("c"), sealed, text_step("e"), text_step("f", 1), text_step("g", 1)]

    found = joined(steps)

    assert ["abc", "d", "e", "fg"] == [step.text.text for step in found]
    assert [0, 0, 0, 1] == [step.choice for step in found]
    assert [["delta.x"], [], [], []] == [list(step.extensions) for step in found]
