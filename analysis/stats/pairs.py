"""Paired comparisons: which texts each model gets right, and which differences are real."""

from collections.abc import Iterable, Iterator
from itertools import combinations, pairwise
from typing import Any, cast

import numpy as np
import pandas as pd

from analysis.stats.tests import (
    Array,
    adjust_holm,
    crossed_interval,
    crossed_p,
    difference_interval,
    drop_incomplete,
    judge,
    sign_flip_p,
)

# The baseline that needs no test against it: it ignores the text.
MAJORITY = "majority"
# Label count, sample size and model.
GridPoint = tuple[int, int, str]
# For each grid point, a frame of 0 and 1 with a row per seed and a column per test text.
Correct = dict[GridPoint, pd.DataFrame]
Groups = Iterable[tuple[GridPoint, pd.DataFrame]]
PAIR_COLUMNS = [
    "n_labels",
    "n_samples",
    "model_a",
    "model_b",
    "seeds",
    "n_test",
    "only_a",
    "only_b",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "verdict",
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


def compare_models(right: Correct, models: list[str]) -> pd.DataFrame:
    """Return one row per pair of ``models`` and per label count and sample size they share.

    ``difference`` is A's accuracy minus B's with its 95 % interval; ``only_a`` and ``only_b`` count
    texts that only that model gets right, summed over ``seeds``, the number of seeds that both
    have. With one seed, ``p`` is McNemar's exact p and speaks of the two trained models; with
    several it is ``crossed_p``'s and speaks of the two recipes, whatever the seed. ``p_holm`` is
    adjusted for a family of all pairs returned: every two of ``models`` at every label count and
    sample size, of one seed or several, so that it also holds for a pair that was picked after
    looking. The majority class is left out.
    """
    rivals = [model for model in models if model != MAJORITY]
    grid = sorted({(k, n) for k, n, _ in right})
    rows = [
        {"n_labels": k, "n_samples": n, "model_a": a, "model_b": b, **_compare(signs)}
        for k, n in grid
        for a, b in combinations(rivals, 2)
        if (signs := _subtract(right.get((k, n, a)), right.get((k, n, b)))).size
    ]
    return _add_verdicts(rows, PAIR_COLUMNS, "difference")


def _compare(signs: Array) -> dict[str, Any]:
    return {
        "seeds": len(signs),
        "n_test": signs.shape[1],
        "only_a": int((signs > 0).sum()),
        "only_b": int((signs < 0).sum()),
        "difference": float(signs.mean()),
        **_test(signs),
    }


def _test(signs: Array) -> dict[str, float]:
    """Return ``low``, ``high`` and ``p`` of the mean of ``signs`` (seeds x texts)."""
    if len(signs) > 1:
        low, high = crossed_interval(signs)
        return {"low": low, "high": high, "p": crossed_p(signs)}
    return _test_texts(signs)


def _test_texts(signs: Array) -> dict[str, float]:
    """As ``_test``, for trained models: ``signs`` has a row for each, and only texts are random."""
    low, high = difference_interval(signs.mean(axis=0))
    return {"low": low, "high": high, "p": sign_flip_p(signs.sum(axis=0))}


def _subtract(first: pd.DataFrame | None, second: pd.DataFrame | None) -> Array:
    """Return -1, 0 or 1 for each shared seed (rows) and test text (columns); empty if none is."""
    if first is None or second is None:
        return np.empty((0, 0))
    return drop_incomplete(_align(first, second))


def _align(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    seeds = first.index.intersection(second.index)
    texts = first.columns.intersection(second.columns)
    return first.loc[seeds, texts] - second.loc[seeds, texts]


def _add_verdicts(rows: list[dict[str, Any]], columns: list[str], difference: str) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=[name for name in columns if name not in _JUDGED])
    frame["p_holm"] = adjust_holm(frame["p"].to_numpy(dtype=float))
    pairs = zip(frame[difference], frame["p_holm"], strict=True)
    frame["verdict"] = [judge(value, p) for value, p in pairs]
    return frame


_JUDGED = {"p_holm", "verdict"}


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


def measure_steps(right: Correct, models: list[str]) -> pd.DataFrame:
    """Return what each step to the next sample size brings, averaged over ``models``.

    One row per label count and step; the mean is over the models that have both sizes, on the same
    test texts and on the seeds that all of them share, ``seeds`` of them. If they share two or
    more, the test is that of ``compare_models`` for several seeds. If they do not, it speaks of the
    models as trained, ``seeds`` is 1, and each model brings the seeds that it has. ``p_holm`` is
    adjusted for a family of all steps of the grid.
    """
    rows = [
        {"n_labels": k, "smaller": small, "larger": large, **step}
        for k in sorted({k for k, _, _ in right})
        for small, large in pairwise(sorted({n for count, n, _ in right if count == k}))
        if (step := _measure_step(right, models, k, small, large))
    ]
    return _add_verdicts(rows, STEP_COLUMNS, "gain")


def _measure_step(
    right: Correct, models: list[str], n_labels: int, smaller: int, larger: int
) -> dict[str, Any]:
    steps = list(_list_steps(right, models, n_labels, smaller, larger))
    if not steps:
        return {}
    means = drop_incomplete(_average_steps(steps))
    several = len(means) > 1
    signs = means if several else drop_incomplete(pd.concat(steps))
    if not signs.size:
        return {}
    return {
        "models": len(steps),
        "seeds": len(means) if several else 1,
        "n_test": signs.shape[1],
        "gain": float(signs.mean()),
        **(_test(signs) if several else _test_texts(signs)),
    }


def _average_steps(steps: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the mean over models for each seed (rows) that all of them have and each text."""
    stacked = pd.concat(steps)
    counts = stacked.index.value_counts()
    return stacked.groupby(level=0).mean().loc[sorted(counts.index[counts.eq(len(steps))])]


def _list_steps(
    right: Correct, models: list[str], n_labels: int, smaller: int, larger: int
) -> Iterator[pd.DataFrame]:
    for model in models:
        first, second = right.get((n_labels, smaller, model)), right.get((n_labels, larger, model))
        if first is None or second is None:
            continue
        step = _align(second, first)
        if drop_incomplete(step).size:
            yield step
