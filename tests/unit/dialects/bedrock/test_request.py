"""Conversations as requests of `bedrock.converse`: what it can say, what it drops, what it refuses."""

import base64
import json
from typing import Any

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Media, Message, Part, VendorState
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.bedrock_converse import OUTBOUND, BedrockConverse, Options
from polyroute.mesh.errors import MeshError

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "us.amazon.nova-pro-v1:0"
OTHER = "meta.llama3-1-8b-instruct-v1:0"


def text(words: str, **extensions: Any) -> Part:
    """A text."""
    return Part(text=pb.TextPart(text=words), extensions=packed(extensions))


def packed(extensions: dict[str, Any]) -> dict[str, bytes]:
    """Extensions as JSON."""
    return {name: json.dumps(value).encode() for name, value in extensions.items()}


def said(role: pb.Role.ValueType, *parts: Part) -> Message:
    """A message."""
    return Message(role=role, parts=parts)


def user(*parts: Part | str) -> Message:
    """A message of the user."""
    return said(pb.ROLE_USER, *(text(part) if isinstance(part, str) else part for part in parts))


def call(name: str, arguments: str = "{}", call_id: str = "") -> Message:
    """A message that calls a tool."""
    return said(pb.ROLE_ASSISTANT, Part(tool_call=pb.ToolCall(id=call_id, name=name, arguments=arguments)))


def answered(words: str, call_id: str = "", name: str = "", failed: bool = False) -> Message:
    """The result of a tool."""
    result = pb.ToolResult(tool_call_id=call_id, name=name, parts=[text(words)], failed=failed)
    return said(pb.ROLE_TOOL, Part(tool_result=result))


def written(request: ChatRequest, model: str = OTHER, source: str = "") -> tuple[dict[str, Any], list[str]]:
    """The body as JSON, and what was dropped."""
    body, dropped = OUTBOUND.write_request(request, model=model, stream=True, source=source)
    return json.loads(body), dropped


def content(request: ChatRequest, model: str = OTHER, source: str = "") -> list[Any]:
    """(role, blocks) of each message."""
    return [(turn["role"], turn["content"]) for turn in written(request, model, source)[0]["messages"]]


def refused(request: ChatRequest) -> MeshError:
    """The refusal of a request."""
    with pytest.raises(MeshError) as caught:
        OUTBOUND.write_request(request, model=OTHER, stream=False)
    return caught.value


def test_roles_alternate_and_system_messages_go_up() -> None:
    """Neighbours of one role become one message; system and developer messages stand beside them."""
    request = ChatRequest(
        messages=[
            said(pb.ROLE_SYSTEM, text("Be brief.")),
            user("a"),
            user("b"),
            said(pb.ROLE_DEVELOPER, text("Be kind.")),
            said(pb.ROLE_ASSISTANT, text("c")),
        ]
    )

    body, dropped = written(request)

    assert [{"text": "Be brief."}, {"text": "Be kind."}] == body["system"]
    assert [("user", [{"text": "a"}, {"text": "b"}]), ("assistant", [{"text": "c"}])] == content(request)
    assert [] == dropped


def test_texts_that_say_nothing_are_left_out() -> None:
    """This API refuses blank texts; a message that holds nothing else is none."""
    request = ChatRequest(messages=[user("a", " \n"), said(pb.ROLE_ASSISTANT, text("")), user("b")])

    assert [("user", [{"text": "a"}, {"text": "b"}])] == content(request)


def test_results_of_tools_come_first_and_find_their_calls() -> None:
    """Results stand before the user's words, with the ids of their calls."""
    request = ChatRequest(
        messages=[call("a", '{"x":1}', "t1"), user("also"), answered("ok", "t1"), answered("no", "t2", failed=True)]
    )

    assert [
        ("assistant", [{"toolUse": {"toolUseId": "t1", "name": "a", "input": {"x": 1}}}]),
        (
            "user",
            [
                {"toolResult": {"toolUseId": "t1", "content": [{"text": "ok"}]}},
                {"toolResult": {"toolUseId": "t2", "content": [{"text": "no"}], "status": "error"}},
                {"text": "also"},
            ],
        ),
    ] == content(request)


