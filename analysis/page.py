"""Makes the report's HTML: everything in one file, everything escaped, nothing fetched."""

import base64
import functools
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import pandas as pd
import vl_convert
from markupsafe import Markup

from analysis.cells import (
    average_seeds,
    compare_candidates,
    list_cells,
    list_curves,
    list_models,
    list_trials,
)
from analysis.charts import draw_heatmap, draw_sample_curves
from analysis.load import Run
from analysis.summary import (
    count_progress,
    count_wins,
    find_answers,
    list_missing,
    measure_gains,
    tabulate_best,
)
from analysis.trial_charts import draw_candidates, draw_learning_curves

TEMPLATES = Path(__file__).parent / "templates"
# What could end a <script> element or a JavaScript line, as JSON escapes that parse back the same.
JSON_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
NOTHING = "\N{EN DASH}"


def build_page(run: Run) -> str:
    """Return the report of ``run`` as one HTML document that needs no network."""
    cells = average_seeds(run)
    models = list_models(cells)
    library, starter = load_library(), _read_template("report.js")
    style = _read_template("report.css")
    values = {
        "run": run,
        "policy": build_policy([library, starter], [style]),
        "library": Markup(library),
        "starter": Markup(starter),
        "style": Markup(style),
        "specs": {name: encode_spec(c) for name, c in draw_charts(run, cells, models).items()},
        **collect_words(run, cells, models),
    }
    return build_environment().get_template("report.html.j2").render(values)


def draw_charts(run: Run, cells: pd.DataFrame, models: list[str]) -> dict[str, alt.FacetChart]:
    """Return the report's charts by name; a chart with nothing to show is left out."""
    charts = {"heatmap": draw_heatmap(cells)}
    if cells["accuracy"].notna().any():
        charts["samples"] = draw_sample_curves(cells)
    curves = list_curves(run.history, run.results)
    if curves["val_accuracy"].notna().any():
        charts["curves"] = draw_learning_curves(curves, models)
    candidates = compare_candidates(run.results)
    if not candidates.empty:
        charts["candidates"] = draw_candidates(candidates, models)
    return charts


def collect_words(run: Run, cells: pd.DataFrame, models: list[str]) -> dict[str, Any]:
    """Return what the template's sentences and tables are made from."""
    opened = run.opened[-1] if run.opened else {}
    combinations, leaders = count_wins(cells)
    labels = run.plan.drop_duplicates("n_labels").sort_values("n_labels")
    return {
        "answers": find_answers(cells),
        "gains": measure_gains(cells),
        "combinations": combinations,
        "leaders": leaders,
        "best_rows": list(tabulate_best(cells)),
        "progress": count_progress(run),
        "missing": list_missing(run),
        "cells": list_rows(cells.sort_values(["n_labels", "n_samples"], kind="stable")),
        "models": models,
        "counts": sorted(cells["n_labels"].unique().tolist()),
        "sizes": sorted(cells["n_samples"].unique().tolist()),
        "several_seeds": run.plan["seed"].nunique() > 1,
        "results": list_rows(list_cells(run)),
        "trials": list_rows(list_trials(run)),
        "epochs": list_epochs(run.history),
        "candidates": list_rows(compare_candidates(run.results)),
        "label_sets": list_rows(labels[["n_labels", "labels"]]),
        "versions": opened.get("versions") or {},
        "commit": opened.get("git_commit"),
        "devices": sorted(run.results["device"].dropna().unique()),
    }


def list_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of ``frame`` as dictionaries, with None for what is missing."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def list_epochs(history: pd.DataFrame) -> dict[str, list[float]]:
    """Return trial id -> validation accuracy of each epoch."""
    ordered = history.sort_values("epoch")
    return {str(i): g.tolist() for i, g in ordered.groupby("trial_id")["val_accuracy"]}


def encode_spec(chart: alt.FacetChart) -> Markup:
    """Return the chart as JSON that is safe inside a ``<script>`` element."""
    with alt.data_transformers.enable("default", max_rows=None):
        spec = chart.to_dict()
    # NaN is no JSON: better an error here than a chart that no browser draws.
    text = json.dumps(spec, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(JSON_ESCAPES))


@functools.cache
def load_library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as JavaScript that sets ``window.vegaEmbed``."""
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)


def build_policy(scripts: list[str], styles: list[str]) -> str:
    """Return a Content-Security-Policy that lets these scripts and styles run and nothing load."""
    allowed = " ".join(_hash_source(script) for script in scripts)
    dressed = " ".join(_hash_source(style) for style in styles)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {dressed}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash_source(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def build_environment() -> jinja2.Environment:
    """Return the template environment: everything escaped, a misspelt name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=format_percent,
        chance=format_chance,
        points=format_points,
        decimal=format_decimal,
        digits=format_digits,
        utc=format_time,
    )
    return environment


def format_percent(value: float | None) -> str:
    """Return a fraction as per cent with one decimal, without the sign."""
    return NOTHING if value is None or pd.isna(value) else f"{100 * value:.1f}"


def format_chance(value: float) -> str:
    """Return a chance level as per cent, as short as it is exact: 50, 12.5, 6.25."""
    return f"{100 * value:.3g}"


def format_points(value: float) -> str:
    """Return a difference of fractions as signed percentage points with one decimal."""
    return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")


def format_decimal(value: float | None, places: int = 1) -> str:
    """Return a number with ``places`` decimals."""
    return NOTHING if value is None or pd.isna(value) else f"{value:.{places}f}"


def format_digits(value: float | None) -> str:
    """Return a number with three significant digits."""
    return NOTHING if value is None or pd.isna(value) else f"{value:.3g}"


def format_time(value: float) -> str:
    """Return a Unix time as date and minute in UTC."""
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _read_template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
