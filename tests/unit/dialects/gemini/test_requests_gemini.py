"""`gemini.generate` requests: what is read at the door, what is refused, what becomes of them in the typed form."""

import base64
import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import gemini_generate, openai_chat
from polyroute.dialects.gemini.common import signature_of, state_of
from polyroute.dialects.gemini_generate import GeminiGenerate, Options
from polyroute.mesh.errors import MeshError
from tests.outbound import VALUES, attempt, broken

DIALECT = gemini_generate.DIALECT
PIXEL = base64.b64encode(b"pixel").decode()
FULL: dict[str, Any] = {
    "contents": [
        {"role": "user", "parts": [{"text": "Look"}, {"inlineData": {"mimeType": "image/png", "data": PIXEL}}]},
        {
            "role": "model",
            "parts": [
                {"text": "Hm", "thought": True, "thoughtSignature": "c2VhbA=="},
                {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "c2VhbDI="},
                {"functionCall": {"name": "g", "args": {}}},
                {"executableCode": {"language": "PYTHON", "code": "1"}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "g", "response": {"output": "two"}}},
                {
                    "functionResponse": {
                        "name": "f",
                        "response": {"error": "no"},
                        "parts": [{"fileData": {"mimeType": "image/png", "fileUri": "gs://b/a.png"}}],
                    }
                },
                {"text": "Go on", "mediaResolution": {"level": "LOW"}},
            ],
        },
    ],
    "systemInstruction": {"parts": [{"text": "Be brief"}]},
    "tools": [
        {"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}, "behavior": "BLOCKING"}]},
        {"googleSearch": {}},
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    "generationConfig": {
        "temperature": 0.5,
        "topK": 40,
        "maxOutputTokens": 9,
        "stopSequences": ["END"],
        "candidateCount": 2,
        "responseModalities": ["TEXT"],
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object"},
        "thinkingConfig": {"thinkingBudget": 100, "includeThoughts": True},
    },
    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    "cachedContent": "cachedContents/1",
}


def body(**members: Any) -> bytes:
    """A request with these members beside its contents."""
    return json.dumps({"contents": [{"parts": [{"text": "Hello"}]}], **members}).encode()


def said(*parts: dict[str, Any], role: str = "user") -> bytes:
    """A request of one content."""
    return json.dumps({"contents": [{"role": role, "parts": list(parts)}]}).encode()


def test_the_facts() -> None:
    """Model out of the address, bounds, number of answers and needs."""
    facts = DIALECT.read_facts(json.dumps(FULL).encode(), default_model="models/m")

    assert ("m", 9, 2, False, True) == (
        facts.model,
        facts.max_output_tokens,
        facts.choices,
        facts.stream,
        facts.stream_usage,
    )
    assert [
        pb.CAPABILITY_TOOLS,
        pb.CAPABILITY_VISION,
        pb.CAPABILITY_JSON_SCHEMA,
        pb.CAPABILITY_REASONING,
    ] == list(facts.needs)


def test_nothing_said_is_nothing_set() -> None:
    """Absent members are unset, not zero."""
    facts = DIALECT.read_facts(body(generationConfig=None, tools=None), default_model="m")

    assert not facts.HasField("max_output_tokens")
    assert (0, []) == (facts.choices, list(facts.needs))


@pytest.mark.parametrize(
    ("members", "need"),
    [
        ({"generation_config": {"response_mime_type": "application/json"}}, pb.CAPABILITY_JSON_OBJECT),
        ({"generationConfig": {"responseModalities": ["AUDIO"]}}, pb.CAPABILITY_AUDIO_OUTPUT),
        ({"generationConfig": {"response_modalities": ["image"]}}, pb.CAPABILITY_IMAGE_OUTPUT),
        ({"generationConfig": {"responseLogprobs": True}}, pb.CAPABILITY_LOGPROBS),
        ({"generationConfig": {"thinkingConfig": {"thinking_level": "LOW"}}}, pb.CAPABILITY_REASONING),
        ({"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}}, None),
        ({"tools": [{"googleSearch": {}}]}, pb.CAPABILITY_TOOLS),
        (
            {"contents": {"parts": {"inline_data": {"mime_type": "audio/wav", "data": PIXEL}}}},
            pb.CAPABILITY_AUDIO_INPUT,
        ),
        ({"contents": [{"parts": [{"fileData": {"fileUri": "https://x/a.pdf"}}]}]}, pb.CAPABILITY_FILES),
        (
            {"contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": PIXEL}}]}]},
            pb.CAPABILITY_VISION,
        ),
    ],
)
def test_what_a_request_needs(members: dict[str, Any], need: pb.Capability.ValueType | None) -> None:
    """Each member that asks for an ability of the deployment, under either of its names."""
    facts = DIALECT.read_facts(body(**members), default_model="m")

    assert ([] if need is None else [need]) == list(facts.needs)


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"", ""),
        (b"[]", ""),
        (b"{}", "contents"),
        (b'{"contents": []}', "contents"),
        (b'{"contents": "hello"}', "contents"),
        (b'{"contents": [{"parts": [{"text": 1}]}]}', "contents[0].parts[0].text"),
        (b'{"contents": [{"parts": [{"inlineData": {"data": 1}}]}]}', "contents[].parts[].inlineData.data"),
        (b'{"contents": [{"parts": [{"text": "a"}]}], "contents": [{"parts": [{"text": "b"}]}]}', "contents"),
        (b'{"contents": [{"parts": [{"text": "a"}]}], "\\u0063ontents": [{"parts": []}]}', "contents"),
        (b'{"contents": [{"parts": []}], "generationConfig": {}, "generation_config": {}}', "generation_config"),
        (body(generationConfig={"topK": 1, "top_k": 2}), "generationConfig.topK"),
        (body(generationConfig={"maxOutputTokens": 1.5}), "generationConfig.maxOutputTokens"),
        (body(generationConfig={"maxOutputTokens": -1}), "generationConfig.maxOutputTokens"),
        (body(generationConfig={"candidateCount": 0}), "generationConfig.candidateCount"),
        (body(generationConfig={"candidateCount": 1000}), "generationConfig.candidateCount"),
        (body(generationConfig={"stopSequences": ["x"] * 65}), "generationConfig.stopSequences"),
        (body(generationConfig={"thinkingConfig": 1}), "generationConfig.thinkingConfig"),
    ],
)
def test_what_is_refused_at_the_door(raw: bytes, param: str) -> None:
    """Requests that are malformed, out of bounds, or that two parsers would read differently."""
    with pytest.raises(MeshError) as caught:
        DIALECT.read_facts(raw, default_model="m")

    assert (errors_pb2.REASON_INVALID_REQUEST, param) == (caught.value.reason, caught.value.metadata.get("param", ""))


