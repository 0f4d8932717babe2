"""From trials to cells: one row per model, label count and sample size, averaged over seeds."""

from typing import Any, cast

import pandas as pd

from analysis.load import Run
from analysis.stats.repeats import select_speaking, select_tuned
from analysis.stats.tests import (
    chance_level,
    normalize_accuracy,
    split_spread,
    t_interval,
)
from sweep.verdicts.intervals import wilson_interval

AXES = ["model", "n_labels", "n_samples"]
SPREADS = ["test_spread", "seed_spread", "seed_low", "seed_high"]


def select_best(results: pd.DataFrame) -> pd.DataFrame:
    """Return the result of each cell: the trial that validation chose, or the baseline's."""
    chosen = results["best_of_cell"].eq(True) | results["kind"].eq("baseline")
    return results[chosen & results["test_accuracy"].notna()]


def list_known_cells(run: Run, columns: list[str]) -> pd.DataFrame:
    """Return ``columns`` of the planned trials and of every baseline, failed ones included."""
    baselines = run.results[run.results["kind"].eq("baseline")]
    return pd.concat([run.plan[columns], baselines[columns]], ignore_index=True)


def average_seeds(run: Run) -> pd.DataFrame:
    """Return one row per planned model x label count x sample size, with or without a result.

    Columns: the axes; ``kind``; ``seeds_planned`` and ``seeds_done``; ``accuracy`` and
    ``macro_f1`` (test, mean over seeds, NaN without a result); ``n_test``; ``chance``;
    ``accuracy_low`` and ``accuracy_high`` (Wilson, 95 %); ``score`` (chance-normalized);
    ``test_spread`` and ``seed_spread`` (standard deviations, see ``analysis.stats.tests.Spread``);
    ``seed_low`` and ``seed_high`` (Student, 95 %; NaN with one seed). Where the winner was
    repeated, all are over the fresh seeds, as verdicts are (``analysis.stats.repeats``).
    """
    best = select_speaking(select_best(run.results), run.plan)
    planned = _list_counted(run, best)
    cells = planned.groupby(AXES, sort=False)["seed"].nunique().rename("seeds_planned")
    means = best.groupby(AXES).agg(
        seeds_done=("seed", "nunique"),
        accuracy=("test_accuracy", "mean"),
        macro_f1=("test_macro_f1", "mean"),
        n_test=("n_test", "max"),
    )
    frame = cells.to_frame().join(means).reset_index()
    planned_models = frame["model"].isin(run.plan["model"])
    frame.insert(len(AXES), "kind", planned_models.map({True: "model", False: "baseline"}))
    frame["seeds_done"] = frame["seeds_done"].fillna(0).astype(int)
    frame[["accuracy", "macro_f1", "n_test"]] = frame[["accuracy", "macro_f1", "n_test"]].astype(
        float
    )
    frame = frame.merge(_measure_spreads(best), on=AXES, how="left")
    return _add_statistics(frame)


def _list_counted(run: Run, speaking: pd.DataFrame) -> pd.DataFrame:
    """Return the axes and seeds of the known cells of the kind, fresh or tuned, that ``speaking``
    has."""
    planned = list_known_cells(run, [*AXES, "seed"])
    tuned = select_tuned(planned, run.plan).index
    with_fresh = speaking.drop(select_tuned(speaking, run.plan).index)[AXES]
    repeated = pd.MultiIndex.from_frame(planned[AXES]).isin(pd.MultiIndex.from_frame(with_fresh))
    return planned[planned.index.isin(tuned) ^ repeated]


