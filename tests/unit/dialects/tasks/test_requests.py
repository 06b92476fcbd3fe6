"""What a client asks, in every vendor's words; and what is left out or refused on the way."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import Media
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.modality.v1 import modality_pb2 as pb
from polyroute.api.modality.v1.modality_pb2 import ImageTask, RerankDocument, RerankTask, SpeechTask, Task
from polyroute.dialects import multipart
from polyroute.dialects.multipart import Field
from polyroute.dialects.task import Body
from polyroute.dialects.task_registry import SPOKEN, TASKS
from polyroute.mesh.errors import MeshError

PNG = b"\x89PNG\r\n\x1a\nrest"
URL = Media(url="https://x.test/1.png")
DATA = Media(data=PNG, media_type="image/png")
TEXTS = st.text(min_size=1, max_size=20)
MEMBERS = TEXTS.filter(lambda name: name != "image")


def body(**members: Any) -> Body:
    """A JSON request."""
    return Body(json.dumps(members).encode())


def written(name: str, task: Task, *, model: str = "m", source: str = "") -> tuple[Any, list[str]]:
    """The JSON that a vendor gets, and what was left out."""
    out, dropped = TASKS[name].write_task(task, model=model, source=source)
    return json.loads(out.data), dropped


def fault(name: str, task: Task, *, model: str = "m") -> tuple[int, str]:
    """Why a task cannot be written, and the member that is why."""
    with pytest.raises(MeshError) as caught:
        TASKS[name].write_task(task, model=model)
    return caught.value.fault, caught.value.metadata["param"]


def param(name: str, asked: Body) -> str:
    """The member for which a request is refused."""
    for work in (SPOKEN[name].read_facts, SPOKEN[name].read_task):
        with pytest.raises(MeshError) as caught:
            work(asked)
        assert caught.value.reason == errors_pb2.REASON_INVALID_REQUEST
    return caught.value.metadata.get("param", "")


class TestRerank:
    ASKED = body(
        model="m", query="q", documents=["a", {"text": "b", "id": 7}, {"image": "https://x.test/1.png"}], top_n=2
    )

    def test_facts(self) -> None:
        """The model, and the query counted with each document."""
        facts = SPOKEN["cohere.rerank"].read_facts(body(model="m", query="q" * 40, documents=["d" * 80] * 10))

        assert (chat_pb2.OPERATION_RERANK, "m", 300) == (facts.operation, facts.model, facts.input_tokens_estimate)

    def test_objects_and_pictures(self) -> None:
        """Structured documents stay whole; vendors of texts get their JSON; pictures go where they are seen."""
        task = SPOKEN["cohere.rerank"].read_task(self.ASKED)
        del task.rerank.documents[2]

        assert ["a", '{"text":"b","id":7}'] == written("voyage.rerank", task)[0]["documents"]
        assert ["a", '{"text":"b","id":7}'] == written("dashscope.rerank", task)[0]["input"]["documents"]
        with_picture = SPOKEN["cohere.rerank"].read_task(self.ASKED)
        assert (errors_pb2.FAULT_UNSUPPORTED, "documents") == fault("voyage.rerank", with_picture)
        assert {"image": "https://x.test/1.png"} == written("dashscope.rerank", with_picture)[0]["input"]["documents"][
            2
        ]

    def test_what_is_left_out(self) -> None:
        """Members of this dialect alone are named, never sent."""
        asked = body(model="m", query="q", documents=["a"], max_tokens_per_doc=9, rank_fields=["title"])
        task = SPOKEN["cohere.rerank"].read_task(asked)

        sent, dropped = written("voyage.rerank", task, source="cohere.rerank")

        assert {"model": "m", "query": "q", "documents": ["a"]} == sent
        assert {"max_tokens_per_doc", "rank_fields"} == set(dropped)

    def test_documents_that_were_asked_for(self) -> None:
        """They are given back even when the vendor gave none."""
        task = Task(rerank=RerankTask(query="q", documents=[RerankDocument(text="a")], return_documents=True))
        outcome = TASKS["voyage.rerank"].read_outcome(b'{"data":[{"index":0,"relevance_score":0.5}]}', "")

        answer = SPOKEN["cohere.rerank"].write_outcome(outcome, task, request_id="r", model="public")

        assert {
            "id": "r",
            "model": "public",
            "meta": {},
            "results": [{"index": 0, "relevance_score": 0.5, "document": {"text": "a"}}],
        } == json.loads(answer.data)

    @pytest.mark.parametrize(
        ("member", "asked"),
        [
            ("query", body(model="m", documents=["a"])),
            ("query", body(model="m", query="", documents=["a"])),
            ("documents", body(model="m", query="q")),
            ("documents", body(model="m", query="q", documents=[])),
            ("documents", body(model="m", query="q", documents=["a"] * 10001)),
            ("documents[1]", body(model="m", query="q", documents=["a", 1])),
            ("top_n", body(model="m", query="q", documents=["a"], top_n=0)),
            ("top_n", body(model="m", query="q", documents=["a"], top_n="2")),
            ("return_documents", body(model="m", query="q", documents=["a"], return_documents="yes")),
            ("", Body(b"[]")),
            ("", Body(b'{"model":')),
            ("", Body(b'{"a":' + b"[" * 100 + b"]" * 100 + b"}")),
            ("model", Body(b'{"model":"a","model":"b","query":"q","documents":["a"]}')),
        ],
    )
    def test_what_is_refused(self, member: str, asked: Body) -> None:
        """By the member's name."""
        assert member == param("cohere.rerank", asked)

    def test_no_model(self) -> None:
        """Refused at the door."""
        with pytest.raises(MeshError) as caught:
            SPOKEN["cohere.rerank"].read_facts(body(query="q", documents=["a"]))

        assert "model" == caught.value.metadata["param"]

    @given(
        query=TEXTS,
        documents=st.lists(st.text(max_size=9) | st.dictionaries(MEMBERS, TEXTS, min_size=1), min_size=1, max_size=4),
        top_n=st.none() | st.integers(1, 9),
    )
    def test_round_trip(self, query: str, documents: list[Any], top_n: int | None) -> None:
        """Request -> task -> request changes nothing."""
        asked = {"model": "m", "query": query, "documents": documents} | ({"top_n": top_n} if top_n else {})
        task = SPOKEN["cohere.rerank"].read_task(body(**asked))

        assert asked == written("cohere.rerank", task)[0]