@pytest.mark.parametrize("raw", [b"[" * 100 + b"]" * 100, b'{"a":' * 100 + b"1" + b"}" * 100])
def test_deep_nesting_is_refused(raw: bytes) -> None:
    """Wherever it stands."""
    inner = b'{"contents": [{"parts": [{"functionCall": {"args": ' + raw + b"}}]}]}"
    outer = body()[:-1] + b', "labels": ' + raw + b"}"

    for nested in (inner, outer):
        with pytest.raises(MeshError, match="nested deeper"):
            DIALECT.read_facts(nested, default_model="m")


def test_a_request_without_a_model_is_refused() -> None:
    """Neither the address nor the body names one."""
    with pytest.raises(MeshError) as caught:
        DIALECT.read_facts(body())

    assert "model" == caught.value.metadata["param"]


def test_a_request_passes_as_it_is() -> None:
    """Not a byte changes: the model is in the address."""
    raw = json.dumps(FULL, indent=3).encode()
    facts = DIALECT.read_facts(raw, default_model="m")

    assert raw == DIALECT.patch_request(raw, facts, model="up-1", ask_usage=True)


def test_a_model_in_the_body_follows_the_address() -> None:
    """And members that the vendor refuses are taken out; equal names deeper in the body stay."""
    raw = body(model="models/m", labels={"model": "x"}, safetySettings=[])
    facts = DIALECT.read_facts(raw, default_model="m")

    patched = DIALECT.patch_request(raw, facts, model="up-1", ask_usage=False, drop=frozenset({"safetySettings"}))

    expected = json.loads(body(model="models/up-1", labels={"model": "x"}))
    assert expected == json.loads(patched)


