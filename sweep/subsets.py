"""Balanced nested subsets of a corpus, the same on every machine, and their fingerprints."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sweep.data import SPLITS, Corpus, Row
from sweep.errors import DataError
from sweep.phrases import show_names, show_value

Drawn = tuple[int, str, int]
"""Row number, text and class index."""


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
class Dropped:
    """How many rows of one split were left out, and why (each row counted once)."""

    several_labels: int
    excluded_label: int
    in_another_split: int
    repeated: int


@dataclass(frozen=True)
class CellData:
    """The three subsets of a cell."""

    training: Subset
    validation: Subset
    test: Subset


class Subsets:
    """All subsets that a corpus can give.

    Only rows with exactly one label count. Labels are ordered by their training frequency, so
    the set of 2 lies inside that of 4; within a label, texts are ordered by a hash of seed and
    text, so 800 samples lie inside 1600. A text that stands in more than one split is dropped
    from training (and from validation where it stands in test); of a text that is repeated
    inside a split with the same label one copy stays, with different labels none.
    """

    def __init__(
        self,
        corpus: Corpus,
        exclude_labels: Iterable[str] = ("neutral",),
        label_order: Iterable[str] | None = None,
        max_eval_per_label: int | None = None,
    ) -> None:
        """Sort ``corpus`` by split and label; raise DataError if ``label_order`` names a label
        that has no single-label training row."""
        self._excluded = frozenset(exclude_labels)
        self._max_eval = max_eval_per_label
        self._all_labels = {row.labels[0] for row in corpus.splits["train"] if row.labels}
        self.counts = Counter(
            row.labels[0]
            for row in corpus.splits["train"]
            if len(row.labels) == 1 and row.labels[0] not in self._excluded
        )
        self.label_order = self._order_labels(label_order)
        self.training_texts = [row.text for row in corpus.splits["train"]]
        self._pools: dict[str, dict[str, list[tuple[int, str]]]] = {}
        self._ranked: dict[tuple[str, str, str], list[tuple[int, str]]] = {}
        self.dropped: dict[str, Dropped] = {}
        later: set[str] = set()
        for split in reversed(SPLITS):
            self._fill_pool(split, corpus.splits[split], later)
            later |= {row.text for row in corpus.splits[split]}

    def _order_labels(self, wanted: Iterable[str] | None) -> tuple[str, ...]:
        if wanted is None:
            return tuple(sorted(self.counts, key=lambda name: (-self.counts[name], name)))
        order = tuple(wanted)
        unknown = next((name for name in order if name not in self.counts), None)
        if unknown is not None:
            raise DataError(
                f"data.label_order: {show_value(unknown)} labels no training text on its own; the "
                f"labels are {show_names(sorted(self.counts))}"
            )
        return order

    def _fill_pool(self, split: str, rows: list[Row], later: set[str]) -> None:
        """Keep the usable rows of ``split``; ``later`` holds the texts of the splits after it."""
        seen: dict[str, set[tuple[str, ...]]] = {}
        for row in rows:
            seen.setdefault(row.text, set()).add(row.labels)
        taken: set[str] = set()
        pool: dict[str, list[tuple[int, str]]] = {}
        dropped: Counter[str] = Counter()
        for number, row in enumerate(rows):
            reason = self._reason_to_drop(row, seen, taken, later)
            dropped[reason] += 1
            if not reason:
                taken.add(row.text)
                pool.setdefault(row.labels[0], []).append((number, row.text))
        self._pools[split] = pool
        del dropped[""]
        self.dropped[split] = Dropped(**{name: dropped[name] for name in Dropped.__annotations__})

    def _reason_to_drop(
        self, row: Row, seen: dict[str, set[tuple[str, ...]]], taken: set[str], later: set[str]
    ) -> str:
        if len(row.labels) != 1:
            return "several_labels"
        if row.labels[0] in self._excluded:
            return "excluded_label"
        if row.text in later:
            return "in_another_split"
        if row.text in taken or len(seen[row.text]) > 1:
            return "repeated"
        return ""

    def labels_for(self, n_labels: int) -> tuple[str, ...]:
        """Return the ``n_labels`` first labels; raise DataError if there are fewer."""
        if n_labels > len(self.label_order):
            left_out = sorted(self._excluded & self._all_labels)
            note = f" (data.exclude_labels leaves out {show_names(left_out)})" if left_out else ""
            raise DataError(
                f"grid.n_labels: {n_labels} labels asked, but the data have "
                f"{len(self.label_order)}: {show_names(self.label_order)}{note}; "
                f"take at most {len(self.label_order)}"
            )
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
        """Return the three subsets of a cell."""
        return CellData(
            self.training(n_labels, n_samples, seed),
            self.evaluation("validation", n_labels),
            self.evaluation("test", n_labels),
        )

    def evaluation(self, split: str, n_labels: int) -> Subset:
        """Return the balanced ``validation`` or ``test`` subset of a label set: as many texts of
        each label as its rarest label has (at most ``max_eval_per_label``).

        Their order follows from the texts alone: predictions of one trial stand beside those of
        another, made after the rows were sorted anew."""
        labels = self.labels_for(n_labels)
        sizes = {label: len(self._pools[split].get(label, ())) for label in labels}
        rarest = min(sizes, key=lambda label: sizes[label])
        if sizes[rarest] == 0:
            raise DataError(
                f"data: the {split} split has no text labelled only {show_value(rarest)}; lower "
                "grid.n_labels or name other labels in data.label_order"
            )
        per_label = min(sizes[rarest], self._max_eval or sizes[rarest])
        rows = self._draw(split, labels, per_label, "")
        return _build_subset(labels, sorted(rows, key=lambda row: _rank("", row[1])))

    def fingerprint(self, n_labels: int, n_samples: int, seed: int) -> str:
        """Return a hash of the texts and classes of the cell's three subsets."""
        digest = hashlib.sha256()
        subsets = [self.training(n_labels, n_samples, seed)]
        subsets += [self.evaluation(split, n_labels) for split in ("validation", "test")]
        for subset in subsets:
            for text, label in sorted(zip(subset.texts, subset.classes, strict=True)):
                _hash_text(digest, text, label)
            digest.update(b"\0")
        return digest.hexdigest()[:16]

    def _check_training(self, labels: tuple[str, ...], n_samples: int, per_label: int) -> None:
        sizes = {label: len(self._pools["train"].get(label, ())) for label in labels}
        short = {label: size for label, size in sizes.items() if size < per_label}
        if short:
            listed = show_names(f"{label} has {size}" for label, size in short.items())
            most = min(sizes.values()) * len(labels)
            raise DataError(
                f"grid.n_samples: {n_samples} samples over {len(labels)} labels need {per_label} "
                f"training texts of each, but {listed}; take at most {most}"
            )

    def _draw(self, split: str, labels: tuple[str, ...], per_label: int, seed: str) -> list[Drawn]:
        return [
            (number, text, index)
            for index, label in enumerate(labels)
            for number, text in self._rank_pool(split, label, seed)[:per_label]
        ]

    def _rank_pool(self, split: str, label: str, seed: str) -> list[tuple[int, str]]:
        key = (split, label, seed)
        if key not in self._ranked:
            pool = self._pools[split][label]
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
