"""What models refuse: on conversations in the contract's form, and on clients' bytes."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError
from polyroute.providers.families import GPT
from polyroute.providers.traits import ANYTHING, Edit, Traits, merged


def request(**members: Any) -> pb.ChatRequest:
    messages = [
        pb.Message(role=pb.ROLE_SYSTEM, parts=[pb.Part(text=pb.TextPart(text="be brief"))]),
        pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.TextPart(text="hi"))]),
    ]
    return pb.ChatRequest(model="m", messages=members.pop("messages", messages), **members)


def picture(**source: Any) -> pb.Part:
    return pb.Part(image=pb.ImagePart(media=pb.Media(**source)))


def said(*parts: pb.Part) -> list[pb.Message]:
    return [pb.Message(role=pb.ROLE_USER, parts=parts)]


FULL = request(
    max_output_tokens=9,
    parallel_tool_calls=True,
    stop=["x"],
    choices=2,
    user="u",
    sampling=pb.Sampling(temperature=0.5, top_p=0.5, logit_bias={"1": 1.0}, seed=3),
    reasoning=pb.ReasoningOptions(effort="high", max_tokens=10),
    response_format=pb.ResponseFormat(type=pb.ResponseFormat.TYPE_TEXT),
    tool_choice=pb.ToolChoice(mode=pb.ToolChoice.MODE_AUTO),
    extensions={"verbosity": b'"low"', "other": b"1"},
)


class TestConversation:
    def test_nothing_to_change(self) -> None:
        """It is the same message, not a copy of it."""
        for traits in (ANYTHING, Traits(refused=frozenset({"top_k", "logprobs", "nonsense"}))):
            changed, dropped = traits.apply(FULL)

            assert (FULL, []) == (changed, dropped)
            assert changed is FULL

    @pytest.mark.parametrize(
        "name",
        [
            "temperature",
            "top_p",
            "logit_bias",
            "seed",
            "stop",
            "n",
            "user",
            "max_tokens",
            "parallel_tool_calls",
            "response_format",
            "tool_choice",
            "reasoning_effort",
            "verbosity",
        ],
    )
    def test_refused_parameter_is_left_out(self, name: str) -> None:
        """And named, by the name that callers know; nothing else changes, the caller's message least of all."""
        before = FULL.SerializeToString(deterministic=True)
        changed, dropped = Traits(refused=frozenset({name})).apply(FULL)
        again, nothing = Traits(refused=frozenset({name})).apply(changed)

        assert [name] == dropped
        assert ([], changed) == (nothing, again)
        assert before == FULL.SerializeToString(deterministic=True)
        assert len(before) > changed.ByteSize()
        assert b"1" == changed.extensions["other"]

    def test_zero_is_a_value(self) -> None:
        """What is set to nothing is set."""
        _, dropped = Traits(refused=frozenset({"temperature"})).apply(request(sampling=pb.Sampling(temperature=0.0)))

        assert ["temperature"] == dropped

    @pytest.mark.parametrize(
        ("effort", "unasked", "dropped"),
        [("high", False, ["top_p"]), ("", False, []), ("none", False, []), ("", True, ["top_p"]), ("none", True, [])],
    )
    def test_while_it_thinks(self, effort: str, unasked: bool, dropped: list[str]) -> None:
        """Some parameters are refused only then."""
        traits = Traits(refused_thinking=frozenset({"top_p"}), thinks_unasked=unasked)
        asked = request(sampling=pb.Sampling(top_p=0.5), reasoning=pb.ReasoningOptions(effort=effort))

        assert dropped == traits.apply(asked)[1]
        body = orjson.dumps({"top_p": 0.5} | ({"reasoning_effort": effort} if effort else {}))
        assert dropped == traits.edit(body).dropped
        body = orjson.dumps({"top_p": 0.5} | ({"reasoning": {"effort": effort}} if effort else {}))
        assert dropped == traits.edit(body).dropped

    @pytest.mark.parametrize(
        ("sampling", "dropped"),
        [({"temperature": 1.0, "top_p": 0.5}, ["top_p"]), ({"top_p": 0.5}, []), ({"temperature": 1.0}, [])],
    )
    def test_one_of_two(self, sampling: dict[str, float], dropped: list[str]) -> None:
        """The first goes where the other is there."""
        traits = Traits(not_with={"top_p": "temperature"})

        assert dropped == traits.apply(request(sampling=pb.Sampling(**sampling)))[1]  # type: ignore[arg-type] # floats
        assert dropped == traits.edit(orjson.dumps(sampling)).dropped

    def test_no_instructions(self) -> None:
        """They are sent as the user's words, in their place."""
        changed, dropped = Traits(system=False).apply(FULL)

        assert ([pb.ROLE_USER, pb.ROLE_USER], []) == ([message.role for message in changed.messages], dropped)
        assert pb.ROLE_SYSTEM == FULL.messages[0].role

    @pytest.mark.parametrize(
        ("traits", "part", "fine"),
        [
            (Traits(images="data"), picture(url="https://x/y.png"), False),
            (Traits(images="data"), picture(data=b"x"), True),
            (Traits(images="data"), picture(file_id="f"), True),
            (Traits(images="none"), picture(data=b"x"), False),
            (Traits(audio=False), pb.Part(audio=pb.AudioPart(media=pb.Media(data=b"x"))), False),
            (Traits(files=False), pb.Part(file=pb.FilePart(media=pb.Media(data=b"x"))), False),
            (
                Traits(images="none"),
                pb.Part(tool_result=pb.ToolResult(tool_call_id="1", parts=[picture(data=b"x")])),
                False,
            ),
            (Traits(images="none", audio=False, files=False), pb.Part(text=pb.TextPart(text="x")), True),
        ],
    )
    def test_content_is_not_left_out(self, traits: Traits, part: pb.Part, fine: bool) -> None:
        """Another deployment may take it; where it stands is said."""
        asked = request(messages=said(pb.Part(text=pb.TextPart(text="a")), part))
        found: tuple[str, str] | None = None
        try:
            traits.apply(asked)
        except MeshError as error:
            found = (errors_pb2.Fault.Name(error.fault), error.metadata["param"])

        assert (None if fine else ("FAULT_UNSUPPORTED", "messages[0].content")) == found

    def test_tools_are_not_left_out(self) -> None:
        """A model without them cannot do what was asked."""
        with pytest.raises(MeshError) as caught:
            Traits(tools=False).apply(request(tools=[pb.Tool(name="f")]))

        assert (errors_pb2.FAULT_UNSUPPORTED, "tools") == (caught.value.fault, caught.value.metadata["param"])