def test_calls_without_ids_get_some() -> None:
    """Results without ids are matched by name, then in order; ids are the same for the same conversation."""
    request = ChatRequest(
        messages=[call("a"), call("b"), answered("of b", name="b"), answered("of a"), answered("of nobody")]
    )

    [(_, calls), (_, results)] = content(request)

    ids = {block["toolUse"]["name"]: block["toolUse"]["toolUseId"] for block in calls}
    found = [block["toolResult"]["toolUseId"] for block in results]
    assert [ids["b"], ids["a"]] == found[:2]
    assert 3 == len(set(found))
    assert content(request) == content(request)


def test_ids_are_made_to_fit() -> None:
    """Ids with other letters, too long or used before are replaced, for calls and results alike."""
    long = "x" * 80
    request = ChatRequest(
        messages=[
            call("a", call_id="functions.a:0"),
            answered("1", "functions.a:0"),
            call("a", call_id=long),
            answered("2", long),
            call("a", call_id="t"),
            answered("3", "t"),
            call("a", call_id="t"),
            answered("4", "t"),
        ]
    )

    turns = content(request)

    calls = [blocks[0]["toolUse"]["toolUseId"] for role, blocks in turns if role == "assistant"]
    results = [blocks[0]["toolResult"]["toolUseId"] for role, blocks in turns if role == "user"]
    assert calls == results
    assert 4 == len(set(calls))
    assert all(len(one) <= 64 and one.replace("_", "").isalnum() for one in calls)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", "{}"),
        ('{"n": 123456789012345678901234567890}', '{"n": 123456789012345678901234567890}'),
        ("[1]", '{"input":[1]}'),
        ('{"a":', '{"input":"{\\"a\\":"}'),
    ],
)
def test_arguments_stay_to_the_letter(arguments: str, expected: str) -> None:
    """Objects are sent as they were written; anything else stands in a member of one."""
    body, _ = OUTBOUND.write_request(ChatRequest(messages=[call("a", arguments, "t")]), model=OTHER, stream=False)

    assert f'"input":{expected}'.encode() in body


def test_media_by_bytes_and_by_the_vendors_store() -> None:
    """Pictures, sound, films and documents, whose types are found out where nobody says them."""
    png = b"\x89PNG\r\n\x1a\nrest"
    parts = [
        Part(image=pb.ImagePart(media=Media(data=png))),
        Part(image=pb.ImagePart(media=Media(data=b"x", media_type="image/jpg"))),
        Part(image=pb.ImagePart(media=Media(url="s3://b/k.webp"))),
        Part(audio=pb.AudioPart(media=Media(data=b"x"), format="mp3")),
        Part(file=pb.FilePart(media=Media(data=b"%PDF-1.7"), filename="a/b: c_d.pdf")),
        Part(file=pb.FilePart(media=Media(data=b"x", media_type="text/markdown; charset=utf-8"), filename="b- c_d")),
        Part(file=pb.FilePart(media=Media(url="s3://b/f.mp4"), filename="f.mp4")),
        Part(file=pb.FilePart(media=Media(data=b"x", media_type="video/3gpp"))),
        Part(file=pb.FilePart(media=Media(data=b"x", media_type="image/gif"))),
    ]

    [(_, blocks)] = content(ChatRequest(messages=[user(*parts)]))

    x = {"bytes": base64.b64encode(b"x").decode()}
    assert [
        {"image": {"format": "png", "source": {"bytes": base64.b64encode(png).decode()}}},
        {"image": {"format": "jpeg", "source": x}},
        {"image": {"format": "webp", "source": {"s3Location": {"uri": "s3://b/k.webp"}}}},
        {"audio": {"format": "mp3", "source": x}},
        {
            "document": {
                "format": "pdf",
                "name": "b- c_d",
                "source": {"bytes": base64.b64encode(b"%PDF-1.7").decode()},
            }
        },
        {"document": {"format": "md", "name": "b- c_d 2", "source": x}},
        {"video": {"format": "mp4", "source": {"s3Location": {"uri": "s3://b/f.mp4"}}}},
        {"video": {"format": "three_gp", "source": x}},
        {"image": {"format": "gif", "source": x}},
    ] == blocks


