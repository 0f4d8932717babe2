"""Paired comparisons: which texts each model gets right, and which differences are real."""

from collections.abc import Iterable
from itertools import combinations, pairwise
from typing import Any, cast

import numpy as np
import pandas as pd

from analysis.stats.repeats import GridPoint, TunedSeeds
from sweep.verdicts import ONE_LOOK, SMALLEST, Contest, Looks, judge_contests
from sweep.verdicts.crossed import drop_incomplete
from sweep.verdicts.holm import LEVEL, Array, adjust_holm, judge
from sweep.verdicts.models import difference_interval, sign_flip_p
from sweep.verdicts.tables import Tested, run_tests

# The baseline that needs no test against it: it ignores the text.
MAJORITY = "majority"
# What a judgment says under the names of columns.
JUDGED = ("difference", "low", "high", "p", "p_holm", "verdict", "state")
NO_TUNING = TunedSeeds()
# For each grid point, a frame of 0 and 1 with a row per seed and a column per test text.
Correct = dict[GridPoint, pd.DataFrame]
Groups = Iterable[tuple[GridPoint, pd.DataFrame]]
PAIR_COLUMNS = [
    "n_labels",
    "n_samples",
    "model_a",
    "model_b",
    "seeds",
    "fresh",
    "n_test",
    "only_a",
    "only_b",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "verdict",
    "state",
]
STEP_COLUMNS = [
    "n_labels",
    "smaller",
    "larger",
    "models",
    "seeds",
    "n_test",
    "gain",
    "low",
    "high",
    "p",
    "p_holm",
    "verdict",
]


def mark_correct(predictions: pd.DataFrame) -> Correct:
    """Return which test texts each model gets right, for each label count and sample size."""
    marked = predictions.assign(right=predictions["label"].eq(predictions["predicted"]).astype(int))
    groups = marked.groupby(["n_labels", "n_samples", "model"], sort=False)
    return {
        (k, n, model): group.pivot(index="seed", columns="item", values="right")
        for (k, n, model), group in cast(Groups, groups)
    }


def compare_models(
    right: Correct,
    models: list[str],
    tuned: TunedSeeds = NO_TUNING,
    looks: Looks = ONE_LOOK,
    smallest: float = SMALLEST,
) -> pd.DataFrame:
    """Return one row per pair of ``models`` and per label count and sample size they share.

    ``difference`` is A's accuracy minus B's with its 95 % interval; ``only_a`` and ``only_b`` count
    texts that only that model gets right, summed over ``seeds``, the number of seeds that both
    have. Two fresh seeds or more leave out the ``tuned`` ones, with which the candidates were
    chosen (``fresh`` says so); a pair with fewer is compared on the tuned ones alone. With one
    seed, ``p`` is McNemar's exact p and speaks of the two trained models; with several it speaks of
    the two recipes, whatever the seed, and covers all ``looks``. ``p_holm`` is adjusted for a
    family of all pairs returned: every two of ``models`` at every label count and sample size, of
    one seed or several, so that it also holds for a pair that was picked after looking. ``state``
    says what more seeds could do, given the ``smallest`` difference that matters. The majority
    class is left out.
    """
    rivals = [model for model in models if model != MAJORITY]
    found = [
        (Contest(k, n, a, b, signs), fresh)
        for k, n in sorted({(k, n) for k, n, _ in right})
        for a, b in combinations(rivals, 2)
        for signs, fresh in [_subtract(right, tuned, (k, n, a), (k, n, b))]
        if signs.size
    ]
    judgments = judge_contests([contest for contest, _ in found], looks, smallest)
    rows = [
        {
            "n_labels": each.contest.n_labels,
            "n_samples": each.contest.n_samples,
            "model_a": each.contest.a,
            "model_b": each.contest.b,
            "seeds": each.seeds,
            "fresh": fresh,
            "n_test": each.contest.differences.shape[1],
            "only_a": int((each.contest.differences > 0).sum()),
            "only_b": int((each.contest.differences < 0).sum()),
            **{name: getattr(each, name) for name in JUDGED},
        }
        for each, (_, fresh) in zip(judgments, found, strict=True)
    ]
    return pd.DataFrame(rows, columns=PAIR_COLUMNS)


def _subtract(
    right: Correct, tuned: TunedSeeds, first: GridPoint, second: GridPoint
) -> tuple[Array, bool]:
    """Return -1, 0 or 1 for each shared seed that counts (rows, in order) and each test text,
    empty if there is none, and whether these seeds are fresh."""
    if first not in right or second not in right:
        return np.empty((0, 0)), False
    both = _align(right[first], right[second])
    seeds = tuned.at(first) | tuned.at(second)
    chosen = choose_seeds(both, seeds).sort_index()
    fresh = bool(seeds) and not chosen.index.isin(list(seeds)).any()
    return drop_incomplete(chosen), fresh


def choose_seeds(frame: pd.DataFrame, tuned: Iterable[int], fewest: int = 2) -> pd.DataFrame:
    """Return the rows of ``frame`` (indexed by seed) with fresh seeds, if there are at least
    ``fewest``; else those with ``tuned`` seeds, if there are any."""
    is_tuned = frame.index.isin(list(tuned))
    if (~is_tuned).sum() >= fewest:
        return frame[~is_tuned]
    return frame[is_tuned] if is_tuned.any() else frame