class TestBytes:
    @pytest.mark.parametrize(
        ("edit", "body", "changed", "dropped"),
        [
            (Edit(drop=frozenset({"a"})), b'{"a": 1, "b":{"a":2}}', b'{"b":{"a":2}}', ["a"]),
            (Edit(drop=frozenset({"a"})), b'{"b":{"a":2}, "c":"\\"a\\""}', None, []),
            (Edit(drop=frozenset({"a", "b"})), b'{"a":1,"b":2}', b"{}", ["a", "b"]),
            (Edit(rename={"old": "new"}), b'{"old": 7 ,"x":1}', b'{"new":7,"x":1}', []),
            (Edit(rename={"old": "new"}), b'{"old":7,"new":8}', b'{"new":8}', []),
            (Edit(put={"v": b'"1"'}), b'{"x":1}', b'{"v":"1","x":1}', []),
            (Edit(put={"v": b'"1"'}), b'{"v":"0"}', b'{"v":"1"}', []),
            (Edit(put={"v": b'"1"'}), b'{"v":"1"}', None, []),
            (Edit(drop=frozenset({"v"}), put={"v": b"1"}), b'{"v":0}', b'{"v":1}', ["v"]),
            (Edit(), b"not json", None, []),
        ],
    )
    def test_outermost_members_only(self, edit: Edit, body: bytes, changed: bytes | None, dropped: list[str]) -> None:
        """Every other byte stays as the client wrote it; no change gives the very same bytes."""
        found = edit.apply(body)

        assert (changed if changed is not None else body, dropped) == (found.body, found.dropped)
        assert changed is not None or found.body is body

    def test_what_is_no_object(self) -> None:
        """Is refused like any other bad request."""
        with pytest.raises(MeshError) as caught:
            Edit(put={"a": b"1"}).apply(b"[]")

        assert errors_pb2.REASON_INVALID_REQUEST == caught.value.reason

    @given(
        st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.integers(-99, 99) | st.text() | st.booleans()),
        st.frozensets(st.sampled_from(["a", "b"])),
        st.sampled_from([{}, {"c": "d"}, {"a": "d"}]),
    )
    def test_as_on_the_parsed_object(self, value: dict[str, Any], drop: frozenset[str], rename: dict[str, str]) -> None:
        """Bytes in and bytes out say what the same change of the object would."""
        found = Edit(drop, rename).apply(orjson.dumps(value))
        expected = {name: one for name, one in value.items() if name not in drop and name not in rename}
        expected |= {new: value[old] for old, new in rename.items() if old in value and new not in value}

        assert expected == orjson.loads(found.body)
        assert sorted(drop & value.keys()) == found.dropped


