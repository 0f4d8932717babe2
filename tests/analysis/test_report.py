"""The report's HTML and its command line, without a browser."""

import json
import re
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from fake_run import BASELINES, MODELS, write_fake_run
from hostile import EVIL, IMAGE, SEPARATORS
from priced_run import GPU, price_run

from analysis.load import load_run
from analysis.page.formats import (
    format_chance,
    format_command,
    format_duration,
    format_interval,
    format_p,
    format_percent,
    format_points,
)
from analysis.page.html import JSON_ESCAPES, build_page, build_policy, load_library
from analysis.report import main


class Outline(HTMLParser):
    """Collects tags, headings and table texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("runs") / "fake")


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return build_page(load_run(folder))


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = write_fake_run(
        tmp_path_factory.mktemp("runs") / "hostile",
        models=(EVIL, IMAGE, SEPARATORS),
        labels=(EVIL, IMAGE, SEPARATORS, "calm"),
        counts=(2, 4),
        error=EVIL + IMAGE,
    )
    (folder / "config.yaml").write_text(f"name: {EVIL}\n")
    return build_page(load_run(folder))


def drop_library(page: str) -> str:
    return page.replace(load_library(), "")


def read_specs(page: str) -> dict[str, dict]:
    pattern = r'<script type="application/json" id="spec-(\w+)">(.*?)</script>'
    return {name: json.loads(text) for name, text in re.findall(pattern, page, re.DOTALL)}


def test_report_is_written_into_the_run_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder)]) == 0
    path = folder / "report.html"
    assert capsys.readouterr().out.splitlines()[-1] == str(path.resolve())
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert not list(folder.glob(".report*"))


def test_report_is_written_where_out_says(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere.html"
    assert main([str(folder), "--out", str(out)]) == 0
    assert out.stat().st_size < 5_000_000


def test_same_run_gives_the_same_page(folder: Path, page: str) -> None:
    assert build_page(load_run(folder)) == page


@pytest.mark.parametrize("make_run", [False, True])
def test_wrong_folder_ends_with_code_2_and_one_sentence(
    tmp_path: Path, make_run: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    if make_run:
        folder.mkdir()
    assert main([str(folder)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert len(printed.err.splitlines()) == 1
    assert list(tmp_path.rglob("*.html")) == []


def test_an_out_that_cannot_be_written_ends_with_code_2(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder), "--out", str(tmp_path / "no" / "such" / "report.html")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_charts_are_written_where_charts_says(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = write_fake_run(tmp_path / "run", counts=(2,), samples=(800,))
    assert main([str(small), "--charts", str(tmp_path / "images")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert sorted(map(Path, printed)) == sorted((tmp_path / "images").iterdir())
    assert not (small / "report.html").exists()


def test_out_may_not_be_a_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder), "--out", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert list(tmp_path.parent.glob(f".{tmp_path.name}.*")) == []


def test_headings_are_in_order(page: str) -> None:
    headings = Outline(page).headings
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))


def test_page_names_nothing_to_fetch(page: str) -> None:
    tags = Outline(drop_library(page)).tags
    sources = [attrs[a] for _, attrs in tags for a in ("src", "href", "srcset") if a in attrs]
    assert all(source and (source[0] == "#" or source == "data:,") for source in sources)
    assert ("html", {"lang": "en"}) in tags
    assert "url(" not in drop_library(page)


def test_policy_forbids_loading_and_evaluating() -> None:
    policy = build_policy(["let a"], ["b {}"])
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_every_chart_has_a_table_and_a_description(page: str) -> None:
    specs = read_specs(page)
    tables = {attrs["id"] for tag, attrs in Outline(page).tags if tag == "table"}
    named = {"curves": "trials", "labels": "samples"}
    assert len(specs) == 12
    assert tables >= {f"table-{named.get(name, name)}" for name in specs}
    assert all(spec["description"] for spec in specs.values())


def test_figures_and_tables_are_numbered_without_a_gap(page: str) -> None:
    text = drop_library(page)
    for kind in ("Figure", "Table"):
        numbers = [int(n) for n in re.findall(rf"<b>{kind} (\d+)\.</b>", text)]
        assert numbers == list(range(1, len(numbers) + 1))


def test_the_first_screen_says_what_is_real_and_what_is_not(page: str) -> None:
    answer = drop_library(page).split('id="answer"')[1].split("</section>")[0]
    text = re.sub(r"<[^>]+>|\s+", " ", answer)
    assert "too close to call" in text
    assert "TF-IDF" in text
    assert "from 1600 to 2400, averaged over the models, changes accuracy by" in text


def read_answer(page: str, section: str = "answer") -> str:
    answer = drop_library(page).split(f'id="{section}"')[1].split("</section>")[0]
    return unescape(re.sub(r"(<[^>]+>|\s)+", " ", answer))


def test_the_report_begins_with_a_decision_its_price_and_its_doubt(page: str) -> None:
    sections = re.findall(r'<section aria-labelledby="(\w+)"', page)
    assert sections[:3] == ["decision", "overview", "answer"]
    text = read_answer(page, "decision")
    assert text.index("With 16 labels, take") < text.index("With 2 labels, take")
    assert "is too close to call." in text
    assert "It took 0.8 seconds of trial time and 2,400 labels to make." in text
    assert "This run did not record the GPUs and CPUs of its trials, so it has no price." in text
    assert "Not measured: this run has no speed of use." in text
    assert "USD" not in text


def test_prices_and_use_become_money_charts_and_tables(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", counts=(2,), samples=(800, 1600))
    speeds = {"qwen2-tiny": 800.0, "tf-idf": 2e4, "gemma3-tiny": 0.0}
    page = build_page(load_run(price_run(folder, gpus=0.5, speeds=speeds, device=GPU)))
    assert list(read_specs(page))[:3] == ["heatmap", "making", "using"]
    assert re.search(
        r"USD to make, and costs \S+ USD per million texts", read_answer(page, "decision")
    )
    rows = read_rows(page, "table-using")
    assert [row.split()[0] for row in rows] == ["qwen2-tiny", "gemma3-tiny", "tf-idf"]
    assert rows[0].endswith(f"5 7.5 640 90 0.72 {GPU}, worker-1")
    assert rows[1].endswith("the model did not load again")
    # Six contenders and references, two sizes; one cell has no result.
    assert len(read_rows(page, "table-making")) == 11


def test_where_every_trial_failed_the_reference_is_taken_plainly(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", counts=(2,), samples=(800,), end_trials=False)
    both = write_fake_run(tmp_path / "both", counts=(2,), samples=(800,))
    lines = (both / "journal.jsonl").read_text().splitlines(keepends=True)
    with (folder / "journal.jsonl").open("a") as journal:
        journal.writelines(line for line in lines if '"event":"baseline"' in line)
    text = read_answer(build_page(load_run(folder)), "decision")
    assert "With 2 labels, take TF-IDF with 800 texts" in text
    assert "This is a reference: no fine-tuned model has a result with as many texts." in text
    assert f"Without a result with 2 labels: {', '.join(MODELS)}." in text


def test_the_first_screen_of_one_seed_says_of_what_it_speaks_and_what_would_settle_it(
    folder: Path, page: str
) -> None:
    text = read_answer(page)
    assert "One seed: verdicts speak of these trained models, not of the recipes" in text
    command = f"--name fake --out {folder.parent} --resume --set repeat.seeds=5"
    assert re.search(r"5 more take about \S+ \w+ at the pace of this run:", text)
    assert command in text
    assert "McNemar's exact test" in text


def test_tables_and_captions_say_of_what_they_speak(page: str) -> None:
    said = "With one seed, verdicts speak of these trained models, not of the recipes."
    for name in ("steps", "differences"):
        caption = page.split(f'id="table-{name}"')[1].split("</caption>")[0]
        assert said in caption
    assert sum(said in text for text in re.findall("<figcaption>.*?</figcaption>", page)) == 1
    assert "a real gain with this seed" in " ".join(read_rows(page, "table-steps"))
    assert "A better with this seed" in " ".join(read_rows(page, "table-differences"))


def test_a_grid_of_one_combination_is_spoken_of_in_the_singular(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", models=MODELS[:2], counts=(2,), samples=(800,))
    text = read_answer(build_page(load_run(folder)))
    assert "has the highest test accuracy in the one combination of labels and samples" in text
    assert not re.search(r"\b1 of (the )?1\b|1 combinations", text)


def test_several_baselines_are_spoken_of_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fake_run.BASELINES", ("majority", "tf-idf", "features-x"))
    run = write_fake_run(tmp_path / "run", counts=(2,), samples=(800, 1600))
    answer = build_page(load_run(run)).partition('id="answer"')[2]
    lead = answer.partition('class="lead"')[2].partition("</p>")[0]
    assert re.search(r"better than every baseline(:| in)", lead)
    assert re.search(r"(of 2|both) combinations", lead)
    assert "TF-IDF" not in lead


def test_sections_for_cost_failures_and_forecast_are_there(page: str) -> None:
    text = re.sub(r"\s+", " ", drop_library(page))
    assert "epochs of the full grid were trained" in text
    assert "By stopping trials early ASHA saved" in text
    assert 'id="table-failures"' in page
    assert 'id="table-forecast"' in page
    assert "Weak evidence." in text


def read_rows(page: str, name: str) -> list[str]:
    """Return the text of each row of a table's body."""
    body = page.split(f'id="{name}"')[1].split("<tbody>")[1].split("</tbody>")[0]
    rows = re.findall("<tr.*?</tr>", body, re.DOTALL)
    return [" ".join(re.sub("<[^>]*>", " ", row).split()) for row in rows]


