"""What the values of a column look like: texts, labels, or numbers."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

# More letters in a row than a word has; a protein or a gene has them.
LONG_RUN = 25
# Largest share of rows with a unique value in a column whose values repeat.
MAX_UNIQUE = 0.02
# The last Latin letter; beyond it are emoji and scripts that may not separate words by spaces.
LATIN_END = "\u024f"


def looks_like_text(values: Sequence[Any]) -> bool:
    """Return whether most of ``values`` are wordy and distinct."""
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    wordy = sum(map(is_wordy, texts))
    return bool(texts) and wordy * 2 > len(texts) and len(set(texts)) * 2 > len(texts)


def looks_like_labels(values: Sequence[Any]) -> bool:
    """Return whether there are two or more values, which occur at least twice on average."""
    known = [str(value) for value in values if value is not None and value == value and value != ""]
    return 2 <= len(set(known)) <= len(known) // 2


def repeats(values: Sequence[Any]) -> bool:
    """Return whether nearly every value occurs more than once."""
    counts = Counter(str(value) for value in values if value not in ("", None))
    unique = sum(count == 1 for count in counts.values())
    return bool(counts) and unique <= MAX_UNIQUE * counts.total()


def is_wordy(text: str) -> bool:
    """Return whether ``text`` has two words, a very long one, or characters (emoji included) of a
    script that may not separate words by spaces."""
    parts = text.split()[:20]
    if sum(any(char.isalpha() for char in part) for part in parts) > 1:
        return True
    if any(len(part) >= LONG_RUN and part.isalpha() for part in parts):
        return True
    return not text.isascii() and any(map(_is_foreign, text))


def _is_foreign(char: str) -> bool:
    return char > LATIN_END and (char.isalpha() or unicodedata.category(char) == "So")


def is_number(text: str) -> bool:
    # With a decimal point or comma.
    try:
        float(text.replace(",", ".", 1))
    except ValueError:
        return False
    return True
