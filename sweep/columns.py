"""Which column of a table holds the texts and which the labels: by name, else by look."""

from collections.abc import Sequence
from typing import Any

from sweep.errors import DataError
from sweep.phrases import show_names, show_value
from sweep.readers import Table

TEXT_NAMES = ("text", "sentence", "content")
LABEL_NAMES = ("labels", "label", "emotion", "emotions", "category", "class")


def find_columns(table: Table, text: str | None, label: str | None) -> tuple[str, str]:
    """Return the names of the text column and the label column of ``table``.

    A column is the one that is asked for, else the first with a usual name (letter case aside),
    else the only one that looks right: a text column is mostly different texts of several words,
    a label column has few values that come back. Raises DataError with the columns there are.
    """
    text = _pick(table, "text_column", text, TEXT_NAMES, {label})
    found = _pick(table, "label_column", label, LABEL_NAMES, {text})
    if label is None and found.lower() not in LABEL_NAMES:
        _check_header(table, found)
    return text, found


def _pick(
    table: Table, key: str, wanted: str | None, usual: Sequence[str], taken: set[str | None]
) -> str:
    if wanted is not None:
        if wanted not in table.columns:
            raise DataError(
                f"{table.place}: data.{key} names {show_value(wanted)}, but the columns are "
                f"{show_names(table.columns)}; name one of these"
            )
        return wanted
    free = [name for name in table.columns if name not in taken]
    for name in usual:
        same = [column for column in free if column.lower() == name]
        if same:
            return same[0]
    looks = _looks_like_text if key == "text_column" else _looks_like_labels
    alike = [name for name in free if looks(table.columns[name])]
    if len(alike) != 1:
        raise DataError(_explain(table, key, usual, alike))
    return alike[0]


def _explain(table: Table, key: str, usual: Sequence[str], alike: list[str]) -> str:
    kind = "texts" if key == "text_column" else "labels"
    several = f"several look like {kind} ({show_names(alike)})"
    return (
        f"{table.place}: no column is named {' or '.join(usual)}, and "
        f"{several if alike else f'none looks like {kind}'}; set data.{key} to one of "
        f"{show_names(table.columns)}"
    )


def _check_header(table: Table, label: str) -> None:
    if table.lines is not None and label in {str(value) for value in table.columns[label]}:
        raise DataError(
            f"{table.place}: the first line holds {show_value(label)}, a label, where column "
            "names are needed; put a line of column names such as text and label above it"
        )


def _looks_like_text(values: list[Any]) -> bool:
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    wordy = sum(map(_is_wordy, texts))
    return bool(texts) and wordy * 2 > len(texts) and len(set(texts)) * 2 > len(texts)


def _is_wordy(text: str) -> bool:
    """Whether ``text`` has two words, or letters of a script that may not space its words."""
    words = sum(any(char.isalpha() for char in part) for part in text.split()[:20])
    return words > 1 or (not text.isascii() and any(c.isalpha() and c > "\u024f" for c in text))


def _looks_like_labels(values: list[Any]) -> bool:
    known = [str(value) for value in values if value is not None and value == value and value != ""]
    return 2 <= len(set(known)) <= len(known) // 2
