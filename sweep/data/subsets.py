"""Balanced nested subsets of a corpus, the same on every machine, and their fingerprints."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sweep.config import Config, DataConfig
from sweep.data.corpus import Corpus
from sweep.data.pools import fill_pools
from sweep.data.shortage import (
    explain_few_labels,
    explain_few_texts,
    explain_label_order,
    explain_missing_label,
    measure_supply,
)
from sweep.data.sources import load_corpus
from sweep.errors import DataError

# Row number, text and class index.
Drawn = tuple[int, str, int]


@dataclass(frozen=True)
class Subset:
    """Texts of one split with their class indices (into ``labels``) and row numbers."""

    labels: tuple[str, ...]
    texts: tuple[str, ...]
    classes: tuple[int, ...]
    items: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def fingerprint(self) -> str:
        """Return a hash of the labels and of the texts with their classes, in their order."""
        digest = hashlib.sha256(repr(self.labels).encode("utf-8", "backslashreplace"))
        for text, label in zip(self.texts, self.classes, strict=True):
            _hash_text(digest, text, label)
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class CellData:
    training: Subset
    validation: Subset
    test: Subset


class Subsets:
    """All subsets that a corpus can provide.

    Only rows with exactly one label count. Labels are ordered by training frequency, so the set
    of 2 is part of the set of 4; within a label, texts are ordered by a hash of seed and text, so
    800 samples are part of 1600. A text in more than one split is dropped from training (and from
    validation if it is in test); of a text that is repeated within a split, one copy is kept if
    its labels are the same, and none if they differ.
    """

    def __init__(
        self,
        corpus: Corpus,
        exclude_labels: Iterable[str] = ("neutral",),
        label_order: Iterable[str] | None = None,
        max_eval_per_label: int | None = None,
    ) -> None:
        """Raises DataError if ``label_order`` names a label that no training row has alone."""
        self._excluded = frozenset(exclude_labels)
        self._max_eval = max_eval_per_label
        wanted = None if label_order is None else tuple(label_order)
        self.counts = Counter(
            row.labels[0]
            for row in corpus.splits["train"]
            if len(row.labels) == 1 and row.labels[0] not in self._excluded
        )
        self.label_order = self._order_labels(corpus, wanted)
        self.training_texts = [row.text for row in corpus.splits["train"]]
        self._ranked: dict[tuple[str, str, str], list[tuple[int, str]]] = {}
        self._fingerprints: dict[tuple[int, int, int], str] = {}
        self.pools = fill_pools(corpus, self._excluded, self.label_order)
        self._supply = measure_supply(corpus, self.pools, self.label_order, wanted is not None)

    def _order_labels(self, corpus: Corpus, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
        if wanted is None:
            return tuple(sorted(self.counts, key=lambda name: (-self.counts[name], name)))
        unknown = next((name for name in wanted if name not in self.counts), None)
        if unknown is not None:
            raise DataError(explain_label_order(corpus, unknown, self._excluded, self.counts))
        return wanted

    def labels_for(self, n_labels: int) -> tuple[str, ...]:
        """Return the ``n_labels`` first labels; raise DataError if there are fewer."""
        if n_labels > len(self.label_order):
            raise DataError(explain_few_labels(self._supply, n_labels))
        return self.label_order[:n_labels]

    def training(self, n_labels: int, n_samples: int, seed: int) -> Subset:
        """Return ``n_samples`` training texts, exactly ``n_samples / n_labels`` of each label."""
        labels = self.labels_for(n_labels)
        if n_samples % n_labels:
            raise DataError(
                f"grid.n_samples: {n_samples} cannot be balanced over {n_labels} labels; take a "
                "multiple"
            )
        per_label = n_samples // n_labels
        self._check_training(labels, n_samples, per_label)
        return _build_subset(labels, sorted(self._draw("train", labels, per_label, str(seed))))

    def of_cell(self, n_labels: int, n_samples: int, seed: int) -> CellData:
        return CellData(
            self.training(n_labels, n_samples, seed),
            self.evaluation("validation", n_labels, [n_samples]),
            self.evaluation("test", n_labels, [n_samples]),
        )

    def evaluation(self, split: str, n_labels: int, n_samples: Sequence[int] = ()) -> Subset:
        """Return the balanced ``validation`` or ``test`` subset of a label set: as many texts of
        each label as its rarest label has (at most ``max_eval_per_label``).

        Their order depends on the texts alone, so that predictions of different trials line up
        even if the rows were reordered in between. Raises DataError if a label has no text, with a
        remedy that keeps ``n_samples`` possible.
        """
        labels = self.labels_for(n_labels)
        rarest = min(map(self.pools[split].size, labels))
        if rarest == 0:
            raise DataError(explain_missing_label(self._supply, split, labels, n_samples))
        rows = self._draw(split, labels, min(rarest, self._max_eval or rarest), "")
        return _build_subset(labels, sorted(rows, key=lambda row: _rank("", row[1])))

    def fingerprint(self, n_labels: int, n_samples: int, seed: int) -> str:
        """Return a hash of the texts and classes of the cell's three subsets."""
        key = (n_labels, n_samples, seed)
        if key not in self._fingerprints:
            self._fingerprints[key] = self._hash_cell(*key)
        return self._fingerprints[key]

    def _hash_cell(self, n_labels: int, n_samples: int, seed: int) -> str:
        digest = hashlib.sha256()
        subsets = [self.training(n_labels, n_samples, seed)]
        subsets += [self.evaluation(split, n_labels) for split in ("validation", "test")]
        for subset in subsets:
            for text, label in sorted(zip(subset.texts, subset.classes, strict=True)):
                _hash_text(digest, text, label)
            digest.update(b"\0")
        return digest.hexdigest()[:16]

    def _check_training(self, labels: tuple[str, ...], n_samples: int, per_label: int) -> None:
        if min(map(self.pools["train"].size, labels)) < per_label:
            raise DataError(explain_few_texts(self._supply, labels, n_samples, per_label))

    def _draw(self, split: str, labels: tuple[str, ...], per_label: int, seed: str) -> list[Drawn]:
        return [
            (number, text, index)
            for index, label in enumerate(labels)
            for number, text in self._rank_pool(split, label, seed)[:per_label]
        ]

    def _rank_pool(self, split: str, label: str, seed: str) -> list[tuple[int, str]]:
        key = (split, label, seed)
        if key not in self._ranked:
            pool = self.pools[split].usable[label]
            self._ranked[key] = sorted(pool, key=lambda row: _rank(seed, row[1]))
        return self._ranked[key]


