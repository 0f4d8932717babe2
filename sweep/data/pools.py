"""The rows of each split: the usable ones by label, the others by why they are left out."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sweep.data.corpus import Corpus
from sweep.data.files.names import SPLITS
from sweep.data.rows import Row
from sweep.storage.account import Reason

SHARED = {"test": Reason.IN_TEST, "validation": Reason.IN_VALIDATION}


@dataclass(frozen=True)
class Pool:
    """What became of the rows of one split; each row is counted once."""

    # Row numbers and texts by label, in file order.
    usable: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    left_out: Counter[Reason] = field(default_factory=Counter)
    # The rows left out, under each of their labels.
    by_label: defaultdict[str, Counter[Reason]] = field(
        default_factory=lambda: defaultdict(Counter)
    )

    def size(self, label: str) -> int:
        return len(self.usable.get(label, ()))


def fill_pools(
    corpus: Corpus, excluded: Collection[str], label_order: Sequence[str]
) -> dict[str, Pool]:
    """Return the pool of each split; only labels of ``label_order`` that are not ``excluded``
    are usable."""
    trained = {row.labels[0] for row in corpus.splits["train"] if len(row.labels) == 1}
    by_label = dict.fromkeys(trained, Reason.NOT_IN_LABEL_ORDER)
    by_label |= dict.fromkeys(excluded, Reason.EXCLUDED_LABEL)
    usable = set(label_order) - set(excluded)
    pools: dict[str, Pool] = {}
    later: dict[str, Reason] = {}
    for split in reversed(SPLITS):
        rows = corpus.splits[split]
        pools[split] = _fill_pool(rows, by_label, usable, later)
        if split in SHARED:
            later = dict.fromkeys((row.text for row in rows), SHARED[split]) | later
    return pools


def _fill_pool(
    rows: Sequence[Row],
    unusable: Mapping[str, Reason],
    usable: Collection[str],
    later: Mapping[str, Reason],
) -> Pool:
    # ``later`` holds the texts of the splits that come after this one.
    labels_of: dict[str, set[tuple[str, ...]]] = {}
    for row in rows:
        labels_of.setdefault(row.text, set()).add(row.labels)
    pool, taken = Pool(), set[str]()
    for number, row in enumerate(rows):
        reason = _check_labels(row, unusable, usable) or later.get(row.text)
        if reason is None and len(labels_of[row.text]) > 1:
            reason = Reason.CONFLICTING_LABELS
        if reason is None and row.text in taken:
            reason = Reason.REPEATED
        if reason is None:
            taken.add(row.text)
            pool.usable.setdefault(row.labels[0], []).append((number, row.text))
            continue
        pool.left_out[reason] += 1
        for label in row.labels:
            pool.by_label[label][reason] += 1
    return pool


def _check_labels(
    row: Row, unusable: Mapping[str, Reason], usable: Collection[str]
) -> Reason | None:
    if len(row.labels) != 1:
        # Reading lets no row without a label through, but a corpus may be built by hand.
        return Reason.SEVERAL_LABELS if row.labels else Reason.WITHOUT_LABEL
    (label,) = row.labels
    if label in usable:
        return None
    return unusable.get(label, Reason.LABEL_NOT_IN_TRAINING)
