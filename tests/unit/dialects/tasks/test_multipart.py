"""Forms: read alike by every parser, or refused; written so that they are read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.dialects import multipart
from polyroute.dialects.multipart import Field
from polyroute.dialects.task import Body
from polyroute.mesh.errors import MeshError

KIND = "multipart/form-data; boundary=b"
NAMES = st.from_regex(r"[a-z_]{1,8}(\[\])?", fullmatch=True)
FIELDS = st.lists(
    st.builds(
        Field,
        NAMES,
        st.binary(max_size=50),
        st.none() | st.text(st.characters(codec="utf-8", exclude_characters='"\r\n%;\\'), max_size=12),
        st.sampled_from(["", "image/png", "text/plain; charset=utf-8"]),
    ),
    max_size=6,
)


def form(*parts: bytes) -> Body:
    """A form with these parts, headers and all."""
    return Body(b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n", KIND)


def part(disposition: bytes, data: bytes = b"x", more: bytes = b"") -> bytes:
    """A part as it stands on the wire."""
    return b"Content-Disposition: form-data; " + disposition + more + b"\r\n\r\n" + data


@given(fields=FIELDS)
def test_what_is_written_is_read_back(fields: list[Field]) -> None:
    """Names, bytes, file names and media types survive."""
    if fields:
        assert fields == multipart.read(multipart.write(fields))


def test_the_boundary_is_in_no_part() -> None:
    """Even when a part holds the boundary that its neighbours would give."""
    first = multipart.write([Field("a", b"1")])
    again = multipart.write([Field("a", b"1"), Field("b", first.data)])

    assert [b"1", first.data] == [field.data for field in multipart.read(again)]


@pytest.mark.parametrize(
    ("disposition", "name", "filename"),
    [
        (b'name="file"; filename="a.wav"', "file", "a.wav"),
        (b"name=file; filename=a.wav; filename*=utf-8''a.wav", "file", "a.wav"),
        (b'name="file"; filename="Assets\\a.wav"', "file", "Assets\\a.wav"),
        (b'name="file"; filename="say \\"hi\\".wav"', "file", 'say "hi".wav'),
        (b'name="file"; filename=""', "file", ""),
        ('name="file"; filename="über.wav"'.encode(), "file", "über.wav"),
        (b"name=\"file\"; filename*=utf-8''x%20y.wav", "file", "file"),
        (b'name="image[]"', "image[]", None),
    ],
)
def test_names_as_clients_write_them(disposition: bytes, name: str, filename: str | None) -> None:
    """With quotes and without, with paths of Windows, with the star form beside."""
    [field] = multipart.read(form(part(disposition)))

    assert (name, filename) == (field.name, field.filename)


def test_headers_of_a_part() -> None:
    """Length and binary encoding say nothing; an empty media type is none."""
    more = b"\r\nContent-Length: 1\r\nContent-Type: \r\nContent-Transfer-Encoding: binary"

    assert [Field("a", b"x")] == multipart.read(form(part(b'name="a"', more=more)))


def test_data_may_hold_anything_but_the_boundary() -> None:
    """Line ends, dashes and almost the boundary."""
    data = b"\r\n--a\r\n\r\n--\r\n\x00\xff--b"

    assert [Field("a", data)] == multipart.read(form(part(b'name="a"', data)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"preamble\r\n" + form(part(b'name="a"')).data,
        form(part(b'name="a"')).data + b"and more",
        form(part(b'name="a"')).data[:-6],
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n--b--\r\n',
        form(b"X-No: disposition\r\n\r\nx").data,
        form(part(b'name="mod\\"el"')).data,
        form(part(b'name="mod%65l"')).data,
        form(part(b"name*=utf-8''model")).data,
        form(part(b'name="a"; name="model"')).data,
        form(part(b'name="a"', more=b"\r\nContent-Transfer-Encoding: base64")).data,
        form(part(b'name="a"', more=b'\r\nContent-Disposition: form-data; name="model"')).data,
        form(*[part(b'name="a"')] * 257).data,
        b'--b\nContent-Disposition: form-data; name="a"\n\nx\n--b--\n',
    ],
)
def test_what_parsers_read_differently_is_refused(body: bytes) -> None:
    """Preambles, escapes in names, doubled headers, other encodings, too many parts."""
    with pytest.raises(MeshError):
        multipart.read(Body(body, KIND))


def test_a_huge_boundary_is_refused() -> None:
    """RFC 2046 allows seventy characters."""
    with pytest.raises(MeshError):
        multipart.read(Body(b"--" + b"x" * 71, "multipart/form-data; boundary=" + "x" * 71))


def test_one_value_is_replaced_and_nothing_else() -> None:
    """Or added in front when it is not there."""
    body = form(part(b'name="file"; filename="a"', b"\x00\xff"), part(b'name="model"', b"old"))

    assert body.data.replace(b"old", b"new-1") == multipart.with_value(body, "model", "new-1").data
    added = multipart.with_value(form(part(b'name="a"')), "model", "new-1")
    assert [Field("model", b"new-1"), Field("a", b"x")] == multipart.read(added)


def test_lists_and_objects_become_names() -> None:
    """As form parsers expect them."""
    fields = multipart.fields_of({"a": [1, "x"], "b": {"c": True}})

    assert [Field("a[]", b"1"), Field("a[]", b"x"), Field("b[c]", b"true")] == fields
    assert {"a": ["1", "x"], "b[c]": "true"} == multipart.values(fields)
