"""Encodings that all charts share, so that a model looks the same in each of them."""

from collections.abc import Collection, Sequence
from typing import Any

import altair as alt
import pandas as pd

from analysis.charts.palette import BASELINE_COLOR, MODEL_COLORS, MODEL_DASHES, MODEL_SHAPES

PERCENT = ".1%"
AS_PERCENT = "round(100 * datum.value)"
AS_POINTS = "abs(datum.value) < 1e-9 ? '0' : format(100 * datum.value, '+.0f')"
QUARTERS = [0, 0.25, 0.5, 0.75, 1]


def column_by_labels() -> alt.Column:
    header = alt.Header(labelExpr="datum.value + ' labels'")
    return alt.Column("n_labels:O", title=None, header=header)


def color_models(models: list[str], baselines: Collection[str] = (), **legend: Any) -> alt.Color:
    """Return the color encoding of ``models``, the same in all charts; ``legend`` holds options."""
    colors = [
        BASELINE_COLOR if model in baselines else MODEL_COLORS[i % len(MODEL_COLORS)]
        for i, model in enumerate(models)
    ]
    scale = alt.Scale(domain=models, range=colors)
    return alt.Color(
        "model:N", title="model", scale=scale, legend=alt.Legend(symbolOpacity=1, **legend)
    )


def shape_models(models: list[str], **legend: Any) -> alt.Shape:
    """Return the mark shapes of ``models``, so that color is not all that tells lines apart."""
    shapes = [MODEL_SHAPES[i % len(MODEL_SHAPES)] for i in range(len(models))]
    scale = alt.Scale(domain=models, range=shapes)
    return alt.Shape(
        "model:N", title="model", scale=scale, legend=alt.Legend(symbolOpacity=1, **legend)
    )


def dash_models(models: list[str]) -> alt.StrokeDash:
    """Return the line dashes of ``models``, for lines without marks."""
    dashes = [MODEL_DASHES[i % len(MODEL_DASHES)] for i in range(len(models))]
    return alt.StrokeDash("model:N", title="model", scale=alt.Scale(domain=models, range=dashes))


def dodge(positions: pd.Series, models: pd.Series, order: list[str]) -> pd.Series:
    """Return ``positions`` shifted by model, so that whiskers do not overlap."""
    width = measure_span(positions.unique().tolist())
    step = width * min(0.025, 0.14 / len(order))
    ranks = models.map(order.index).astype(float)
    return positions + step * (ranks - (len(order) - 1) / 2)


def measure_span(positions: Sequence[float]) -> float:
    """Return the distance between the outermost ``positions``; a positive number for one alone."""
    span = max(positions) - min(positions)
    return float(span or max(1, abs(positions[0])))


def frame_positions(positions: Sequence[float], margin: float = 0.14) -> alt.Scale:
    """Return a scale over ``positions`` with room for what ``dodge`` shifts."""
    room = margin * measure_span(positions)
    return alt.Scale(domain=[min(positions) - room, max(positions) + room], nice=False, zero=False)


def tip(field: str, title: str, number_format: str | None = None) -> alt.Tooltip:
    options: dict[str, Any] = {"format": number_format} if number_format else {}
    return alt.Tooltip(field, title=title, **options)
