"""Charts of prices: accuracy against what a choice costs to make, and against its cost in use."""

import math

import altair as alt
import pandas as pd

from analysis.charts.encodings import (
    AS_PERCENT,
    PERCENT,
    color_models,
    column_by_labels,
    shape_models,
    tip,
)
from analysis.charts.palette import style_chart
from analysis.stats.choices import price_making, price_using

# Costs that differ by more than this are drawn on a logarithmic scale.
WIDE = 10
FIELDS = [
    "model",
    "n_labels",
    "n_samples",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "value",
    "on_front",
]


def draw_making(
    choices: pd.DataFrame, models: list[str], baselines: list[str], currency: str
) -> alt.FacetChart:
    """Return test accuracy against the cost to make, a point per contender and sample size.

    ``choices`` comes from ``analysis.stats.choices.tabulate_choices``. Bars are 95 % Wilson
    intervals; the line is the Pareto front.
    """
    frame, measure = price_making(choices)
    title = {"make": f"cost to make ({currency})", "hours": "trial time to make (hours)"}[measure]
    return _draw(frame, title, models, baselines)


def draw_using(
    choices: pd.DataFrame, models: list[str], baselines: list[str], currency: str
) -> alt.FacetChart:
    """Return test accuracy against the cost in use, the most accurate point of each contender.

    Drawn like ``draw_making``.
    """
    frame, measure = price_using(choices)
    money, time = f"{currency} per million texts", "seconds per thousand texts"
    return _draw(frame, {"use": money, "seconds": time}[measure], models, baselines)


def _draw(
    frame: pd.DataFrame, title: str, models: list[str], baselines: list[str]
) -> alt.FacetChart:
    axis = alt.Axis(format=",~r", grid=False, tickCount=4)
    axis.labelOverlap, axis.labelSeparation = "greedy", 8
    x = alt.X("value:Q", title=title, scale=_scale_costs(frame["value"]), axis=axis)
    title_y = "test accuracy (%)"
    y = alt.Y("accuracy:Q", title=title_y, scale=_scale_accuracies(frame))
    y = y.axis(alt.Axis(labelExpr=AS_PERCENT, tickCount=5))
    shown = [model for model in models if model in set(frame["model"])]
    color = color_models(models, baselines, values=shown)
    base = alt.Chart().encode(x=x)
    bars = base.mark_rule(strokeWidth=1.5, opacity=0.45).encode(
        y=alt.Y("accuracy_low:Q", title=title_y), y2="accuracy_high:Q", color=color
    )
    front = base.transform_filter("datum.on_front").mark_line(
        color="currentColor", opacity=0.55, strokeWidth=1.5, interpolate="step-after"
    )
    points = base.mark_point(filled=True, size=65, opacity=1).encode(
        y=y,
        color=color,
        shape=shape_models(models, values=shown),
        tooltip=[
            tip("model:N", "model"),
            tip("n_samples:Q", "samples"),
            tip("accuracy:Q", "test accuracy", PERCENT),
            tip("accuracy_low:Q", "95 % interval from", PERCENT),
            tip("accuracy_high:Q", "to", PERCENT),
            tip("value:Q", title, ",.3~r"),
        ],
    )
    data = frame[FIELDS].round(dict.fromkeys(FIELDS[3:6], 5))
    layers = alt.layer(front.encode(y=y), bars, points, data=data)
    chart = layers.properties(width=_choose_width(frame), height=230)
    text = (
        f"Scatter chart of test accuracy against {title}, one panel for each label count, with "
        "95 % intervals; a line joins the Pareto front."
    )
    facets = chart.facet(column=column_by_labels(), spacing=14)
    return style_chart(facets.properties(description=text))


def _choose_width(frame: pd.DataFrame) -> int:
    """Return the width of a panel: wide where there are few, but no wider than a phone."""
    return 205 if frame["n_labels"].nunique() > 2 else 285


def _scale_costs(values: pd.Series) -> alt.Scale:
    low, high = values.min(), values.max()
    if low > 0 and high / low > WIDE:
        return alt.Scale(type="log", nice=False, padding=16)
    return alt.Scale(zero=False, nice=False, padding=16)


def _scale_accuracies(frame: pd.DataFrame) -> alt.Scale:
    """Return a scale over all intervals, in steps of ten points, so that small gains are seen."""
    low = math.floor(10 * frame["accuracy_low"].min()) / 10
    high = math.ceil(10 * frame["accuracy_high"].max()) / 10
    return alt.Scale(domain=[low, high], nice=False, zero=False)
