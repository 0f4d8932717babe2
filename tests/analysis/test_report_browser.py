"""The report in a real browser: it draws, fetches nothing, runs nothing from the data."""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from browsing import needs_chromium, visit
from fake_run import LABELS, MODELS, write_fake_run
from hostile import EVIL, IMAGE, SEPARATORS
from sklearn.metrics import confusion_matrix, f1_score

from analysis.page.formats import NOTHING
from analysis.report import write_report

pytestmark = needs_chromium


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


def read_drawn(page: Any) -> list[str]:
    return page.eval_on_selector_all("[data-spec]", "boxes => boxes.map(b => b.dataset.drawn)")


def read_table(page: Any, name: str) -> list[list[str]]:
    rows = "rows => rows.map(r => [...r.cells].map(c => c.textContent.trim()))"
    return page.eval_on_selector_all(f"#{name} tbody tr", rows)


def test_the_data_section_shows_hostile_labels_as_text(browser: Any, hostile_report: Path) -> None:
    seen = visit(browser, hostile_report, viewport={"width": 390, "height": 844})
    section = seen.page.locator("section[aria-labelledby=data]")
    assert "excluded by data.exclude_labels (calm)" in section.inner_text()
    assert f"{EVIL}.csv is not used" in section.inner_text()
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert seen.complaints == []


def test_report_draws_every_chart_and_asks_the_network_for_nothing(
    browser: Any, report: Path
) -> None:
    seen = visit(browser, report)
    assert read_drawn(seen.page) == ["yes"] * 12
    assert seen.requests == [report.as_uri()]
    assert seen.complaints == []


def test_hostile_names_draw_as_text_and_run_nothing(browser: Any, hostile_report: Path) -> None:
    seen = visit(browser, hostile_report)
    seen.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert set(read_drawn(seen.page)) == {"yes"}
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
    assert set(best["kind"]) == {"model", "baseline"}
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
            *(
                (f"{row.lora_rank:.0f}", f"{row.learning_rate:.3g}", f"{row.best_epoch:.0f}")
                if row.kind == "model"
                else NOTHING * 3
            ),
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


def choose_cell(page: Any, label: str) -> None:
    page.locator("#cell-choice").select_option(label=label)
    page.wait_for_function(
        "name => document.getElementById('cell-status').textContent === 'Showing ' + name",
        arg=label,
    )


@pytest.mark.parametrize("model", ["llama-tiny", "tf-idf", "majority"])
def test_a_chosen_cells_confusion_equals_the_predictions_on_disk(
    browser: Any, report: Path, model: str
) -> None:
    predictions = pd.read_parquet(report.parent / "predictions.parquet")
    place = (predictions["model"] == model) & (predictions["n_samples"] == 1600)
    cell = predictions[place & (predictions["n_labels"] == 4)]
    labels = LABELS[:4]
    seen = visit(browser, report)
    choose_cell(seen.page, f"{model}, 4 labels, 1600 samples")
    matrix = confusion_matrix(cell["label"], cell["predicted"], labels=labels)
    rows = read_table(seen.page, "table-confusion")
    assert rows == [[label, *map(str, row)] for label, row in zip(labels, matrix, strict=True)]
    texts = seen.page.locator("[data-spec=spec-confusion] svg .mark-text.role-mark text")
    assert sorted(texts.all_text_contents()) == sorted(map(str, matrix.flatten()))
    f1 = f1_score(cell["label"], cell["predicted"], labels=labels, average=None, zero_division=0)
    shown = [float(row[1]) for row in read_table(seen.page, "table-scores")]
    assert shown == pytest.approx(100 * f1, abs=0.051)
    assert seen.complaints == []


def test_the_cell_shown_first_is_the_same_with_and_without_a_choice(
    browser: Any, report: Path
) -> None:
    page = visit(browser, report).page
    names = ("table-scores", "table-confusion")
    before = [read_table(page, name) for name in names]
    first = page.locator("#cell-choice option:checked").inner_text()
    choose_cell(page, "tf-idf, 2 labels, 800 samples")
    assert [read_table(page, name) for name in names] != before
    choose_cell(page, first)
    assert [read_table(page, name) for name in names] == before


def test_the_cell_is_chosen_by_keyboard(browser: Any, report: Path) -> None:
    page = visit(browser, report).page
    assert page.get_by_label("Cell", exact=True).count() == 1
    page.locator("#cell-choice").focus()
    page.keyboard.press("Home")
    page.wait_for_function("document.getElementById('cell-status').textContent !== ''")
    assert len(read_table(page, "table-confusion")) == 2


def test_hostile_labels_of_a_chosen_cell_are_text(browser: Any, hostile_report: Path) -> None:
    seen = visit(browser, hostile_report)
    seen.page.locator("#cell-choice").select_option(index=0)
    seen.page.wait_for_function("document.getElementById('cell-status').textContent !== ''")
    assert [row[0] for row in read_table(seen.page, "table-scores")] == [EVIL, IMAGE]
    assert seen.page.locator("img").count() == 0
    assert seen.complaints == []


def test_the_menu_shows_one_models_learning_curves(browser: Any, report: Path) -> None:
    seen = visit(browser, report)
    lines = seen.page.locator("[data-spec=spec-curves] svg .mark-line.role-mark path")
    everything = lines.count()
    seen.page.get_by_label("Show").select_option(label=f"all of {MODELS[0]}")
    seen.page.wait_for_function(
        "n => document.querySelectorAll('[data-spec=spec-curves] svg .mark-line.role-mark path')"
        ".length < n",
        arg=everything,
    )
    history = pd.read_parquet(report.parent / "history.parquet")
    assert lines.count() == history[history["model"] == MODELS[0]]["trial_id"].nunique()
    assert seen.complaints == []


def test_differences_equal_the_predictions_on_disk(browser: Any, report: Path) -> None:
    predictions = pd.read_parquet(report.parent / "predictions.parquet")
    predictions["right"] = predictions["label"] == predictions["predicted"]
    right = predictions.pivot(
        index="item", columns=["n_labels", "n_samples", "model"], values="right"
    )
    rows = read_table(visit(browser, report).page, "table-differences")
    assert len(rows) == 12 * 4 - 1
    for other, labels, samples, best, _, _, only_best, only_other, *_ in rows:
        a, b = (right[int(labels), int(samples), name].dropna() for name in (best, other))
        assert int(only_best) == (a.astype(bool) & ~b.astype(bool)).sum()
        assert int(only_other) == (b.astype(bool) & ~a.astype(bool)).sum()


@pytest.mark.skipif("SWEEP_AXE" not in os.environ, reason="SWEEP_AXE names no axe.min.js")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser: Any, report: Path, scheme: str) -> None:
    page = visit(browser, report, color_scheme=scheme, bypass_csp=True).page
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    page.add_script_tag(path=os.environ["SWEEP_AXE"])
    found = page.evaluate("axe.run()")["violations"]
    serious = [f for f in found if f["impact"] in ("serious", "critical")]
    assert [(f["id"], f["nodes"][0]["html"][:200]) for f in serious] == []


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
    assert {"Figure 1, chart", "The heatmap as a table", "Figure 2, chart"} <= reached


def test_printing_unfolds_every_table(browser: Any, report: Path) -> None:
    page = visit(browser, report).page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
