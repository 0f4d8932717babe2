"""What the report says in words: the best model per label count, what has a result, what failed."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from analysis.load import Run
from analysis.stats.cells import list_trials, select_best

Row = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """The most accurate model of a label count, over all sample sizes."""

    # The row of ``average_seeds`` with the highest test accuracy.
    best: Row
    # The best other model at the same sample size, if any.
    runner_up: Row | None
    # The pair of the best model (A) and the runner-up (B); None if they share no texts.
    rival: Row | None = None
    # The pair of the best model (A) and the most accurate baseline (B); None if none has a result.
    reference: Row | None = None

    @property
    def tied(self) -> bool:
        """Whether the runner-up is as accurate as the best model."""
        other = self.runner_up
        return other is not None and abs(other["accuracy"] - self.best["accuracy"]) < 1e-9


@dataclass(frozen=True)
class Progress:
    cells_planned: int
    cells_done: int
    trials_planned: int
    # Trials by status, most frequent first.
    statuses: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class MissingCell:
    """A planned cell, or a baseline, without a result, and why."""

    model: str
    n_labels: int
    n_samples: int
    seed: int
    statuses: str
    error: str | None


@dataclass(frozen=True)
class Verdicts:
    """How many differences are real, at the level of ``sweep.verdicts.holm.judge``."""

    # Of all pairs of models and baselines.
    pairs: int
    real: int
    # Label counts x sample sizes with a best model and another one; and of these, those whose best
    # model is better than every other model.
    combinations: int
    clear: int
    # Combinations whose best model is better than every baseline, those where a baseline is better
    # than every model, and those between: too close to call.
    beaten: int
    open: int
    lost: int
    # The baselines in these, the majority class aside.
    references: tuple[str, ...] = ()

    @property
    def referenced(self) -> int:
        """Number of combinations that have a baseline to compare with."""
        return self.beaten + self.open + self.lost


def count_verdicts(
    pairs: pd.DataFrame, against_best: pd.DataFrame, baselines: list[str]
) -> Verdicts:
    is_reference = against_best["model_b"].isin(baselines)
    rivals, references = against_best[~is_reference], against_best[is_reference]
    clear = rivals["verdict"].eq("A better").groupby([rivals["n_labels"], rivals["n_samples"]])
    groups = references.groupby(["n_labels", "n_samples"])["verdict"]
    against = Counter(_judge_all({*verdicts}) for _, verdicts in groups)
    return Verdicts(
        pairs=len(pairs),
        real=int(pairs["verdict"].ne("too close to call").sum()),
        combinations=clear.ngroups,
        clear=int(clear.all().sum()),
        beaten=against["A better"],
        open=against["too close to call"],
        lost=against["B better"],
        references=tuple(references["model_b"].unique()),
    )


def _judge_all(verdicts: set[str]) -> str:
    """Return the verdict on a model against all baselines, of which the strongest counts."""
    return next(each for each in ("B better", "too close to call", "A better") if each in verdicts)


def find_answers(
    cells: pd.DataFrame, against_best: pd.DataFrame, baselines: list[str]
) -> list[Answer]:
    """Return one answer per label count that has a result, fewest labels first.

    ``against_best`` comes from ``analysis.stats.pairs.orient_pairs``.
    """
    done = cells[cells["accuracy"].notna() & cells["kind"].eq("model")]
    answers = (_find_answer(group) for _, group in done.groupby("n_labels", sort=True))
    return [_add_verdicts(answer, _list_rows(against_best), baselines) for answer in answers]


def _add_verdicts(answer: Answer, pairs: list[Row], baselines: list[str]) -> Answer:
    best, other = answer.best, answer.runner_up
    axes = [(name, best[name]) for name in ("n_labels", "n_samples")]
    same = [p for p in pairs if p["model_a"] == best["model"] and set(axes) <= set(p.items())]
    rivals = [p for p in same if other and p["model_b"] == other["model"]]
    references = [p for p in same if p["model_b"] in baselines]
    return replace(
        answer,
        rival=rivals[0] if rivals else None,
        reference=references[0] if references else None,
    )


def _find_answer(group: pd.DataFrame) -> Answer:
    rows = _list_rows(group.sort_values("accuracy", ascending=False, kind="stable"))
    best = rows[0]
    others = [row for row in rows if row["model"] != best["model"]]
    rivals = [row for row in others if row["n_samples"] == best["n_samples"]]
    return Answer(best, rivals[0] if rivals else None)


def select_winners(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the highest test accuracy of their label count and sample size.

    Models that tie all win; baselines do not compete.
    """
    done = cells[cells["accuracy"].notna() & cells["kind"].eq("model")]
    # Means over seeds may differ in the last bit even if the counts behind them are the same.
    exact = done["accuracy"].round(9)
    top = exact.groupby([done["n_labels"], done["n_samples"]]).transform("max")
    return done[exact.eq(top)]


def count_wins(cells: pd.DataFrame) -> tuple[int, list[tuple[str, int]]]:
    """Return how many label counts x sample sizes have a result, and how many each model wins.

    Most wins first; a tie counts for each model in it.
    """
    winners = select_winners(cells)
    wins = [(str(model), int(n)) for model, n in winners["model"].value_counts().items()]
    return len(winners[["n_labels", "n_samples"]].drop_duplicates()), wins


def tabulate_best(cells: pd.DataFrame) -> Iterator[tuple[int, list[Row | None]]]:
    """Yield each label count with the winner's row per sample size (None without a result).

    ``models`` of a row names all models that tie.
    """
    winners = _list_rows(select_winners(cells))
    for n_labels in sorted(cells["n_labels"].unique().tolist()):
        rows = [row for row in winners if row["n_labels"] == n_labels]
        sizes = sorted(cells["n_samples"].unique().tolist())
        yield n_labels, [_join_ties([r for r in rows if r["n_samples"] == n]) for n in sizes]


def _join_ties(rows: list[Row]) -> Row | None:
    return {**rows[0], "models": [row["model"] for row in rows]} if rows else None


def count_progress(run: Run) -> Progress:
    statuses = list_trials(run)["status"].value_counts()
    best = select_best(run.results)
    best = best[best["kind"].eq("model")]
    return Progress(
        cells_planned=run.plan["cell_id"].nunique(),
        cells_done=best["cell_id"].nunique(),
        trials_planned=len(run.plan),
        statuses=tuple((str(name), int(count)) for name, count in statuses.items()),
    )


def list_missing(run: Run) -> list[MissingCell]:
    """Return the planned cells without a result, in the order of the plan, and the baselines that
    failed."""
    done = set(select_best(run.results)["cell_id"])
    trials = list_trials(run)
    baselines = run.results[run.results["kind"].eq("baseline")]
    left = pd.concat([trials, baselines])
    left = left[~left["cell_id"].isin(done)]
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
