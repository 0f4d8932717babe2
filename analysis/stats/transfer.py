"""Whether tuning with few texts transfers: would its winner also do with many?"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd

from analysis.stats.tests import t_interval
from sweep.verdicts.intervals import wilson_interval

# With fewer units that lose or gain, the mean's interval is too narrow.
FEWEST_LOSSES = 3
CASE = ["model", "n_labels", "seed"]
OUTCOMES = ("same", "measured", "bounded", "failed", "open")
CASE_COLUMNS = [
    *CASE,
    "smaller",
    "larger",
    "candidates",
    "picked",
    "picked_rank",
    "picked_rate",
    "best",
    "best_rank",
    "best_rate",
    "outcome",
    "loss",
    "behind",
]
_RESULTS = ["trial_id", "status", "best_of_cell", "epochs_run", "val_accuracy", "test_accuracy"]
_NUMBERS = [
    *("picked", "picked_rank", "picked_rate"),
    *("best", "best_rank", "best_rate"),
    *("loss", "behind"),
]


@dataclass(frozen=True)
class Transfer:
    """What tuning with ``smaller`` texts and training its winner with ``larger`` would have lost.

    ``loss`` is a fraction of accuracy, the mean over ``units``; with ``bounded`` cases it is an
    upper bound, and so is ``high``, while ``low`` says nothing. NaN where there is no value.
    """

    smaller: int
    larger: int
    # Settled cases, and in how many of them the smaller size picked another candidate.
    cases: int
    other: int
    # The number of other picks to expect of a candidate drawn at random.
    by_chance: float
    bounded: int
    failed: int
    # Mean over the bounded cases; NaN without any.
    behind: float
    # Cases without a winner at one of the sizes, or with trials that have yet to end.
    unsettled: int
    loss: float
    low: float
    high: float
    # Contenders x label counts, or seeds if there is only one: what the interval is over.
    units: int
    # The upper end of the interval of the share of cases with another pick, if there was none.
    other_high: float


def compare_sizes(plan: pd.DataFrame, results: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """Return one row per contender, label count and seed: the winner of the run's smallest sample
    size beside that of its largest, and what the first would have lost there.

    ``plan`` has a row per planned trial (``analysis.load.list_planned``), ``results`` and
    ``history`` are the run's tables. ``picked`` and ``best`` are candidates, chosen by validation
    at ``smaller`` and ``larger`` texts, with their ``_rank`` and ``_rate``. ``loss`` (fraction) is
    the accuracy of ``best`` minus that of ``picked``, both with ``larger`` texts; ``outcome`` says
    which accuracy:

    - same: it is one trial, so the loss is 0.
    - measured: test accuracy, which chose neither of the two.
    - bounded: validation accuracy, since ``picked`` was stopped and never tested. The loss is at
      most this: the best epoch's accuracy can only rise with further epochs, and that of ``best``
      is too high, being the highest of several (the winner's curse: G. C. Cawley and N. L. C.
      Talbot, "On over-fitting in model selection", JMLR 11 (2010), 2079-2107). ``behind``
      (fraction, else NaN) compares both at the epoch at which ``picked`` was stopped.
    - failed: ``picked`` diverged, ran out of memory or failed with ``larger`` texts; loss NaN.
    - open: a trial has yet to end, or a cell has no tested winner; loss NaN.

    The frame is empty where there is one sample size, or one candidate per cell. Repeats, which
    tune nothing, are left out.
    """
    plan = plan[plan["repeat_of"].isna()]
    smaller, larger = int(plan["n_samples"].min()), int(plan["n_samples"].max())
    trials = plan.merge(results[_RESULTS], on="trial_id", how="left")
    groups = cast(Iterable[tuple[Any, pd.DataFrame]], trials.groupby(CASE, sort=False))
    rows = []
    for key, group in groups:
        small, large = (group[group["n_samples"].eq(size)] for size in (smaller, larger))
        if _can_choose(small, large):
            case = dict(zip(CASE, key, strict=True))
            rows.append({**case, **_compare_cells(small, large, history)})
    shared = pd.DataFrame(rows, columns=[c for c in CASE_COLUMNS if c not in ("smaller", "larger")])
    frame = shared.assign(smaller=smaller, larger=larger)[CASE_COLUMNS]
    return frame.astype(dict.fromkeys(_NUMBERS, float))


def _can_choose(small: pd.DataFrame, large: pd.DataFrame) -> bool:
    """Return whether these are two cells with the same candidates, two or more."""
    shared = set(small["candidate"]) & set(large["candidate"])
    return len(shared) > 1 and small["cell_id"].iloc[0] != large["cell_id"].iloc[0]


def _compare_cells(
    small: pd.DataFrame, large: pd.DataFrame, history: pd.DataFrame
) -> dict[str, Any]:
    facts = {"candidates": len(large), "outcome": "open", "loss": math.nan}
    first, best = _find_winner(small), _find_winner(large)
    if first is None or best is None:
        return facts
    same = large[large["candidate"].eq(first["candidate"])]
    if same.empty:
        return facts
    picked = same.iloc[0]
    outcome, loss = _measure_loss(best, picked)
    behind = _measure_lag(best, picked, history) if outcome == "bounded" else math.nan
    facts |= _describe_candidate("picked", picked) | _describe_candidate("best", best)
    return {**facts, "outcome": outcome, "loss": loss, "behind": behind}


def _find_winner(cell: pd.DataFrame) -> pd.Series | None:
    """Return the best trial of a cell whose trials have all ended; None if it has none."""
    winners = cell[cell["best_of_cell"].eq(True) & cell["test_accuracy"].notna()]
    if winners.empty or cell["status"].isna().any():
        return None
    return winners.iloc[0]


def _describe_candidate(name: str, trial: pd.Series) -> dict[str, Any]:
    columns = {"": "candidate", "_rank": "lora_rank", "_rate": "learning_rate"}
    return {f"{name}{suffix}": trial[column] for suffix, column in columns.items()}


def _measure_loss(best: pd.Series, picked: pd.Series) -> tuple[str, float]:
    """Return the outcome and the loss of ``picked`` against ``best``, trials of one cell."""
    if picked["candidate"] == best["candidate"]:
        return "same", 0.0
    if picked["status"] == "finished":
        return "measured", float(best["test_accuracy"] - picked["test_accuracy"])
    if picked["status"] == "stopped":
        return "bounded", float(best["val_accuracy"] - picked["val_accuracy"])
    return "failed", math.nan


def _measure_lag(best: pd.Series, picked: pd.Series, history: pd.DataFrame) -> float:
    """Return how far ``picked`` was behind ``best`` after its last epoch: their highest validation
    accuracies until then."""
    epochs = history[history["epoch"].le(picked["epochs_run"])]
    highest = epochs.groupby("trial_id")["val_accuracy"].max()
    return float(highest.get(best["trial_id"], math.nan) - picked["val_accuracy"])


def summarize_transfer(cases: pd.DataFrame) -> Transfer | None:
    """Return the answer over ``cases`` (``compare_sizes``); None if none of them is settled.

    Seeds of one contender and label count share candidates and test texts, so they are averaged
    first; with only one such pair, the unit is the seed. The interval of the mean is Student's over
    units, and is left out where fewer than three of them lose or gain anything: most losses are
    exactly 0, and with one or two that are not it is too narrow. From three on it covers in 90 to
    99 of 100 simulated studies of 6 to 16 units; the percentile bootstrap's is narrower. It speaks
    of contenders and label sets like these, on these test texts.
    """
    settled = cases[cases["outcome"].ne("open")]
    if settled.empty:
        return None
    pairs = settled[["model", "n_labels"]].drop_duplicates()
    units = ["model", "n_labels"] if len(pairs) > 1 else ["seed"]
    losses = settled.dropna(subset=["loss"]).groupby(units)["loss"].mean()
    low, high = _bound_mean(losses)
    _, other_high = wilson_interval(0.0, len(settled[units].drop_duplicates()))
    outcomes = settled["outcome"].value_counts()
    return Transfer(
        smaller=int(settled["smaller"].iloc[0]),
        larger=int(settled["larger"].iloc[0]),
        cases=len(settled),
        other=int(settled["outcome"].ne("same").sum()),
        by_chance=float((1 - 1 / settled["candidates"]).sum()),
        bounded=int(outcomes.get("bounded", 0)),
        failed=int(outcomes.get("failed", 0)),
        behind=float(settled["behind"].mean()),
        unsettled=len(cases) - len(settled),
        loss=float(losses.mean()),
        low=low,
        high=high,
        units=len(losses),
        other_high=float(other_high),
    )


def _bound_mean(losses: pd.Series) -> tuple[float, float]:
    if losses.ne(0).sum() < FEWEST_LOSSES or losses.nunique() == 1:
        return math.nan, math.nan
    return t_interval(losses)


def tabulate_transfer(cases: pd.DataFrame) -> pd.DataFrame:
    """Return one row per contender: how many ``cases`` are settled, how many of them have each
    outcome but open, and ``loss``, their mean (fraction; an upper bound if any is bounded)."""
    settled = cases[cases["outcome"].ne("open")]
    counts = pd.crosstab(settled["model"], settled["outcome"])
    counts = counts.reindex(columns=list(OUTCOMES[:-1]), fill_value=0)
    grouped = settled.groupby("model", sort=False)
    frame = grouped.agg(cases=("loss", "size"), loss=("loss", "mean"))
    return frame.join(counts).reset_index()
