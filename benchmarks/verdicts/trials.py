"""Prints how often recipes are called different from themselves, on trials that were run.

    python -m sweep run benchmarks/verdicts/same.yaml --out OUT
    python -m benchmarks.verdicts.trials OUT/same

Each cell's repeats are dealt at random into two halves, as if they were two recipes with as many
seeds each. All cells are judged together, as those of a grid are. A deal gives a comparison per
cell; deals share trials, so they are less than independent.
"""

import argparse
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np

from analysis.load import load_run
from analysis.stats.pairs import Correct, mark_correct, select_seeds
from analysis.stats.repeats import find_tuned
from sweep.verdicts import ONE_LOOK, SCHEDULE, Contest, Looks, judge_contests
from sweep.verdicts.holm import LEVEL
from sweep.verdicts.models import sign_flip_p

SEEDS = (2, 3, 5, 8, 12)


def read_rights(folder: Path) -> Correct:
    """Return which test texts each repeat got right: cell -> seeds x texts."""
    run = load_run(folder)
    right = select_seeds(mark_correct(run.predictions), find_tuned(run.plan))
    models = set(run.plan["model"])
    return {point: frame for point, frame in right.items() if point[2] in models}


def deal(right: Correct, seeds: int, rng: np.random.Generator) -> list[Contest]:
    """Return a contest per cell: ``seeds`` of its seeds against as many others."""
    contests = []
    for (n_labels, n_samples, model), frame in right.items():
        rows = rng.permutation(frame.to_numpy(dtype=float))
        differences = rows[:seeds] - rows[seeds : 2 * seeds]
        contests.append(Contest(n_labels, n_samples, f"{model} a", f"{model} b", differences))
    return contests


def measure(
    right: Correct, seeds: int, looks: Looks, deals: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return in which share of comparisons p is below the level, and in which share of deals any
    comparison is called after Holm's correction."""
    low, called = [], []
    for _ in range(deals):
        judged = judge_contests(deal(right, seeds, rng), looks)
        low += [each.p < LEVEL for each in judged]
        called.append(any(each.verdict != "too close to call" for each in judged))
    return float(np.mean(low)), float(np.mean(called))


def list_single(right: Correct) -> Iterator[float]:
    """Yield McNemar's p of every two trained models of one recipe."""
    for frame in right.values():
        rows = frame.to_numpy(dtype=int)
        for a, b in combinations(rows, 2):
            yield sign_flip_p(a - b)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts.trials")
    parser.add_argument("run", type=Path)
    parser.add_argument("--deals", type=int, default=500)
    options = parser.parse_args()
    right, rng = read_rights(options.run), np.random.default_rng(0)
    most = min(len(frame) for frame in right.values()) // 2
    single = [p < LEVEL for p in list_single(right)]
    spreads = [frame.mean(axis=1).std() for frame in right.values()]
    print(
        f"{len(right)} cells, {2 * most} seeds or more each; standard deviation between seeds "
        f"{min(spreads):.3f} to {max(spreads):.3f}; {options.deals} deals\n"
    )
    print("| test | seeds | comparisons | p < .05, % | deals with any called, % |")
    print("|---|---:|---:|---:|---:|")
    share = 100 * float(np.mean(single))
    print(f"| McNemar's, one trained model each | 1 | {len(single):,} | {share:.1f} | |")
    for seeds in (size for size in SEEDS if size <= most):
        low, called = measure(right, seeds, ONE_LOOK, options.deals, rng)
        shares = f"{100 * low:.1f} | {100 * called:.1f}"
        print(f"| one look | {seeds} | {options.deals * len(right):,} | {shares} |")
    low, called = measure(right, most, SCHEDULE, options.deals, rng)
    shares = f"{100 * low:.1f} | {100 * called:.1f}"
    print(f"| every look up to | {most} | {options.deals * len(right):,} | {shares} |")


if __name__ == "__main__":
    main()
