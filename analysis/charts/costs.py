"""Charts of cost: accuracy against time, tokens and memory, and the epochs that ASHA saved."""

from typing import Literal

import altair as alt
import pandas as pd

from analysis.charts.encodings import (
    AS_PERCENT,
    PERCENT,
    QUARTERS,
    color_models,
    column_by_labels,
    shape_models,
    tip,
)
from analysis.charts.palette import style_chart
from analysis.stats.costs import MEASURES, RUN_PARTS, melt_costs

_AXIS_FORMATS = {"seconds": "~g", "tokens": "~s", "memory": ",.0f"}
PART_COLORS = ["#1d4e7e", "#9ccdc0", "#dcdcd6", "#d55e00", "#b3b3ab"]


def draw_costs(costs: pd.DataFrame, models: list[str], baselines: list[str]) -> alt.VConcatChart:
    """Return test accuracy against cost: a row per measure, a column per label count.

    The line is the Pareto front: nothing cheaper is more accurate than a point on it. ``costs``
    comes from ``analysis.stats.costs.tabulate_costs``.
    """
    frame = melt_costs(costs).round(5)
    names = [name for name in MEASURES if name in set(frame["measure"])]
    rows = [_draw_measure(frame, name, models, baselines) for name in names]
    text = (
        "Scatter charts of test accuracy against training time, training tokens and peak memory, "
        "one panel for each label count; a line joins the Pareto front."
    )
    return style_chart(alt.vconcat(*rows, spacing=22).properties(description=text))


def _draw_measure(
    frame: pd.DataFrame, name: str, models: list[str], baselines: list[str]
) -> alt.FacetChart:
    title = MEASURES[name][1]
    kind: Literal["log", "linear"] = "log" if name == "seconds" else "linear"
    zero = alt.Undefined if kind == "log" else False
    scale = alt.Scale(type=kind, nice=False, zero=zero, padding=14)
    axis = alt.Axis(format=_AXIS_FORMATS[name], grid=False, tickCount=3)
    axis.labelOverlap, axis.labelSeparation = "greedy", 8
    x = alt.X("value:Q", title=title, scale=scale, axis=axis)
    y = alt.Y("accuracy:Q", title="test accuracy (%)", scale=alt.Scale(domain=[0, 1]))
    y = y.axis(alt.Axis(labelExpr=AS_PERCENT, values=QUARTERS))
    tooltip = [
        tip("model:N", "model"),
        tip("n_samples:Q", "samples"),
        tip("accuracy:Q", "test accuracy", PERCENT),
        tip("value:Q", title, ",.3~f"),
    ]
    shown = [model for model in models if model in set(frame["model"])]
    base = alt.Chart().encode(x=x, y=y)
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        color=color_models(models, baselines, values=shown),
        shape=shape_models(models, values=shown),
        tooltip=tooltip,
    )
    front = base.transform_filter("datum.on_front").mark_line(
        color="currentColor", opacity=0.55, strokeWidth=1.5, interpolate="step-after"
    )
    data = frame[frame["measure"].eq(name)]
    layers = alt.layer(front, points, data=data).properties(width=205, height=150)
    return layers.facet(column=column_by_labels(), spacing=14)


def draw_epochs(epochs: pd.DataFrame, models: list[str]) -> alt.LayerChart:
    """Return a bar per model: epochs of the full grid, trained and not trained, and why not.

    ``epochs`` comes from ``analysis.stats.costs.count_epochs``.
    """
    parts = [part for part in RUN_PARTS if part in set(epochs["part"])]
    colors = [PART_COLORS[RUN_PARTS.index(part)] for part in parts]
    frame = epochs.round(2)
    fill = alt.Color("part:N", title=None, scale=alt.Scale(domain=parts, range=colors))
    order = [model for model in models if model in set(epochs["model"])]
    base = alt.Chart(frame).encode(
        x=alt.X(
            "epochs:Q", title="epochs", stack="zero", axis=alt.Axis(tickMinStep=1, tickCount=8)
        ),
        y=alt.Y("model:N", title=None, scale=alt.Scale(domain=order)),
        order=alt.Order("order:Q"),
        tooltip=[tip("model:N", "model"), tip("part:N", "epochs"), tip("epochs:Q", "count")],
    )
    ink = alt.when("datum.order === 0").then(alt.value("#ffffff")).otherwise(alt.value("#000000"))
    bars = base.mark_bar(stroke="#ffffff", strokeWidth=1).encode(color=fill)
    numbers = base.mark_text(fontSize=11).encode(
        x=alt.X("epochs:Q", stack="zero", bandPosition=0.5), text="epochs:Q", color=ink
    )
    run = int(epochs.loc[epochs["part"].eq(RUN_PARTS[0]), "epochs"].sum())
    text = f"Stacked bars: {run} of {int(epochs['epochs'].sum())} epochs of the full grid trained."
    layers = (bars + numbers).properties(width=620, height=alt.Step(30), description=text)
    return style_chart(layers)
