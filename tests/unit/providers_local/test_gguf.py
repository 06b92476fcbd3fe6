"""The converter, on a one-layer model small enough to write by hand."""

import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from polyroute.providers.local import gguf

WIDTH, INNER, CONTEXT = 4, 8, 3
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s"]
LAYER_SHAPES: dict[str, tuple[int, ...]] = {
    "attention.self.query": (WIDTH, WIDTH),
    "attention.self.key": (WIDTH, WIDTH),
    "attention.self.value": (WIDTH, WIDTH),
    "attention.output.dense": (WIDTH, WIDTH),
    "attention.output.LayerNorm": (WIDTH,),
    "intermediate.dense": (INNER, WIDTH),
    "output.dense": (WIDTH, INNER),
    "output.LayerNorm": (WIDTH,),
}


def shapes() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(PIECES), WIDTH),
        "embeddings.position_embeddings.weight": (CONTEXT, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
        "pooler.dense.bias": (WIDTH,),
    }
    for part, shape in LAYER_SHAPES.items():
        found[f"encoder.layer.0.{part}.weight"] = shape
        found[f"encoder.layer.0.{part}.bias"] = shape[:1]
    return found


def values(key: str, shape: tuple[int, ...]) -> bytes:
    count = 1
    for size in shape:
        count *= size
    seed = sum(key.encode())
    return struct.pack(f"<{count}f", *(seed + number for number in range(count)))


def safetensors(wanted: Mapping[str, tuple[int, ...]]) -> bytes:
    index: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b"\1" * 16
    index["embeddings.position_ids"] = {"dtype": "I64", "shape": [1, 2], "data_offsets": [0, 16]}
    for key, shape in wanted.items():
        part = values(key, shape)
        index[key] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    head = json.dumps(index).encode()
    return struct.pack("<Q", len(head)) + head + data


class Reader:
    """Reads a GGUF file back, written from the format's description."""

    SCALARS = {4: "<I", 5: "<i", 6: "<f", 7: "<?"}  # noqa: RUF012

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.stream = io.BytesIO(data)
        self.magic, self.version, tensors, entries = self._unpack("<4sIQQ")
        self.entries = dict(self._entry() for _ in range(entries))
        self.tensors = dict(self._tensor() for _ in range(tensors))
        self.start = -(-self.stream.tell() // 32) * 32

    def values(self, name: str) -> bytes:
        shape, kind, offset = self.tensors[name]
        assert kind == 0
        count = 1
        for size in shape:
            count *= size
        return self.data[self.start + offset : self.start + offset + 4 * count]

    def _unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self.stream.read(struct.calcsize(layout)))

    def _text(self) -> str:
        (length,) = self._unpack("<Q")
        return self.stream.read(length).decode()

    def _entry(self) -> tuple[str, Any]:
        key = self._text()
        return key, self._value(self._unpack("<I")[0])

    def _value(self, kind: int) -> Any:
        if kind == 8:
            return self._text()
        if kind == 9:
            inner, count = self._unpack("<IQ")
            return [self._value(inner) for _ in range(count)]
        return self._unpack(self.SCALARS[kind])[0]

    def _tensor(self) -> tuple[str, tuple[tuple[int, ...], int, int]]:
        name = self._text()
        (rank,) = self._unpack("<I")
        shape = self._unpack(f"<{rank}Q")
        kind, offset = self._unpack("<IQ")
        return name, (shape, kind, offset)


def convert(
    folder: Path, wanted: Mapping[str, tuple[int, ...]] | None = None, pieces: list[str] | None = None
) -> Reader:
    (folder / "model.safetensors").write_bytes(safetensors(wanted or shapes()))
    (folder / "vocab.txt").write_text("\n".join(pieces or PIECES) + "\n", encoding="utf-8")
    target = folder / "model.gguf"
    gguf.convert(folder / "model.safetensors", folder / "vocab.txt", target, name="tiny", heads=2, epsilon=1e-12)
    return Reader(target.read_bytes())


