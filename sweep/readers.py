"""Files on disk as tables: CSV, TSV, JSON (lines or one array) and Parquet."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sweep.delimited import Layout, parse_delimited
from sweep.errors import DataError
from sweep.phrases import show_value

ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


@dataclass(frozen=True)
class Table:
    """Columns of equal length, and where they came from."""

    place: str
    """The file, or the Hub dataset and split, as error messages name it."""
    columns: dict[str, list[Any]]
    lines: list[int] | None = None
    """The line each row starts at; None where a file has no lines, and rows are counted."""
    class_names: dict[str, list[str]] = field(default_factory=dict)
    """The names behind a column's whole numbers, where the file itself holds them."""
    repeated: dict[str, list[Any]] = field(default_factory=dict)
    """Of each name that several columns have the first one's values: they are left out."""
    delimiter: str | None = None
    """What parts the fields; None where the names are not a line of the file (JSON, Parquet)."""
    headless: bool = False
    """Whether the first line is data, and data.columns holds the names."""

    def where(self, row: int) -> str:
        """Return the place of row ``row`` (from 0) in words, its counts from 1."""
        spot = f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"
        return f"{self.place}: {spot}"


def read_table(
    path: Path,
    quoted: bool = True,
    delimiter: str | None = None,
    columns: Sequence[str] | None = None,
) -> Table:
    """Return the table that ``path`` holds, read by its ending (one of ``ENDINGS``).

    The rest is about CSV and TSV files: ``quoted`` says whether they put ``"`` around texts, as
    RFC 4180 has it; ``delimiter`` is found if it is None; ``columns`` are the names of all columns
    where the first line is data. Raises DataError with the file and, where one row is damaged, its
    line.
    """
    layout = Layout(quoted, delimiter, None if columns is None else tuple(columns))
    readers: dict[str, Callable[[], Table]] = {
        ".csv": lambda: _read_delimited(path, ",", layout),
        ".tsv": lambda: _read_delimited(path, "\t", layout),
        ".jsonl": lambda: _read_json(path),
        ".json": lambda: _read_json(path),
        ".parquet": lambda: _read_parquet(path),
    }
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; check data.path and data.splits")
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: is of no known kind; name a file that ends in {_listed(ENDINGS)}")
    return reader()


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file without its byte order mark, line ends as they are."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path}: cannot be read ({reason}); check data.path and data.splits"
        ) from None
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: is not UTF-8 text (byte {error.start}, line {line}); convert it to UTF-8"
        ) from None


def split_lines(text: str) -> list[str]:
    """Return the lines of ``text``.

    Only a line feed ends one: texts hold other characters that ``splitlines`` would cut at.
    """
    return text.replace("\r\n", "\n").split("\n")


def build_table(place: str, table: pa.Table, schema: pa.Schema | None = None) -> Table:
    """Return the columns of an Arrow table that can hold a text or labels.

    ``schema`` carries the class names that the ``datasets`` library writes (default: its own).
    """
    _check_columns(place, table.column_names)
    columns = {
        part.name: table.column(index).to_pylist()
        for index, part in enumerate(table.schema)
        if _is_plain(part.type)
    }
    return Table(place, columns, class_names=_read_class_names(schema or table.schema))


def _read_delimited(path: Path, usual: str, layout: Layout) -> Table:
    found = parse_delimited(str(path), read_text(path), usual, layout)
    return Table(
        str(path),
        dict(found.columns),
        found.lines,
        repeated=dict(found.repeated),
        delimiter=found.delimiter,
        headless=layout.columns is not None,
    )


def _check_columns(place: str, names: Sequence[str]) -> None:
    name, count = next(iter(Counter(names).most_common(1)), ("", 0))
    if count > 1:
        raise DataError(f"{place}: has two columns named {show_value(name)}; rename one")


def _read_json(path: Path) -> Table:
    text = read_text(path)
    if text.lstrip().startswith("["):
        values = _parse_json(path, text, 1)
        lines = None
    else:
        numbered = [(n, line) for n, line in enumerate(split_lines(text), 1) if line.strip()]
        values = [_parse_json(path, line, number) for number, line in numbered]
        lines = [number for number, _ in numbered]
    names: dict[str, None] = {}
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            spot = f"line {lines[index]}" if lines else f"row {index + 1}"
            raise DataError(
                f'{path}: {spot} is not a JSON object such as {{"text": "...", "label": "..."}}; '
                "mend or delete it"
            )
        names.update(dict.fromkeys(value))
    return Table(str(path), {name: [value.get(name) for value in values] for name in names}, lines)


def _parse_json(path: Path, text: str, first_line: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line = first_line + getattr(error, "lineno", 1) - 1
        reason = getattr(error, "msg", None) or "too deep, or a number too long"
        raise DataError(
            f"{path}: line {line} is not JSON ({reason}); write one object a line, or one array"
        ) from None


def _read_parquet(path: Path) -> Table:
    try:
        with pq.ParquetFile(path) as file:
            return build_table(str(path), file.read())
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["damaged"])[0]
        raise DataError(
            f"{path}: cannot be read as Parquet ({reason[:200]}); check the file or write it again"
        ) from None


def _is_plain(kind: pa.DataType) -> bool:
    """Whether a column's type can hold a text or labels; images and vectors stay unread."""
    types = pa.types
    if types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_text(kind.value_type) or types.is_integer(kind.value_type)
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return bool(_is_text(kind) or number or types.is_null(kind))


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _read_class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of each ClassLabel column, from the metadata of the ``datasets`` library."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {name: _find_names(feature) for name, feature in features.items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
    return {name: names for name, names in found.items() if names}


def _find_names(feature: Any) -> list[str]:
    inner = feature[0] if isinstance(feature, list) and feature else feature
    inner = inner.get("feature", inner)
    names = inner.get("names") if isinstance(inner, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else []


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + f" or {words[-1]}"
