"""What a column looks like: texts, labels, or numbers."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

# Letters in a row that no word has, but a protein or a gene does.
LONG_RUN = 25
# Share of rows that may have a value of their own in a column whose values come back.
MOST_ALONE = 0.02
# Beyond Latin letters: scripts that may not space their words, and emoji.
LATIN_END = "\u024f"


def looks_like_text(values: Sequence[Any]) -> bool:
    """Return whether most of ``values`` are wordy and differ."""
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    wordy = sum(map(is_wordy, texts))
    return bool(texts) and wordy * 2 > len(texts) and len(set(texts)) * 2 > len(texts)


def looks_like_labels(values: Sequence[Any]) -> bool:
    """Return whether ``values`` hold two or more that come back twice on average."""
    known = [str(value) for value in values if value is not None and value == value and value != ""]
    return 2 <= len(set(known)) <= len(known) // 2


def comes_back(values: Sequence[Any]) -> bool:
    """Return whether a row of ``values`` drawn at random shares its value with another row."""
    counts = Counter(str(value) for value in values if value not in ("", None))
    alone = sum(count == 1 for count in counts.values())
    return bool(counts) and alone <= MOST_ALONE * counts.total()


def is_wordy(text: str) -> bool:
    """Return whether ``text`` has two words, a very long one, or signs of a script (emoji included)
    that may not space its words."""
    parts = text.split()[:20]
    if sum(any(char.isalpha() for char in part) for part in parts) > 1:
        return True
    if any(len(part) >= LONG_RUN and part.isalpha() for part in parts):
        return True
    return not text.isascii() and any(map(_is_foreign, text))


def _is_foreign(char: str) -> bool:
    return char > LATIN_END and (char.isalpha() or unicodedata.category(char) == "So")


def is_number(text: str) -> bool:
    """Return whether ``text`` is a number, with a decimal point or comma."""
    try:
        float(text.replace(",", ".", 1))
    except ValueError:
        return False
    return True
