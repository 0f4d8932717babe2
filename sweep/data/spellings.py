"""One spelling for number labels that files write in several ways: 1, 1.0 and +1, true and True.

pandas writes ``1.0`` for ``1`` in a column where any row lacks a label, and each format has its own
true and false. The labels of all splits are considered together. They get one spelling only if each
is a number (or each is true or false, or 0 or 1) and files differ in how they write one. Otherwise,
and if one file has both ``1.0`` and ``1`` (as versions do), all stay as written.
"""

import re
from collections.abc import Collection, Set

# Neither 007 nor 1e5: these are names.
NUMBER = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
BOOLEANS = {"true": "1", "false": "0"}


def unify_spellings(splits: Collection[Set[str]]) -> dict[str, str]:
    """Return spelling -> common spelling, for the labels of ``splits`` that have to change."""
    labels = set[str]().union(*splits)
    values = {label: _read_value(label) for label in labels}
    known = {value for value in values.values() if value is not None}
    if None in values.values() or len(known) == len(labels):
        return {}
    if any(len({values[label] for label in split}) < len(split) for split in splits):
        return {}
    booleans = {label for label in labels if label.lower() in BOOLEANS}
    if booleans and not known <= {"0", "1"}:
        return {}
    if booleans == labels:
        return {label: label.capitalize() for label in labels if label != label.capitalize()}
    return {label: value for label, value in values.items() if value and value != label}


def find_label(name: str, labels: Collection[str]) -> str:
    """Return the label that ``name`` is, or spells differently (``1.0`` for ``1``); ``name`` itself
    where that is none of ``labels``, or several."""
    value = _read_value(name)
    if name in labels or value is None:
        return name
    values = {label: _read_value(label) for label in labels}
    same = [label for label, other in values.items() if other == value]
    words = any(text.lower() in BOOLEANS for text in (name, *same))
    if len(same) != 1 or (words and not {*values.values()} <= {"0", "1"}):
        return name
    return same[0]


def _read_value(label: str) -> str | None:
    """Return the shortest spelling of the number ``label``; None if it is not a number."""
    if label.lower() in BOOLEANS:
        return BOOLEANS[label.lower()]
    if not NUMBER.fullmatch(label):
        return None
    text = label.lstrip("+")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
