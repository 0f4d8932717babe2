"""Everything there is to choose from: a contender or reference with a number of texts, how good it
is, what it cost to make, and what it costs to use."""

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pandas as pd

from analysis.load import Run
from analysis.stats.cells import AXES, select_best
from analysis.stats.costs import mark_front
from analysis.stats.pairs import MAJORITY
from analysis.stats.prices import HOUR, SPENT_COLUMNS, Gap, price_hour, price_trials
from sweep.storage.prices import Prices

MILLION = 1e6
# Column of the results -> column of the choices.
USE_COLUMNS = {
    "serving_texts_per_second": "texts_per_second",
    "serving_batch": "batch",
    "latency_p50_seconds": "p50",
    "latency_p95_seconds": "p95",
    "serving_memory_bytes": "use_memory",
    "serving_size_bytes": "size",
    "serving_device": "use_device",
    "serving_host": "use_host",
    "serving_cpus": "use_cpus",
    "serving_error": "use_error",
    "n_samples": "use_samples",
}


def tabulate_choices(run: Run, cells: pd.DataFrame, prices: Prices) -> pd.DataFrame:
    """Return the rows of ``cells`` (``average_seeds``) that have a result, with their costs.

    To make: ``trials``, all of the cells of all seeds, stopped ones and repeats included;
    ``hours``, ``gpu_hours``, ``cpu_hours`` and ``money`` that they took together (NaN if unknown);
    ``gap``: why ``money`` is unknown, and ``gap_device``: on which processor; ``untimed`` trials,
    which left no time and are not in these sums; ``again``: money for the chosen trial, mean over
    seeds; ``labels``: money for one set of training texts; ``make``: ``money`` and, if labels have
    a price, ``labels``.

    In use: what ``USE_COLUMNS`` names, as measured with ``use_samples`` training texts; ``use``:
    money for a million texts; ``use_gap``. NaN or None where nothing was measured.
    """
    frame = cells[cells["accuracy"].notna()].merge(_sum_trials(run, prices), on=AXES, how="left")
    label = np.nan if prices.label is None else prices.label
    labels = frame["n_samples"] * label
    paid = labels if prices.label is not None else 0.0
    frame = frame.assign(labels=labels, make=frame["money"] + paid)
    return frame.merge(_list_uses(run, prices), on=["model", "n_labels"], how="left")


def _sum_trials(run: Run, prices: Prices) -> pd.DataFrame:
    trials = price_trials(run.results, prices)
    chosen = select_best(trials).groupby(AXES)["money"]
    again = chosen.mean().where(chosen.count().eq(chosen.size())).rename("again")
    rows = [
        {**dict(zip(AXES, cast(tuple[Any, ...], key), strict=True)), **_sum_group(group)}
        for key, group in trials.groupby(AXES, sort=False)
    ]
    columns = [*AXES, "trials", "untimed", *SPENT_COLUMNS, "gap", "gap_device"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.merge(again.reset_index(), on=AXES, how="left")


def _sum_group(group: pd.DataFrame) -> dict[str, Any]:
    timed = group[group["gap"].ne(Gap.TIME)]
    unknown = timed[timed["gap"].notna()] if len(timed) else group
    # A sum of which a part is unknown is unknown.
    sums = {name: timed[name].sum(skipna=False) for name in SPENT_COLUMNS}
    return {
        "trials": len(group),
        "untimed": len(group) - len(timed),
        **(sums if len(timed) else dict.fromkeys(SPENT_COLUMNS, np.nan)),
        "gap": unknown["gap"].iloc[0] if len(unknown) else None,
        "gap_device": unknown["device"].iloc[0] if len(unknown) else None,
    }


def _list_uses(run: Run, prices: Prices) -> pd.DataFrame:
    """Return one row per model and label count that was measured in use, or could not be."""
    rows = run.results[
        run.results["serving_texts_per_second"].notna() | run.results["serving_error"].notna()
    ]
    rows = rows.assign(fails=rows["serving_texts_per_second"].isna())
    order = rows.sort_values(
        ["fails", "n_samples", "seed"], ascending=[True, False, True], kind="stable"
    )
    first = order.drop_duplicates(["model", "n_labels"])
    kept = first[["model", "n_labels"]].assign(
        **{new: first[old] for old, new in USE_COLUMNS.items()}
    )
    priced = list(_price_uses(first, prices))
    return kept.assign(
        use=pd.Series([money for money, _ in priced], index=kept.index, dtype=float),
        use_gap=pd.Series([gap for _, gap in priced], index=kept.index, dtype=object),
    )


def _price_uses(rows: pd.DataFrame, prices: Prices) -> Iterator[tuple[float, Gap | None]]:
    for row in rows.to_dict("records"):
        device = row["serving_device"]
        if row["fails"] or not row["serving_texts_per_second"] > 0 or not isinstance(device, str):
            yield np.nan, Gap.TIME
            continue
        where = (
            value if isinstance(value := row[name], str) else None
            for name in ("serving_node_type", "serving_market")
        )
        rate, gap = price_hour(prices, count_gpus(device), row["serving_cpus"], device, *where)
        yield rate / HOUR / row["serving_texts_per_second"] * MILLION, gap


def price_making(choices: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the choices whose cost to make is known, with ``value`` and ``on_front``, and the
    column that ``value`` is: ``make`` or, where no money is known, ``hours``."""
    rivals = choices[choices["model"].ne(MAJORITY)]
    measure = "make" if rivals["make"].notna().any() else "hours"
    return _mark_values(rivals.assign(value=rivals[measure])), measure


def price_using(choices: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return what ``price_making`` does for the cost to use: ``use`` or, where no money is known,
    ``seconds`` per thousand texts. Of each model and label count, only the most accurate."""
    rivals = choices[choices["model"].ne(MAJORITY)]
    order = rivals.sort_values(["accuracy", "n_samples"], ascending=[False, True], kind="stable")
    best = rivals[rivals.index.isin(order.drop_duplicates(["model", "n_labels"]).index)]
    best = best.assign(seconds=1000 / best["texts_per_second"].astype(float))
    measure = "use" if best["use"].notna().any() else "seconds"
    return _mark_values(best.assign(value=best[measure])), measure


def _mark_values(frame: pd.DataFrame) -> pd.DataFrame:
    known = frame[frame["value"].notna()].reset_index(drop=True)
    return known.assign(on_front=mark_front(known, "value").astype(bool))


def count_gpus(device: str) -> int:
    """Return how many GPUs a processor's name stands for: one, or none for a CPU."""
    return 0 if device.casefold().startswith("cpu") else 1
