"""What the page shows: the charts, and the values for its sentences and tables."""

from itertools import count
from typing import Any

import pandas as pd

from analysis.charts.cells import draw_heatmap, draw_label_curves, draw_sample_curves
from analysis.charts.comparisons import (
    draw_confusion,
    draw_differences,
    draw_extrapolation,
    draw_optimism,
)
from analysis.charts.costs import draw_costs, draw_epochs
from analysis.charts.prices import draw_making, draw_using
from analysis.charts.trials import draw_candidates, draw_learning_curves
from analysis.page.decision import tell
from analysis.page.sentences import write_sentences
from analysis.page.transfer import describe_transfer
from analysis.stats.answers import (
    count_progress,
    count_wins,
    find_answers,
    list_missing,
    tabulate_best,
)
from analysis.stats.cells import list_cells, list_trials
from analysis.stats.choices import price_making, price_using
from analysis.stats.confusion import score_labels
from analysis.stats.costs import RUN_PARTS, compare_forecast, compare_memory, list_failures
from analysis.stats.extrapolation import tabulate_forecast
from analysis.stats.scope import find_scope, suggest_seeds
from analysis.stats.transfer import summarize_transfer, tabulate_transfer
from analysis.study import Study
from sweep.storage.account import (
    DataAccount,
    format_columns,
    format_given_up,
    format_left_out,
    list_origins,
)
from sweep.storage.orphans import count_reasons


def draw_charts(study: Study) -> dict[str, Any]:
    """Return the report's charts by name; a chart with nothing to show is left out."""
    charts = {"heatmap": draw_heatmap(study.cells), **_draw_price_charts(study)}
    if study.cells["accuracy"].notna().any():
        charts["samples"] = draw_sample_curves(study.cells)
        charts["labels"] = draw_label_curves(study.cells)
    if not study.power_laws.empty:
        charts["extrapolation"] = draw_extrapolation(study.power_laws, study.cells)
    if not study.against_best.empty:
        charts["differences"] = draw_differences(study.against_best, study.models)
    return charts | _draw_cell_charts(study) | _draw_trial_charts(study)


def _draw_price_charts(study: Study) -> dict[str, Any]:
    charts: dict[str, Any] = {}
    values = study.choices, study.models, study.baselines, study.prices.currency
    if not price_making(study.choices)[0].empty:
        charts["making"] = draw_making(*values)
    if not price_using(study.choices)[0].empty:
        charts["using"] = draw_using(*values)
    return charts


def _draw_cell_charts(study: Study) -> dict[str, Any]:
    charts: dict[str, Any] = {}
    if not study.optimism.empty:
        charts["optimism"] = draw_optimism(study.optimism, study.models)
    if study.confusions:
        first = choose_confusion(study)
        chosen = study.confusions[first]
        charts["confusion"] = draw_confusion(chosen["labels"], chosen["matrix"])
    if not study.costs.empty:
        charts["costs"] = draw_costs(study.costs, study.models, study.baselines)
    return charts


def _draw_trial_charts(study: Study) -> dict[str, Any]:
    charts: dict[str, Any] = {}
    if study.epochs["part"].eq(RUN_PARTS[0]).any():
        charts["epochs"] = draw_epochs(study.epochs, study.models)
    if study.curves["val_accuracy"].notna().any():
        charts["curves"] = draw_learning_curves(study.curves, study.tuned)
    if not study.candidates.empty:
        charts["candidates"] = draw_candidates(study.candidates, study.tuned)
    return charts


def choose_confusion(study: Study) -> int:
    """Return the index in ``study.confusions`` of the cell to show first: most labels, then most
    samples, then most accurate. Raises ValueError if there is none."""
    axes = ["model", "n_labels", "n_samples"]
    accuracy = study.cells.set_index(axes)["accuracy"].to_dict()
    ranks = [
        (c["n_labels"], c["n_samples"], accuracy[tuple(c[name] for name in axes)], -i)
        for i, c in enumerate(study.confusions)
    ]
    return -max(ranks)[-1]


def collect_values(study: Study) -> dict[str, Any]:
    """Return the values that the template needs for its sentences and tables."""
    run, cells = study.run, study.cells
    return {
        "models": study.models,
        "tuned": study.tuned,
        "baselines": study.baselines,
        "counts": sorted(cells["n_labels"].unique().tolist()),
        "sizes": sorted(cells["n_samples"].unique().tolist()),
        "several_seeds": run.plan["seed"].nunique() > 1,
        "cells": list_rows(cells.sort_values(["n_labels", "n_samples"], kind="stable")),
        "results": list_rows(list_cells(run)),
        "label_sets": list_label_sets(run.plan),
        "figures": count(1),
        "tables": count(1),
        **_collect_decisions(study),
        **_collect_answers(study),
        **_collect_comparisons(study),
        **_collect_costs(study),
        **_collect_trials(study),
        **collect_transfer(study.transfer),
        **_collect_origin(study),
        "data": study.run.data,
        "data_rows": tabulate_data(study.run.data) if study.run.data else [],
    }