@pytest.mark.parametrize(
    "part",
    [
        Part(image=pb.ImagePart(media=Media(url="https://a.example/x.png"))),
        Part(image=pb.ImagePart(media=Media(file_id="f1", media_type="image/png"))),
        Part(image=pb.ImagePart(media=Media(data=b"x", media_type="image/tiff"))),
        Part(audio=pb.AudioPart(media=Media(data=b"x"), format="midi")),
        Part(file=pb.FilePart(media=Media(data=b"x"), filename="x.exe")),
        Part(),
    ],
)
def test_content_that_cannot_be_said_is_refused(part: Part) -> None:
    """Another deployment may take it; the refusal names the place."""
    error = refused(ChatRequest(messages=[user("a"), user("b", part)]))

    assert errors_pb2.FAULT_UNSUPPORTED == error.fault
    assert "messages[1].content[1]" == error.metadata["param"]


def test_only_the_makers_own_seals_go_back() -> None:
    """Reasoning returns with its seal; another's, and what has none, stays here and is named."""
    parts = [
        Part(
            reasoning=pb.ReasoningPart(text="I think."),
            state=VendorState(dialect="bedrock.converse", kind="signature", data=b"sig"),
        ),
        Part(
            reasoning=pb.ReasoningPart(redacted=True),
            state=VendorState(dialect="bedrock.converse", kind="redactedContent", data=b"\x00\x01"),
        ),
        Part(
            reasoning=pb.ReasoningPart(text="foreign"),
            state=VendorState(dialect="anthropic.messages", kind="signature", data=b"s"),
        ),
        Part(reasoning=pb.ReasoningPart(text="bare")),
        text("So."),
    ]
    request = ChatRequest(messages=[said(pb.ROLE_ASSISTANT, *parts)])

    assert [
        (
            "assistant",
            [
                {"reasoningContent": {"reasoningText": {"text": "I think.", "signature": "sig"}}},
                {"reasoningContent": {"redactedContent": "AAE="}},
                {"text": "So."},
            ],
        )
    ] == content(request)
    assert ["messages.reasoning"] == written(request)[1]


def test_sampling_and_bounds() -> None:
    """What every model takes stands in `inferenceConfig`; the rest is named as dropped."""
    request = ChatRequest(
        messages=[user("a")],
        max_output_tokens=9,
        stop=["x", ""],
        choices=2,
        user="u",
        parallel_tool_calls=False,
        sampling=pb.Sampling(temperature=0.5, top_p=0, top_k=3, seed=1, logprobs=False, logit_bias={"1": 1}),
    )

    body, dropped = written(request)

    assert {"maxTokens": 9, "temperature": 0.5, "topP": 0.0, "stopSequences": ["x"]} == body["inferenceConfig"]
    assert sorted(["top_k", "seed", "logit_bias", "n", "user", "parallel_tool_calls"]) == sorted(dropped)


def test_a_temperature_beyond_this_apis_range_is_dropped() -> None:
    """It draws from 0 to 1."""
    assert ["temperature"] == written(ChatRequest(messages=[user("a")], sampling=pb.Sampling(temperature=1.5)))[1]


def test_top_k_where_the_family_has_it() -> None:
    """Each family has its own place for it."""
    request = ChatRequest(messages=[user("a")], sampling=pb.Sampling(top_k=3))

    assert {"top_k": 3} == written(request, CLAUDE)[0]["additionalModelRequestFields"]
    assert {"inferenceConfig": {"topK": 3}} == written(request, NOVA)[0]["additionalModelRequestFields"]