def test_the_state_of_another_vendor_does_not_pass() -> None:
    """A signature that carries it gives way to the word for calls without one."""
    foreign = signature_of(pb.VendorState(dialect="anthropic.messages", kind="signature", data=b"seal"))
    raw = said({"functionCall": {"name": "f"}, "thoughtSignature": foreign}, role="model")
    facts = DIALECT.read_facts(raw, default_model="m")

    patched = json.loads(DIALECT.patch_request(raw, facts, model="m", ask_usage=False))

    assert Options().unsigned_calls == patched["contents"][0]["parts"][0]["thoughtSignature"]


@given(st.text(min_size=1), st.text(), st.binary())
def test_states_of_others_travel_as_signatures(dialect: str, kind: str, data: bytes) -> None:
    """Any state comes back, in either alphabet of base64 and with or without its padding."""
    state = pb.VendorState(dialect=dialect, kind=kind, data=data)

    text = signature_of(state)

    assert state == state_of(text) == state_of(text.translate(str.maketrans("+/", "-_")).rstrip("="))


@pytest.mark.parametrize("signature", ["c2VhbA==", "cG9seXJvdXRl", "cG9seXJvdXRlWzFd", "not base64 at all"])
def test_signatures_of_this_vendor_stay_as_they_are(signature: str) -> None:
    """Even those that begin like ours."""
    state = state_of(signature)

    assert (gemini_generate.DIALECT.name, signature) == (state.dialect, signature_of(state))


def test_a_full_request_survives_the_typed_form() -> None:
    """Request -> ChatRequest -> request says the same, nothing dropped."""
    request = DIALECT.read_request(json.dumps(FULL).encode())

    written, dropped = DIALECT.write_request(request, model="m", stream=False, source="gemini.generate")

    value = json.loads(written)
    user = [content["parts"] for content in value["contents"] if content["role"] == "user"]
    value["contents"] = [value["contents"][0], value["contents"][1], {"role": "user", "parts": user[1] + user[2]}]
    assert FULL == value
    assert not dropped


def test_results_find_their_calls_by_name() -> None:
    """Calls without ids get some, and results in any order get those of their calls."""
    request = DIALECT.read_request(json.dumps(FULL).encode())

    calls = {part.tool_call.name: part.tool_call.id for part in request.messages[2].parts if part.HasField("tool_call")}
    results = request.messages[3]
    assert pb.ROLE_TOOL == results.role
    assert [(calls["g"], False), (calls["f"], True)] == [
        (part.tool_result.tool_call_id, part.tool_result.failed) for part in results.parts
    ]
    assert len(set(calls.values())) == 2


def test_both_kinds_of_names_are_read() -> None:
    """A request in snake_case, with one object where a list is due, reads like its twin."""
    snake = {
        "contents": {"parts": {"inline_data": {"mime_type": "image/png", "data": PIXEL}}},
        "system_instruction": {"parts": {"text": "Be brief"}},
        "tools": {"function_declarations": {"name": "f", "parameters_json_schema": {"type": "object"}}},
        "tool_config": {"function_calling_config": {"mode": "any", "allowed_function_names": ["f"]}},
        "generation_config": {"top_k": 40.0, "stop_sequences": ["x"], "thinking_config": {"thinking_budget": -1}},
    }
    camel = {
        "contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": PIXEL}}]}],
        "systemInstruction": {"parts": [{"text": "Be brief"}]},
        "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        "generationConfig": {"topK": 40, "stopSequences": ["x"], "thinkingConfig": {"thinkingBudget": -1}},
    }

    assert DIALECT.read_request(json.dumps(camel).encode()) == DIALECT.read_request(json.dumps(snake).encode())


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"x", ""),
        (b"[1]", ""),
        (said({"text": "x"}, role="system"), "contents[0].role"),
        (said({"inlineData": {"mimeType": "image/png"}}), "contents[0].parts[0].inlineData.data"),
        (said({"inlineData": {"mimeType": "image/png", "data": "???"}}), "contents[0].parts[0].inlineData.data"),
        (said({"fileData": {}}), "contents[0].parts[0].fileData.fileUri"),
        (said({"functionCall": {"name": "f", "args": "x"}}), "contents[0].parts[0].functionCall.args"),
        (said({"functionResponse": {"name": "f", "response": "x"}}), "contents[0].parts[0].functionResponse.response"),
        (said({"text": "x", "thoughtSignature": 1}), "contents[0].parts[0].thoughtSignature"),
        (body(systemInstruction="x"), "systemInstruction"),
        (body(tools=[{"functionDeclarations": [{"description": "x"}]}]), "tools[0].functionDeclarations[0].name"),
        (body(generationConfig={"temperature": "hot"}), ""),
    ],
)
def test_what_is_refused_in_a_request(raw: bytes, param: str) -> None:
    """With the place of what is wrong."""
    with pytest.raises(MeshError) as caught:
        DIALECT.read_request(raw)

    assert (errors_pb2.REASON_INVALID_REQUEST, param) == (caught.value.reason, caught.value.metadata.get("param", ""))


