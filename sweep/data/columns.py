"""Which columns of a table hold the texts and which the labels: by name, else by look."""

from collections.abc import Sequence
from dataclasses import dataclass

from sweep.data.files.delimiters import CANDIDATES
from sweep.data.files.headers import check_first_line, may_be_data, suggest_columns
from sweep.data.files.looks import looks_like_labels, looks_like_text
from sweep.data.files.names import find_split
from sweep.data.files.table import Table
from sweep.errors import DataError, format_choices, format_names, format_value

TEXT_NAMES = ("text", "sentence", "content")
LABEL_NAMES = ("labels", "label", "emotion", "emotions", "category", "class")
USUAL = frozenset((*TEXT_NAMES, *LABEL_NAMES))


@dataclass(frozen=True)
class Columns:
    """The names of the columns that are read."""

    texts: tuple[str, ...]
    """One or more, whose texts are joined in this order."""
    label: str
    guessed: tuple[str, ...] = ()
    """Those of them that were found by look: neither asked for nor called by a usual name."""


def choose_columns(table: Table, texts: Sequence[str] | None, label: str | None) -> Columns:
    """Return the text columns and the label column of ``table``.

    ``texts`` and ``label`` are what the user asks for, else ``find_columns`` finds one of each.
    Raises DataError with the columns there are.
    """
    for name in texts or ():
        _pick(table, "text_column", name, (), set())
    text, found = find_columns(table, texts[0] if texts else None, label, taken=texts or ())
    chosen = tuple(texts) if texts else (text,)
    if found in chosen:
        raise DataError(
            f"{table.place}: {format_value(found)} is named in data.text_column and in "
            f"data.label_column; name two of {format_choices(table.columns)}"
        )
    by_look = (text if texts is None and text.lower() not in TEXT_NAMES else None,
               found if label is None and found.lower() not in LABEL_NAMES else None)  # fmt: skip
    return Columns(chosen, found, tuple(name for name in by_look if name is not None))


def find_split_column(table: Table, columns: Columns) -> str | None:
    """Return the column besides ``columns`` whose values are all words for splits, for training and
    at least one other."""
    for name, values in table.columns.items():
        free = name not in (*columns.texts, columns.label)
        if free and all(isinstance(value, str) and find_split(value.strip()) for value in values):
            found = {find_split(value.strip()) for value in set(values)}
            if "train" in found and len(found) > 1:
                return name
    return None


def find_columns(
    table: Table, text: str | None, label: str | None, taken: Sequence[str] = ()
) -> tuple[str, str]:
    """Return the names of the text column and the label column of ``table``.

    A column is the one that is asked for, else the first with a usual name (letter case aside where
    none is written just so), else the only one that looks right: a text column is mostly different
    texts of several words, a label column has few values that come back. None of ``taken`` becomes
    the label column.
    Raises DataError with the columns there are.
    """
    if label is None:
        check_first_lines(table, text)
    text = _pick(table, "text_column", text, TEXT_NAMES, {label})
    return text, _pick(table, "label_column", label, LABEL_NAMES, {text, *taken})


def check_first_lines(table: Table, text: str | None) -> None:
    """Raise DataError if a file of ``table`` has data where column names are needed; ``text`` is
    the column that the user asks for."""
    for part in table.parts or (table,):
        if part.lines is not None and not part.headless:
            check_first_line(part, TEXT_NAMES, LABEL_NAMES, text)


def _pick(
    table: Table, key: str, wanted: str | None, usual: Sequence[str], taken: set[str | None]
) -> str:
    if wanted is not None:
        _check_wanted(table, key, wanted)
        return wanted
    free = [name for name in table.columns if name not in taken]
    for name in usual:
        twice = [column for column in table.repeated if column.lower() == name]
        same = sorted((c for c in free if c.lower() == name), key=lambda c: c != name)
        if twice:
            raise DataError(_explain_repeated(table, twice[0]))
        if same:
            return same[0]
    looks = looks_like_text if key == "text_column" else looks_like_labels
    alike = [name for name in free if looks(table.columns[name])]
    if len(alike) == 1:
        return alike[0]
    named = [name for name in table.columns if name in taken and name.lower() in usual]
    if named and not alike:
        other = "text_column" if key == "label_column" else "label_column"
        raise DataError(
            f"{table.place}: {format_value(named[0])} is named in data.{other}; take it out there, "
            f"or name another column in data.{key}"
        )
    raise DataError(_explain(table, key, usual, alike))


def _check_wanted(table: Table, key: str, wanted: str) -> None:
    if wanted in table.repeated:
        raise DataError(_explain_repeated(table, wanted))
    if wanted not in table.columns:
        raise DataError(
            f"{table.place}: data.{key} names {format_value(wanted)}, but the columns are "
            f"{format_choices(table.columns)}; name one of these{_suggest_names(table)}"
        )


def _explain_repeated(table: Table, name: str) -> str:
    return f"{table.place}: has two columns named {format_value(name)}; rename one"


def _explain(table: Table, key: str, usual: Sequence[str], alike: list[str]) -> str:
    if table.delimiter and len(table.columns) + len(table.repeated) == 1:
        tried = format_names(map(format_value, CANDIDATES))
        return (
            f"{table.place}: has one column, as none of {tried} parts its first line; name what "
            "does in data.delimiter, or add a column"
        )
    if table.repeated and not alike:
        return _explain_repeated(table, min(table.repeated))
    if key == "text_column" and 1 < len(alike) == len(table.columns):
        return (
            f"{table.place}: all columns look like texts ({format_choices(alike)}), and none is "
            "left for the labels; write each text and its label in one row"
        )
    kind = "texts" if key == "text_column" else "labels"
    several = f"several look like {kind} ({format_choices(alike)})"
    lists = _list_nested(table) if key == "text_column" else []
    note = f" ({format_choices(lists)}: lists, so write one text a row)" if lists else ""
    choices = [name for name in table.columns if name not in lists]
    return (
        f"{table.place}: no column is named {' or '.join(usual)}, and "
        f"{several if alike else f'none looks like {kind}{note}'}; set data.{key} to one of "
        f"{format_choices(choices or table.columns)}{_suggest_names(table)}"
    )


def _list_nested(table: Table) -> list[str]:
    """Return the columns that hold lists in each row."""
    columns = table.columns.items()
    return [n for n, values in columns if values and all(isinstance(v, list) for v in values)]


def _suggest_names(table: Table) -> str:
    """Return the remedy for a file whose first line was not meant to be names."""
    if not may_be_data(table, USUAL):
        return ""
    return f", or, if the first line is data, set {suggest_columns(table)}"
