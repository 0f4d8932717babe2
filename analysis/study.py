"""A run with everything worked out that its report shows."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.load import Run
from analysis.stats.answers import select_winners
from analysis.stats.cells import (
    average_seeds,
    compare_candidates,
    list_baselines,
    list_curves,
    list_models,
    measure_optimism,
)
from analysis.stats.confusion import list_confusions
from analysis.stats.costs import count_epochs, tabulate_costs
from analysis.stats.extrapolation import extrapolate
from analysis.stats.pairs import MAJORITY, compare_models, mark_right, measure_steps, orient_pairs


@dataclass(frozen=True)
class Study:
    """Frames of a run, each made by the function of its name's room."""

    run: Run
    cells: pd.DataFrame
    models: list[str]
    """Models in the order of the plan, baselines last."""
    tuned: list[str]
    baselines: list[str]
    pairs: pd.DataFrame
    against_best: pd.DataFrame
    steps: pd.DataFrame
    power_laws: pd.DataFrame
    curves: pd.DataFrame
    candidates: pd.DataFrame
    optimism: pd.DataFrame
    costs: pd.DataFrame
    epochs: pd.DataFrame
    confusions: list[dict[str, Any]]


def build_study(run: Run) -> Study:
    """Return all that the report shows of ``run``."""
    cells = average_seeds(run)
    models, baselines = list_models(cells), list_baselines(cells)
    right = mark_right(run.predictions)
    pairs = compare_models(right, models)
    tuned = [model for model in models if model not in baselines]
    return Study(
        run=run,
        cells=cells,
        models=models,
        tuned=tuned,
        baselines=baselines,
        pairs=pairs,
        against_best=orient_pairs(pairs, select_winners(cells)),
        steps=measure_steps(right, tuned),
        power_laws=extrapolate(right, [model for model in models if model != MAJORITY]),
        curves=list_curves(run.history, run.results),
        candidates=compare_candidates(run.results),
        optimism=measure_optimism(run.results),
        costs=tabulate_costs(run),
        epochs=count_epochs(run),
        confusions=list_confusions(run),
    )
