"""Checks that the subsets of a corpus are exactly the requested ones."""

import re
from collections import Counter

from cases import REACHED, check_sentence

from sweep.data import SPLITS, Corpus, Row, Subset, Subsets
from sweep.errors import DataError


def count_usable(corpus: Corpus, split: str, excluded: frozenset[str]) -> Counter[str]:
    """Count by the definition: texts with one label, in no later split, counted once."""
    later = {row.text for name in SPLITS[SPLITS.index(split) + 1 :] for row in corpus.splits[name]}
    labels_of: dict[str, set[tuple[str, ...]]] = {}
    for row in corpus.splits[split]:
        labels_of.setdefault(row.text, set()).add(row.labels)
    return Counter(
        next(iter(labels))[0]
        for text, labels in labels_of.items()
        if text not in later and len(labels) == 1
        for only in labels
        if len(only) == 1 and only[0] not in excluded
    )


def check_subsets(
    corpus: Corpus, k: int, n: int, seed: int, excluded: frozenset[str] = frozenset()
) -> None:
    """Check the three subsets of a cell, and that an error is raised exactly if it has to be."""
    subsets = Subsets(corpus, exclude_labels=excluded)
    usable = {split: count_usable(corpus, split, excluded) for split in SPLITS}
    try:
        found = [subsets.training(k, n, seed)]
        found += [subsets.evaluation(split, k, [n]) for split in SPLITS[1:]]
    except DataError as error:
        check_sentence(error)
        labels = subsets.label_order[:k]
        enough = len(labels) == k and n % k == 0
        enough = enough and all(usable["train"][label] >= n // k for label in labels)
        assert not (enough and all(usable[s][label] for label in labels for s in SPLITS[1:]))
        check_remedies(corpus, subsets, str(error), (k, n, seed), excluded)
        return
    for split, subset in zip(SPLITS, found, strict=True):
        size = n // k if split == "train" else min(usable[split][each] for each in subset.labels)
        check_subset(corpus, split, subset, k, size)
    REACHED["subsets"] += 1
    check_nesting(subsets, k, n, seed, found[0])
    check_fingerprint(corpus, subsets, k, n, seed, excluded)


def check_remedies(
    corpus: Corpus,
    subsets: Subsets,
    sentence: str,
    cell: tuple[int, int, int],
    excluded: frozenset[str],
) -> None:
    """Apply the remedies in the sentence: none that names a number or labels is refused in turn."""
    k, n, seed = cell
    key, remedy = sentence.partition(":")[0], sentence.rpartition("; ")[2]
    most, fewer, names = (
        re.search(pattern, remedy)
        for pattern in (
            r"use at most (\d+)(?! and)",
            r"lower grid.n_labels to (\d+)",
            r"in data.label_order \(([\w, ]+)\)",
        )
    )
    if most and key == "grid.n_samples":
        assert len(subsets.training(k, int(most[1]), seed)) == int(most[1])
    if most and key == "grid.n_labels":
        assert len(subsets.labels_for(int(most[1]))) == int(most[1]) > 1
    if fewer:
        subsets.of_cell(int(fewer[1]), n, seed)
    if names:
        Subsets(corpus, excluded, names[1].split(", ")).of_cell(k, n, seed)
    if "set data.exclude_labels=[]" in remedy and not most:
        Subsets(corpus, ()).labels_for(k)
    REACHED["remedies"] += bool(most or fewer or names)


def check_subset(corpus: Corpus, split: str, subset: Subset, k: int, size: int) -> None:
    assert len(set(subset.labels)) == len(subset.labels) == k
    assert Counter(subset.classes) == dict.fromkeys(range(k), size)
    assert len(set(subset.texts)) == len(set(subset.items)) == len(subset) == k * size
    for text, place, number in zip(subset.texts, subset.classes, subset.items, strict=True):
        assert corpus.splits[split][number] == Row(text, (subset.labels[place],))
    for other in SPLITS[SPLITS.index(split) + 1 :]:
        assert not set(subset.texts) & {row.text for row in corpus.splits[other]}


def check_nesting(subsets: Subsets, k: int, n: int, seed: int, full: Subset) -> None:
    assert subsets.training(k, n, seed) == full
    for part in range(k, n, k):
        assert set(subsets.training(k, part, seed).texts) <= set(full.texts)
    if k > 2:
        few = subsets.training(2, n // k * 2, seed)
        assert few.labels == full.labels[:2]
        assert set(few.texts) <= set(full.texts)


def check_fingerprint(
    corpus: Corpus, subsets: Subsets, k: int, n: int, seed: int, excluded: frozenset[str]
) -> None:
    """Check that the fingerprint is that of the texts, whatever the order of the rows."""
    turned = Corpus({split: rows[::-1] for split, rows in corpus.splits.items()})
    assert Subsets(turned, excluded).fingerprint(k, n, seed) == subsets.fingerprint(k, n, seed)
