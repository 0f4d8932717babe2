"""The studies that the data allow, from the richest to the poorest."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from sweep.drafting.survey import FEWEST, Survey

# Texts per optimizer step (``train.batch_size``).
BATCH = 16
# Texts that a trial trains on at least, all epochs together: some 60 steps.
FEWEST_PASSED = 60 * BATCH
MOST_EPOCHS = 12


class Depth(NamedTuple):
    """How thoroughly each contender is tried: candidates and epochs, the number of sample sizes,
    and the texts that validation and test each have at most; from how many training texts per label
    on, since before that more texts are worth more, unless the data have no more."""

    candidates: int
    epochs: int
    sizes: int
    evaluated: int
    per_label: int


DEPTHS = (
    Depth(1, 4, 1, 400, 0),
    Depth(2, 4, 1, 400, 0),
    Depth(3, 4, 2, 800, 12),
    Depth(4, 6, 2, 1600, 32),
    Depth(6, 8, 3, 3200, 64),
)

# What makes a study rich, in points, so that the best use of the time can be found: a judgment. A
# second contender, without which nothing is compared, weighs as much as eight times the texts, and
# repeats, without which verdicts speak of one seed, as twice the texts.
OF_CONTENDERS = (0.0, 6.0, 7.5, 8.5, 9.0)
OF_DEPTH = (0.0, 1.5, 2.0, 2.25, 2.5)
OF_LABEL_COUNTS = (0.0, 0.25)
OF_REPEATS = 2.0
# A doubling of the training texts per label, up to so many and beyond; and of the texts tested.
OF_DOUBLING, PLENTY, OF_FURTHER_DOUBLING = 2.0, 64, 0.5
OF_TESTED = 0.75


@dataclass(frozen=True)
class Study:
    """What a study consists of; ``contenders`` counts the first ones, ``n_labels`` and
    ``n_samples`` ascend, and ``evaluated`` is the most texts per label in validation and test,
    None if balance leaves no more anyway."""

    contenders: int
    n_labels: tuple[int, ...]
    n_samples: tuple[int, ...]
    candidates: int
    epochs: int
    evaluated: int | None
    has_repeats: bool
    points: float

    @property
    def cells(self) -> int:
        return self.contenders * len(self.n_labels) * len(self.n_samples)

    def contains(self, other: "Study") -> bool:
        """Return whether this study is ``other`` or has more of something and less of nothing."""
        return (
            self.contenders >= other.contenders
            and set(self.n_labels) >= set(other.n_labels)
            and self.n_samples[-1] >= other.n_samples[-1]
            and len(self.n_samples) >= len(other.n_samples)
            and self.candidates >= other.candidates
            and self.has_repeats >= other.has_repeats
        )

    @property
    def per_label(self) -> int:
        """Training texts per label in the largest cell of all labels."""
        return self.n_samples[-1] // self.n_labels[-1]


def list_studies(survey: Survey, contenders: int) -> list[Study]:
    """Return all studies of so many contenders, the richest first."""
    studies = list(_build_studies(survey, contenders))
    return sorted(studies, key=lambda study: (-study.points, study.cells, study.n_samples))


def _build_studies(survey: Survey, contenders: int) -> Iterator[Study]:
    for counts in list_label_counts(len(survey.labels)):
        tops = list_tops(survey, counts)
        for top, level, has_repeats in product(tops, range(len(DEPTHS)), (False, True)):
            if top == tops[0] or top >= DEPTHS[level].per_label * counts[-1]:
                yield _build_study(survey, counts, top, contenders, level, has_repeats)


def _build_study(
    survey: Survey,
    counts: tuple[int, ...],
    top: int,
    contenders: int,
    level: int,
    has_repeats: bool,
) -> Study:
    depth, per_label = DEPTHS[level], top // counts[-1]
    have = max(survey.count(split, counts[0]) for split in ("validation", "test"))
    # For the smallest label count, whose texts are the most.
    evaluated = max(FEWEST["test"], depth.evaluated // counts[0])
    tested = max(k * min(survey.count("test", k), evaluated) for k in counts)
    plenty = min(per_label, PLENTY)
    points = [
        OF_CONTENDERS[min(contenders, len(OF_CONTENDERS)) - 1],
        OF_DEPTH[level],
        OF_LABEL_COUNTS[len(counts) - 1],
        OF_REPEATS * has_repeats,
        OF_DOUBLING * math.log2(plenty),
        OF_FURTHER_DOUBLING * math.log2(per_label / plenty),
        OF_TESTED * math.log2(tested),
    ]
    return Study(
        contenders,
        counts,
        list_sizes(top, counts, depth.sizes),
        depth.candidates,
        min(MOST_EPOCHS, max(depth.epochs, math.ceil(FEWEST_PASSED / top))),
        evaluated if evaluated < have else None,
        has_repeats,
        sum(points),
    )


def list_label_counts(labels: int) -> list[tuple[int, ...]]:
    """Return the label counts to choose from: all labels, alone or with about a third of them.

    Sample sizes are multiples of every label count, so the smaller one divides the larger, or is 2.
    """
    smaller = [k for k in range(2, labels) if labels % k == 0] or ([2] if labels > 2 else [])
    if not smaller:
        return [(labels,)]
    third = min(smaller, key=lambda k: abs(math.log(3 * k / labels)))
    return [(labels,), (third, labels)]


def list_tops(survey: Survey, counts: tuple[int, ...]) -> list[int]:
    """Return the largest sample sizes to choose from: the largest that balance allows for every
    label count, its half, and so on, and the fewest texts per label."""
    unit, fewest = math.lcm(*counts), FEWEST["train"] * counts[-1]
    most = min(k * survey.count("train", k) for k in counts)
    tops = []
    while (top := most - most % unit) >= fewest:
        tops.append(top)
        most //= 2
    least = math.ceil(fewest / unit) * unit
    return tops if not tops or tops[-1] == least else [*tops, least]


def list_sizes(top: int, counts: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Return up to ``most`` sample sizes, ascending: ``top``, its half, and so on."""
    unit, fewest = math.lcm(*counts), FEWEST["train"] * counts[-1]
    halves = (top // 2**i for i in range(most))
    return tuple(sorted({half - half % unit for half in halves if half - half % unit >= fewest}))
