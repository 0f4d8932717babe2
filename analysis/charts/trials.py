"""Charts of trials: their learning curves, and the candidates."""

import altair as alt
import pandas as pd

from analysis.charts.encodings import (
    AS_PERCENT,
    PERCENT,
    QUARTERS,
    color_models,
    column_by_labels,
    dash_models,
    tip,
)
from analysis.charts.palette import style_chart

# More lines than this in a panel hide each other.
CROWDED = 12
# More epochs than this in the learning curves (2 MB) make a page slow to open.
MAX_POINTS = 12_000
RATE_TICKS = [digit * 10.0**power for power in range(-7, 0) for digit in (1, 2, 5)]


def draw_learning_curves(curves: pd.DataFrame, models: list[str]) -> alt.FacetChart:
    """Return validation accuracy against epoch: a panel per label count and sample size.

    One line per trial (for very many, see ``thin_curves``); the best trial of each cell is bold; a
    mark shows where a trial ended early. A menu selects the trials to show: if panels would be
    crowded, first the best of each cell. ``curves`` comes from
    ``analysis.stats.cells.list_curves``; ``models`` is the order of the colors.
    """
    fields = [
        "trial_id",
        "model",
        "n_labels",
        "n_samples",
        "epoch",
        "val_accuracy",
        "best_of_cell",
        "end",
    ]
    measured = curves.loc[curves["val_accuracy"].notna(), fields]
    frame = thin_curves(measured).round(5)
    frame["order"] = frame["model"].map(models.index)
    base = _base_of_trials(models, _frame_epochs(frame["epoch"]))
    layers = alt.layer(_draw_trials(base, models), _mark_ends(base), data=frame)
    layers = layers.properties(width=205, height=140)
    row = alt.Row("n_samples:O", title=None, header=alt.Header(labelExpr=_SAMPLES_HEADER))
    chart = layers.facet(column=column_by_labels(), row=row, spacing=14)
    chart = chart.add_params(_choose_trials(frame, models))
    text = (
        f"Learning curves of {frame['trial_id'].nunique()} trials: validation accuracy against "
        "epoch, one panel for each label count and sample size; early ends are marked."
    )
    chart = chart.properties(description=text)
    return style_chart(_name_omission(chart, frame, measured))


def _name_omission(
    chart: alt.FacetChart, shown: pd.DataFrame, measured: pd.DataFrame
) -> alt.FacetChart:
    drawn, trials = shown["trial_id"].nunique(), measured["trial_id"].nunique()
    if drawn == trials:
        return chart
    title = f"{drawn} of {trials} trials are drawn: the best of each cell, then an even selection"
    words = alt.Title(title, anchor="start", color="currentColor", fontSize=12, fontWeight="normal")
    return chart.properties(title=words)


