"""Rows as files: CSV and JSON with what Python has, Parquet with pyarrow where it is installed."""

import csv
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final

import orjson

from polyroute.mesh.roles import ConfigError

FORMATS: Final = ("csv", "json", "parquet")

_FLAGS: Final = {True: "true", False: "false"}  # as JSON has them, and not as Python prints them

Columns = Mapping[str, type]
"""Name -> `str`, `int`, `bool` or `float`, in order. Any value may be None."""
Rows = Sequence[Sequence[Any]]
Write = Callable[[Rows], None]


def check(form: str, out: Path | None) -> None:
    """Whether rows can be written so.

    Args:
        form: One of `FORMATS`.
        out: The file; None for standard output, which takes no Parquet.

    Raises:
        ConfigError: The format is unknown, or needs a file or a library that is not there.
    """
    if form not in FORMATS:
        raise ConfigError(f"--format: unknown {form!r} (known: {', '.join(FORMATS)})")
    if form == "parquet":
        _library()
        if out is None:
            raise ConfigError("--format parquet needs a file: --out usage.parquet")


@contextmanager
def writing(form: str, columns: Columns, out: Path | None) -> Iterator[Write]:
    """Writes rows as they come, to a file that is there only once it is whole, or to standard output.

    Args:
        form: One of `FORMATS`. JSON is an object a line (https://jsonlines.org).
        columns: Of every row.
        out: The file; None for standard output.

    Raises:
        ConfigError: It cannot be written; see `check`.
    """
    check(form, out)
    with _opened(out, binary=form == "parquet") as file:
        match form:
            case "csv":
                yield _csv(file, columns)
            case "json":
                yield _json(file, columns)
            case _:
                with _parquet(file, columns) as write:
                    yield write


@contextmanager
def _opened(out: Path | None, *, binary: bool) -> Iterator[IO[Any]]:
    if out is None:
        yield sys.stdout
        return
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") if binary else unfinished.open("w", encoding="utf-8", newline="") as file:
            yield file
        unfinished.replace(out)
    except OSError as error:
        raise ConfigError(f"--out {out}: {(error.strerror or str(error)).lower()}") from None
    finally:
        unfinished.unlink(missing_ok=True)


def _csv(file: IO[str], columns: Columns) -> Write:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    flags = [i for i, kind in enumerate(columns.values()) if kind is bool]

    def write(rows: Rows) -> None:
        for row in rows:
            cells = list(row)
            for i in flags:
                cells[i] = _FLAGS.get(cells[i], cells[i])
            writer.writerow(cells)

    return write


def _json(file: IO[str], columns: Columns) -> Write:
    def write(rows: Rows) -> None:
        for row in rows:
            file.write(orjson.dumps(dict(zip(columns, row, strict=True))).decode() + "\n")

    return write


@contextmanager
def _parquet(file: IO[bytes], columns: Columns) -> Iterator[Write]:
    library, parquet = _library()
    kinds = {str: library.string(), int: library.int64(), bool: library.bool_(), float: library.float64()}
    schema = library.schema([(name, kinds[kind]) for name, kind in columns.items()])

    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:

        def write(rows: Rows) -> None:
            if rows:
                turned = zip(zip(*rows, strict=True), schema, strict=True)
                arrays = [library.array(values, field.type) for values, field in turned]
                writer.write_table(library.Table.from_arrays(arrays, schema=schema))

        yield write


def _library() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise ConfigError("--format parquet needs pyarrow: pip install pyarrow") from None
