"""Builds the HTML page: everything in one file, everything escaped, nothing fetched."""

import base64
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import vl_convert
from markupsafe import Markup

from analysis.charts.palette import AnyChart
from analysis.load import Run
from analysis.page.contents import collect_values, draw_charts
from analysis.page.formats import FILTERS, format_interval, format_range
from analysis.study import build_study

TEMPLATES = Path(__file__).parent / "templates"
# Characters that could end a <script> element or a JavaScript line, as equivalent JSON escapes.
JSON_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def build_page(run: Run) -> str:
    """Return the report of ``run`` as one HTML document that needs no network."""
    study = build_study(run)
    library, starter = load_library(), _read_template("report.js")
    style = _read_template("report.css")
    values = {
        "run": run,
        "policy": build_policy([library, starter], [style]),
        "library": Markup(library),
        "starter": Markup(starter),
        "style": Markup(style),
        "specs": {name: encode_spec(c) for name, c in draw_charts(study).items()},
        "confusions": encode_json(study.confusions),
        **collect_values(study),
    }
    return build_environment().get_template("report.html.j2").render(values)


def encode_spec(chart: AnyChart) -> Markup:
    """Return the chart as JSON that is safe inside a ``<script>`` element."""
    with alt.data_transformers.enable("default", max_rows=None):
        spec = chart.to_dict()
    return encode_json(spec)


def encode_json(value: Any) -> Markup:
    """Return ``value`` as JSON that is safe inside a ``<script>`` element."""
    # NaN is not JSON: better an error here than a chart that no browser draws.
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(JSON_ESCAPES))


@functools.cache
def load_library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as JavaScript that sets ``window.vegaEmbed``."""
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)


def build_policy(scripts: list[str], styles: list[str]) -> str:
    """Return a Content-Security-Policy that allows these scripts and styles, and no requests."""
    script_hashes = " ".join(_hash_source(script) for script in scripts)
    style_hashes = " ".join(_hash_source(style) for style in styles)
    return (
        f"default-src 'none'; script-src {script_hashes}; style-src {style_hashes}; img-src "
        "data:; base-uri 'none'; form-action 'none'"
    )


def _hash_source(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def build_environment() -> jinja2.Environment:
    """Return the template environment: everything is escaped, and an unknown name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    environment.globals.update(interval=format_interval, range_of=format_range)
    return environment


def _read_template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