def thin_curves(curves: pd.DataFrame, max_points: int = MAX_POINTS) -> pd.DataFrame:
    """Return the epochs of as many trials as fit into about ``max_points`` epochs.

    The best trial of each cell comes first; of those that do not all fit, an even selection over
    the order of the plan is kept. A trial is drawn completely or not at all.
    """
    if len(curves) <= max_points:
        return curves
    trials = curves.groupby("trial_id", sort=False)["best_of_cell"].any()
    room = max(1, max_points * len(trials) // len(curves))
    best, others = trials.index[trials], trials.index[~trials]
    chosen = [*_choose_evenly(best, room)]
    chosen += _choose_evenly(others, room - len(chosen))
    return curves[curves["trial_id"].isin(chosen)]


def _choose_evenly(items: pd.Index, count: int) -> list[str]:
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def _choose_trials(frame: pd.DataFrame, models: list[str]) -> alt.Parameter:
    panels = frame.groupby(["n_labels", "n_samples"])["trial_id"].nunique()
    first = BEST_TRIALS if panels.max() > CROWDED else ALL_TRIALS
    shown = [model for model in models if model in set(frame["model"])]
    menu = alt.binding_select(
        options=[ALL_TRIALS, BEST_TRIALS, *(models.index(model) for model in shown)],
        labels=["all trials", "the best of each cell", *(f"all of {model}" for model in shown)],
        name="Show ",
    )
    return alt.param(name="shown", value=first, bind=menu)


ALL_TRIALS, BEST_TRIALS = -2, -1
_IS_SHOWN = (
    f"shown == {ALL_TRIALS} || (shown == {BEST_TRIALS} ? datum.best_of_cell : datum.order == shown)"
)
_SAMPLES_HEADER = "datum.value + ' samples'"


def _frame_epochs(epochs: pd.Series) -> alt.Scale:
    # Fixed, since the menu may hide all trials at either end.
    low, high = (int(epochs.min()), int(epochs.max())) if len(epochs) else (0, 1)
    room = 0.06 * (high - low) or 0.5
    return alt.Scale(domain=[low - room, high + room], nice=False, zero=False)


def _base_of_trials(models: list[str], scale: alt.Scale) -> alt.Chart:
    x = alt.X("epoch:Q", title="epoch", scale=scale)
    y = alt.Y("val_accuracy:Q", title="validation accuracy (%)", scale=alt.Scale(domain=[0, 1]))
    return (
        alt.Chart()
        .transform_filter(_IS_SHOWN)
        .encode(
            x=x.axis(alt.Axis(tickMinStep=1, format="d", grid=False)),
            y=y.axis(alt.Axis(labelExpr=AS_PERCENT, values=QUARTERS)),
            color=color_models(models, symbolType="stroke", symbolSize=300),
            detail="trial_id:N",
            tooltip=[
                tip("model:N", "model"),
                tip("trial_id:N", "trial"),
                tip("epoch:Q", "epoch"),
                tip("val_accuracy:Q", "validation accuracy", PERCENT),
            ],
        )
    )


def _draw_trials(base: alt.Chart, models: list[str]) -> alt.Chart:
    weight = alt.when("datum.best_of_cell").then(alt.value(2.5)).otherwise(alt.value(1))
    fade = alt.when("datum.best_of_cell").then(alt.value(1)).otherwise(alt.value(0.6))
    return base.mark_line().encode(strokeWidth=weight, opacity=fade, strokeDash=dash_models(models))


def _mark_ends(base: alt.Chart) -> alt.Chart:
    scale = alt.Scale(
        domain=["stopped", "diverged", "oom", "failed"],
        range=["cross", "square", "triangle-up", "triangle-down"],
    )
    ends = base.transform_filter("datum.end !== null")
    return ends.mark_point(size=45, strokeWidth=2, opacity=1).encode(
        shape=alt.Shape("end:N", title="ended early", scale=scale)
    )


# Stands where LoRA would have a rank.
ALL_WEIGHTS = "all weights"


def draw_candidates(candidates: pd.DataFrame, models: list[str]) -> alt.FacetChart:
    """Return each candidate at its learning rate and rank: a panel per model.

    The number is how far the candidate is behind the best of its cells, in percentage points of
    validation accuracy. ``candidates`` comes from ``analysis.stats.cells.compare_candidates``.
    """
    frame = candidates.round(5)
    frame["text"] = [f"{100 * value:.1f}" for value in frame["shortfall"]]
    ranks = frame["lora_rank"].dropna().astype(int)
    frame["rank"] = ranks.astype(str).reindex(frame.index, fill_value=ALL_WEIGHTS)
    rows = [*map(str, sorted(set(ranks), reverse=True)), ALL_WEIGHTS]
    x = alt.X(
        "learning_rate:Q",
        title="learning rate",
        scale=alt.Scale(type="log", nice=False, padding=28),
    )
    fill = alt.Color("shortfall:Q", title="behind the best (points)", legend=None)
    fill = fill.scale(alt.Scale(range=["#1d4e7e", "#cfe5df"], domain=[0, 0.2], clamp=True))
    base = alt.Chart().encode(
        x=x.axis(alt.Axis(format=".0e", values=RATE_TICKS, grid=False, labelOverlap="greedy")),
        y=alt.Y("rank:O", title="LoRA rank", sort=rows),
        tooltip=[
            tip("rank:N", "LoRA rank"),
            tip("learning_rate:Q", "learning rate", ".2~e"),
            tip("shortfall:Q", "behind the best of its cells", PERCENT),
            tip("cells:Q", "cells"),
        ],
    )
    points = base.mark_circle(size=420, opacity=1).encode(color=fill)
    numbers = base.mark_text(dy=-18, color="currentColor").encode(text="text:N")
    frame["order"] = [models.index(model) for model in frame["model"]]
    order = alt.EncodingSortField(field="order", op="min")
    layers = alt.layer(points, numbers, data=frame).properties(width=205, height=alt.Step(48))
    chart = layers.facet(facet=alt.Facet("model:N", title=None, sort=order), columns=4)
    text = "Candidates by learning rate and LoRA rank, with their distance from the best per cell."
    return style_chart(chart.properties(description=text))
