"""The labels of one row: a name, a whole number, a list, or a text that holds a list."""

import ast
import json
import warnings
from collections.abc import Sequence
from typing import Any

from sweep.phrases import show_value


def parse_labels(
    value: Any, names: Sequence[str] | None = None, separator: str | None = None
) -> tuple[str, ...]:
    """Return the label names that ``value`` holds, each once; empty when it holds none.

    Whole numbers are indices into ``names``, counted from 0 (-1 means unlabelled, as on the Hub);
    without ``names`` they are their own text. ``separator`` cuts texts such as ``joy,anger``.
    Raises ValueError with a phrase that says what is wrong.
    """
    found = (_name_label(part, names) for part in _split_value(value, separator))
    labels = tuple(dict.fromkeys(label for label in found if label))
    check_characters("a label", "".join(labels))
    return labels


def check_characters(what: str, text: str) -> None:
    """Raise ValueError if ``text`` holds what no file can: half of a character's two parts."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} holds half a character (a lone surrogate)") from None


def _split_value(value: Any, separator: str | None) -> Sequence[Any]:
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("[") and text.endswith("]"):
            return _parse_list(text)
        return text.split(separator) if separator else [text]
    return [value]


def _parse_list(text: str) -> Sequence[Any]:
    """Return the list in a text, as JSON or as Python (which pandas writes into CSV files)."""
    try:
        return list(json.loads(text))
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes inside strings
            return list(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise ValueError(f"{show_value(text)} is not a readable list") from None


def _name_label(value: Any, names: Sequence[str] | None) -> str:
    """Return the name of one label; empty when it is missing."""
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        text = value.strip()
        if not names or not text or text in names:
            return text
    elif isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        text = str(value) if isinstance(value, bool) and not names else str(int(value))
    else:
        raise ValueError(f"{show_value(value)} is neither a name nor a whole number")
    return _look_up(text, names) if names else text


def _look_up(text: str, names: Sequence[str]) -> str:
    try:
        index = int(text)
    except ValueError:
        index = -2
    if not -1 <= index < len(names):
        raise ValueError(
            f"{show_value(text)} is neither one of the {len(names)} label names nor an index from "
            f"0 to {len(names) - 1}"
        )
    return "" if index == -1 else names[index]
