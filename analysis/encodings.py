"""Encodings that the charts share, so that a model looks the same in each of them."""

from typing import Any

import altair as alt

from analysis.palette import MODEL_COLOURS, MODEL_DASHES, MODEL_SHAPES

PERCENT = ".1%"
AS_PERCENT = "round(100 * datum.value)"
QUARTERS = [0, 0.25, 0.5, 0.75, 1]


def column_by_labels() -> alt.Column:
    """Return the facet of the charts: one column per label count."""
    header = alt.Header(labelExpr="datum.value + ' labels'")
    return alt.Column("n_labels:O", title=None, header=header)


def colour_models(models: list[str], **legend: Any) -> alt.Color:
    """Return the colour encoding of ``models``, the same everywhere; ``legend`` dresses its key."""
    colours = [MODEL_COLOURS[i % len(MODEL_COLOURS)] for i in range(len(models))]
    scale = alt.Scale(domain=models, range=colours)
    return alt.Color(
        "model:N", title="model", scale=scale, legend=alt.Legend(symbolOpacity=1, **legend)
    )


def shape_models(models: list[str]) -> alt.Shape:
    """Return the mark shapes of ``models``, so that no line is told by its colour alone."""
    shapes = [MODEL_SHAPES[i % len(MODEL_SHAPES)] for i in range(len(models))]
    scale = alt.Scale(domain=models, range=shapes)
    return alt.Shape("model:N", title="model", scale=scale, legend=alt.Legend(symbolOpacity=1))


def dash_models(models: list[str]) -> alt.StrokeDash:
    """Return the line dashes of ``models``, for lines without marks."""
    dashes = [MODEL_DASHES[i % len(MODEL_DASHES)] for i in range(len(models))]
    return alt.StrokeDash("model:N", title="model", scale=alt.Scale(domain=models, range=dashes))


def tip(field: str, title: str, number_format: str | None = None) -> alt.Tooltip:
    """Return one line of a tooltip."""
    options: dict[str, Any] = {"format": number_format} if number_format else {}
    return alt.Tooltip(field, title=title, **options)
