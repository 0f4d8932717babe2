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
    and the texts that validation and test each have at most."""

    candidates: int
    epochs: int
    sizes: int
    evaluated: int


DEPTHS = (
    Depth(1, 4, 1, 400),
    Depth(2, 4, 1, 400),
    Depth(3, 4, 2, 800),
    Depth(4, 6, 2, 1600),
    Depth(6, 8, 3, 3200),
)

# What makes a study rich, in points, so that the best use of the time can be found: a judgment. A
# second contender, without which nothing is compared, weighs as much as eight times the texts; that
# and repeats are worth more than the last doublings.
OF_CONTENDERS = (0.0, 3.0, 4.25, 5.0, 5.5)
OF_DEPTH = (0.0, 1.5, 2.5, 3.25, 3.75)
OF_LABEL_COUNTS = (0.0, 0.75)
OF_REPEATS = 2.0
# Texts per label up to which each doubling is a point; beyond it is half of one.
PLENTY = 64


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

    @property
    def per_label(self) -> int:
        """Training texts per label in the largest cell of all labels."""
        return self.n_samples[-1] // self.n_labels[-1]


def list_studies(survey: Survey, fewest: int, most: int) -> list[Study]:
    """Return all studies with ``fewest`` to ``most`` contenders, the richest first."""
    studies = list(_build_studies(survey, fewest, most))
    return sorted(studies, key=lambda study: (-study.points, study.cells, study.n_samples))


def _build_studies(survey: Survey, fewest: int, most: int) -> Iterator[Study]:
    axes = range(fewest, most + 1), range(len(DEPTHS)), (False, True)
    for counts in list_label_counts(len(survey.labels)):
        for top in list_tops(survey, counts):
            for contenders, level, has_repeats in product(*axes):
                yield _build_study(survey, counts, top, contenders, level, has_repeats)


def _build_study(
    survey: Survey,
    counts: tuple[int, ...],
    top: int,
    contenders: int,
    level: int,
    has_repeats: bool,
) -> Study:
    depth, labels = DEPTHS[level], counts[-1]
    have = max(survey.count(split, counts[0]) for split in ("validation", "test"))
    evaluated = max(FEWEST["test"], depth.evaluated // labels)
    per_label = top // labels
    points = [
        OF_CONTENDERS[min(contenders, len(OF_CONTENDERS)) - 1],
        OF_DEPTH[level],
        OF_LABEL_COUNTS[len(counts) - 1],
        OF_REPEATS * has_repeats,
        math.log2(min(per_label, PLENTY)) + math.log2(max(1, per_label / PLENTY)) / 2,
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
    label count, its half, and so on, down to the fewest texts per label."""
    unit, fewest = math.lcm(*counts), FEWEST["train"] * counts[-1]
    most = min(k * survey.count("train", k) for k in counts)
    tops = []
    while (top := most - most % unit) >= fewest:
        tops.append(top)
        most //= 2
    return tops


def list_sizes(top: int, counts: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Return up to ``most`` sample sizes, ascending: ``top``, its half, and so on."""
    unit, fewest = math.lcm(*counts), FEWEST["train"] * counts[-1]
    halves = (top // 2**i for i in range(most))
    return tuple(sorted({half - half % unit for half in halves if half - half % unit >= fewest}))