def test_thinking_displaces_sampling() -> None:
    """Parameters that a thinking model refuses are left out and named."""
    request = ChatRequest(
        messages=[user("a")],
        sampling=pb.Sampling(temperature=0.5, top_k=3),
        reasoning=pb.ReasoningOptions(effort="low"),
    )

    body, dropped = written(request, CLAUDE)

    assert "inferenceConfig" not in body
    assert {"thinking": {"type": "enabled", "budget_tokens": 6400}} == body["additionalModelRequestFields"]
    assert ["temperature", "top_k"] == dropped
    assert ["reasoning_effort"] == written(
        ChatRequest(messages=[user("a")], reasoning=pb.ReasoningOptions(effort="low"))
    )[1]


def offered(**kwargs: Any) -> ChatRequest:
    """A request with one tool."""
    tools = [pb.Tool(name="a", description="adds", parameters=b'{"type":"object"}', strict=True), pb.Tool(name="b")]
    return ChatRequest(messages=[user("x")], tools=tools, **kwargs)


def test_tools_are_offered() -> None:
    """A tool without a schema gets an empty one, which this API demands."""
    assert {
        "tools": [
            {
                "toolSpec": {
                    "name": "a",
                    "description": "adds",
                    "inputSchema": {"json": {"type": "object"}},
                    "strict": True,
                }
            },
            {"toolSpec": {"name": "b", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
        ]
    } == written(offered())[0]["toolConfig"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (pb.ToolChoice(mode=pb.ToolChoice.MODE_AUTO), {"auto": {}}),
        (pb.ToolChoice(mode=pb.ToolChoice.MODE_REQUIRED), {"any": {}}),
        (pb.ToolChoice(mode=pb.ToolChoice.MODE_NAMED, name="a"), {"tool": {"name": "a"}}),
        (pb.ToolChoice(raw=b'{"tool":{"name":"b"}}'), {"tool": {"name": "b"}}),
        (pb.ToolChoice(), None),
    ],
)
def test_the_choice_of_tools(choice: pb.ToolChoice, expected: Any) -> None:
    """Each mode in this API's words."""
    assert expected == written(offered(tool_choice=choice))[0]["toolConfig"].get("toolChoice")


def test_no_tool_is_said_by_offering_none() -> None:
    """Where calls stand in the conversation tools must be offered, and the wish is named as dropped."""
    request = offered(tool_choice=pb.ToolChoice(mode=pb.ToolChoice.MODE_NONE))
    assert "toolConfig" not in written(request)[0]

    request.messages.extend([call("a", "{}", "t"), answered("ok", "t")])
    body, dropped = written(request)

    assert 2 == len(body["toolConfig"]["tools"])
    assert ["tool_choice"] == dropped


def test_another_dialects_choice_is_dropped() -> None:
    """What only that dialect knows is named."""
    request = offered(tool_choice=pb.ToolChoice(raw=b'{"type":"allowed_tools"}'))

    body, dropped = written(request, source="openai.chat")

    assert "toolChoice" not in body["toolConfig"]
    assert ["tool_choice"] == dropped


def test_a_conversation_with_calls_needs_its_tools() -> None:
    """Tools that nobody offers any more are offered by name, for the API refuses the conversation without them."""
    request = ChatRequest(messages=[user("x"), call("a", "{}", "t"), answered("ok", "t", "a")])

    tools = written(request)[0]["toolConfig"]["tools"]

    assert ["a"] == [tool["toolSpec"]["name"] for tool in tools]


def test_a_tool_that_takes_free_text_is_refused() -> None:
    """Its calls could not be told from others."""
    request = ChatRequest(messages=[user("x")], tools=[pb.Tool(kind=pb.TOOL_KIND_CUSTOM, name="a")])

    assert "tools[0]" == refused(request).metadata["param"]


def test_forms_of_the_answer() -> None:
    """A schema is sent as text; other forms are named as dropped."""
    form = pb.ResponseFormat(type=pb.ResponseFormat.TYPE_JSON_SCHEMA, name="n", schema=b'{"type": "object"}')
    structure = {"jsonSchema": {"schema": '{"type": "object"}', "name": "n"}}
    body, dropped = written(ChatRequest(messages=[user("x")], response_format=form))
    assert {"textFormat": {"type": "json_schema", "structure": structure}} == body["outputConfig"]
    assert [] == dropped

    form = pb.ResponseFormat(type=pb.ResponseFormat.TYPE_JSON_OBJECT)
    assert ["response_format"] == written(ChatRequest(messages=[user("x")], response_format=form))[1]


def test_tags_that_fit_are_sent() -> None:
    """Tags with other letters would have the whole request refused."""
    assert {"team": "a b"} == written(ChatRequest(messages=[user("x")], metadata={"team": "a b"}))[0]["requestMetadata"]
    assert ["metadata"] == written(ChatRequest(messages=[user("x")], metadata={"team": "\u00e4!"}))[1]


def test_marks_for_caching_become_cache_points() -> None:
    """In the manner of other APIs or in its own, on texts, tools and system messages, where the family takes them."""
    mark = {"type": "ephemeral", "ttl": "1h"}
    request = ChatRequest(
        messages=[said(pb.ROLE_SYSTEM, text("s", cache_control=mark)), user(text("a", cache_control={}), text("b"))],
        tools=[pb.Tool(name="t", extensions=packed({"cache_control": mark}))],
    )
    point, lasting = {"cachePoint": {"type": "default"}}, {"cachePoint": {"type": "default", "ttl": "1h"}}

    body, dropped = written(request, CLAUDE, "openai.chat")
    assert [{"text": "s"}, lasting] == body["system"]
    assert [{"text": "a"}, point, {"text": "b"}] == body["messages"][0]["content"]
    assert lasting == body["toolConfig"]["tools"][1]
    assert [] == dropped

    body, dropped = written(request, OTHER, "openai.chat")
    assert [{"text": "s"}] == body["system"]
    assert ["cache_control"] == dropped


def test_members_that_the_contract_does_not_model() -> None:
    """Of this dialect they are sent, those for the model beside what was made; of another they are named."""
    extensions = {
        "guardrailConfig": {"guardrailIdentifier": "g"},
        "performanceConfig": {"latency": "optimized"},
        "additionalModelRequestFields": {"top_k": 9, "x": 1},
        "messages": [],
    }
    request = ChatRequest(messages=[user("x")], sampling=pb.Sampling(top_k=3), extensions=packed(extensions))

    body, dropped = written(request, CLAUDE)
    assert {"latency": "optimized"} == body["performanceConfig"]
    assert {"top_k": 9, "x": 1} == body["additionalModelRequestFields"]
    assert 1 == len(body["messages"])
    assert [] == dropped

    assert sorted(extensions) == written(request, CLAUDE, "openai.chat")[1]


def test_broken_json_inside_the_typed_form_is_refused() -> None:
    """A typed caller's extensions and schemas are untrusted."""
    requests = [
        ChatRequest(messages=[user("x")], extensions={"a": b"{"}),
        ChatRequest(messages=[user("x")], tools=[pb.Tool(name="a", parameters=b"{")]),
        ChatRequest(messages=[user(Part(text=pb.TextPart(text="x"), extensions={"cachePoint": b"{"}))]),
    ]

    for request in requests:
        assert errors_pb2.REASON_INVALID_REQUEST == refused(request).reason


def test_families_are_options() -> None:
    """An account whose models hide behind other names says what they take."""
    plain = BedrockConverse(Options(families=()))

    body, dropped = plain.write_request(
        ChatRequest(messages=[user("x")], sampling=pb.Sampling(top_k=3)), model=CLAUDE, stream=False
    )

    assert ["top_k"] == dropped
    assert b"top_k" not in body
