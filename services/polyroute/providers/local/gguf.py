"""Turns a BERT sentence encoder (safetensors and its word-piece vocabulary) into a GGUF file that llama.cpp loads.

Weights stay F32 as they are; only names, order and the header change, so the result is a pure function of its input
and can be pinned by its sha256. Formats: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (version 3) and
https://github.com/huggingface/safetensors (an 8-byte length, a JSON header, the data).
"""

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

ALIGNMENT: Final = 32  # GGUF's default, in bytes
CHUNK: Final = 1 << 20  # bytes copied at a time: the largest tensor has 47 MB and need not be in memory at once
MAX_HEADER: Final = 16 << 20  # bytes; a longer JSON header is damage, not a model
F32_BYTES: Final = 4

_F32_TENSOR: Final = 0  # ggml_type
_MEAN_POOLING: Final = 1  # llama_pooling_type
_NORMAL_TOKEN, _CONTROL_TOKEN = 1, 3  # llama_token_type

# Value types of the header's entries.
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9

# Names of whole tensors, and of one layer's, here and there. The pooler and the position ids are not used for
# sentence vectors and llama.cpp has no place for them.
_EMBEDDINGS: Final = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm.weight": "token_embd_norm.weight",
    "embeddings.LayerNorm.bias": "token_embd_norm.bias",
}
_LAYER: Final = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


class ConversionError(Exception):
    """The input is not the kind of model that can be converted; the text says what is missing or odd."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one F32 tensor lies in a safetensors file: shape, outermost first, and its bytes from `start`."""

    shape: tuple[int, ...]
    start: int
    length: int


def convert(safetensors: Path, vocabulary: Path, target: Path, *, name: str, heads: int, epsilon: float) -> None:
    """Writes `target`, a GGUF of the `bert` architecture with mean pooling.

    Args:
        safetensors: The weights; all of them F32.
        vocabulary: One word piece a line, in the order of their ids; UTF-8.
        target: Written over; the caller renames it into place.
        name: The model's name for the header.
        heads: Attention heads a layer, which no shape tells.
        epsilon: Of the layer norms.

    Raises:
        ConversionError: A tensor is missing or not F32, or the vocabulary does not fit.
        OSError: A file cannot be read or written.
    """
    with safetensors.open("rb") as source, target.open("wb") as out:
        tensors = read_index(source)
        names = _names(tensors)
        missing = sorted(set(names) - set(tensors))
        if missing:
            raise ConversionError(f"the weights lack {missing[0]}")
        pieces = vocabulary.read_text(encoding="utf-8").split("\n")
        entries = _shape_entries(tensors, name, heads, epsilon) + _token_entries(_tokens(pieces, tensors))
        wanted = [(names[key], tensors[key]) for key in names]
        out.write(header(entries, wanted))
        for _, tensor in wanted:
            _copy(source, tensor, out)


def read_index(source: BinaryIO) -> dict[str, Tensor]:
    """The F32 tensors of a safetensors file by name; those of other types are left out."""
    (length,) = struct.unpack("<Q", source.read(8).ljust(8, b"\xff"))
    if length > MAX_HEADER:
        raise ConversionError("not a safetensors file")
    index = json.loads(source.read(length))
    found = {}
    for key, entry in index.items():
        if entry.get("dtype") != "F32":
            continue
        begin, end = entry["data_offsets"]
        found[key] = Tensor(tuple(entry["shape"]), 8 + length + begin, end - begin)
    return found


def header(entries: Sequence[bytes], tensors: Iterable[tuple[str, Tensor]]) -> bytes:
    """Everything before the first tensor's bytes: magic, entries, the tensors' names, shapes and offsets, padding."""
    infos, offset = [], 0
    for name, tensor in tensors:
        shape = tensor.shape[::-1]  # GGUF counts dimensions from the innermost
        infos.append(_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, _F32_TENSOR, offset))
        offset += _padded(tensor.length)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(infos), len(entries)) + b"".join(entries) + b"".join(infos)
    return head.ljust(_padded(len(head)), b"\0")


def _names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    names = dict(_EMBEDDINGS)
    for layer in range(_layers(tensors)):
        for theirs, ours in _LAYER.items():
            for kind in ("weight", "bias"):
                names[f"encoder.layer.{layer}.{theirs}.{kind}"] = f"blk.{layer}.{ours}.{kind}"
    return names


