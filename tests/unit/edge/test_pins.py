"""What an answer names is marked for whoever asked, and opens for nobody else."""

import pytest

from polyroute.api.chat.v1 import chat_pb2 as chat
from polyroute.api.providers.v1.providers_pb2 import Started
from polyroute.api.router.v1.router_pb2 import Attempt
from polyroute.edge import references
from polyroute.edge.http.kept import aim, marked
from polyroute.edge.http.pins import Keeper, Pin
from polyroute.edge.marks import Named, named, opened, suffix
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError

MINE, OTHER = b"m" * 32, b"o" * 32
KEY = bytes(range(1, 9))
MARK = suffix(MINE, "resp_1", "east", KEY)
CREATED = b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1","output":[]}}\n\n'
DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"msg_1"}\n\n'


def answered(*, passthrough: bool = True) -> Trail:
    """A call that `east` answers."""
    trail = Trail("id", mark_key=MINE)
    trail.attempt = Attempt(deployment="east/m", provider="east")
    trail.started = Started(passthrough=passthrough, key_mark=KEY)
    return trail


@pytest.mark.parametrize("key", [KEY, b""])
def test_a_mark_opens_for_its_project(key: bytes) -> None:
    """It is the same whenever it is made, and says nothing of the key in clear."""
    mark = suffix(MINE, "file-1", "east", key)
    one = named("file-1" + mark)

    assert mark == suffix(MINE, "file-1", "east", key)
    assert ("file-1", "east", key) == (one.own, one.provider, opened(MINE, one))
    assert mark.startswith("@east~")


@pytest.mark.parametrize(
    "text",
    ["resp_2" + MARK, "resp_1" + MARK.replace("east", "west"), "resp_1" + MARK[:-1] + "~", "resp_1", "resp_1@east", ""],
)
def test_no_other_mark_opens(text: str) -> None:
    """Of another id, another provider, changed, or none."""
    assert opened(MINE, named(text)) is None


def test_a_mark_of_another_project() -> None:
    """Does not open either, and without a secret nothing is marked or opened."""
    assert opened(OTHER, named("resp_1" + MARK)) is None
    assert ("", None) == (suffix(b"", "resp_1", "east", KEY), opened(b"", named("resp_1" + MARK)))


def test_every_mention_of_the_answers_id_is_marked() -> None:
    """Other ids stay as they are."""
    pin = Pin(answered())
    said = pin(CREATED) + pin(DELTA) + pin(CREATED)

    assert 2 == said.count(f'"resp_1{MARK}"'.encode())
    assert DELTA in said


def test_a_translated_answer_is_kept_by_nobody() -> None:
    """Its id is ours, and no vendor would know it."""
    assert CREATED == Pin(answered(passthrough=False))(CREATED)


def test_files_that_a_vendor_made() -> None:
    """Are marked where they are told, and the words of a tool are not."""
    pin = Pin(answered(), stored=False, sealed=False)
    said = pin(b'{"id":"msg_1","content":[{"file_id":"file_011abcdef"},{"input":{"file_id":"mine"}}]}')

    assert f'"file_id":"file_011abcdef{suffix(MINE, "file_011abcdef", "east", KEY)}"'.encode() in said
    assert b'{"id":"msg_1"' in said
    assert b'{"file_id":"mine"}' in said


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'{"previous_response_id":"resp_1","input":"file_id"}', ["resp_1"]),
        (b'{"previous_response_id":null}', []),
        (rb'{"input":"\"previous_response_id\":\"a\""}', []),
        (b'{"input":[{"content":[{"file_id":"f"}]}],"conversation":{"id":"c"}}', ["f", "c"]),
        (b'{"input":[{"type":"reasoning","encrypted_content":"gAAA"}]}', []),
        (b'{"tools":[{"parameters":{"properties":{"file_id":{"type":"string"}}}}],"metadata":{"file_id":"x"}}', []),
        (b'{"messages":[{"content":[{"type":"tool_use","input":{"file_id":"x"}}]}]}', []),
        (b'{"vector_store_ids":["a","b"]}', ["a", "b"]),
        (rb'{"file\u005fid":"f"}', ["f"]),
        (rb'{"\u0066ile_id":"\u0066"}', ["f"]),
        (b'{"fileData":{"fileUri":"https://www.youtube.com/watch?v=1"}}', []),
        (b'{"fileData":{"fileUri":"https://x.example/v1beta/files/abc"}}', ["abc"]),
        (b'{"cachedContent":"cachedContents/abc"}', ["abc"]),
    ],
)
def test_what_a_body_refers_to(body: bytes, names: list[str]) -> None:
    """Not what callers write into their own words, tools and tags."""
    assert names == [one.own for one in references.in_body(body)]


