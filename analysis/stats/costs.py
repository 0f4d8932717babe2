"""What accuracy costs, what ASHA saved, and how the forecast compares with what happened."""

from typing import Any

import pandas as pd

from analysis.load import Run
from analysis.stats.cells import AXES, select_best
from analysis.stats.pairs import MAJORITY
from analysis.stats.repeats import select_speaking, select_tuned
from sweep.storage.events import FAILURES

# Measure -> column of the results, and its title; memory is in MiB.
MEASURES = {
    "seconds": ("train_seconds", "training time (s)"),
    "tokens": ("train_tokens", "training tokens"),
    "memory": ("peak_memory_bytes", "peak memory (MiB)"),
}
MIB = 2**20
RUN_PARTS = ("trained", "saved by ASHA", "ended by itself", "lost to a failure", "no result yet")
_PART_OF_STATUS = {"stopped": RUN_PARTS[1], "finished": RUN_PARTS[2], "no result yet": RUN_PARTS[4]}


def tabulate_costs(run: Run) -> pd.DataFrame:
    """Return one row per model, label count and sample size: test accuracy and what it took.

    ``seconds``, ``tokens`` and ``memory`` (MiB) are the chosen trial's, averaged over the seeds
    that the accuracy is over; ``cell_seconds`` is the training time of all candidates of a cell,
    averaged over the seeds tuned with, without repeats; ``front_seconds`` and so on say whether the
    row is on the Pareto front of its label count. The majority class, which costs nothing, is left
    out.
    """
    best = select_speaking(select_best(run.results), run.plan)
    best = best[best["model"].ne(MAJORITY)]
    tuned = select_tuned(run.results, run.plan)
    spent = tuned.groupby([*AXES, "cell_id"])["train_seconds"].sum().groupby(AXES).mean()
    best = best.merge(spent.rename("cell_seconds").reset_index(), on=AXES, how="left")
    best = best.assign(
        accuracy=best["test_accuracy"],
        **{name: best[column] for name, (column, _) in MEASURES.items()},
    )
    columns = ["accuracy", *MEASURES, "cell_seconds"]
    best[columns] = best[columns].astype(float)
    best["memory"] /= MIB
    frame = best.groupby(AXES, sort=False)[columns].mean().reset_index()
    fronts = {f"front_{name}": mark_front(frame, name) for name in MEASURES}
    return frame.assign(**fronts).sort_values(["n_labels", "n_samples"], kind="stable")


def mark_front(frame: pd.DataFrame, measure: str) -> pd.Series:
    """Return whether each row is on the Pareto front of its label count: none with less of
    ``measure`` is as accurate."""
    parts = [_mark_pareto(group, measure) for _, group in frame.groupby("n_labels")]
    return pd.concat(parts) if parts else pd.Series(dtype=bool)


def _mark_pareto(group: pd.DataFrame, measure: str) -> pd.Series:
    ordered = group.dropna(subset=[measure])
    ordered = ordered.sort_values([measure, "accuracy"], ascending=[True, False])
    before = ordered["accuracy"].cummax().shift(fill_value=-1.0)
    return ordered["accuracy"].gt(before).reindex(group.index, fill_value=False)


def melt_costs(costs: pd.DataFrame) -> pd.DataFrame:
    """Return ``costs`` with one row per measure: ``measure``, ``value`` and ``on_front``."""
    shared = [*AXES, "accuracy"]
    parts = [
        costs[[*shared, name, f"front_{name}"]]
        .rename(columns={name: "value", f"front_{name}": "on_front"})
        .assign(measure=name)
        for name in MEASURES
    ]
    return pd.concat(parts, ignore_index=True).dropna(subset=["value"])


def count_epochs(run: Run) -> pd.DataFrame:
    """Return epochs by model and part: trained, and why the rest of the full grid was not.
    Repeats, which ASHA never stops, are not in that grid.

    Columns: ``model``, ``part`` (one of RUN_PARTS), ``epochs``, and ``seconds``, which for epochs
    that did not run is an estimate from their trial's pace (0 if it ran none).
    """
    trials = _list_epochs(run)
    left = trials["max_epochs"] - trials["epochs"]
    pace = (trials["spent"] / trials["epochs"]).where(trials["epochs"].gt(0), 0.0)
    reason = trials["status"].map(_PART_OF_STATUS).fillna(RUN_PARTS[3])
    shared = trials[["model"]]
    ran = shared.assign(part=RUN_PARTS[0], epochs=trials["epochs"], seconds=trials["spent"])
    rest = shared.assign(part=reason, epochs=left, seconds=left * pace)
    counted = pd.concat([ran, rest]).groupby(["model", "part"], sort=False)[["epochs", "seconds"]]
    frame = counted.sum().reset_index()
    frame["order"] = frame["part"].map(RUN_PARTS.index)
    return frame[frame["epochs"].gt(0)].sort_values(["order"], kind="stable")


def _list_epochs(run: Run) -> pd.DataFrame:
    columns = ["train_seconds", "eval_seconds"]
    done = run.history.groupby("trial_id")[columns].sum().sum(axis=1).rename("spent")
    epochs = run.history.groupby("trial_id").size().rename("epochs")
    status = run.results.set_index("trial_id")["status"]
    tuned = run.plan[run.plan["repeat_of"].isna()]
    trials = tuned[["trial_id", "model", "max_epochs"]].join(done, on="trial_id")
    trials = trials.join(epochs, on="trial_id").fillna({"spent": 0.0, "epochs": 0})
    trials["epochs"] = trials["epochs"].astype(int)
    return trials.assign(
        status=trials["trial_id"].map(status.astype(object)).astype(object).fillna("no result yet")
    )


def compare_forecast(run: Run) -> list[dict[str, Any]]:
    """Return the predicted and the actual seconds of each start of the run.

    Keys: ``time``, ``low``, ``likely``, ``high``, ``actual`` and ``within``. Starts without a
    forecast in the journal are left out.
    """
    rows = []
    for event, end in zip(run.opened, run.ended, strict=True):
        forecast = event.get("predicted")
        if forecast and forecast.seconds:
            low, likely, high = forecast.seconds
            actual = end - event["time"]
            facts = {"time": event["time"], "actual": actual, "within": low <= actual <= high}
            rows.append({**facts, "low": low, "likely": likely, "high": high})
    return rows


def compare_memory(run: Run) -> list[dict[str, Any]]:
    """Return predicted and highest measured memory (MiB) of each model that has a forecast."""
    predicted: dict[str, float] = {}
    for event in run.opened:
        forecast = event.get("predicted")
        predicted |= (forecast.memory_bytes if forecast else None) or {}
    measured = run.results.groupby("model")["peak_memory_bytes"].max().dropna()
    return [
        {"model": model, "predicted": predicted[model] / MIB, "measured": measured[model] / MIB}
        for model in measured.index
        if predicted.get(model)
    ]


def list_failures(run: Run) -> list[dict[str, Any]]:
    """Return one row per status and reason of failed trials and baselines, most frequent first."""
    failed = run.results[run.results["status"].isin(FAILURES)]
    failed = failed.assign(error=failed["error"].fillna("no reason recorded"))
    groups = failed.groupby(["status", "error"], sort=False)
    rows = [
        {
            "status": status,
            "error": error,
            "trials": len(group),
            "cells": group["cell_id"].nunique(),
            "models": list(dict.fromkeys(group["model"])),
            "first": group["trial_id"].iloc[0],
        }
        for (status, error), group in groups
    ]
    return sorted(rows, key=lambda row: -row["trials"])
