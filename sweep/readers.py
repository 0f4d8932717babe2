"""Data files as tables: CSV, TSV, JSON, Parquet and Arrow, also compressed."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sweep.arrowfiles import build_table, read_arrow, read_parquet
from sweep.columnar import Table
from sweep.errors import DataError
from sweep.filenames import ENDINGS
from sweep.jsonfiles import EXAMPLE, read_json
from sweep.nodes import Node, is_saved
from sweep.phrases import show_names, show_value
from sweep.rawbytes import EmptyFileError, decode_text, read_data, read_text
from sweep.saved import read_saved

__all__ = [
    "ENDINGS",
    "Table",
    "build_table",
    "read_table",
    "read_tables",
    "read_text",
    "split_lines",
]

Record = tuple[int, list[str]]


def read_tables(path: Node, quoted: bool = True, encoding: str | None = None) -> dict[str, Table]:
    """Return the tables that a file (or a folder saved by ``datasets``) holds: by split, or the
    only one under the key ``""``.

    ``quoted`` says whether a CSV or TSV file puts ``"`` around texts, as RFC 4180 has it, and
    ``encoding`` what text is that is not UTF-8. Raises DataError with the file and, where one row
    is damaged, its line.
    """
    if path.is_dir() and is_saved(path):
        return {"": read_saved(path)}
    if not path.is_file():
        raise DataError(f"{path}: {_explain_absence(path)}; check data.path and data.splits")
    kind, data = read_data(path)
    place = str(path)
    if kind == ".parquet":
        return {"": read_parquet(place, data)}
    if kind == ".arrow":
        return {"": read_arrow(place, data)}
    text = decode_text(place, data, encoding)
    is_json = kind in (".json", ".jsonl")
    if not text.strip():
        needs = f"rows such as {EXAMPLE}" if is_json else "a line of column names and rows below it"
        raise EmptyFileError(f"{place}: is empty; it needs {needs}")
    if is_json:
        return read_json(place, text)
    _refuse_json(place, text)
    return {"": _read_delimited(place, text, "," if kind == ".csv" else "\t", quoted)}


def read_table(path: Node, quoted: bool = True, encoding: str | None = None) -> Table:
    """Return the only table of a file; see ``read_tables``."""
    tables = read_tables(path, quoted, encoding)
    if "" not in tables:
        raise DataError(
            f"{path}: holds the splits {show_names(tables)}; set data.path to this file alone"
        )
    return tables[""]


def _explain_absence(path: Node) -> str:
    if isinstance(path, Path) and path.is_symlink():
        return f"is a link to {path.readlink()}, which is not there"
    return "is a folder, not a file" if path.is_dir() else "there is no such file"


def _refuse_json(place: str, text: str) -> None:
    """Raise DataError if what should be CSV or TSV is JSON."""
    start = text.lstrip()
    if not start.startswith(("{", "[{")):
        return
    try:
        json.JSONDecoder().raw_decode(start)
    except (ValueError, RecursionError):
        return
    raise DataError(f"{place}: holds JSON; give it the ending .jsonl or .json")


def split_lines(text: str) -> list[str]:
    """Return the lines of ``text``.

    Only a line feed ends one: texts hold other characters that ``splitlines`` would cut at.
    """
    return text.replace("\r\n", "\n").split("\n")


def _read_delimited(path: str, text: str, delimiter: str, quoted: bool) -> Table:
    if quoted:
        records = list(_split_quoted(path, text, delimiter))
    else:
        lines = enumerate(split_lines(text), start=1)
        records = [(number, line.split(delimiter)) for number, line in lines if line]
    if not records:
        raise DataError(f"{path}: is empty; it needs a line of column names and rows below it")
    names = [name.strip() for name in records[0][1]]
    _check_columns(path, names)
    for number, fields in records[1:]:
        if len(fields) != len(names):
            raise DataError(
                f"{path}: line {number} has {len(fields)} fields where the header has "
                f"{len(names)}; put quotes around texts that hold the separator, or mend the row"
            )
    values = zip(*(fields for _, fields in records[1:]), strict=True)
    columns: dict[str, list[Any]] = {name: [] for name in names}
    columns.update({name: list(column) for name, column in zip(names, values, strict=False)})
    return Table(path, columns, [number for number, _ in records[1:]])


def _split_quoted(path: str, text: str, delimiter: str) -> Iterator[Record]:
    limit = csv.field_size_limit(min(len(text) + 1, 2**31 - 1))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    start = 1
    try:
        for fields in reader:
            if fields:
                yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}: the row at line {start} has a quote out of place ({error}); mend it, or set "
            "data.quoted=false if the file does not put quotes around texts"
        ) from None
    finally:
        csv.field_size_limit(limit)


def _check_columns(place: str, names: Sequence[str]) -> None:
    name, count = next(iter(Counter(names).most_common(1)), ("", 0))
    if count > 1:
        raise DataError(f"{place}: has two columns named {show_value(name)}; rename one")
