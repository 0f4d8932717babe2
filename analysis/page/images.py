"""Writes charts as images."""

from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from analysis.load import load_run
from analysis.page.contents import draw_charts
from analysis.study import build_study

# Pixels per unit of length: sharp in print at the size that the page shows.
PNG_SCALE = 2


def write_charts(folder: Path, out: Path) -> list[Path]:
    """Write every chart of the run in ``folder`` into ``out`` and return the files' paths.

    Each is a PNG on white and a transparent SVG. Raises RunFolderError if ``folder`` is not a run,
    OSError if ``out`` cannot be written.
    """
    charts = draw_charts(build_study(load_run(folder)))
    out.mkdir(parents=True, exist_ok=True)
    return [path for name, chart in charts.items() for path in write_images(chart, out / name)]


def write_images(chart: Any, stem: Path) -> list[Path]:
    """Write ``chart`` as ``stem``.png and ``stem``.svg and return both paths."""
    with alt.data_transformers.enable("default", max_rows=None):
        spec = chart.to_dict()
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    svg, png = stem.with_suffix(".svg"), stem.with_suffix(".png")
    svg.write_text(vl_convert.vegalite_to_svg(spec, vl_version=version), encoding="utf-8")
    spec["config"]["background"] = "white"
    png.write_bytes(vl_convert.vegalite_to_png(spec, vl_version=version, scale=PNG_SCALE))
    return [png, svg]
