"""Everything that the report of a run shows, computed."""

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
from analysis.stats.choices import tabulate_choices
from analysis.stats.confusion import list_confusions
from analysis.stats.costs import count_epochs, tabulate_costs
from analysis.stats.decision import Decision, decide
from analysis.stats.extrapolation import extrapolate, tabulate_forecast
from analysis.stats.pairs import (
    MAJORITY,
    compare_models,
    mark_correct,
    measure_steps,
    orient_pairs,
    select_seeds,
)
from analysis.stats.prices import find_prices
from analysis.stats.repeats import find_looks, find_smallest, find_tuned
from analysis.stats.sizes import compare_sample_sizes
from analysis.stats.transfer import compare_sizes
from sweep.storage.prices import Prices
from sweep.verdicts import Looks


@dataclass(frozen=True)
class Study:
    """The frames of a report; ``build_study`` names the function that documents each."""

    run: Run
    cells: pd.DataFrame
    # In the order of the plan, baselines last.
    models: list[str]
    tuned: list[str]
    baselines: list[str]
    pairs: pd.DataFrame
    # When the pairs were tested, and the smallest difference that matters (fraction).
    looks: Looks
    smallest: float
    against_best: pd.DataFrame
    steps: pd.DataFrame
    sizes: pd.DataFrame
    power_laws: pd.DataFrame
    curves: pd.DataFrame
    candidates: pd.DataFrame
    transfer: pd.DataFrame
    optimism: pd.DataFrame
    prices: Prices
    choices: pd.DataFrame
    # Most labels first.
    decisions: list[Decision]
    costs: pd.DataFrame
    epochs: pd.DataFrame
    confusions: list[dict[str, Any]]


def build_study(run: Run) -> Study:
    cells = average_seeds(run)
    models, baselines = list_models(cells), list_baselines(cells)
    right = mark_correct(run.predictions)
    seeds, looks = find_tuned(run.plan), find_looks(run.opened)
    smallest = find_smallest(run.opened)
    pairs = compare_models(right, models, seeds, looks, smallest)
    tuned = [model for model in models if model not in baselines]
    able = [model for model in models if model != MAJORITY]
    sizes = compare_sample_sizes(right, able, seeds, looks)
    power_laws = extrapolate(select_seeds(right, seeds), able)
    prices = find_prices(run)
    choices = tabulate_choices(run, cells, prices)
    return Study(
        run=run,
        cells=cells,
        models=models,
        tuned=tuned,
        baselines=baselines,
        pairs=pairs,
        looks=looks,
        smallest=smallest,
        against_best=orient_pairs(pairs, select_winners(cells)),
        steps=measure_steps(right, tuned, seeds, looks),
        sizes=sizes,
        power_laws=power_laws,
        curves=list_curves(run.history, run.results),
        candidates=compare_candidates(run.results),
        transfer=compare_sizes(run.plan, run.results, run.history),
        optimism=measure_optimism(run),
        prices=prices,
        choices=choices,
        decisions=decide(choices, cells, pairs, sizes, tabulate_forecast(power_laws)),
        costs=tabulate_costs(run),
        epochs=count_epochs(run),
        confusions=list_confusions(run),
    )