def _layers(tensors: Mapping[str, Tensor]) -> int:
    return len({key.split(".")[2] for key in tensors if key.startswith("encoder.layer.")})


def _shape_entries(tensors: Mapping[str, Tensor], name: str, heads: int, epsilon: float) -> list[bytes]:
    context, width = tensors["embeddings.position_embeddings.weight"].shape
    layers = _layers(tensors)
    inner = tensors["encoder.layer.0.intermediate.dense.weight"].shape[0] if layers else 0
    return [
        _entry("general.architecture", _STRING, _text("bert")),
        _entry("general.name", _STRING, _text(name)),
        _entry("general.file_type", _UINT32, struct.pack("<I", 0)),
        _entry("bert.block_count", _UINT32, struct.pack("<I", layers)),
        _entry("bert.context_length", _UINT32, struct.pack("<I", context)),
        _entry("bert.embedding_length", _UINT32, struct.pack("<I", width)),
        _entry("bert.feed_forward_length", _UINT32, struct.pack("<I", inner)),
        _entry("bert.attention.head_count", _UINT32, struct.pack("<I", heads)),
        _entry("bert.attention.layer_norm_epsilon", _FLOAT32, struct.pack("<f", epsilon)),
        _entry("bert.attention.causal", _BOOL, b"\0"),
        _entry("bert.pooling_type", _UINT32, struct.pack("<I", _MEAN_POOLING)),
    ]


def _tokens(pieces: list[str], tensors: Mapping[str, Tensor]) -> list[str]:
    if pieces and not pieces[-1]:
        pieces = pieces[:-1]  # the file's last line ends with a newline
    rows = tensors["embeddings.word_embeddings.weight"].shape[0]
    if len(pieces) != rows:
        raise ConversionError(f"the vocabulary has {len(pieces)} pieces for {rows} rows of weights")
    return pieces


def _token_entries(pieces: Sequence[str]) -> list[bytes]:
    """The tokenizer; llama.cpp writes word starts as U+2581 and continuations bare, where BERT writes `##`."""
    special = [piece.startswith("[") and piece.endswith("]") for piece in pieces]
    kinds = [_CONTROL_TOKEN if flag else _NORMAL_TOKEN for flag in special]
    texts = [piece if flag else _phantom(piece) for piece, flag in zip(pieces, special, strict=True)]
    ids = {piece: number for number, piece in enumerate(pieces)}
    return [
        _entry("tokenizer.ggml.model", _STRING, _text("bert")),
        _entry("tokenizer.ggml.token_type_count", _UINT32, struct.pack("<I", 2)),
        _entry("tokenizer.ggml.tokens", _ARRAY, _array(_STRING, map(_text, texts), len(texts))),
        _entry("tokenizer.ggml.token_type", _ARRAY, _array(_INT32, (struct.pack("<i", k) for k in kinds), len(kinds))),
        *_special_entries(ids),
    ]


def _special_entries(ids: Mapping[str, int]) -> Iterator[bytes]:
    # "seperator" is how the format spells it
    roles = {"cls": "[CLS]", "seperator": "[SEP]", "padding": "[PAD]", "unknown": "[UNK]", "mask": "[MASK]"}
    for role, piece in roles.items():
        if piece not in ids:
            raise ConversionError(f"the vocabulary lacks {piece}")
        yield _entry(f"tokenizer.ggml.{role}_token_id", _UINT32, struct.pack("<I", ids[piece]))


def _phantom(piece: str) -> str:
    return piece[2:] if piece.startswith("##") else f"\u2581{piece}"


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _entry(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def _array(kind: int, items: Iterable[bytes], count: int) -> bytes:
    return struct.pack("<IQ", kind, count) + b"".join(items)


def _padded(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT


def _copy(source: BinaryIO, tensor: Tensor, out: BinaryIO) -> None:
    source.seek(tensor.start)
    left = tensor.length
    while left:
        chunk = source.read(min(CHUNK, left))
        if not chunk:
            raise ConversionError("the weights end early")
        out.write(chunk)
        left -= len(chunk)
    out.write(b"\0" * (_padded(tensor.length) - tensor.length))
