"""Strings from data or from someone else's run folder stay text: in the page, in the chart images,
and in an export's model card."""

import ast
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from browsing import needs_chromium, visit
from fake_run import write_fake_run
from hostile import EVIL, IMAGE, SEPARATORS
from markdown_it import MarkdownIt
from priced_run import price_run

from analysis.load import load_run
from analysis.page.contents import draw_charts
from analysis.page.images import write_images
from analysis.report import write_report
from analysis.study import build_study
from sweep.config import DataConfig
from sweep.errors import format_line
from sweep.export.metadata import Shape
from sweep.export.model_card import Rescored, build_card
from sweep.export.origins import Origins
from sweep.export.winner import find_winner
from sweep.storage.prices import Prices

pytestmark = needs_chromium

ATTRIBUTE = '"\' onmouseover=alert(1) autofocus onfocus=alert(1) x="'
LINK = "[click](javascript:alert(1)) <a href=javascript:alert(1)>x</a>"
COMMENT = "--><svg onload=alert(1)>]]><style>@import 'http://x.example/a'</style>"
EXPRESSION = "' + alert(1) + datum.constructor.constructor('alert(1)')() + '"
TEMPLATE = "{{ 7*7 }}{% import os %}${alert(1)}"
FENCE = "```\n# not a heading\n![x](http://x.example/a.png)"
HOSTILE = (EVIL, IMAGE, SEPARATORS, ATTRIBUTE, LINK, COMMENT, EXPRESSION, TEMPLATE, FENCE)
FOLDER = '"><img src=x onerror=alert(1)>'