def _collect_decisions(study: Study) -> dict[str, Any]:
    more = suggest_seeds(study.run)
    choices, prices = study.choices, study.prices
    uses = choices[choices["use_samples"].notna()].drop_duplicates(["model", "n_labels"])
    order = ["n_labels", "n_samples"]
    return {
        "decisions": [tell(decision, prices, more) for decision in study.decisions],
        "prices": prices,
        "priced": any(
            each is not None for each in (prices.gpu_hour, prices.cpu_hour, prices.label)
        ),
        "choices": list_rows(choices.sort_values(order, kind="stable")),
        "uses": list_rows(uses.sort_values("n_labels", kind="stable")),
    }


def _collect_answers(study: Study) -> dict[str, Any]:
    combinations, leaders = count_wins(study.cells)
    return {
        "answers": find_answers(study.cells, study.against_best, study.baselines),
        "combinations": combinations,
        "leaders": leaders,
        "best_rows": list(tabulate_best(study.cells)),
        "progress": count_progress(study.run),
        "missing": list_missing(study.run),
        "others": count_reasons(study.run.others),
    }


def _collect_comparisons(study: Study) -> dict[str, Any]:
    forecast = tabulate_forecast(study.power_laws)
    last = study.steps.drop_duplicates("n_labels", keep="last")
    shown = choose_confusion(study) if study.confusions else 0
    scores = [list_rows(score_labels(c["labels"], c["matrix"])) for c in study.confusions[shown:]]
    return {
        "scope": find_scope(study.pairs),
        "more_seeds": suggest_seeds(study.run),
        "sentences": write_sentences(study),
        "against_best": list_rows(study.against_best),
        "steps": list_rows(study.steps),
        "last_steps": list_rows(last),
        "forecast": list_rows(forecast),
        "optimism": list_rows(summarize_optimism(study.optimism)),
        "mean_optimism": study.optimism["optimism"].mean(),
        "cell_choices": study.confusions,
        "shown_cell": shown,
        "label_scores": scores[0] if scores else [],
    }


def _collect_costs(study: Study) -> dict[str, Any]:
    epochs = study.epochs.pivot_table(index="model", columns="part", values="epochs", sort=False)
    epochs = epochs.reindex(columns=list(RUN_PARTS)).fillna(0).astype(int)
    totals = study.epochs.groupby("part")[["epochs", "seconds"]].sum()
    return {
        "costs": list_rows(study.costs),
        "epoch_parts": list(RUN_PARTS),
        "epoch_rows": [(model, row.tolist()) for model, row in epochs.iterrows()],
        "epoch_totals": totals["epochs"].astype(int).to_dict(),
        "second_totals": totals["seconds"].to_dict(),
        "predictions": compare_forecast(study.run),
        "memory": compare_memory(study.run),
    }


def _collect_trials(study: Study) -> dict[str, Any]:
    return {
        "trials": list_rows(list_trials(study.run)),
        "epochs": list_epochs(study.run.history),
        "candidates": list_rows(study.candidates),
        "failures": list_failures(study.run),
    }


def collect_transfer(cases: pd.DataFrame) -> dict[str, Any]:
    """Return the values for the part about tuning with few texts; ``transfer`` is None if there is
    nothing to say."""
    found = summarize_transfer(cases)
    return {
        "transfer": found,
        "transfer_answer": describe_transfer(found) if found else "",
        "transfer_models": list_rows(tabulate_transfer(cases)),
        "transfer_cases": list_rows(cases),
    }


def _collect_origin(study: Study) -> dict[str, Any]:
    opened = study.run.opened[-1] if study.run.opened else None
    return {
        "run": study.run,
        "versions": (opened.get("versions") if opened else None) or {},
        "commit": opened.get("git_commit") if opened else None,
        "devices": sorted(study.run.results["device"].dropna().unique()),
    }


def tabulate_data(account: DataAccount) -> list[dict[str, Any]]:
    """Return a row per split: its origin, columns and rows, and what was left out and why."""
    return [
        {
            "split": split.split,
            "origin": list_origins(split, account),
            "columns": format_columns(split) if split.text_columns else "",
            "rows": split.read + split.from_training,
            "cut_off": format_given_up(split, account) if split.cut_off else "",
            "left_out": [format_left_out(each) for each in split.left_out],
            "usable": split.usable,
        }
        for split in account.splits
    ]


def list_label_sets(plan: pd.DataFrame) -> list[dict[str, Any]]:
    """Return each label count with its label names and, as ``new``, those not in a smaller set."""
    sets, known = [], set[str]()
    for row in list_rows(plan.drop_duplicates("n_labels").sort_values("n_labels")):
        names = [str(name) for name in row["labels"]]
        nested = known <= set(names)
        new = [name for name in names if name not in known] if nested else names
        sets.append({"n_labels": row["n_labels"], "labels": names, "new": new, "nested": nested})
        known |= set(names)
    return sets


def summarize_optimism(optimism: pd.DataFrame) -> pd.DataFrame:
    """Return each model's mean, lowest and highest validation minus test, and how many cells."""
    grouped = optimism.groupby("model", sort=False)["optimism"]
    return grouped.agg(["mean", "min", "max", "size"]).reset_index()


def list_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of ``frame`` as dictionaries, with None for what is missing."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def list_epochs(history: pd.DataFrame) -> dict[str, list[float]]:
    """Return trial id -> validation accuracy of each epoch."""
    ordered = history.sort_values("epoch")
    return {str(i): g.tolist() for i, g in ordered.groupby("trial_id")["val_accuracy"]}
