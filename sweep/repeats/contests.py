"""The comparisons of a run so far: every two rivals at each label count and sample size."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sweep.plan import TrialSpec
from sweep.storage.events import Result
from sweep.storage.record import RunRecord
from sweep.verdicts import Contest

# Label count and sample size.
Point = tuple[int, int]
# Seed -> 1 for each test text that is classified right, else 0; texts in the test set's order.
Rights = dict[int, NDArray[np.int8]]


def mark_right(record: RunRecord, result: Result | None) -> NDArray[np.int8] | None:
    """Return which test texts ``result`` got right, shape (texts,); None if it says nothing."""
    predictions = result.get("predictions") if result else None
    test_set = record.find_test_set(result) if result and predictions else None
    if test_set is None or predictions is None:
        return None
    right: NDArray[np.int8] = np.equal(test_set["truth"], predictions).astype(np.int8)
    return right


def collect_rights(
    record: RunRecord, trials: Iterable[TrialSpec], baselines: Sequence[str]
) -> dict[str, Rights]:
    """Return what each rival got right with each seed: the contenders of ``trials``, which share a
    label count and a sample size, and the ``baselines`` on the same texts."""
    rights: dict[str, Rights] = {}
    for spec in trials:
        marked = mark_right(record, record.trials[spec.trial_id].ended)
        if marked is not None:
            rights.setdefault(spec.cell.model, {})[spec.cell.seed] = marked
    wanted = {spec.data_fingerprint: spec.cell for spec in trials}
    for event in record.baselines.values():
        cell = wanted.get(event.get("data_fingerprint") or "")
        if cell and event["model"] in baselines and tuple(event["labels"]) == cell.labels:
            marked = mark_right(record, event)
            if marked is not None:
                rights.setdefault(event["model"], {})[event["seed"]] = marked
    return rights


def pair_rivals(
    point: Point, rivals: Iterable[str], rights: Mapping[str, Rights], tuned_seed: int
) -> list[Contest]:
    """Return a contest for every two of ``rivals``: over the further seeds that both have, or over
    ``tuned_seed``, for which the candidates were chosen, if they share fewer than two. One without
    any result is part of the family, too."""
    contests = []
    for a, b in combinations(sorted(rivals), 2):
        shared = sorted(rights.get(a, {}).keys() & rights.get(b, {}).keys())
        seeds = [seed for seed in shared if seed != tuned_seed]
        if len(seeds) < 2:
            seeds = [seed for seed in shared if seed == tuned_seed]
        rows = [rights[a][seed].astype(float) - rights[b][seed] for seed in seeds]
        contests.append(Contest(*point, a, b, np.array(rows) if rows else np.empty((0, 0))))
    return contests


def find_leader(rights: Mapping[str, Rights], tuned_seed: int) -> str:
    """Return the rival with the highest mean accuracy over its further seeds, or over the tuned one
    if it has no other."""

    def average(name: str) -> float:
        own = rights[name]
        further = [marked for seed, marked in own.items() if seed != tuned_seed]
        return float(np.mean([marked.mean() for marked in further or own.values()]))

    return max(sorted(rights), key=average)


def count_trials_to(look: int, failed: Collection[int]) -> int:
    """Return how many seeds have to be tried for ``look`` of them to count, if those at the
    positions ``failed`` (from 1) do not."""
    size = look
    while size - sum(index <= size for index in failed) < look:
        size += 1
    return size
