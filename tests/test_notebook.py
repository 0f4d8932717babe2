"""The notebook: its code cells in order, as Python alone runs them, with a tiny model."""

import json
import os
import re
import subprocess
import sys
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from browsing import ALL_DRAWN, needs_chromium
from ray_runs import ONE_WORKER

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "first_study.ipynb"
# What makes of the drafted study one of seconds.
CHANGES = [
    "grid.n_samples=[16]",
    "tune.candidates=1",
    "asha.max_epochs=1",
    "baselines=[majority]",
    "repeat.seeds=0",
    "serving.measure=false",
    ONE_WORKER[1],
]
LABELS = ("amusement", "anger", "joy", "sadness")

Cells = list[dict[str, Any]]


@pytest.fixture(scope="module")
def cells() -> Cells:
    tree = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (tree["nbformat"], tree["nbformat_minor"]) == (4, 5)
    found: Cells = tree["cells"]
    return found


def read_code(cells: Cells) -> dict[str, str]:
    """Return the code of each code cell by its id, in order."""
    return {c["id"]: "".join(c["source"]) for c in cells if c["cell_type"] == "code"}


@pytest.fixture(scope="module")
def ran(cells: Cells, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Run the notebook where no network is; return what it printed, and its folder."""
    folder = tmp_path_factory.mktemp("notebook")
    parameters = {
        "PACKAGE": None,
        "MODELS": ["tiny:llama"],
        "BUDGET": "5m",
        "OUT": "out",
        "SOURCE": (folder / "nowhere").as_uri(),
        "CHANGES": CHANGES,
    }
    codes = read_code(cells)
    names: dict[str, Any] = {}
    exec(codes.pop("parameters"), names)
    assert set(names) - {"__builtins__"} == set(parameters)
    assigned = [f"{name} = {value!r}" for name, value in parameters.items()]
    script = folder / "cells.py"
    script.write_text("\n\n".join([*assigned, *codes.values()]))
    # As a kernel of Jupyter sets them.
    kernel = {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "TERM": "xterm-color"}
    done = subprocess.run(
        [sys.executable, script],
        cwd=folder,
        env=os.environ | kernel | {"PYTHONPATH": str(NOTEBOOK.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, folder / "out"


def test_notebook_is_valid_and_keeps_no_output(cells: Cells) -> None:
    ids = [cell["id"] for cell in cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", each) for each in ids)
    common = {"cell_type", "id", "metadata", "source"}
    for cell in cells:
        assert all(isinstance(line, str) for line in cell["source"])
        if cell["cell_type"] == "code":
            assert set(cell) == common | {"execution_count", "outputs"}
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
        else:
            assert (cell["cell_type"], set(cell)) == ("markdown", common)


def test_notebook_goes_from_a_sample_to_labels_for_new_texts(ran: tuple[str, Path]) -> None:
    printed, out = ran
    assert "made-up texts instead" in printed
    assert "\x1b" not in printed
    counts = pd.read_csv(out / "sample.csv")["label"].value_counts()
    assert counts.to_dict() == dict.fromkeys(LABELS, 600)
    results = pd.read_parquet(out / "runs" / "study" / "results.parquet")
    assert sorted(zip(results["model"], results["status"], strict=True)) == [
        ("majority", "finished"),
        ("tiny-llama", "finished"),
    ]
    labels = pd.read_parquet(out / "labels.parquet")["label"]
    assert len(labels) == 4 and set(labels) <= set(LABELS)
    # The card's own lines, at the end, print what they make of one text.
    assert re.match(r"\[\{'label': '(\w+)', 'score': ", printed.splitlines()[-1])


@needs_chromium
def test_report_in_the_page_draws_its_charts_and_leads_to_its_sections(
    cells: Cells, ran: tuple[str, Path], browser: Any, tmp_path: Path
) -> None:
    shown: list[str] = []
    code = read_code(cells)["report"]
    exec(code, {"RUN": ran[1] / "runs" / "study", "escape": escape, "show": shown.append})
    (tmp_path / "page.html").write_text(f"<!doctype html><body>{shown[0]}</body>")
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    (_, report) = page.frames
    report.wait_for_function(ALL_DRAWN)
    assert report.query_selector_all("[data-spec]")
    report.query_selector_all("a[href^='#']")[-1].click()
    report.wait_for_function("scrollY > 0")
    assert report.url.startswith("about:srcdoc#")
    page.close()
