"""Data files as tables: CSV, TSV, JSON, Parquet and Arrow, also compressed."""

import json
from collections.abc import Sequence
from pathlib import Path

from sweep.data.files.arrow import build_table, read_arrow, read_parquet
from sweep.data.files.delimited import Layout, parse_delimited
from sweep.data.files.json import EXAMPLE, read_json
from sweep.data.files.names import ENDINGS
from sweep.data.files.nodes import Node, is_saved
from sweep.data.files.raw_bytes import EmptyFileError, decode_text, read_data, read_text
from sweep.data.files.saved import read_saved
from sweep.data.files.table import Table
from sweep.errors import DataError, format_names

__all__ = [
    "ENDINGS",
    "Table",
    "build_table",
    "read_table",
    "read_tables",
    "read_text",
    "split_lines",
]

PLAIN = Layout()


def read_tables(
    path: Node, layout: Layout = PLAIN, encoding: str | None = None
) -> dict[str, Table]:
    """Return the tables that a file (or a folder saved by ``datasets``) holds: by split, or the
    only one under the key ``""``.

    ``layout`` says how CSV and TSV files are written, and ``encoding`` what text is that is not
    UTF-8. Raises DataError with the file and, where one row is damaged, its line.
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
    return {"": _read_delimited(place, text, "," if kind == ".csv" else "\t", layout)}


def read_table(
    path: Node,
    quoted: bool = True,
    delimiter: str | None = None,
    columns: Sequence[str] | None = None,
    encoding: str | None = None,
) -> Table:
    """Return the only table of a file; see ``read_tables`` and ``Layout``."""
    layout = Layout(quoted, delimiter, None if columns is None else tuple(columns))
    tables = read_tables(path, layout, encoding)
    if "" not in tables:
        raise DataError(
            f"{path}: holds the splits {format_names(tables)}; set data.path to this file alone"
        )
    return tables[""]


def _explain_absence(path: Node) -> str:
    if isinstance(path, Path) and path.is_symlink():
        return f"is a link to {path.readlink()}, which is not there"
    if path.is_dir():
        return "is a folder, not a file"
    if path.exists():
        return "is a pipe or device, not a file"
    return f"there is no such file{_hint(path) if isinstance(path, Path) else ''}"


def _hint(path: Path) -> str:
    """Return what else a path that is not there may have been meant to be."""
    if "$" in str(path):
        return " (variables such as $HOME are not filled in)"
    here = Path.cwd()
    inside = path.relative_to(here).parts if path.is_relative_to(here) else path.parts
    is_id = len(inside) == 2 and not path.suffix and not path.parent.exists()
    return " (a dataset of the Hugging Face Hub needs data.source=hub)" if is_id else ""


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


def _read_delimited(place: str, text: str, usual: str, layout: Layout) -> Table:
    found = parse_delimited(place, text, usual, layout)
    return Table(
        place,
        dict(found.columns),
        found.lines,
        repeated=dict(found.repeated),
        delimiter=found.delimiter,
        headless=layout.columns is not None,
    )