class TestMerging:
    def test_no_pattern_matches(self) -> None:
        """Then nothing is refused."""
        assert merged((Traits(models=("a*",), tools=False),), "b") is ANYTHING

    def test_all_that_match_count(self) -> None:
        """Each refuses its own."""
        table = (
            Traits(refused=frozenset({"a"}), options={"d": {"x": 1, "y": 1}}),
            Traits(models=("M-[0-9]".lower(),), refused=frozenset({"b"}), images="data", options={"d": {"y": 2}}),
            Traits(models=("m*",), audio=False, images="none", tools_in="t", renamed={"o": "n"}),
            Traits(models=("x",), system=False),
        )
        found = merged(table, "M-1")

        assert (frozenset({"a", "b"}), "none", False, "t", True) == (
            found.refused,
            found.images,
            found.audio,
            found.tools_in,
            found.system,
        )
        assert ({"d": {"x": 1, "y": 2}}, {"o": "n"}) == (found.options, found.renamed)
        assert not found.plain


@pytest.mark.parametrize(
    ("model", "body", "changed"),
    [
        ("gpt-4o", {"max_tokens": 5, "temperature": 0.2}, {"max_tokens": 5, "temperature": 0.2}),
        ("o3-mini", {"max_tokens": 5, "temperature": 0.2}, {"max_completion_tokens": 5}),
        ("gpt-5-mini-2025-08-07", {"max_tokens": 5, "stop": ["x"], "seed": 1}, {"max_completion_tokens": 5, "seed": 1}),
        ("gpt-5-chat-latest", {"max_tokens": 5, "temperature": 0.2}, {"max_tokens": 5, "temperature": 0.2}),
        ("gpt-5.4-nano", {"temperature": 0.2}, {"temperature": 0.2}),
        ("gpt-5.4", {"temperature": 0.2, "reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ("gpt-6-sol", {"temperature": 0.2}, {}),
        (
            "gpt-6-sol",
            {"temperature": 0.2, "reasoning_effort": "none"},
            {"temperature": 0.2, "reasoning_effort": "none"},
        ),
    ],
)
def test_generations_that_refuse_different_things(model: str, body: dict[str, Any], changed: dict[str, Any]) -> None:
    """A model's name tells its generation."""
    assert changed == orjson.loads(merged(GPT, model).edit(orjson.dumps(body)).body)