DANGERS = """() => [...document.querySelectorAll('*')].flatMap(e =>
  [...e.attributes].filter(a => a.name.startsWith('on') || /^\\s*javascript:/i.test(a.value)
    || (['src', 'href', 'xlink:href'].includes(a.name) && !/^(#|data:,)/.test(a.value)))
  .map(a => e.tagName + ' ' + a.name + '=' + a.value))"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_fake_run(
        tmp_path_factory.mktemp("runs") / FOLDER,
        models=HOSTILE[:5],
        labels=HOSTILE[1:],
        counts=(2, 8),
        samples=(800,),
        error="".join(HOSTILE),
    )
    (folder / "config.yaml").write_text("\n".join(HOSTILE))
    prices = Prices({"other": 2.0}, {"other": 0.1}, 0.2, EVIL)
    speeds = dict.fromkeys(HOSTILE[:4], 90.0)
    return price_run(folder, prices, gpus=1.0, speeds=speeds, device=IMAGE)


def test_the_page_stays_inert_whatever_it_is_asked(browser: Any, run: Path) -> None:
    page_file = write_report(run)
    seen = visit(browser, page_file)
    page = seen.page
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    for index in range(page.locator("#cell-choice option").count()):
        page.locator("#cell-choice").select_option(index=index)
    marks = page.locator("[data-spec=spec-heatmap] svg .mark-rect.role-mark path")
    for index in range(0, marks.count(), 3):
        marks.nth(index).hover(force=True)
    assert page.title() == f"Sweep report: {FOLDER}"
    assert page.evaluate(DANGERS) == []
    assert page.locator("img, iframe, object, embed, base").count() == 0
    assert page.locator("script").count() == page.locator("script[type], body > script").count()
    assert seen.requests == [page_file.as_uri()]
    assert seen.complaints == []


def test_the_policy_would_stop_what_slipped_through(browser: Any, run: Path) -> None:
    page = visit(browser, write_report(run)).page
    blocked = page.evaluate("""async () => {
      const seen = [];
      document.addEventListener('securitypolicyviolation',
        e => seen.push(e.effectiveDirective + ' ' + e.blockedURI));
      document.body.insertAdjacentHTML('beforeend',
        '<img src="http://x.example/a.png"><b onclick="document.title = 1">b</b>');
      document.body.lastElementChild.click();
      const script = document.createElement('script');
      script.textContent = 'document.title = 2';
      document.body.append(script);
      try { await fetch('http://x.example/b'); } catch (error) { seen.push(error.name); }
      for (let i = 0; i < 50 && seen.length < 5; i++)
        await new Promise(done => setTimeout(done, 100));
      // The debugger that this test speaks through lifts the ban on eval until the first wait.
      try { eval('document.title = 3'); } catch (error) { seen.push(error.name); }
      return seen;
    }""")
    for what in ("img-src", "script-src-attr", "script-src-elem", "EvalError", "connect-src"):
        assert [line for line in blocked if line.startswith(what)], (what, blocked)
    assert page.title() == f"Sweep report: {FOLDER}"


def test_charts_as_images_hold_text_and_no_code(browser: Any, run: Path, tmp_path: Path) -> None:
    charts = draw_charts(build_study(load_run(run)))
    for name in ("heatmap", "using", "confusion", "curves"):
        _, svg = write_images(charts[name], tmp_path / name)
        tags = {element.tag.rpartition("}")[2] for element in ET.parse(svg).iter()}
        assert tags <= {"svg", "g", "path", "text", "tspan", "rect", "line", "defs", "clipPath",
                        "title", "desc", "linearGradient", "stop", "style"}  # fmt: skip
        page = browser.new_context().new_page()
        did: list[str] = []
        page.on("request", lambda request, did=did: did.append(request.url))
        page.on("dialog", lambda dialog, did=did: (did.append("dialog"), dialog.dismiss()))
        page.goto(svg.as_uri())
        assert page.evaluate(DANGERS) == []
        assert did == [svg.as_uri()]


class Tags(HTMLParser):
    """Collects the elements of a page and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def hostile_card(run: Path, name: str) -> str:
    winner = find_winner(run, None)
    spec = winner.spec
    cell = replace(spec.cell, labels=HOSTILE[:2], n_labels=2, cell_id=name)
    model = replace(spec.model, name=name, path=name, revision=name)
    spec = replace(
        spec, cell=cell, model=model, trial_id=name, data_fingerprint=name
    )  # fmt: skip
    ended = winner.ended | {"device": name, "dtype": name}
    winner = replace(winner, spec=spec, ended=ended, reason=name, baselines={name: 0.5})
    data = DataConfig(source="hub", path=name)
    return build_card(winner, Rescored(0.5, 0, {}), data, Shape(name, False), Origins())


@pytest.mark.parametrize("name", HOSTILE)
def test_a_model_card_renders_to_text_only(run: Path, name: str) -> None:
    card = hostile_card(run, name)
    plain = hostile_card(run, "plain")
    body = card.split("\n---\n", 1)[1]
    render = MarkdownIt("commonmark", {"html": True}).enable("table").render
    tags = Tags(render(body)).found
    assert [tag for tag, _ in tags] == [t for t, _ in Tags(render(plain.split("\n---\n")[1])).found]
    assert {tag for tag, _ in tags} <= {"h1", "h2", "p", "ul", "ol", "li", "pre", "code", "table",
                                        "thead", "tbody", "tr", "th", "td"}  # fmt: skip
    assert not [
        a for _, attributes in tags for a in attributes if a not in ("class", "style", "start")
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_the_cards_front_matter_and_code_hold_the_name_as_data(run: Path, name: str) -> None:
    card = hostile_card(run, name)
    front = card.removeprefix("---\n").split("\n---\n", 1)[0]
    tree = yaml.safe_load(front)
    # No such dataset can be on the Hub; a name may hold no line break.
    assert "datasets" not in tree
    assert tree["model-index"][0]["name"] == format_line(name)
    code = card.split("```python\n", 1)[1].split("\n```\n", 1)[0]
    (folder,) = [n for n in ast.parse(code).body if isinstance(n, ast.Assign)][:1]
    assert ast.literal_eval(folder.value) == name