@pytest.mark.parametrize("body", [b'{"file_id":"a","file_id":"b"}', rb'{"file_id":"a","file\u005fid":"b"}'])
def test_what_parsers_read_differently_is_refused(body: bytes) -> None:
    """A name that stands twice."""
    with pytest.raises(MeshError, match="stands twice"):
        references.in_body(body)


def test_typed_requests() -> None:
    """Inside results of tools as well; the vendor's words are what is left."""
    media = chat.Media(file_id="resp_1" + MARK)
    inner = chat.Part(tool_result=chat.ToolResult(parts=[chat.Part(image=chat.ImagePart(media=media))]))
    request = chat.ChatRequest(messages=[chat.Message(parts=[chat.Part(file=chat.FilePart(media=media)), inner])])

    assert [("resp_1", MARK)] * 2 == [(one.own, one.suffix) for one in references.in_typed(request)]
    references.take_marks_out(request)
    assert [("resp_1", "")] * 2 == [(one.own, one.suffix) for one in references.in_typed(request)]


@pytest.mark.parametrize("more", ["", ',"previous_response_id":null'])
def test_what_is_sealed(more: str) -> None:
    """Is found by its mark, whether or not the rest is read; in what a user wrote it is none."""
    mark = suffix(MINE, "gA+/=", "east", KEY)
    quoted = rb'"\"encrypted_content\":\"gA@east~x\""'
    body = f'{{"input":[{{"encrypted_content" : "gA+/={mark}"}},{{"encrypted_content":"gB"}}]{more},"x":'.encode()
    [one] = references.in_body(body + quoted + b"}")

    assert ("gA+/=", KEY) == (one.own, opened(MINE, one))


def test_a_body_in_the_vendors_words() -> None:
    """Also where a client writes a slash with an escape."""
    body = rb'{"fileUri":"https:\/\/x\/v1beta\/files\/resp_1%b"}' % MARK.encode()
    found = references.in_body(body)

    assert rb'{"fileUri":"https:\/\/x\/v1beta\/files\/resp_1"}' == references.without_marks(body, found)


def test_paths() -> None:
    """An id in a path, one inside another, and where a list goes on."""
    one = aim(f"/v1/responses/resp_1{MARK.replace('@', '%40')}/cancel", "a=b", "POST")
    sub = aim(f"/v1/vector_stores/vs_1/files/resp_1{MARK}/content", "", "GET")
    page = aim("/v1/files", f"limit=2&after=resp_1{MARK}", "GET")
    part = aim("/v1/responses/r/input_items", "after=msg_1", "GET")
    verb, other = aim("/v1/responses/compact", "", "POST"), aim("/v1/containers/c/files/f", "", "GET")

    assert ("/v1/responses/resp_1/cancel", "a=b") == (one.path, one.query)
    assert (Named("resp_1", MARK, "east", "id"),) == one.found
    assert ["vs_1", "resp_1"] == [each.own for each in sub.found]
    assert ("/v1/vector_stores/vs_1/files/resp_1/content", True) == (sub.path, sub.content)
    assert ("limit=2&after=resp_1", True) == (page.query, page.listed)
    assert (("r",), True) == (tuple(each.own for each in part.found), part.items)
    assert (False, False) == (verb.kept, other.kept)


def test_answers_about_what_is_kept() -> None:
    """The thing itself and what it names; not the caller's own words, and nothing twice."""
    keeper = Keeper(MINE, "east", KEY)
    said = marked(b'{"id":"resp_1","output":[{"id":"msg_1"}],"metadata":{"file_id":"x"},"file":{"id":"f"}}', keeper)
    again = marked(said, keeper)

    assert f'{{"id":"resp_1{MARK}","output":[{{"id":"msg_1"}}],"metadata":{{"file_id":"x"}}'.encode() in said
    assert f'"file":{{"id":"f{suffix(MINE, "f", "east", KEY)}"}}'.encode() in said
    assert said == again
    assert b"no json" == marked(b"no json", keeper)
    assert b'{"id":"msg_1"}' == marked(b'{"id":"msg_1"}', keeper, items=True)