@given(broken([FULL]) | VALUES)
@settings(max_examples=300, deadline=None)
def test_whatever_a_client_sends_is_read_or_refused(value: Any) -> None:
    """Never any other exception, at the door, in the typed form, or on the way to a vendor."""
    raw = json.dumps(value).encode()
    for read in (partial(DIALECT.read_facts, raw, default_model="m"), partial(translated, raw)):
        error = attempt(read)[1]
        assert error is None or error.reason in (errors_pb2.REASON_INVALID_REQUEST, errors_pb2.REASON_UPSTREAM)


def translated(raw: bytes) -> None:
    """Reads a request and writes it for vendors of this format and of another."""
    request = DIALECT.read_request(raw)
    for options in (Options(), Options(json_schema=False, thinking="budget", unsigned_calls="")):
        for source in ("", "gemini.generate", "openai.chat"):
            GeminiGenerate(options=options).write_request(request, model="m", stream=False, source=source)
    openai_chat.DIALECT.write_request(request, model="m", stream=False, source="gemini.generate")


@given(st.binary(max_size=60))
def test_any_bytes_are_refused(raw: bytes) -> None:
    """Never another exception than a refusal."""
    for read in (DIALECT.read_facts, DIALECT.read_request):
        with pytest.raises(MeshError):
            read(raw)


def thinking(effort: str, options: Options) -> dict[str, Any]:
    """What a vendor is told of an effort."""
    words = [pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.TextPart(text="x"))])]
    chat = pb.ChatRequest(model="m", messages=words, reasoning=pb.ReasoningOptions(effort=effort))
    written, _ = GeminiGenerate(options=options).write_request(chat, model="m", stream=False)
    told: dict[str, Any] = json.loads(written)["generationConfig"]["thinkingConfig"]
    return told


def test_a_budget_instead_of_levels() -> None:
    """Models before levels are told how much to think by the token."""
    options = Options(thinking="budget")

    for effort, budget in (("none", 0), ("low", 1024), ("medium", 8192), ("high", 24576), ("max", 24576)):
        assert {"thinkingBudget": budget} == thinking(effort, options)


def test_the_lowest_level_that_is_taken() -> None:
    """Models that do not know the lowest level get the next."""
    assert {"thinkingLevel": "MINIMAL"} == thinking("minimal", Options())
    assert {"thinkingLevel": "LOW"} == thinking("minimal", Options(least_level="LOW"))


def test_parts_of_an_answer_go_back() -> None:
    """What the contract does not know of an answer returns with it, whatever the client's format was, in its place."""
    parts = [{"text": "See"}, {"executableCode": {"code": "1"}}]
    answer = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}
    message = DIALECT.read_answer(json.dumps(answer).encode()).choices[0].message
    chat = pb.ChatRequest(model="m", messages=[message])

    own, _ = DIALECT.write_request(chat, model="m", stream=False)
    foreign, dropped = DIALECT.write_request(chat, model="m", stream=False, source="openai.chat")

    assert parts == json.loads(own)["contents"][0]["parts"]
    assert parts == json.loads(foreign)["contents"][0]["parts"]
    assert not dropped
