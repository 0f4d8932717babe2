"""Charts of cells: the heatmap, and accuracy against samples and against labels."""

import altair as alt
import pandas as pd

from analysis.charts.encodings import (
    AS_PERCENT,
    PERCENT,
    QUARTERS,
    color_models,
    column_by_labels,
    dodge,
    frame_positions,
    shape_models,
    tip,
)
from analysis.charts.palette import (
    BASELINE_DASH,
    BLACK,
    FILL_RANGE,
    WHITE,
    find_ink_threshold,
    style_chart,
)
from analysis.stats.cells import list_baselines, list_models

CELL_FIELDS = [
    "model",
    "kind",
    "n_labels",
    "n_samples",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "n_test",
    "chance",
    "score",
]
MISSING = "none"


def draw_heatmap(cells: pd.DataFrame) -> alt.FacetChart:
    """Return test accuracy (%) as models x (labels, samples), with the number in each box.

    ``cells`` comes from ``analysis.stats.cells.average_seeds``; a cell without a result is an empty
    box that says 'none'.
    """
    frame = cells[CELL_FIELDS].round(5)
    frame["has_result"] = frame["accuracy"].notna()
    frame["text"] = [_format_cell(value) for value in frame["accuracy"]]
    base = alt.Chart().encode(
        x=alt.X("n_samples:O", title="samples", axis=alt.Axis(labelAngle=0, orient="bottom")),
        y=alt.Y("model:N", title=None, scale=alt.Scale(domain=list_models(cells))),
        tooltip=_cell_tooltip(),
    )
    layers = alt.layer(
        _fill_missing(base), _fill_cells(base), _write_numbers(base), data=frame
    ).properties(width=alt.Step(65), height=alt.Step(44))
    chart = layers.facet(column=column_by_labels(), spacing=10)
    return style_chart(chart.properties(description=_describe_heatmap(cells)))


def _fill_missing(base: alt.Chart) -> alt.Chart:
    return base.transform_filter("!datum.has_result").mark_rect(
        fill="transparent", stroke="currentColor", strokeDash=[3, 3], strokeOpacity=0.6
    )


def _fill_cells(base: alt.Chart) -> alt.Chart:
    scale = alt.Scale(domain=[0, 1], range=FILL_RANGE, interpolate="rgb")
    legend = alt.Legend(
        title="test accuracy (%)",
        orient="bottom",
        gradientLength=240,
        labelExpr=AS_PERCENT,
        values=QUARTERS,
    )
    fill = alt.Color("accuracy:Q", scale=scale, legend=legend)
    return base.transform_filter("datum.has_result").mark_rect().encode(color=fill)


def _write_numbers(base: alt.Chart) -> alt.Chart:
    ink = alt.when("!datum.has_result").then(alt.value("currentColor"))
    ink = ink.when(f"datum.accuracy > {find_ink_threshold():.3f}").then(alt.value(WHITE))
    return base.mark_text(fontSize=13).encode(text="text:N", color=ink.otherwise(alt.value(BLACK)))


def _format_cell(accuracy: float) -> str:
    return MISSING if pd.isna(accuracy) else f"{100 * accuracy:.1f}"


def _describe_heatmap(cells: pd.DataFrame) -> str:
    done = cells.dropna(subset=["accuracy"])
    text = (
        f"Heatmap of test accuracy: {cells['model'].nunique()} models by "
        f"{cells['n_labels'].nunique()} label counts and {cells['n_samples'].nunique()} sample "
        f"sizes, {len(done)} of {len(cells)} cells with a result"
    )
    if done.empty:
        return text + "."
    low, high = 100 * done["accuracy"].min(), 100 * done["accuracy"].max()
    return f"{text}, from {low:.1f} % to {high:.1f} %. The table below it has the same numbers."


def draw_sample_curves(cells: pd.DataFrame) -> alt.FacetChart:
    """Return test accuracy against samples: a panel per label count, a line per model.

    Whiskers are 95 % Wilson intervals of the test set, side by side; the dotted line is chance;
    baselines are dashed. ``cells`` comes from ``analysis.stats.cells.average_seeds``.
    """
    frame = cells.loc[cells["accuracy"].notna(), CELL_FIELDS].round(5)
    sizes = sorted(cells["n_samples"].unique().tolist())
    frame["x"] = dodge(frame["n_samples"], frame["model"], list_models(cells)).round(3)
    axis = alt.Axis(values=sizes, format="d", grid=False)
    x = alt.X("x:Q", title="samples (training texts)", scale=frame_positions(sizes), axis=axis)
    layers = alt.layer(_draw_chance(205), *_draw_lines(cells, x), data=frame)
    chart = layers.properties(width=205, height=260).facet(column=column_by_labels(), spacing=14)
    counts = _join(cells["n_labels"])
    text = f"test accuracy against training texts, one panel for each label count ({counts})"
    return style_chart(chart.properties(description=_describe_curves(cells, text)))


