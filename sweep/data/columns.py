"""Which columns of a table hold the texts and which the labels: by name, else by content."""

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
    """The names of the columns to read."""

    # One or more; their texts are joined in this order.
    texts: tuple[str, ...]
    label: str
    # Those found by content: neither configured nor called by a usual name.
    guessed: tuple[str, ...] = ()


def choose_columns(table: Table, texts: Sequence[str] | None, label: str | None) -> Columns:
    """Return the text columns and the label column of ``table``.

    ``texts`` and ``label`` are the configured names; ``find_columns`` finds what is None.
    Raises DataError that lists the columns there are.
    """
    for name in texts or ():
        _pick(table, "text_column", name, (), set())
    text, found = find_columns(table, texts[0] if texts else None, label, taken=texts or ())
    chosen = tuple(texts) if texts else (text,)
    if found in chosen:
        raise DataError(
            f"{table.location}: {format_value(found)} is named in data.text_column and in "
            f"data.label_column; choose two of {format_choices(table.columns)}"
        )
    by_look = (text if texts is None and text.lower() not in TEXT_NAMES else None,
               found if label is None and found.lower() not in LABEL_NAMES else None)  # fmt: skip
    return Columns(chosen, found, tuple(name for name in by_look if name is not None))


def choose_text_columns(table: Table, texts: Sequence[str] | None) -> tuple[str, ...]:
    """Return the text columns of a table without labels: ``texts``, or, if None, the one found by
    name or content. Raises DataError that lists the columns there are."""
    for name in texts or ():
        _check_wanted(table, "text_column", name)
    return tuple(texts) if texts else (_pick(table, "text_column", None, TEXT_NAMES, set()),)


def find_split_column(table: Table, columns: Columns) -> str | None:
    """Return the column besides ``columns`` whose values all name splits, training among them."""
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

    A column is the configured one, else the first with a usual name (an exact match before one in
    another letter case), else the only one whose content fits: a text column holds mostly different
    texts of several words, a label column few values that repeat. None of ``taken`` becomes the
    label column. Raises DataError that lists the columns there are.
    """
    if label is None:
        check_first_lines(table, text)
    text = _pick(table, "text_column", text, TEXT_NAMES, {label})
    return text, _pick(table, "label_column", label, LABEL_NAMES, {text, *taken})


def check_first_lines(table: Table, text: str | None) -> None:
    """Raise DataError if a file of ``table`` has data where column names are needed; ``text`` is
    the configured text column."""
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
    matches = [name for name in free if looks(table.columns[name])]
    if len(matches) == 1:
        return matches[0]
    named = [name for name in table.columns if name in taken and name.lower() in usual]
    if named and not matches:
        other = "text_column" if key == "label_column" else "label_column"
        raise DataError(
            f"{table.location}: {format_value(named[0])} is named in data.{other}; remove it "
            f"there, or name another column in data.{key}"
        )
    raise DataError(_explain(table, key, usual, matches))


def _check_wanted(table: Table, key: str, wanted: str) -> None:
    if wanted in table.repeated:
        raise DataError(_explain_repeated(table, wanted))
    if wanted not in table.columns:
        raise DataError(
            f"{table.location}: data.{key} names {format_value(wanted)}, but the columns are "
            f"{format_choices(table.columns)}; choose one of these{_suggest_names(table)}"
        )


def _explain_repeated(table: Table, name: str) -> str:
    return f"{table.location}: has two columns named {format_value(name)}; rename one"


def _explain(table: Table, key: str, usual: Sequence[str], matches: list[str]) -> str:
    if table.delimiter and len(table.columns) + len(table.repeated) == 1:
        tried = format_names(map(format_value, CANDIDATES))
        return (
            f"{table.location}: has one column, as none of {tried} separates its first line; name "
            "what does in data.delimiter, or add a column"
        )
    if table.repeated and not matches:
        return _explain_repeated(table, min(table.repeated))
    if key == "text_column" and 1 < len(matches) == len(table.columns):
        return (
            f"{table.location}: all columns look like texts ({format_choices(matches)}), and none "
            "is left for the labels; write each text and its label in one row"
        )
    kind = "texts" if key == "text_column" else "labels"
    several = f"several look like {kind} ({format_choices(matches)})"
    lists = _list_nested(table) if key == "text_column" else []
    note = f" ({format_choices(lists)}: lists, so write one text per row)" if lists else ""
    choices = [name for name in table.columns if name not in lists]
    return (
        f"{table.location}: no column is named {' or '.join(usual)}, and "
        f"{several if matches else f'none looks like {kind}{note}'}; set data.{key} to one of "
        f"{format_choices(choices or table.columns)}{_suggest_names(table)}"
    )


def _list_nested(table: Table) -> list[str]:
    columns = table.columns.items()
    return [n for n, values in columns if values and all(isinstance(v, list) for v in values)]


def _suggest_names(table: Table) -> str:
    if not may_be_data(table, USUAL):
        return ""
    return f", or, if the first line is data, set {suggest_columns(table)}"