class TestImages:
    def test_facts(self) -> None:
        """How many, and whether in events."""
        facts = SPOKEN["openai.images"].read_facts(body(model="m", prompt="x" * 40, n=3, stream=True))

        assert (chat_pb2.OPERATION_IMAGE, 3, True, 10) == (
            facts.operation,
            facts.choices,
            facts.stream,
            facts.input_tokens_estimate,
        )

    def test_an_edit_is_told_by_its_body(self) -> None:
        """Forms with a prompt, forms without, JSON with pictures, JSON."""
        picture = Field("image", PNG, "a.png", "image/png")
        model = Field("model", b"m")
        dialect = SPOKEN["openai.images"]
        paths = [
            dialect.patch_task(asked, model="up").path
            for asked in (
                multipart.write([model, Field("prompt", b"x"), picture]),
                multipart.write([model, picture]),
                body(model="m", prompt="x", images=[{"image_url": URL.url}]),
                body(model="m", prompt='say "images"'),
            )
        ]

        assert ["edits", "variations", "edits", ""] == paths

    def test_a_form_survives(self) -> None:
        """Pictures, mask and every other member, unknown ones included."""
        fields = [
            Field("model", b"m"),
            Field("prompt", b"x"),
            Field("n", b"2"),
            Field("input_fidelity", b"high"),
            Field("partial_images", b"1"),
            Field("image[]", PNG, "a.png", "image/png"),
            Field("image[]", PNG, "b.png", "image/png"),
            Field("mask", PNG, "m.png", "image/png"),
        ]
        dialect = SPOKEN["openai.images"]
        task = dialect.read_task(multipart.write(fields))

        again, dropped = dialect.write_task(task, model="m", source="openai.images")

        assert [("edits", []), 2] == [(again.path, dropped), task.image.count]
        plain = {(field.name, field.data) for field in multipart.read(again)}
        assert {(field.name, field.data) for field in fields} == plain

    @pytest.mark.parametrize("images", [[URL], [URL, Media(file_id="f-1")], [DATA, URL]])
    def test_pictures_by_address(self, images: list[Media]) -> None:
        """Are edited by JSON, as they cannot stand in a form; inline where a vendor wants that."""
        task = Task(image=ImageTask(prompt="x", images=images))

        out, _ = TASKS["openai.images"].write_task(task, model="m")

        assert ("edits", "application/json") == (out.path, out.content_type)
        assert task == SPOKEN["openai.images"].read_task(out)

    def test_inline(self) -> None:
        """One as it is, several as a list, and back."""
        one, _ = written("openai.images_inline", Task(image=ImageTask(prompt="x", images=[URL])))
        task = Task(image=ImageTask(prompt="x", images=[URL, DATA]))
        two, _ = TASKS["openai.images_inline"].write_task(task, model="m")

        assert (URL.url, "") == (one["image"], two.path)
        assert task == SPOKEN["openai.images"].read_task(two)

    def test_older_and_newer_models(self) -> None:
        """One API asks for a task, or for a conversation."""
        task = Task(
            image=ImageTask(prompt="cat", count=2, size="1024x768", negative_prompt="dog", seed=7, quality="high")
        )

        older, dropped = TASKS["dashscope.images"].write_task(task, model="wan2.2-t2i-flash")
        newer, _ = TASKS["dashscope.images"].write_task(task, model="qwen-image-plus")

        assert ["quality"] == dropped
        assert ("../text2image/image-synthesis", (("x-dashscope-async", "enable"),)) == (older.path, older.headers)
        assert ("../multimodal-generation/generation", ()) == (newer.path, newer.headers)
        parameters = {"size": "1024*768", "n": 2, "seed": 7}
        assert {"input": {"prompt": "cat", "negative_prompt": "dog"}, "parameters": parameters} == {
            name: value for name, value in json.loads(older.data).items() if name != "model"
        }
        assert {
            "model": "qwen-image-plus",
            "input": {"messages": [{"role": "user", "content": [{"text": "cat"}]}]},
            "parameters": {**parameters, "negative_prompt": "dog"},
        } == json.loads(newer.data)

    def test_edits_by_task(self) -> None:
        """Pictures by address or as data; the oldest model names what to do, and takes a mask."""
        several, _ = TASKS["dashscope.images"].write_task(
            Task(image=ImageTask(prompt="x", images=[URL, DATA])), model="wan2.5-i2i-preview"
        )
        masked, _ = written(
            "dashscope.images",
            Task(image=ImageTask(prompt="x", images=[URL], mask=DATA)),
            model="wanx2.1-imageedit",
        )

        assert "../image2image/image-synthesis" == several.path
        assert ["https://x.test/1.png", "data:image/png;base64,iVBORw0KGgpyZXN0"] == json.loads(several.data)["input"][
            "images"
        ]
        assert "description_edit_with_mask" == masked["input"]["function"]

    @pytest.mark.parametrize(
        ("name", "task", "member"),
        [
            ("gemini.images", ImageTask(prompt="x", images=[DATA], mask=DATA), "mask"),
            ("gemini.images", ImageTask(images=[DATA], variation=True), "prompt"),
            ("gemini.images", ImageTask(prompt="x", images=[Media(file_id="f")]), "image"),
            ("dashscope.images", ImageTask(prompt="x", images=[DATA], mask=DATA), "mask"),
            ("dashscope.images", ImageTask(images=[DATA], variation=True), "prompt"),
            ("openai.images_inline", ImageTask(prompt="x", images=[DATA], mask=DATA), "mask"),
            ("openai.images", ImageTask(images=[URL], variation=True), "image"),
        ],
    )
    def test_what_cannot_be_asked(self, name: str, task: ImageTask, member: str) -> None:
        """Content that a vendor has no place for is refused, for another deployment to take."""
        assert (errors_pb2.FAULT_UNSUPPORTED, member) == fault(name, Task(image=task))

    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            ("1024x1024", {"aspectRatio": "1:1"}),
            ("1536x1024", {"aspectRatio": "3:2", "imageSize": "2K"}),
            ("1000x1790", {"aspectRatio": "9:16", "imageSize": "2K"}),
            ("3840x2160", {"aspectRatio": "16:9", "imageSize": "4K"}),
            ("21:9", {"aspectRatio": "21:9"}),
            ("2k", {"imageSize": "2K"}),
            ("auto", None),
            ("", None),
        ],
    )
    def test_sizes_as_ratios(self, size: str, expected: Any) -> None:
        """The nearest ratio there is, and a class above the smallest."""
        sent, _ = written("gemini.images", Task(image=ImageTask(prompt="x", size=size)))

        assert expected == sent["generationConfig"].get("imageConfig")

    def test_pictures_in_a_conversation(self) -> None:
        """Before the words."""
        sent, dropped = written(
            "gemini.images", Task(image=ImageTask(prompt="x", images=[DATA, URL], count=2, style="s"))
        )

        assert {"style", "n"} == set(dropped)
        assert [
            {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgpyZXN0"}},
            {"fileData": {"fileUri": URL.url}},
            {"text": "x"},
        ] == sent["contents"][0]["parts"]

    def test_an_answer_with_addresses_for_a_client_who_wants_data(self) -> None:
        """Nothing is fetched: the address is what there is; data are an address when that was asked for."""
        dialect = SPOKEN["openai.images"]
        wants_url = Task(image=ImageTask(prompt="x", delivery=pb.IMAGE_DELIVERY_URL))
        gemini = TASKS["gemini.images"].read_outcome(
            b'{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":"aGk="}}]}}]}', ""
        )

        answer = json.loads(dialect.write_outcome(gemini, wants_url, request_id="", model="m").data)

        assert {"created": 0, "data": [{"url": "data:image/png;base64,aGk="}]} == answer

    def test_as_a_stream(self) -> None:
        """A whole answer for a client who asked for events."""
        dialect = SPOKEN["openai.images"]
        task = dialect.read_task(body(model="m", prompt="x", stream=True))
        outcome = dialect.read_outcome(b'{"created":1,"data":[{"b64_json":"aGk="}],"size":"1x1"}', "")

        answer = dialect.write_outcome(outcome, task, request_id="r", model="m")

        assert "text/event-stream" == answer.content_type
        assert answer.data.startswith(b"event: image_generation.completed\ndata: {")
        assert outcome.result.image.images == dialect.read_outcome(answer.data, answer.content_type).result.image.images

    @pytest.mark.parametrize(
        ("member", "asked"),
        [
            ("prompt", body(model="m")),
            ("n", body(model="m", prompt="x", n=0)),
            ("n", body(model="m", prompt="x", n=33)),
            ("n", body(model="m", prompt="x", n=1.5)),
            ("n", body(model="m", prompt="x", n=True)),
            ("size", body(model="m", prompt="x", size=1024)),
            ("image", body(model="m", prompt="x", image=["https://x.test/1.png"] * 17)),
            ("image[0]", body(model="m", prompt="x", image=[1])),
            ("image[0]", body(model="m", prompt="x", image="data:image/png;base64,*")),
            ("image", multipart.write([Field("model", b"m"), Field("image", b"", "a.png")])),
            ("n", multipart.write([Field("model", b"m"), Field("prompt", b"x"), Field("n", b"two")])),
        ],
    )
    def test_what_is_refused(self, member: str, asked: Body) -> None:
        """By the member's name."""
        assert member == param("openai.images", asked)


class TestSpeech:
    def test_facts(self) -> None:
        """Events only when they are asked for."""
        dialect = SPOKEN["openai.speech"]
        plain = dialect.read_facts(body(model="m", input="hi" * 20, voice="alloy"))
        events = dialect.read_facts(body(model="m", input="hi", voice="alloy", stream_format="sse"))

        assert (chat_pb2.OPERATION_SPEECH, False, 10) == (plain.operation, plain.stream, plain.input_tokens_estimate)
        assert events.stream

    def test_a_voice_of_ones_own(self) -> None:
        """Is an object, and stays one."""
        asked = {"model": "m", "input": "hi", "voice": {"id": "voice_1"}, "speed": 1.5}

        task = SPOKEN["openai.speech"].read_task(body(**asked))

        assert asked == written("openai.speech", task)[0]
        assert "voice" in TASKS["openai.speech"].write_task(task, model="m", source="other")[1]

    @given(
        text=TEXTS, voice=st.text(max_size=9), speed=st.none() | st.floats(0.25, 4), form=st.sampled_from(["", "wav"])
    )
    def test_round_trip(self, text: str, voice: str, speed: float | None, form: str) -> None:
        """Task -> request -> task changes nothing."""
        task = Task(speech=SpeechTask(text=text, voice=voice, speed=speed, format=form))

        assert task == SPOKEN["openai.speech"].read_task(TASKS["openai.speech"].write_task(task, model="m")[0])

    def test_sound_as_events(self) -> None:
        """In pieces that can be played one after the other, and back."""
        dialect = SPOKEN["openai.speech"]
        task = dialect.read_task(body(model="m", input="hi", voice="v", stream_format="sse"))
        outcome = dialect.read_outcome(b"ID3" + b"\0" * 100_000, "audio/mpeg")

        answer = dialect.write_outcome(outcome, task, request_id="r", model="m")

        assert 4 == answer.data.count(b"data: ")
        assert outcome.result == dialect.read_outcome(answer.data, answer.content_type).result

    @pytest.mark.parametrize(
        ("member", "asked"),
        [
            ("input", body(model="m", voice="v")),
            ("input", body(model="m", voice="v", input="")),
            ("input", body(model="m", voice="v", input=["a"])),
            ("speed", body(model="m", voice="v", input="a", speed=9)),
            ("response_format", body(model="m", voice="v", input="a", response_format="x" * 33)),
        ],
    )
    def test_what_is_refused(self, member: str, asked: Body) -> None:
        """By the member's name."""
        assert member == param("openai.speech", asked)


class TestTranscriptions:
    WAV = (
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\xff\xff\xff\xff" + b"\0" * 32000
    )

    def form(self, *fields: Field) -> Body:
        """A request with two seconds of sound."""
        return multipart.write([Field("model", b"m"), Field("file", self.WAV, "a.wav", "audio/wav"), *fields])

    def test_facts(self) -> None:
        """The length of the sound makes the estimate."""
        facts = SPOKEN["openai.transcriptions"].read_facts(self.form(Field("stream", b"true")))

        assert (chat_pb2.OPERATION_TRANSCRIPTION, 20, 2000, True) == (
            facts.operation,
            facts.input_tokens_estimate,
            facts.sound_milliseconds,
            facts.stream,
        )

    def test_a_form_survives(self) -> None:
        """Every member, lists and unknown ones included."""
        asked = self.form(
            Field("response_format", b"verbose_json"),
            Field("temperature", b"0.5"),
            Field("timestamp_granularities[]", b"word"),
            Field("timestamp_granularities[]", b"segment"),
            Field("include[]", b"logprobs"),
            Field("chunking_strategy", b"auto"),
        )
        dialect = SPOKEN["openai.transcriptions"]

        again, dropped = dialect.write_task(dialect.read_task(asked), model="m", source=dialect.name)

        assert ("", []) == (again.path, dropped)
        assert {(f.name, f.data) for f in multipart.read(asked)} == {(f.name, f.data) for f in multipart.read(again)}

    def test_into_english(self) -> None:
        """The same body on another path; parameters that it does not have are named."""
        asked = self.form(Field("prompt", b"p"), Field("timestamp_granularities[]", b"word"))
        task = SPOKEN["openai.translations"].read_task(asked)

        out, dropped = TASKS["openai.transcriptions"].write_task(task, model="up", source="openai.translations")

        assert (True, "translations", ["timestamp_granularities"]) == (task.transcription.translate, out.path, dropped)
        assert {"model", "prompt", "file"} == {field.name for field in multipart.read(out)}

    @pytest.mark.parametrize(
        ("form", "expected"),
        [
            ("text", b"hi you\n"),
            ("srt", b"1\n00:00:00,000 --> 00:00:01,500\nhi\n\n2\n00:00:01,500 --> 01:01:01,001\nyou\n"),
            ("vtt", b"WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nhi\n\n00:00:01.500 --> 01:01:01.001\nyou\n"),
        ],
    )
    def test_plain_formats(self, form: str, expected: bytes) -> None:
        """Made of the pieces, and read back from what was made."""
        dialect = SPOKEN["openai.transcriptions"]
        segments = [{"text": " hi", "start": 0, "end": 1.5}, {"text": " you", "start": 1.5, "end": 3661.001}]
        outcome = dialect.read_outcome(
            json.dumps({"text": "hi you", "segments": segments}).encode(), "application/json"
        )
        task = dialect.read_task(self.form(Field("response_format", form.encode())))

        answer = dialect.write_outcome(outcome, task, request_id="r", model="m")

        assert (expected, "text/plain; charset=utf-8") == (answer.data, answer.content_type)
        assert "hi you" == dialect.read_outcome(answer.data, answer.content_type).result.transcription.text

    def test_as_a_stream(self) -> None:
        """A whole answer for a client who asked for events."""
        dialect = SPOKEN["openai.transcriptions"]
        outcome = dialect.read_outcome(b'{"text":"hi","usage":{"type":"duration","seconds":2}}', "application/json")
        task = dialect.read_task(self.form(Field("stream", b"true")))

        answer = dialect.write_outcome(outcome, task, request_id="r", model="m")

        assert outcome == dialect.read_outcome(answer.data, answer.content_type)

    @pytest.mark.parametrize(
        ("member", "asked"),
        [
            ("", body(model="m")),
            ("file", multipart.write([Field("model", b"m")])),
            ("file", multipart.write([Field("model", b"m"), Field("sound", b"x", "a.wav")])),
            (
                "temperature",
                multipart.write([Field("temperature", b"2"), Field("model", b"m"), Field("file", b"x", "a")]),
            ),
            (
                "language",
                multipart.write([Field("language", b"x" * 33), Field("model", b"m"), Field("file", b"x", "a")]),
            ),
            ("prompt", multipart.write([Field("prompt", b"\xff"), Field("model", b"m"), Field("file", b"x", "a")])),
        ],
    )
    def test_what_is_refused(self, member: str, asked: Body) -> None:
        """By the member's name."""
        assert member == param("openai.transcriptions", asked)


class TestModerations:
    def test_one_several_and_parts(self) -> None:
        """A text, texts each for itself, parts together."""
        parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": URL.url}}]
        for given_input, inputs in (("a", 1), (["a", "b"], 2), (parts, 1)):
            asked = {"model": "m", "input": given_input}
            task = SPOKEN["openai.moderations"].read_task(body(**asked))

            assert inputs == len(task.moderation.inputs)
            assert asked == written("openai.moderations", task)[0]

    def test_the_usual_model(self) -> None:
        """Is assumed where none is named, and pictures are said to be there."""
        asked = body(input=[{"type": "image_url", "image_url": {"url": URL.url}}])

        facts = SPOKEN["openai.moderations"].read_facts(asked)

        assert ("omni-moderation-latest", [chat_pb2.CAPABILITY_VISION]) == (facts.model, list(facts.needs))

    @pytest.mark.parametrize("given_input", [None, [], [1], {"type": "text"}, [{"type": "video"}], ["a"] * 2049])
    def test_what_is_refused(self, given_input: Any) -> None:
        """By the member's name."""
        assert param("openai.moderations", body(model="m", input=given_input)).startswith("input")


@pytest.mark.parametrize("name", sorted(TASKS))
def test_work_of_another_kind(name: str) -> None:
    """Is refused by every dialect."""
    for task in (Task(rerank=RerankTask(query="q")), Task(speech=SpeechTask(text="x"))):
        if (task.WhichOneof("task") == "rerank") != name.endswith("rerank") and not (
            task.HasField("speech") and name == "openai.speech"
        ):
            assert (errors_pb2.FAULT_UNSUPPORTED, "task") == fault(name, task)
