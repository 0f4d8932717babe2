"""The rows of a table: a text and its labels each, and what was left out in reading them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sweep.config import DataConfig
from sweep.data.columns import USUAL, Columns
from sweep.data.files.headers import check_first_row
from sweep.data.files.table import Table
from sweep.data.labels import check_characters, parse_labels
from sweep.data.spellings import unify_spellings
from sweep.errors import DataError, format_names, format_split_remedy, format_value


@dataclass(frozen=True, slots=True)
class Row:
    """One text and the names of its labels."""

    text: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SplitSource:
    """Where the rows of one split came from, and what was left out in reading them."""

    # Absolute or as the user wrote them; or the Hub dataset and its split.
    files: tuple[str, ...] = ()
    text_columns: tuple[str, ...] = ()
    label_column: str = ""
    # Rows read, those left out included.
    rows: int = 0
    without_text: int = 0
    without_label: int = 0
    # The columns found by content: neither configured nor called by a usual name.
    guessed: tuple[str, ...] = ()


def check_keys(tables: Iterable[Table], config: DataConfig) -> None:
    """Raise DataError for a key about delimited files where no table is one."""
    others = [table for table in tables if table.delimiter is None]
    if any(table.delimiter is not None for table in tables):
        return
    given = {
        "data.columns": config.columns is not None,
        "data.delimiter": config.delimiter is not None,
        "data.quoted": not config.quoted,
    }
    key = next((key for key, is_given in given.items() if is_given), None)
    if key is not None:
        raise DataError(
            f"{others[0].location}: {key} is for CSV and TSV files, and this is neither: its "
            f"columns are {format_names(others[0].columns)}; leave {key} out"
        )


def read_unlabeled(table: Table, columns: Columns) -> tuple[list[Row], SplitSource]:
    """Return no rows, and the source of the texts without labels."""
    texts = zip(*(table.columns[name] for name in columns.texts), strict=True)
    without_text = sum(all(map(_is_missing, values)) for values in texts)
    source = SplitSource(table.sources, columns.texts, "", table.n_rows, without_text)
    return [], replace(source, without_label=table.n_rows - without_text)


def drop_placeholders(
    read: tuple[list[Row], SplitSource], train: list[Row]
) -> tuple[list[Row], SplitSource]:
    """Leave out the rows of a split whose labels are all a -1 that training does not have."""
    rows, source = read
    if {row.labels for row in rows} != {("-1",)} or any("-1" in row.labels for row in train):
        return read
    return [], replace(source, without_label=source.without_label + len(rows))


def _is_missing(value: Any) -> bool:
    return value is None or value != value or not str(value).strip()


def read_rows(
    table: Table, columns: Columns, names: Sequence[str] | None, separator: str | None
) -> tuple[list[Row], SplitSource]:
    """Return the rows of ``table`` that have a text and a label, and their source.

    ``names`` are the label names behind integers. Raises DataError that names the row that cannot
    be read.
    """
    rows = []
    no_text = no_label = 0
    texts = zip(*(table.columns[name] for name in columns.texts), strict=True)
    for number, (values, label) in enumerate(zip(texts, table.columns[columns.label], strict=True)):
        try:
            text, labels = join_texts(values), parse_labels(label, names, separator)
        except ValueError as error:
            raise DataError(f"{table.where(number)}: {error}; fix or delete the row") from None
        if text and labels:
            rows.append(Row(text, labels))
        no_text += not text
        no_label += bool(text) and not labels
    read = len(table.columns[columns.label])
    return rows, SplitSource(
        table.sources, columns.texts, columns.label, read, no_text, no_label, columns.guessed
    )


def find_names(
    table: Table, others: Iterable[Table], columns: Columns, separator: str | None
) -> list[str] | None:
    """Return the names behind the integers of the label column: the table's own, else those of
    the first of ``others`` that has any, if they fit every label of the table."""
    if table.class_names.get(columns.label):
        return table.class_names[columns.label]
    found = (other.class_names.get(columns.label) for other in others)
    names = next(filter(None, found), None)
    try:
        for value in table.columns[columns.label] if names else ():
            parse_labels(value, names, separator)
    except ValueError:
        return None
    return names


def are_names(values: Iterable[Any], names: Sequence[str], separator: str | None) -> bool:
    """Return whether the labels are the same without ``names``, which they then do not need."""
    return all(
        parse_labels(value, None, separator) == parse_labels(value, names, separator)
        for value in values
    )


def normalize_spellings(rows: dict[str, list[Row]]) -> dict[str, str]:
    """Write the number labels in ``rows`` one way in all splits; return spelling -> label."""
    labels = [{label for row in kept for label in row.labels} for kept in rows.values()]
    spellings = unify_spellings(labels)
    if spellings:
        for split, kept in rows.items():
            rows[split] = [Row(row.text, _spell(row.labels, spellings)) for row in kept]
    return spellings


def _spell(labels: Iterable[str], spellings: dict[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(spellings.get(label, label) for label in labels))


def check_columns(split: str, table: Table, columns: Columns) -> None:
    """Raise DataError if ``table`` lacks a column that the training data have."""
    for name in (*columns.texts, columns.label):
        if name in table.unreadable:
            raise DataError(
                f"{table.location}: the column {format_value(name)} {table.unreadable[name]}; "
                f"write it as in the training data, or {format_split_remedy(split)}"
            )
        if name in table.repeated:
            raise DataError(
                f"{table.location}: has two columns named {format_value(name)}; rename one"
            )
        if name not in table.columns:
            raise DataError(_explain_missing(split, table, name))
    for part in table.parts or (table,):
        if part.headless:
            check_first_row(part, USUAL)


def _explain_missing(split: str, table: Table, name: str) -> str:
    remedy = f"rename one of {format_names(table.columns)}"
    if table.delimiter is not None and not table.headless:
        remedy += ", put a line of column names above it if it has none"
    return (
        f"{table.location}: has no column {name!r} as the training data have; {remedy}, or "
        f"{format_split_remedy(split)}"
    )


def join_texts(values: Iterable[Any]) -> str:
    # Each text on a line of its own; empty where all are missing or blank.
    return "\n".join(filter(None, map(_read_text, values)))


def _read_text(value: Any) -> str:
    if value is None or value != value:
        return ""
    if not isinstance(value, str | int | float):
        raise ValueError(
            f"the text column holds {format_value(value)}, which is not text (data.text_column may "
            "name another column)"
        )
    text = str(value)
    check_characters("the text", text)
    return text if text.strip() else ""
