"""Charts of comparisons: paired differences, optimism, extrapolation, confusion."""

import altair as alt
import pandas as pd

from analysis.charts.encodings import (
    AS_PERCENT,
    AS_POINTS,
    PERCENT,
    QUARTERS,
    color_models,
    column_by_labels,
    dodge,
    shape_models,
    tip,
)
from analysis.charts.palette import BLACK, FILL_RANGE, WHITE, find_ink_threshold, style_chart
from analysis.stats.cells import list_baselines, list_models
from analysis.stats.confusion import melt_confusion

BEST, WORSE, BETTER, CLOSE = "the best model", "worse", "better", "too close to call"
ONE_SEED = "these trained models (one seed)"
_MARKS = {"A better": WORSE, "B better": BETTER, "too close to call": CLOSE}
_BY_SAMPLES = alt.Header(labelExpr="datum.value + ' samples'")


def draw_differences(pairs: pd.DataFrame, models: list[str]) -> alt.FacetChart:
    """Return how far each model is behind the best: a panel per label count and sample size.

    Whiskers are 95 % intervals of the paired difference; a filled mark is a real difference, a
    hollow one too close to call. ``pairs`` comes from ``analysis.stats.pairs.orient_pairs``.
    """
    frame = _arrange_differences(pairs)
    x = alt.X(
        "behind:Q",
        title="minus the best (points)",
        axis=alt.Axis(labelExpr=AS_POINTS),
    )
    order = [model for model in models if model in set(frame["model"])]
    y = alt.Y("model:N", title=None, scale=alt.Scale(domain=order))
    base = alt.Chart().encode(y=y, tooltip=_pair_tooltip())
    whiskers = base.mark_rule(color="currentColor", opacity=0.7, strokeWidth=1.5)
    zero = alt.Chart().mark_rule(strokeDash=[2, 3], color="currentColor", opacity=0.6)
    layers = alt.layer(
        zero.encode(x=alt.datum(0)),
        whiskers.encode(x=alt.X("from:Q"), x2="to:Q"),
        _mark_verdicts(base).encode(x=x),
        data=frame,
    ).properties(width=170, height=alt.Step(19))
    row = alt.Row("n_samples:O", title=None, header=_BY_SAMPLES)
    chart = layers.facet(column=column_by_labels(), row=row, spacing=14)
    text = (
        "Dot chart of paired differences: how far each model and baseline is behind the most "
        f"accurate one of its label count and sample size. {_count_verdicts(pairs)} "
        f"{_describe_seeds(pairs)}"
    )
    return style_chart(chart.properties(description=text))


