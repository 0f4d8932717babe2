"""The report in a real browser: it draws, fetches nothing, runs nothing from the data."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_run import write_fake_run
from test_report import EVIL, IMAGE, SEPARATORS

from analysis.report import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
ALL_DRAWN = "[...document.querySelectorAll('[data-spec]')].every(e => e.dataset.drawn)"


@dataclass
class Visit:
    """An open page and all it did since it was opened."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_fake_run(tmp_path_factory.mktemp("runs") / "fake"))


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_fake_run(
        tmp_path_factory.mktemp("runs") / "hostile",
        models=(EVIL, IMAGE, SEPARATORS, "a'b\\c\nd"),
        labels=(EVIL, IMAGE, SEPARATORS, "calm"),
        counts=(2, 4),
        error=EVIL + IMAGE,
    )
    return write_report(folder)


def visit(browser: Any, path: Path, **options: Any) -> Visit:
    page = browser.new_context(**options).new_page()
    seen = Visit(page)
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda message: seen.complaints.append(message.text))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (seen.complaints.append("dialog"), dialog.dismiss()))
    page.goto(path.as_uri())
    page.wait_for_function(ALL_DRAWN)
    return seen


def read_drawn(page: Any) -> list[str]:
    return page.eval_on_selector_all("[data-spec]", "boxes => boxes.map(b => b.dataset.drawn)")


def read_table(page: Any, name: str) -> list[list[str]]:
    rows = "rows => rows.map(r => [...r.cells].map(c => c.textContent.trim()))"
    return page.eval_on_selector_all(f"#{name} tbody tr", rows)


def test_report_draws_every_chart_and_asks_the_network_for_nothing(
    browser: Any, report: Path
) -> None:
    seen = visit(browser, report)
    assert read_drawn(seen.page) == ["yes"] * 4
    assert seen.requests == [report.as_uri()]
    assert seen.complaints == []


def test_hostile_names_draw_as_text_and_run_nothing(browser: Any, hostile_report: Path) -> None:
    seen = visit(browser, hostile_report)
    seen.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert read_drawn(seen.page) == ["yes"] * 4
    assert seen.page.locator("img").count() == 0
    assert seen.page.locator("[data-spec=spec-heatmap] svg").get_by_text(IMAGE).count() == 1
    assert seen.requests == [hostile_report.as_uri()]
    assert seen.complaints == []


def test_a_tooltip_shows_a_hostile_name_as_text(browser: Any, hostile_report: Path) -> None:
    seen = visit(browser, hostile_report)
    seen.page.locator("[data-spec=spec-heatmap] svg .mark-rect.role-mark path").nth(4).hover(
        position={"x": 8, "y": 8}
    )
    tooltip = seen.page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert "test accuracy" in tooltip.inner_text()
    assert tooltip.locator("img, script").count() == 0
    assert seen.complaints == []


def test_heatmap_numbers_equal_the_table_on_disk(browser: Any, report: Path) -> None:
    results = pd.read_parquet(report.parent / "results.parquet")
    best = results[results["best_of_cell"]]
    expected = sorted([f"{100 * value:.1f}" for value in best["test_accuracy"]] + ["none"])
    page = visit(browser, report).page
    texts = page.locator("[data-spec=spec-heatmap] svg .mark-text.role-mark text")
    assert sorted(texts.all_text_contents()) == expected
    rows = read_table(page, "table-heatmap")
    assert sorted(number for row in rows for number in row[1:]) == expected


def test_result_rows_equal_the_table_on_disk(browser: Any, report: Path) -> None:
    results = pd.read_parquet(report.parent / "results.parquet")
    best = results[results["best_of_cell"]]
    expected = {
        (
            row.model,
            str(row.n_labels),
            str(row.n_samples),
            str(row.lora_rank),
            f"{row.learning_rate:.3g}",
            str(int(row.best_epoch)),
            f"{100 * row.val_accuracy:.1f}",
            f"{100 * row.test_accuracy:.1f}",
            f"{100 * row.test_macro_f1:.1f}",
            f"{row.wall_seconds:.1f}",
        )
        for row in best.itertuples()
    }
    rows = read_table(visit(browser, report).page, "table-cells")
    assert {tuple(row) for row in rows if row[-1] != "no result"} == expected
    assert len(rows) == len(expected) + 1


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_never_scrolls_sideways_and_text_stands_out(
    browser: Any, report: Path, width: int, scheme: str
) -> None:
    size = {"width": width, "height": 844}
    page = visit(browser, report, viewport=size, color_scheme=scheme).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page_is_dark = page.evaluate(
        "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/)[0] < 128"
    )
    text_is_dark = page.evaluate(
        "getComputedStyle(document.querySelector('.role-axis-label text')).fill.match(/\\d+/)[0]"
        " < 128"
    )
    assert page_is_dark == (scheme == "dark")
    assert text_is_dark != page_is_dark


def test_charts_and_folded_tables_are_reached_by_keyboard(browser: Any, report: Path) -> None:
    page = visit(browser, report).page
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent")
        )
    assert {"Figure 1, chart", "Figure 1 as a table", "Figure 2, chart"} <= reached


def test_printing_unfolds_every_table(browser: Any, report: Path) -> None:
    page = visit(browser, report).page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
