"""Colors, shapes and fonts of all charts, legible on light and dark pages and in print."""

from typing import TypeVar

import altair as alt

AnyChart = TypeVar("AnyChart", alt.Chart, alt.LayerChart, alt.FacetChart, alt.VConcatChart)

# Distinguishable with every common color-vision deficiency: M. Okabe and K. Ito, "Color Universal
# Design" (2008), the darker ones first.
MODEL_COLORS = [
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#8c6bb1",
    "#a6761d",
]
# Seven, with eight colors: a pair repeats only after 56 models.
MODEL_SHAPES = [
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
]
BASELINE_COLOR = "#7f7f7f"
BASELINE_DASH = [6, 4]
MODEL_DASHES = [[1, 0], [8, 3], [2, 3], [10, 3, 2, 3], [5, 2]]

# From 0 to 1, light to dark, so that the order survives black-and-white printing.
FILL_RANGE = ["#f3f6ee", "#9ccdc0", "#3b8ea5", "#1d4e7e", "#14284f"]
WHITE, BLACK = "#ffffff", "#000000"
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"


def style_chart(chart: AnyChart) -> AnyChart:
    """Return ``chart`` in the report's fonts, with lines and text in the page's text color."""
    axis = {"gridOpacity": 0.13, "domainOpacity": 0.6, "tickOpacity": 0.6, "labelLimit": 240}
    ink = {"labelColor": "currentColor", "titleColor": "currentColor", "labelFontSize": 12}
    words = {**ink, "titleFontSize": 12, "titleFontWeight": "normal"}
    lines = dict.fromkeys(("domainColor", "gridColor", "tickColor"), "currentColor")
    return chart.configure(
        background="transparent",
        font=FONT,
        axis={**axis, **words, **lines},
        legend={**words, "labelLimit": 240, "orient": "top", "symbolStrokeWidth": 2},
        header={**words, "labelFontWeight": "bold", "labelLimit": 240},
        view={"stroke": None},
        # For screen readers a chart is one image with a description; the table has the numbers.
        mark={"aria": False},
    )


def blend_fill(accuracy: float) -> tuple[float, float, float]:
    """Return the heatmap's fill at ``accuracy``, as red, green and blue from 0 to 1."""
    position = min(max(accuracy, 0.0), 1.0) * (len(FILL_RANGE) - 1)
    i = min(int(position), len(FILL_RANGE) - 2)
    low, high = (_split_color(color) for color in FILL_RANGE[i : i + 2])
    r, g, b = (a + (z - a) * (position - i) for a, z in zip(low, high, strict=True))
    return r, g, b


def find_luminance(color: tuple[float, float, float]) -> float:
    """Return the relative luminance of an sRGB color, 0 to 1 (WCAG 2.2, 'relative luminance')."""
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in color
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def find_ink_threshold() -> float:
    """Return the accuracy from which white text is more legible on the heatmap's fill than black.

    At luminance 0.179 both have the same contrast, 4.58, which is above WCAG's 4.5.
    """
    return next(i / 1000 for i in range(1001) if find_luminance(blend_fill(i / 1000)) < 0.179)


def _split_color(color: str) -> tuple[float, float, float]:
    return int(color[1:3], 16) / 255, int(color[3:5], 16) / 255, int(color[5:7], 16) / 255