def test_header_states_the_shape_of_the_model(tmp_path: Path) -> None:
    """Architecture, sizes and pooling are read from the tensors and the arguments."""
    read = convert(tmp_path)

    assert (b"GGUF", 3) == (read.magic, read.version)
    assert read.entries["general.architecture"] == "bert"
    assert read.entries["general.name"] == "tiny"
    assert read.entries["bert.block_count"] == 1
    assert read.entries["bert.context_length"] == CONTEXT
    assert read.entries["bert.embedding_length"] == WIDTH
    assert read.entries["bert.feed_forward_length"] == INNER
    assert read.entries["bert.attention.head_count"] == 2
    assert read.entries["bert.attention.layer_norm_epsilon"] == pytest.approx(1e-12)
    assert read.entries["bert.attention.causal"] is False
    assert read.entries["bert.pooling_type"] == 1


def test_vocabulary_marks_word_starts_and_special_tokens(tmp_path: Path) -> None:
    """A word start gets U+2581, a continuation loses its marks, a special token stays and is a control token."""
    read = convert(tmp_path)

    assert [*PIECES[:5], "\u2581cat", "s"] == read.entries["tokenizer.ggml.tokens"]
    assert [3, 3, 3, 3, 3, 1, 1] == read.entries["tokenizer.ggml.token_type"]
    assert read.entries["tokenizer.ggml.cls_token_id"] == 2
    assert read.entries["tokenizer.ggml.seperator_token_id"] == 3
    assert read.entries["tokenizer.ggml.padding_token_id"] == 0


def test_every_tensor_lies_where_the_header_says(tmp_path: Path) -> None:
    """Offsets are aligned, dimensions reversed, bytes unchanged, and what is not used is left out."""
    read = convert(tmp_path)

    assert 5 + 2 * len(LAYER_SHAPES) == len(read.tensors)
    assert all(offset % 32 == 0 for _, _, offset in read.tensors.values())
    assert read.tensors["blk.0.ffn_up.weight"][0] == (WIDTH, INNER)
    for theirs, ours in {
        "embeddings.word_embeddings.weight": "token_embd.weight",
        "encoder.layer.0.attention.self.key.bias": "blk.0.attn_k.bias",
        "encoder.layer.0.output.LayerNorm.weight": "blk.0.layer_output_norm.weight",
    }.items():
        assert values(theirs, shapes()[theirs]) == read.values(ours)


def test_conversion_is_deterministic(tmp_path: Path) -> None:
    """The same input gives the same bytes, so that the result can be pinned."""
    assert convert(tmp_path).data == convert(tmp_path).data


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    """A model without one of its tensors is refused by that tensor's name."""
    wanted = shapes()
    del wanted["encoder.layer.0.output.dense.bias"]

    with pytest.raises(gguf.ConversionError, match=r"lack encoder\.layer\.0\.output\.dense\.bias"):
        convert(tmp_path, wanted)


def test_vocabulary_must_fit_the_weights(tmp_path: Path) -> None:
    """One row of weights a piece."""
    with pytest.raises(gguf.ConversionError, match="6 pieces for 7 rows"):
        convert(tmp_path, pieces=PIECES[:-1])


def test_vocabulary_without_a_special_token_is_refused(tmp_path: Path) -> None:
    """The encoder frames every text with special tokens."""
    with pytest.raises(gguf.ConversionError, match=r"lacks \[MASK\]"):
        convert(tmp_path, pieces=["mask" if piece == "[MASK]" else piece for piece in PIECES])


@pytest.mark.parametrize("data", [b"", b"short", b"\xff" * 64])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, data: bytes) -> None:
    """Damage is an error of its own and never a huge allocation."""
    with pytest.raises(gguf.ConversionError, match="not a safetensors file"):
        gguf.read_index(io.BytesIO(data))


def test_weights_that_end_early_are_refused(tmp_path: Path) -> None:
    """A cut file is noticed even when its header is whole."""
    (tmp_path / "model.safetensors").write_bytes(safetensors(shapes())[:-200])
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES), encoding="utf-8")

    with pytest.raises(gguf.ConversionError, match="end early"):
        gguf.convert(
            tmp_path / "model.safetensors",
            tmp_path / "vocab.txt",
            tmp_path / "out",
            name="tiny",
            heads=2,
            epsilon=1e-12,
        )