def _arrange_differences(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per other model, and one at zero for the best model."""
    shared = ["n_labels", "n_samples"]
    rivals = pairs.assign(
        model=pairs["model_b"],
        best=pairs["model_a"],
        behind=-pairs["difference"],
        **{"from": -pairs["high"], "to": -pairs["low"]},
        mark=pairs["verdict"].map(_MARKS),
        speaks=pairs["seeds"].map(_describe_verdict),
    )
    best = pairs.drop_duplicates(shared)[[*shared, "model_a"]]
    best = best.assign(
        model=best["model_a"], best=best["model_a"], behind=0.0, mark=BEST, speaks=""
    )
    fields = [*shared, "model", "best", "behind", "from", "to", "p_holm", "only_a", "only_b"]
    return pd.concat([best, rivals])[[*fields, "mark", "speaks"]].round(5)


def _describe_verdict(seeds: int) -> str:
    return ONE_SEED if seeds == 1 else f"the recipes ({seeds} seeds)"


def _describe_seeds(pairs: pd.DataFrame) -> str:
    single = int(pairs["seeds"].eq(1).sum())
    if single == len(pairs):
        return "With one seed, they speak of these trained models, not of the recipes."
    if single:
        return f"{single} speak of trained models with one seed, the others of the recipes."
    return "With several seeds, they speak of the recipes."


def _mark_verdicts(base: alt.Chart) -> alt.Chart:
    marks = [BEST, WORSE, BETTER, CLOSE]
    ink, none = "currentColor", "transparent"
    legend = alt.Legend(title="against the best model")
    scales = {
        "shape": ["diamond", "square", "triangle-up", "circle"],
        "fill": [ink, ink, ink, none],
        "stroke": [ink] * 4,
    }
    kinds = {"shape": alt.Shape, "fill": alt.Fill, "stroke": alt.Stroke}
    encodings = {
        name: kinds[name]("mark:N", legend=legend).scale(alt.Scale(domain=marks, range=values))
        for name, values in scales.items()
    }
    return base.mark_point(size=60, strokeWidth=1.5, opacity=1).encode(**encodings)


def _pair_tooltip() -> list[alt.Tooltip]:
    return [
        tip("model:N", "model"),
        tip("best:N", "the best"),
        tip("behind:Q", "difference", "+.1%"),
        tip("from:Q", "95 % interval from", "+.1%"),
        tip("to:Q", "to", "+.1%"),
        tip("only_a:Q", "right by the best alone"),
        tip("only_b:Q", "right by this model alone"),
        tip("p_holm:Q", "p (Holm)", ".2~g"),
        tip("mark:N", "verdict"),
        tip("speaks:N", "speaks of"),
    ]


def _count_verdicts(pairs: pd.DataFrame) -> str:
    real = int(pairs["verdict"].ne(CLOSE).sum())
    return f"{real} of {len(pairs)} differences are real, {len(pairs) - real} too close to call."


def draw_optimism(results: pd.DataFrame, models: list[str]) -> alt.FacetChart:
    """Return validation minus test accuracy of each cell: a panel per label count.

    A tick marks each model's mean. ``results`` comes from
    ``analysis.stats.cells.measure_optimism``.
    """
    fields = ["model", "n_labels", "n_samples", "seed", "val_accuracy", "test_accuracy", "optimism"]
    frame = results[fields].round(5)
    x = alt.X("optimism:Q", title="validation \u2212 test (points)")
    x = x.axis(alt.Axis(labelExpr=AS_POINTS))
    tooltip = [
        tip("model:N", "model"),
        tip("n_samples:Q", "samples"),
        tip("seed:Q", "seed"),
        tip("val_accuracy:Q", "validation accuracy", PERCENT),
        tip("test_accuracy:Q", "test accuracy", PERCENT),
    ]
    order = [model for model in models if model in set(frame["model"])]
    base = alt.Chart().encode(y=alt.Y("model:N", title=None, scale=alt.Scale(domain=order)))
    points = base.mark_point(size=50, opacity=0.9, color="currentColor").encode(x=x)
    means = base.mark_tick(thickness=3, size=16, color="#d55e00")
    zero = alt.Chart().mark_rule(strokeDash=[2, 3], color="currentColor", opacity=0.6)
    layers = alt.layer(
        zero.encode(x=alt.datum(0)),
        points.encode(tooltip=tooltip),
        means.encode(x=alt.X("mean(optimism):Q")),
        data=frame,
    ).properties(width=205, height=alt.Step(22))
    chart = layers.facet(column=column_by_labels(), spacing=14)
    text = (
        f"Dot chart of validation minus test accuracy in {len(frame)} cells: on average "
        f"{100 * frame['optimism'].mean():+.1f} points."
    )
    return style_chart(chart.properties(description=text))


def draw_extrapolation(curves: pd.DataFrame, cells: pd.DataFrame) -> alt.FacetChart:
    """Return measured accuracies and the power laws through them, up to twice the largest size.

    The dashed part is not measured; whiskers at its end span 95 % of the refitted curves.
    ``curves`` comes from ``analysis.stats.extrapolation.extrapolate``.
    """
    models = list_models(cells)
    frame = _join_points(curves, cells)
    shown = [model for model in models if model in set(curves["model"])]
    color = color_models(models, list_baselines(cells), values=shown)
    y = alt.Y("accuracy:Q", title="test accuracy (%)", scale=alt.Scale(domain=[0, 1]))
    y = y.axis(alt.Axis(labelExpr=AS_PERCENT, values=QUARTERS))
    ticks = sorted({*cells["n_samples"], 2 * cells["n_samples"].max()})
    axis = alt.Axis(values=ticks, grid=False, format="d", labelOverlap="greedy")
    x = alt.X("x:Q", title="samples (training texts)", axis=axis)
    x = x.scale(alt.Scale(zero=False, nice=False, padding=12))
    base = alt.Chart().encode(x=x, color=color, tooltip=_curve_tooltip())
    lines = base.mark_line(strokeWidth=1.8).encode(y=y)
    points = base.transform_filter("datum.part === 'point'").mark_point(size=45, filled=True)
    ends = base.transform_filter("datum.part === 'end'").mark_rule(strokeWidth=1.5)
    layers = alt.layer(
        lines.transform_filter("datum.part === 'measured'"),
        lines.transform_filter("datum.part === 'beyond'").encode(strokeDash=alt.value([2, 3])),
        points.encode(y=y, shape=shape_models(models, values=shown)),
        ends.encode(y=alt.Y("low:Q"), y2="high:Q"),
        data=frame,
    ).properties(width=205, height=220)
    chart = layers.facet(column=column_by_labels(), spacing=14)
    text = (
        "Line chart of power laws fitted to test accuracy against training texts, dashed beyond "
        f"the largest measured size, for {curves['model'].nunique()} models and baselines, with "
        "95 % intervals at twice that size."
    )
    return style_chart(chart.properties(description=text))


def _join_points(curves: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return curve parts, measured points and end whiskers in one frame; ``part`` says which."""
    shown = [model for model in list_models(cells) if model in set(curves["model"])]
    inside = curves["measured"].astype(bool)
    joint = inside & ~inside.shift(-1, fill_value=True)
    last = curves.groupby(["model", "n_labels"])["n_samples"].transform("max")
    ends = curves[curves["n_samples"].eq(last)].assign(part="end")
    ends = ends.assign(x=dodge(ends["n_samples"], ends["model"], shown))
    parts = [
        curves[inside].assign(part="measured"),
        curves[~inside | joint].assign(part="beyond"),
        cells[cells["accuracy"].notna()].assign(part="point", low=None, high=None),
    ]
    drawn = pd.concat([*(part.assign(x=part["n_samples"]) for part in parts), ends])
    fields = ["model", "n_labels", "n_samples", "x", "accuracy", "low", "high", "part"]
    drawn[["low", "high"]] = drawn[["low", "high"]].astype(float)
    return drawn[drawn["model"].isin(shown)][fields].round(4)


def _curve_tooltip() -> list[alt.Tooltip]:
    return [
        tip("model:N", "model"),
        tip("n_samples:Q", "samples"),
        tip("accuracy:Q", "accuracy", PERCENT),
        tip("low:Q", "95 % from", PERCENT),
        tip("high:Q", "to", PERCENT),
    ]


def draw_confusion(labels: list[str], matrix: list[list[int]]) -> alt.LayerChart:
    """Return a confusion matrix: true labels down, predicted across, test texts in each box.

    The fill is the share of the true label's texts. ``labels`` and ``matrix`` come from
    ``analysis.stats.confusion.list_confusions``.
    """
    fill = alt.Color("share:Q", title="share of the label's texts (%)")
    fill = fill.scale(alt.Scale(domain=[0, 1], range=FILL_RANGE, interpolate="rgb"))
    legend = alt.Legend(orient="bottom", gradientLength=240, labelExpr=AS_PERCENT, values=QUARTERS)
    axis = alt.Axis(labelAngle=-45, orient="top")
    base = alt.Chart(melt_confusion(labels, matrix).round(4)).encode(
        x=alt.X("predicted:N", title="predicted label", sort=None, axis=axis),
        y=alt.Y("truth:N", title="true label", sort=None),
        tooltip=[
            tip("truth:N", "true label"),
            tip("predicted:N", "predicted"),
            tip("texts:Q", "test texts"),
            tip("share:Q", "share of the label's texts", PERCENT),
        ],
    )
    dark = alt.when(f"datum.share > {find_ink_threshold():.3f}").then(alt.value(WHITE))
    numbers = base.mark_text(fontSize=11).encode(
        text="texts:Q", color=dark.otherwise(alt.value(BLACK))
    )
    layers = base.mark_rect().encode(color=fill.legend(legend)) + numbers
    text = f"Confusion matrix of {len(labels)} labels; the table has the same numbers."
    size = {"width": alt.Step(34), "height": alt.Step(26)}
    return style_chart(layers.properties(description=text, **size))