def _measure_spreads(best: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for key, group in best.groupby(AXES, sort=False):
        spread = split_spread(group["test_accuracy"], float(group["n_test"].max()))
        low, high = t_interval(group["test_accuracy"])
        rows.append((*cast(tuple[Any, ...], key), spread.test, spread.seed, low, high))
    return pd.DataFrame(rows, columns=[*AXES, *SPREADS]).astype(dict.fromkeys(SPREADS, float))


def _add_statistics(frame: pd.DataFrame) -> pd.DataFrame:
    low, high = wilson_interval(frame["accuracy"], frame["n_test"])
    return frame.assign(
        chance=chance_level(frame["n_labels"]),
        accuracy_low=low,
        accuracy_high=high,
        score=normalize_accuracy(frame["accuracy"], frame["n_labels"]),
    )


def list_cells(run: Run) -> pd.DataFrame:
    """Return one row per planned cell with its result, or with empty columns.

    Baselines come last for each label count and sample size; ``top`` marks the highest test
    accuracy there.
    """
    keys = ["cell_id", *AXES, "seed"]
    best = select_best(run.results)
    planned = list_known_cells(run, keys).drop_duplicates(["cell_id", "model"])
    rest = [name for name in best.columns if name not in keys] + ["cell_id", "model"]
    frame = planned.merge(best[rest], on=["cell_id", "model"], how="left")
    highest = frame.groupby(["n_labels", "n_samples"])["test_accuracy"].transform("max")
    frame["top"] = frame["test_accuracy"].eq(highest)
    order = list_models(average_seeds(run))
    frame["rank"] = frame["model"].map(order.index)
    by = ["n_labels", "n_samples", "rank", "seed"]
    return frame.sort_values(by, kind="stable").drop(columns="rank")


def measure_optimism(run: Run) -> pd.DataFrame:
    """Return the result of each cell with ``optimism``: validation minus test accuracy.

    Validation chose the candidate and the epoch, so its accuracy is biased upward; the majority
    class, which has nothing to choose, is left out, and so are repeats, whose candidate was chosen
    with another seed.
    """
    best = select_tuned(select_best(run.results), run.plan)
    best = best[best["val_accuracy"].notna() & best["model"].ne("majority")]
    return best.assign(optimism=best["val_accuracy"] - best["test_accuracy"])


def list_models(cells: pd.DataFrame) -> list[str]:
    """Return the model names in the order of the plan, baselines last."""
    baseline = cells["kind"].eq("baseline")
    names = [*cells.loc[~baseline, "model"], *cells.loc[baseline, "model"]]
    return list(dict.fromkeys(names))


def list_baselines(cells: pd.DataFrame) -> list[str]:
    names = cells.loc[cells["kind"].eq("baseline"), "model"]
    return [str(name) for name in names.unique()]


def list_trials(run: Run) -> pd.DataFrame:
    """Return one row per planned trial with its result; ``status`` may be 'no result yet'."""
    shared = [name for name in run.plan.columns if name != "trial_id"]
    results = run.results.drop(columns=shared)
    frame = run.plan.merge(results, on="trial_id", how="left")
    frame["status"] = frame["status"].fillna("no result yet")
    return frame.sort_values(["n_labels", "n_samples"], kind="stable")


def list_curves(history: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Return ``history`` with each trial's ``best_of_cell`` and ``end``, the latter on last epochs.

    ``end`` is the trial's status at its last epoch if that is not 'finished', else missing: the
    learning curves mark it.
    """
    facts = results[["trial_id", "best_of_cell", "status"]]
    curves = history.merge(facts, on="trial_id", how="left")
    curves["best_of_cell"] = curves["best_of_cell"].eq(True)
    last = curves["epoch"].eq(curves.groupby("trial_id")["epoch"].transform("max"))
    ended = last & curves["status"].notna() & curves["status"].ne("finished")
    curves["end"] = curves["status"].where(ended)
    return curves


def compare_candidates(results: pd.DataFrame) -> pd.DataFrame:
    """Return one row per model and candidate: how far it is behind the best of its cells.

    ``shortfall`` is the mean over cells of the cell's highest validation accuracy minus the
    candidate's (fraction); ``cells`` is how many cells that mean covers. A trial that ASHA
    stopped counts with what it had reached; a repeat, which competed with nothing, does not.
    """
    competed = results["kind"].eq("model") & results["repeat_of"].isna()
    trials = results[competed & results["val_accuracy"].notna()]
    best = trials.groupby("cell_id")["val_accuracy"].transform("max")
    trials = trials.assign(shortfall=best - trials["val_accuracy"])
    keys = ["model", "candidate", "lora_rank", "learning_rate"]
    # Where all weights are trained, there is no rank.
    grouped = trials.groupby(keys, sort=False, dropna=False)
    return grouped.agg(shortfall=("shortfall", "mean"), cells=("cell_id", "nunique")).reset_index()