def select_seeds(right: Correct, tuned: TunedSeeds) -> Correct:
    """Return ``right`` with the seeds that speak for each recipe: fresh ones, if it has any."""
    return {point: choose_seeds(frame, tuned.at(point), 1) for point, frame in right.items()}


def _align(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    seeds = first.index.intersection(second.index)
    texts = first.columns.intersection(second.columns)
    return first.loc[seeds, texts] - second.loc[seeds, texts]


def orient_pairs(pairs: pd.DataFrame, winners: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs with the most accurate model, always as A.

    ``winners`` has a ``model`` for each label count and sample size; of several, the first counts.
    """
    keys = ["n_labels", "n_samples"]
    best = winners.drop_duplicates(keys)[[*keys, "model"]].rename(columns={"model": "best"})
    joined = pairs.merge(best, on=keys)
    ahead = joined[joined["model_a"].eq(joined["best"])]
    behind = swap_pairs(joined[joined["model_b"].eq(joined["best"])])
    both = pd.concat([ahead, behind]).drop(columns="best")
    return both.sort_values([*keys, "difference"], kind="stable").reset_index(drop=True)


def swap_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return ``pairs`` with A and B swapped."""
    names = {"model_a": "model_b", "model_b": "model_a", "only_a": "only_b", "only_b": "only_a"}
    swapped = pairs.rename(columns=names)[list(pairs.columns)]
    other = {"A better": "B better", "B better": "A better"}
    return swapped.assign(
        difference=-pairs["difference"],
        low=-pairs["high"],
        high=-pairs["low"],
        verdict=pairs["verdict"].replace(other),
    )


def measure_steps(
    right: Correct,
    models: list[str],
    tuned: TunedSeeds = NO_TUNING,
    looks: Looks = ONE_LOOK,
) -> pd.DataFrame:
    """Return what each step to the next sample size brings, averaged over ``models``.

    One row per label count and step; the mean is over the models that have both sizes, on the same
    test texts and on the seeds that all of them share, ``seeds`` of them: two fresh ones or more,
    else the ``tuned`` ones. With two or more, the test is that of ``compare_models`` for several
    seeds. With fewer, it speaks of the models as trained, ``seeds`` is 1, and each model brings the
    seeds that it has. ``p_holm`` is adjusted for a family of all steps of the grid.
    """
    steps = [
        (k, small, large, signs)
        for k in sorted({k for k, _, _ in right})
        for small, large in pairwise(sorted({n for count, n, _ in right if count == k}))
        if (signs := _list_steps(right, models, tuned, k, small, large))
    ]
    means = [drop_incomplete(_average_steps(signs)) for *_, signs in steps]
    tested = run_tests(means, looks)
    rows = [
        {"n_labels": k, "smaller": small, "larger": large, "models": len(signs), **facts}
        for (k, small, large, signs), test in zip(steps, tested, strict=True)
        if (facts := _describe_recipes(test) if test.seeds > 1 else _describe_trained(signs))
    ]
    frame = pd.DataFrame(rows, columns=[name for name in STEP_COLUMNS if name not in _ADJUSTED])
    frame["p_holm"] = adjust_holm(frame["p"].to_numpy(dtype=float))
    frame["verdict"] = [
        judge(float(gain), float(p)) for gain, p in zip(frame["gain"], frame["p_holm"], strict=True)
    ]
    return frame


_ADJUSTED = ("p_holm", "verdict")


def _describe_recipes(test: Tested) -> dict[str, Any]:
    low, high = test.interval(LEVEL)
    facts = {"seeds": test.seeds, "n_test": test.values.shape[1], "gain": test.difference}
    return {**facts, "low": low, "high": high, "p": test.p}


def _describe_trained(steps: list[pd.DataFrame]) -> dict[str, Any]:
    """As ``_describe_recipes``, for models as they are: only texts are random."""
    signs = drop_incomplete(pd.concat(steps))
    if not signs.size:
        return {}
    low, high = difference_interval(signs.mean(axis=0))
    facts = {"seeds": 1, "n_test": signs.shape[1], "gain": float(signs.mean())}
    return {**facts, "low": low, "high": high, "p": sign_flip_p(signs.sum(axis=0))}


def _average_steps(steps: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the mean over models for each seed (rows) that all of them have and each text."""
    stacked = pd.concat(steps)
    counts = stacked.index.value_counts()
    return stacked.groupby(level=0).mean().loc[sorted(counts.index[counts.eq(len(steps))])]


def _list_steps(
    right: Correct, models: list[str], tuned: TunedSeeds, n_labels: int, smaller: int, larger: int
) -> list[pd.DataFrame]:
    """Return the step of each model that has one, on the seeds that count."""
    pairs = [((n_labels, larger, m), (n_labels, smaller, m)) for m in models]
    known = [pair for pair in pairs if all(point in right for point in pair)]
    steps = [_align(right[large], right[small]) for large, small in known]
    steps = [step for step in steps if drop_incomplete(step).size]
    chosen_with = {seed for pair in known for point in pair for seed in tuned.at(point)}
    if steps and chosen_with:
        fresh = [step[~step.index.isin(chosen_with)] for step in steps]
        if len(_average_steps(fresh)) > 1:
            return fresh
        return [step[step.index.isin(chosen_with)] for step in steps]
    return steps
