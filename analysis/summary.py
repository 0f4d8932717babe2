"""What the report says in words: the best model per label count, what has a result, what failed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.cells import list_trials, select_best
from analysis.load import Run

Row = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """The most accurate model of a label count, over all sample sizes."""

    best: Row
    """The row of ``average_seeds`` with the highest test accuracy."""
    runner_up: Row | None
    """The best other model at the same sample size; None where there is none."""

    @property
    def overlaps(self) -> bool:
        """Return whether the intervals of the best model and the runner-up overlap."""
        other = self.runner_up
        return other is not None and other["accuracy_high"] >= self.best["accuracy_low"]


@dataclass(frozen=True)
class Progress:
    """How much of the plan has a result."""

    cells_planned: int
    cells_done: int
    trials_planned: int
    statuses: tuple[tuple[str, int], ...]
    """Trials by status, most frequent first."""


@dataclass(frozen=True)
class MissingCell:
    """A planned cell without a result, and why."""

    model: str
    n_labels: int
    n_samples: int
    seed: int
    statuses: str
    error: str | None


def find_answers(cells: pd.DataFrame) -> list[Answer]:
    """Return one answer per label count that has a result, fewest labels first."""
    done = cells[cells["accuracy"].notna() & cells["kind"].eq("model")]
    return [_find_answer(group) for _, group in done.groupby("n_labels", sort=True)]


def _find_answer(group: pd.DataFrame) -> Answer:
    rows = _list_rows(group.sort_values("accuracy", ascending=False, kind="stable"))
    best = rows[0]
    others = [row for row in rows if row["model"] != best["model"]]
    rivals = [row for row in others if row["n_samples"] == best["n_samples"]]
    return Answer(best, rivals[0] if rivals else None)


def count_wins(cells: pd.DataFrame) -> list[tuple[str, int]]:
    """Return model and for how many label counts and sample sizes it is most accurate.

    Most wins first; models that tie at the top of a combination all win it.
    """
    done = cells[cells["accuracy"].notna() & cells["kind"].eq("model")]
    top = done.groupby(["n_labels", "n_samples"])["accuracy"].transform("max")
    wins = done[done["accuracy"].eq(top)]["model"].value_counts(sort=True)
    return [(str(model), int(count)) for model, count in wins.items()]


def tabulate_best(cells: pd.DataFrame) -> Iterator[tuple[int, list[Row | None]]]:
    """Yield label count, and the most accurate model's row for each sample size (None if none)."""
    models = cells[cells["kind"].eq("model")]
    sizes = sorted(cells["n_samples"].unique())
    for n_labels, group in models.groupby("n_labels", sort=True):
        done = group.dropna(subset=["accuracy"]).sort_values("accuracy", kind="stable")
        best = {row["n_samples"]: row for row in _list_rows(done)}
        yield int(str(n_labels)), [best.get(size) for size in sizes]


def measure_gains(cells: pd.DataFrame) -> list[tuple[int, float]]:
    """Return label count and what the largest sample size adds to the smallest's best accuracy.

    The gain is a fraction; label counts without a result at both sizes are left out, and all are
    where the grid has one sample size.
    """
    ends = [(n_labels, rows[0], rows[-1]) for n_labels, rows in tabulate_best(cells)]
    return [
        (n_labels, large["accuracy"] - small["accuracy"])
        for n_labels, small, large in ends
        if small and large and small is not large
    ]


def count_progress(run: Run) -> Progress:
    """Return how many cells and trials were planned and what became of them."""
    statuses = list_trials(run)["status"].value_counts()
    best = run.results[run.results["best_of_cell"].eq(True)]
    return Progress(
        cells_planned=run.plan["cell_id"].nunique(),
        cells_done=best["cell_id"].nunique(),
        trials_planned=len(run.plan),
        statuses=tuple((str(name), int(count)) for name, count in statuses.items()),
    )


def list_missing(run: Run) -> list[MissingCell]:
    """Return the planned cells without a result, in the order of the plan."""
    done = set(select_best(run.results)["cell_id"])
    trials = list_trials(run)
    left = trials[~trials["cell_id"].isin(done)]
    return [_describe_missing(group) for _, group in left.groupby("cell_id", sort=False)]


def _describe_missing(trials: pd.DataFrame) -> MissingCell:
    first = trials.iloc[0]
    counts = trials["status"].value_counts()
    errors = trials["error"].dropna()
    return MissingCell(
        model=first["model"],
        n_labels=int(first["n_labels"]),
        n_samples=int(first["n_samples"]),
        seed=int(first["seed"]),
        statuses=", ".join(f"{count} {name}" for name, count in counts.items()),
        error=None if errors.empty else str(errors.iloc[0]),
    )


def _list_rows(frame: pd.DataFrame) -> list[Row]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
