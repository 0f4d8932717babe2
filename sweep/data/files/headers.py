"""Whether the first line of a delimited file holds column names, or is a row already."""

from collections.abc import Collection, Sequence
from enum import Enum
from statistics import median
from typing import Any

from sweep.data.files.looks import (
    comes_back,
    is_number,
    is_wordy,
    looks_like_labels,
    looks_like_text,
)
from sweep.data.files.table import Table
from sweep.errors import DataError, format_value

# More names than one wants to read in a sentence.
MOST_SHOWN = 8
# Share of a column's texts that are longer than its name, where there are enough to tell.
MOSTLY, ENOUGH = 0.98, 50
# Words of a name that is surely one, and of one that may be.
SHORT_WORDS, MOST_WORDS = 3, 5


class Sign(Enum):
    """What a column says about the first line."""

    NAMES = "names"
    DATA = "data"
    NEITHER = "neither"


def check_first_line(
    table: Table, text_names: Sequence[str], label_names: Sequence[str], asked: str | None
) -> None:
    """Raise DataError if the first line holds data where column names are needed.

    It does if a name is also a value of its own column, as a label is, or a sentence above others,
    and no column speaks for names: by a usual name (or the one ``asked`` for), a word above numbers
    or longer texts, or a word above values that come back, among which it is not.
    """
    usual = {*text_names, *label_names, *([asked.lower()] if asked else [])}
    known = {*text_names} & {n.lower() for n in table.columns}
    if known and {*label_names} & {n.lower() for n in table.columns}:
        _check_repeat(table)
    columns = {**table.columns, **table.repeated}
    signs = {}
    # Usual names first: one that speaks for names is enough.
    for name in sorted(columns, key=lambda name: name.lower() not in usual):
        signs[name] = _read_sign(name, columns[name], usual)
        if signs[name] is Sign.NAMES:
            return
    data = [name for name in columns if signs[name] is Sign.DATA]
    if data:
        labels = [name for name in data if name in columns[name]]
        raise DataError(_explain(table, data, labels))


def _explain(table: Table, data: Sequence[str], labels: Sequence[str]) -> str:
    columns = {**table.columns, **table.repeated}
    alike = [name for name in labels if looks_like_labels(columns[name])]
    label = next(iter((*alike, *labels)), None)
    shown = format_value(data[0] if label is None else label)
    return (
        f"{table.place}: the first line holds {shown}, a {'text' if label is None else 'label'}, "
        f"where column names are needed; set {suggest_columns(table, label)}, or put a line of "
        "column names above it (if it is one already, set data.label_column)"
    )


def suggest_columns(table: Table, label: str | None = None) -> str:
    """Return ``data.columns=[...]`` with a name for each column of ``table``."""
    if len(table.columns) > MOST_SHOWN or table.repeated:
        return "data.columns=[...] to a name for each column"
    lengths = {
        name: sum(len(str(value)) for value in values)
        for name, values in table.columns.items()
        if name != label
    }
    text = max(lengths, key=lambda name: lengths[name], default=None)
    others = [name for name in lengths if name != text]
    if label is None and others:
        label = next((name for name in others if looks_like_labels(table.columns[name])), others[0])
    called = {text: "text", label: "label"}
    names = [called.get(name, f"column{i}") for i, name in enumerate(table.columns, start=1)]
    return f"data.columns=[{', '.join(names)}]"


def may_be_data(table: Table, usual: Collection[str]) -> bool:
    """Return whether the first line of a file may be data, as far as its look goes."""
    if table.delimiter is None or table.headless:
        return False
    columns = {**table.columns, **table.repeated}
    signs = {_read_sign(name, values, usual) for name, values in columns.items()}
    return Sign.DATA in signs or Sign.NAMES not in signs


def _read_sign(name: str, values: Sequence[Any], usual: Collection[str]) -> Sign:
    if not name or name.startswith("Unnamed: "):
        return Sign.NEITHER
    if name in values:
        return Sign.DATA
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    if name.lower() in usual or comes_back(values):
        return Sign.NAMES
    if texts and all(map(is_number, texts)):
        return Sign.NEITHER if is_number(name) else Sign.NAMES
    if len(name.split()) > MOST_WORDS and not name.endswith("?") and looks_like_text(texts):
        return Sign.DATA
    return Sign.NAMES if _is_short(name, texts) else Sign.NEITHER


def _is_short(name: str, texts: Sequence[str]) -> bool:
    """Return whether ``name`` is too short to be one of ``texts``."""
    if not is_wordy(name):
        return sum(map(is_wordy, texts)) > MOSTLY * len(texts)
    if len(name.split()) > SHORT_WORDS or len(texts) < ENOUGH:
        return False
    lengths = [len(text) for text in texts]
    longer = sum(length > len(name) for length in lengths)
    return longer > MOSTLY * len(lengths) and median(lengths) > 2 * len(name)


def _check_repeat(table: Table) -> None:
    """Refuse a row that repeats the line of names, as files put behind each other have it."""
    names = [*table.columns]
    rows = zip(*table.columns.values(), strict=True)
    row = next((row for row, fields in enumerate(rows) if [*fields] == names), None)
    if row is not None:
        raise DataError(f"{table.where(row)} repeats the line of column names; delete it")


def check_first_row(table: Table, usual: Collection[str]) -> None:
    """Raise DataError if the first row of a file whose names data.columns gives is names itself."""
    firsts = {name: values[0].strip() for name, values in table.columns.items() if values}
    signs = [_read_sign(first, table.columns[name][1:], usual) for name, first in firsts.items()]
    same = bool(firsts) and all(name.lower() == first.lower() for name, first in firsts.items())
    if same or (signs.count(Sign.NAMES) > 1 and Sign.DATA not in signs):
        raise DataError(
            f"{table.where(0)} holds column names "
            f"({', '.join(map(format_value, firsts.values()))}), but data.columns says that the "
            "file has none; delete the line or, if every file has one, leave data.columns out "
            "(data.text_column and data.label_column choose columns)"
        )
