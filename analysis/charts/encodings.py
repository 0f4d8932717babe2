"""Encodings that the charts share, so that a model looks the same in each of them."""

from collections.abc import Collection, Sequence
from typing import Any

import altair as alt
import pandas as pd

from analysis.charts.palette import BASELINE_COLOUR, MODEL_COLOURS, MODEL_DASHES, MODEL_SHAPES

PERCENT = ".1%"
AS_PERCENT = "round(100 * datum.value)"
AS_POINTS = "abs(datum.value) < 1e-9 ? '0' : format(100 * datum.value, '+.0f')"
QUARTERS = [0, 0.25, 0.5, 0.75, 1]


def column_by_labels() -> alt.Column:
    """Return the facet of the charts: one column per label count."""
    header = alt.Header(labelExpr="datum.value + ' labels'")
    return alt.Column("n_labels:O", title=None, header=header)


def colour_models(models: list[str], baselines: Collection[str] = (), **legend: Any) -> alt.Color:
    """Return the colour encoding of ``models``, the same everywhere; ``legend`` dresses its key."""
    colours = [
        BASELINE_COLOUR if model in baselines else MODEL_COLOURS[i % len(MODEL_COLOURS)]
        for i, model in enumerate(models)
    ]
    scale = alt.Scale(domain=models, range=colours)
    return alt.Color(
        "model:N", title="model", scale=scale, legend=alt.Legend(symbolOpacity=1, **legend)
    )


def shape_models(models: list[str], **legend: Any) -> alt.Shape:
    """Return the mark shapes of ``models``, so that no line is told by its colour alone."""
    shapes = [MODEL_SHAPES[i % len(MODEL_SHAPES)] for i in range(len(models))]
    scale = alt.Scale(domain=models, range=shapes)
    return alt.Shape(
        "model:N", title="model", scale=scale, legend=alt.Legend(symbolOpacity=1, **legend)
    )


def dash_models(models: list[str]) -> alt.StrokeDash:
    """Return the line dashes of ``models``, for lines without marks."""
    dashes = [MODEL_DASHES[i % len(MODEL_DASHES)] for i in range(len(models))]
    return alt.StrokeDash("model:N", title="model", scale=alt.Scale(domain=models, range=dashes))


def dodge(places: pd.Series, models: pd.Series, order: list[str]) -> pd.Series:
    """Return ``places`` moved sideways by model, so that whiskers stand beside each other."""
    width = measure_span(places.unique().tolist())
    step = width * min(0.025, 0.14 / len(order))
    ranks = models.map(order.index).astype(float)
    return places + step * (ranks - (len(order) - 1) / 2)


def measure_span(places: Sequence[float]) -> float:
    """Return the distance between the ends of ``places``; 1 or their size where they are one."""
    span = max(places) - min(places)
    return float(span or max(1, abs(places[0])))


def frame_places(places: Sequence[float], margin: float = 0.14) -> alt.Scale:
    """Return a scale over ``places`` with room for what ``dodge`` moves."""
    room = margin * measure_span(places)
    return alt.Scale(domain=[min(places) - room, max(places) + room], nice=False, zero=False)


def tip(field: str, title: str, number_format: str | None = None) -> alt.Tooltip:
    """Return one line of a tooltip."""
    options: dict[str, Any] = {"format": number_format} if number_format else {}
    return alt.Tooltip(field, title=title, **options)
