"""The kinds of values in the router's part of the configuration: names, exact prices, words of the contract."""

import unicodedata
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from polyroute.api.chat.v1.chat_pb2 import Capability, Operation
from polyroute.mesh.config import Section

MAX_NAME_BYTES: Final = 256
NANOS: Final = 1_000_000_000
MAX_INT64: Final = 2**63 - 1
OPERATIONS: Final = {name.removeprefix("OPERATION_").lower(): value for name, value in Operation.items() if value}
CAPABILITIES: Final = {name.removeprefix("CAPABILITY_").lower(): value for name, value in Capability.items() if value}


def checked_name(name: str) -> str:
    """The name, when it may stand in a catalog: NFC, 1 to 256 bytes of UTF-8, nothing invisible in it."""
    if not name or name != name.strip():
        raise ValueError("a name must not be empty, nor begin or end with white space")
    if any(unicodedata.category(char).startswith("C") for char in name):
        raise ValueError(f"the name {name!r} holds a control or format character")
    if not unicodedata.is_normalized("NFC", name):
        raise ValueError(f"the name {name!r} is not in Unicode normal form NFC")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"the name {name[:32]!r}... is longer than {MAX_NAME_BYTES} bytes")
    return name


def nanos(value: object) -> int:
    """A price in USD per million as exact nano-USD per million.

    Args:
        value: A decimal string or a number; a float counts as its shortest decimal form, so 0.1 is 0.1.

    Raises:
        ValueError: It is no number, negative, too large, or finer than a nano-dollar.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError("a price is a number or a decimal string, in USD per million")  # noqa: TRY004 - pydantic's form
    try:
        amount = Decimal(str(value)) * NANOS
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a decimal number") from None
    if not amount.is_finite() or not 0 <= amount <= MAX_INT64:
        raise ValueError(f"the price {value!r} is out of range")
    if amount != amount.to_integral_value():
        raise ValueError(f"the price {value!r} is finer than a nano-dollar")
    return int(amount)


def _operation(value: str) -> int:
    return _word(value, OPERATIONS, "operation")


def _capability(value: str) -> int:
    return _word(value, CAPABILITIES, "capability")


def _word(value: object, words: dict[str, Any], kind: str) -> int:
    number = words.get(value) if isinstance(value, str) else None
    if number is None:
        raise ValueError(f"unknown {kind} {value!r}; the {kind} words are {', '.join(words)}")
    return int(number)


Name = Annotated[str, AfterValidator(checked_name)]
Nanos = Annotated[int, BeforeValidator(nanos), WithJsonSchema({"type": ["string", "number"]})]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Weight = Annotated[int, Field(ge=1, le=1_000_000)]
Tokens = Annotated[int, Field(ge=1, le=MAX_INT64)]
Word = Annotated[str, Field(min_length=1, max_length=128)]
Quantization = Literal["int4", "int8", "fp4", "mxfp4", "nvfp4", "fp6", "fp8", "mxfp8", "fp16", "bf16", "fp32"]
OperationWord = Annotated[
    int, BeforeValidator(_operation), WithJsonSchema({"type": "string", "enum": sorted(OPERATIONS)})
]
CapabilityWord = Annotated[
    int, BeforeValidator(_capability), WithJsonSchema({"type": "string", "enum": sorted(CAPABILITIES)})
]


def as_written(section: Section) -> dict[str, Any]:
    """A section as plain values, without what was left at its default: the same content looks the same everywhere."""
    return section.model_dump(mode="json", exclude_defaults=True)
