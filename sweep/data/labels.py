"""The labels of one row: a name, a number, a list, or a text that holds a list."""

import ast
import json
import math
import re
import warnings
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sweep.errors import format_value

# What str() makes of a NumPy array: parted by spaces, which no list is.
ARRAY = re.compile(
    r"""\[\s*(?:[-+.\d]+(?:\s+[-+.\d]+)+|(['"])[^'"]*\1(?:\s+(['"])[^'"]*\2)+)\s*\]"""
)
QUOTED_START = re.compile(r"""\[\s*['"]""")
# An index as text; pandas writes 1.0 where a label of the column is missing.
INDEX = re.compile(r"([+-]?[0-9]+)(?:\.0*)?")
BOOLEANS = {"false": 0, "true": 1}


def parse_labels(
    value: Any, names: Sequence[str] | None = None, separator: str | None = None
) -> tuple[str, ...]:
    """Return the label names that ``value`` holds, each once; empty when it holds none.

    Whole numbers are indices into ``names``, counted from 0 (-1 means unlabelled, as on the Hub);
    without ``names`` numbers are their own text, whole ones without a decimal point. ``separator``
    cuts texts such as ``joy,anger``. A text in brackets that is no list, ``[Bug]``, is a name.
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
        listed = _read_list(text) if text.startswith("[") and text.endswith("]") else None
        if listed is not None:
            return listed
        return text.split(separator) if separator else [text]
    return [value]


def _read_list(text: str) -> Sequence[Any] | None:
    """Return the list in a text, as JSON or as Python (which pandas writes into CSV files); None
    if it holds none."""
    if ARRAY.fullmatch(text):
        raise ValueError(
            f"{format_value(text)} is a NumPy array as text, not a list such as [0, 3]"
        )
    try:
        return list(json.loads(text))
    except RecursionError:
        raise ValueError(f"{format_value(text)} is not a readable list") from None
    except ValueError:
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes inside strings
            found = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        if QUOTED_START.match(text):
            raise ValueError(f"{format_value(text)} is not a readable list") from None
        return None
    return found if isinstance(found, list) else None


def _name_label(value: Any, names: Sequence[str] | None) -> str:
    """Return the name of one label; empty when it is missing."""
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        text = value.strip()
        if not names or not text or text in names:
            return text
    elif isinstance(value, bool):
        text = str(value)
    elif isinstance(value, int) or _is_finite(value):
        text = _write_number(value)
    else:
        raise ValueError(f"{format_value(value)} is neither a name nor a number")
    return _look_up(text, names) if names else text


def _is_finite(value: Any) -> bool:
    return math.isfinite(value) if isinstance(value, float | Decimal) else False


def _write_number(value: int | float | Decimal) -> str:
    if value == int(value):
        return str(int(value))
    return repr(value) if isinstance(value, float) else str(value).rstrip("0")


def _look_up(text: str, names: Sequence[str]) -> str:
    index = _read_index(text, len(names))
    if not -1 <= index < len(names):
        raise ValueError(
            f"{format_value(text)} is neither one of the {len(names)} label names nor an index "
            f"from 0 to {len(names) - 1}"
        )
    return "" if index == -1 else names[index]


def _read_index(text: str, count: int) -> int:
    """Return the index that ``text`` holds; -2 if it holds none."""
    match = INDEX.fullmatch(text)
    if match is None:
        return BOOLEANS.get(text.lower(), -2) if count == len(BOOLEANS) else -2
    # Longer ones are no index, and Python refuses to read them.
    return int(match[1]) if len(match[1]) < 20 else -2