def draw_label_curves(cells: pd.DataFrame) -> alt.FacetChart:
    """Return test accuracy against the label count: a panel per sample size, a line per model.

    Drawn like ``draw_sample_curves``, with label counts at equal distances.
    """
    frame = cells.loc[cells["accuracy"].notna(), CELL_FIELDS].round(5)
    counts = sorted(int(count) for count in cells["n_labels"].unique())
    positions = list(range(len(counts)))
    frame["position"] = frame["n_labels"].map(counts.index)
    frame["x"] = dodge(frame["position"], frame["model"], list_models(cells)).round(4)
    axis = alt.Axis(values=positions, labelExpr=f"{counts}[datum.value]", grid=False)
    x = alt.X("x:Q", title="labels", scale=frame_positions(positions), axis=axis)
    lines = _draw_lines(cells, x)
    layers = alt.layer(_draw_chance_curve(), *lines, data=frame).properties(width=250, height=260)
    header = alt.Header(labelExpr="datum.value + ' samples'")
    chart = layers.facet(column=alt.Column("n_samples:O", title=None, header=header), spacing=14)
    sizes = _join(cells["n_samples"])
    text = f"test accuracy against label count, one panel for each sample size ({sizes})"
    return style_chart(chart.properties(description=_describe_curves(cells, text)))


def _draw_lines(cells: pd.DataFrame, x: alt.X) -> list[alt.Chart]:
    models, baselines = list_models(cells), list_baselines(cells)
    color = color_models(models, baselines)
    y = alt.Y("accuracy:Q", title="test accuracy (%)", scale=alt.Scale(domain=[0, 1]))
    y = y.axis(alt.Axis(labelExpr=AS_PERCENT, values=QUARTERS))
    base = alt.Chart().encode(x=x, color=color, tooltip=_cell_tooltip())
    whiskers = base.mark_rule(strokeWidth=1.5, opacity=0.6)
    lines = base.mark_line(strokeWidth=1.8).encode(y=y)
    points = base.mark_point(filled=True, size=55, opacity=1).encode(y=y)
    return [
        whiskers.encode(y=alt.Y("accuracy_low:Q"), y2="accuracy_high:Q"),
        lines.transform_filter("datum.kind !== 'baseline'"),
        lines.transform_filter("datum.kind === 'baseline'").encode(
            strokeDash=alt.value(BASELINE_DASH)
        ),
        points.encode(shape=shape_models(models)),
    ]


def _draw_chance(width: int) -> alt.LayerChart:
    base = alt.Chart().transform_aggregate(chance="mean(chance)", groupby=["n_labels"])
    y = alt.Y("chance:Q")
    rule = base.mark_rule(strokeDash=[2, 3], color="currentColor", opacity=0.7).encode(y=y)
    note = base.transform_calculate(note="'chance ' + format(datum.chance, '.3~p')").mark_text(
        align="right", baseline="top", dy=4, dx=-3, color="currentColor", fontSize=11
    )
    return rule + note.encode(y=y, x=alt.value(width), text="note:N")


def _draw_chance_curve() -> alt.Chart:
    base = alt.Chart().transform_aggregate(chance="mean(chance)", groupby=["position", "n_samples"])
    line = base.mark_line(strokeDash=[2, 3], color="currentColor", opacity=0.7)
    return line.encode(x=alt.X("position:Q"), y=alt.Y("chance:Q"))


def _describe_curves(cells: pd.DataFrame, what: str) -> str:
    return (
        f"Line chart of {what}, one line for each of {cells['model'].nunique()} models and "
        "baselines, with 95 % intervals; the chance level is dotted, baselines are dashed."
    )


def _join(values: pd.Series) -> str:
    return ", ".join(str(value) for value in sorted(values.unique()))


def _cell_tooltip() -> list[alt.Tooltip]:
    return [
        tip("model:N", "model"),
        tip("n_labels:Q", "labels"),
        tip("n_samples:Q", "samples"),
        tip("accuracy:Q", "test accuracy", PERCENT),
        tip("accuracy_low:Q", "95 % interval from", PERCENT),
        tip("accuracy_high:Q", "to", PERCENT),
        tip("n_test:Q", "test texts"),
        tip("chance:Q", "chance", PERCENT),
        tip("score:Q", "chance-normalized score", ".2f"),
    ]