def _build_subset(labels: tuple[str, ...], rows: list[Drawn]) -> Subset:
    return Subset(
        labels=labels,
        texts=tuple(text for _, text, _ in rows),
        classes=tuple(index for _, _, index in rows),
        items=tuple(number for number, _, _ in rows),
    )


def _hash_text(digest: "hashlib._Hash", text: str, label: int) -> None:
    digest.update(f"{label}\t{len(text)}\t{text}\n".encode("utf-8", "backslashreplace"))


def _rank(seed: str, text: str) -> bytes:
    # A hash of the text itself: the order survives added, removed or reordered rows.
    return hashlib.sha256(f"{seed}\0{text}".encode("utf-8", "backslashreplace")).digest()


def build_subsets(config: Config) -> Subsets:
    """Load the corpus of ``config`` and return its subsets."""
    return draw_subsets(load_corpus(config.data), config.data)


def draw_subsets(corpus: Corpus, data: DataConfig) -> Subsets:
    """Return the subsets of ``corpus`` with the labels that ``data`` excludes and orders."""
    exclude = [corpus.find_label(name) for name in data.exclude_labels]
    order = data.label_order and [corpus.find_label(name) for name in data.label_order]
    if order and len({*order}) < len(order):
        # Two spellings of one label: Subsets refuses the one that no row has.
        order = data.label_order
    return Subsets(corpus, exclude, order, data.max_eval_per_label)