def test_report_says_what_became_of_the_data(page: str) -> None:
    assert read_rows(page, "table-data") == [
        "train data/train.csv columns text and label 12,000 1,000 held out for validation "
        "400 with several labels 700 excluded by data.exclude_labels (desire) 100 repeated 9,800",
        "validation held out from training (data.validation_fraction=0.1, data.split_seed=0) 1,000 "
        "none 1,000",
        "test data/test.csv columns text and label 1,000 none 1,000",
    ]
    assert '<a href="#data">Data</a>' in page
    assert "data.splits: admiration.csv is not used" in page


def test_journal_that_says_nothing_about_the_data_makes_a_page_without_them(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", counts=(2,), samples=(800,))
    first, *rest = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    opened = json.loads(first)
    del opened["data"]
    (folder / "journal.jsonl").write_text("".join([json.dumps(opened) + "\n", *rest]))
    page = build_page(load_run(folder))
    assert "table-data" not in page
    assert "#data" not in drop_library(page)


def test_a_full_study_of_many_trials_stays_small(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", seeds=(0, 1, 2, 3))
    run = load_run(folder)
    assert len(run.plan) == 384
    page = build_page(run)
    assert len(page.encode()) < 5_000_000


def test_a_run_of_one_cell_makes_a_page(tmp_path: Path) -> None:
    folder = write_fake_run(
        tmp_path / "run", models=MODELS[:1], counts=(2,), samples=(800,), baselines=False
    )
    page = drop_library(build_page(load_run(folder)))
    assert "No two models have test predictions" in page
    text = read_answer(page, "decision")
    assert "Nothing else was compared with it on as many texts, so nothing says it is" in text
    assert "How sure" not in text
    assert "Holm" not in text


def test_page_names_the_winner_the_failure_and_the_command(page: str) -> None:
    text = re.sub(r"\s+", " ", drop_library(page))
    assert "47 of 48 cells have a result" in text
    assert f"<b>{MODELS[0]}</b> has the highest test accuracy" in text
    assert "RuntimeError: the loss is not a number" in text
    assert "python -m sweep.run sweep_configs/quickstart.yaml --name fake" in text
    assert "0123456789abcdef0123456789abcdef01234567" in text


def test_strings_from_data_become_no_markup(hostile_page: str) -> None:
    rest = drop_library(hostile_page)
    assert "alert(1)</script>" not in rest
    assert "<img" not in rest
    assert rest.count("<script") == rest.count("</script>") == len(read_specs(hostile_page)) + 3
    assert "&lt;img src=x onerror=alert(1)&gt;" in rest
    assert "{{ 7*7 }}" in rest


def test_chart_data_keeps_hostile_strings_intact(hostile_page: str) -> None:
    (rows,) = read_specs(hostile_page)["heatmap"]["datasets"].values()
    assert {row["model"] for row in rows} == {EVIL, IMAGE, SEPARATORS, *BASELINES}


def test_chart_data_holds_no_character_that_could_end_it(hostile_page: str) -> None:
    pattern = r'<script type="application/json" id="spec-\w+">(.*?)</script>'
    for text in re.findall(pattern, hostile_page, re.DOTALL):
        assert not {chr(code) for code in JSON_ESCAPES} & set(text)


def test_page_is_made_before_the_first_result(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", counts=(2,), samples=(800,), end_trials=False)
    page = drop_library(build_page(load_run(folder)))
    assert "No cell has a result yet" in page
    assert "No contender has a result yet, so there is nothing to take." in page
    assert list(read_specs(page)) == ["heatmap"]


def test_several_seeds_are_shown(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", counts=(2, 4), samples=(800,), seeds=(0, 1))
    page = build_page(load_run(folder))
    assert "means over seeds" in page
    assert "2 of 2" in page
    text = read_answer(page)
    assert "2 seeds: verdicts speak of the recipes (model, method, settings)" in text
    assert "crossed random effects" in text
    assert "McNemar" not in text
    assert "with this seed" not in page.replace(load_library(), "")
    assert "Verdicts speak of the recipes, over 2 seeds." in page


def test_numbers_are_written_plainly() -> None:
    assert format_percent(0.8125) == "81.2"
    assert format_percent(None) == format_percent(float("nan")) == "\N{EN DASH}"
    assert format_points(-1e-9) == format_points(0.0) == "0.0"
    assert format_points(-0.031) == "\N{MINUS SIGN}3.1"
    assert format_interval(0.5, 0.75) == "50.0 to 75.0"
    assert format_interval(None, float("nan")) == "\N{EN DASH}"
    assert [format_p(p) for p in (0.0004, 0.04, 1.0)] == ["<0.001", "0.040", "1.000"]
    assert [format_duration(s) for s in (0.47, 45, 300, 8000)] == [
        "0.47 s",
        "45 s",
        "5.0 min",
        "2.2 h",
    ]
    assert format_command(["run.py", "a b"]) == "run.py 'a b'"
    assert [format_chance(1 / k) for k in (2, 4, 8, 16)] == ["50", "25", "12.5", "6.25"]


def test_results_whose_test_texts_are_unknown_leave_out_comparisons_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_fake_run(tmp_path / "run", baselines=False)
    path = run / "journal.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["event"] == "test_set":
            line["truth"] = [*line["truth"][::-1][1:], 0]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert main([str(run)]) == 0
    assert load_run(run).unmatched
    assert "belong to no test texts" in (run / "report.html").read_text()


def test_unknown_texts_of_the_best_model_leave_the_confusion_of_another(tmp_path: Path) -> None:
    run = write_fake_run(tmp_path / "run", models=MODELS[:1], counts=(2,), samples=(800,))
    path = run / "journal.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["event"] == "ended" and line.get("predictions"):
            line["predictions"] = [1 - value for value in line["predictions"]]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    page = build_page(load_run(run))
    assert load_run(run).unmatched == 1
    assert "confusion" in read_specs(page)
