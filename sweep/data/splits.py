"""Holds validation and test splits out of the training rows: by seed, the same every time."""

import hashlib
from collections.abc import Mapping, Sequence


def hold_out_splits(
    texts: Sequence[str],
    labels: Sequence[tuple[str, ...]],
    fractions: Mapping[str, float],
    seed: int,
) -> list[str]:
    """Return the split of each row: a key of ``fractions``, or ``train`` for the rest.

    Stratified: each label (or set of labels) gives that fraction of its texts, and at least one
    text if it has three. Texts are ordered by a hash of seed and text, so equal texts fall into
    the same split, and an added or moved row moves at most a few others.
    """
    strata: dict[str, tuple[str, ...]] = {}
    for text, names in zip(texts, labels, strict=True):
        # A text with several label sets counts under the smallest one, whatever the row order.
        key = tuple(sorted(names))
        strata[text] = min(strata.get(text, key), key)
    groups: dict[tuple[str, ...], list[str]] = {}
    for text, key in strata.items():
        groups.setdefault(key, []).append(text)
    chosen: dict[str, str] = {}
    for group in groups.values():
        chosen |= _split_group(sorted(group, key=lambda text: _rank(seed, text)), fractions)
    return [chosen.get(text, "train") for text in texts]


def _split_group(ordered: list[str], fractions: Mapping[str, float]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    start = 0
    for split, fraction in fractions.items():
        size = max(round(len(ordered) * fraction), len(ordered) >= 3)
        chosen |= dict.fromkeys(ordered[start : start + size], split)
        start += size
    return chosen


def _rank(seed: int, text: str) -> bytes:
    # The prefix makes this order independent of the one that subsets are drawn in.
    return hashlib.sha256(f"split\0{seed}\0{text}".encode("utf-8", "backslashreplace")).digest()
