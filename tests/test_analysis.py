"""Frames, statistics and charts of a run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest
from fake_run import COUNTS, MODELS, NO_RESULT_CELL, SAMPLES, write_fake_run
from statsmodels.stats.proportion import proportion_confint

from analysis.cells import average_seeds, compare_candidates, list_cells, list_curves, list_trials
from analysis.charts import draw_heatmap, draw_sample_curves
from analysis.load import Run, load_run
from analysis.palette import (
    FILL_RANGE,
    MODEL_COLOURS,
    MODEL_SHAPES,
    blend_fill,
    find_ink_threshold,
    find_luminance,
)
from analysis.stats import normalise_accuracy, wilson_interval
from analysis.summary import (
    count_progress,
    count_wins,
    find_answers,
    list_missing,
    measure_gains,
    tabulate_best,
)
from analysis.trial_charts import draw_candidates, draw_learning_curves
from sweep.errors import RunFolderError
from sweep.journal import JOURNAL_NAME, Journal
from sweep.tables import RESULTS_NAME


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("runs") / "fake")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load_run(folder)


@pytest.fixture(scope="module")
def cells(run: Run) -> pd.DataFrame:
    return average_seeds(run)


def read_spec(chart: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    spec = chart.to_dict()
    (rows,) = spec["datasets"].values()
    return spec, rows


def find_scale(spec: Any, channel: str) -> dict[str, Any]:
    """Return the first scale of ``channel`` anywhere in the spec."""
    if isinstance(spec, dict):
        if "scale" in spec.get(channel, {}):
            return spec[channel]["scale"]
        spec = list(spec.values())
    found = [find_scale(part, channel) for part in spec if isinstance(part, dict | list)]
    return next((scale for scale in found if scale), {})


# Loading


def test_every_planned_trial_is_loaded(run: Run) -> None:
    assert len(run.plan) == len(MODELS) * len(COUNTS) * len(SAMPLES) * 2
    assert len(run.results) == len(run.plan)
    assert set(run.history["trial_id"]) <= set(run.plan["trial_id"])


def test_a_folder_without_a_journal_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=JOURNAL_NAME):
        load_run(tmp_path)


def test_a_missing_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no such folder"):
        load_run(tmp_path / "nowhere")


def test_a_journal_without_trials_is_no_run(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append("opened", command="x")
    with pytest.raises(RunFolderError, match="no planned trial"):
        load_run(tmp_path)


def test_missing_tables_are_made_from_the_journal(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", counts=(2,), samples=(800,))
    before = load_run(folder).results
    for path in folder.glob("*.parquet"):
        path.unlink()
    pd.testing.assert_frame_equal(load_run(folder).results, before)
    assert (folder / RESULTS_NAME).exists()


def test_tables_older_than_the_journal_are_made_again(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", counts=(2,), samples=(800,))
    trial_id = load_run(folder).plan["trial_id"][0]
    with Journal(folder) as journal:
        journal.append("ended", trial_id=trial_id, status="failed", error="lost")
    results = load_run(folder).results.set_index("trial_id")
    assert results.loc[trial_id, "error"] == "lost"


def test_current_tables_are_left_alone(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", counts=(2,), samples=(800,))
    os.utime(folder / JOURNAL_NAME, (1, 1))
    before = (folder / RESULTS_NAME).stat()
    load_run(folder)
    assert (folder / RESULTS_NAME).stat().st_ino == before.st_ino


def test_a_damaged_table_is_made_again(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", counts=(2,), samples=(800,))
    before = load_run(folder).results
    (folder / RESULTS_NAME).write_bytes(b"PAR1 is not enough")
    pd.testing.assert_frame_equal(load_run(folder).results, before)


def test_a_folder_that_cannot_be_written_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analysis import load

    folder = write_fake_run(tmp_path / "run", counts=(2,), samples=(800,))
    (folder / RESULTS_NAME).unlink()
    write_tables = load.write_tables

    def refuse(target: Path, record: Any) -> None:
        if target == folder:
            raise PermissionError("read-only")
        write_tables(target, record)

    monkeypatch.setattr(load, "write_tables", refuse)
    assert len(load_run(folder).results) == len(MODELS) * 2
    assert not (folder / RESULTS_NAME).exists()


# Cells


def test_a_cells_accuracy_is_that_of_the_trial_validation_chose(
    run: Run, cells: pd.DataFrame
) -> None:
    best = run.results[run.results["best_of_cell"]]
    for row in cells.dropna(subset=["accuracy"]).itertuples():
        same = best[
            (best["model"] == row.model)
            & (best["n_labels"] == row.n_labels)
            & (best["n_samples"] == row.n_samples)
        ]
        assert same["test_accuracy"].tolist() == [row.accuracy]


def test_a_cell_without_a_result_stays_in_the_grid(cells: pd.DataFrame) -> None:
    assert len(cells) == len(MODELS) * len(COUNTS) * len(SAMPLES)
    (missing,) = cells[cells["accuracy"].isna()].itertuples()
    assert (missing.model, missing.n_labels, missing.n_samples) == NO_RESULT_CELL


def test_seeds_are_averaged(tmp_path: Path) -> None:
    run = load_run(write_fake_run(tmp_path / "run", counts=(2,), samples=(800,), seeds=(0, 1)))
    cells = average_seeds(run)
    best = run.results[run.results["best_of_cell"]]
    assert cells["seeds_done"].max() == 2
    for row in cells.dropna(subset=["accuracy"]).itertuples():
        mean = best.loc[best["model"] == row.model, "test_accuracy"].mean()
        assert row.accuracy == pytest.approx(mean)


def test_the_cell_table_marks_the_most_accurate_model(run: Run) -> None:
    for _, group in list_cells(run).groupby(["n_labels", "n_samples"]):
        top = group[group["top"]]
        assert len(top) >= 1
        assert set(top["test_accuracy"]) == {group["test_accuracy"].max()}


def test_a_trial_without_a_result_is_listed(tmp_path: Path) -> None:
    run = load_run(write_fake_run(tmp_path / "run", counts=(2,), samples=(800,), end_trials=False))
    assert set(list_trials(run)["status"]) == {"no result yet"}
    assert average_seeds(run)["accuracy"].isna().all()


def test_a_curve_is_marked_where_its_trial_ended_early(run: Run) -> None:
    curves = list_curves(run.history, run.results)
    marked = curves[curves["end"].notna()].set_index("trial_id")["end"]
    early = run.results[run.results["status"].ne("finished") & run.results["epochs_run"].gt(0)]
    assert marked.to_dict() == early.set_index("trial_id")["status"].to_dict()


def test_the_candidate_that_always_wins_has_no_shortfall(run: Run) -> None:
    shortfall = compare_candidates(run.results).set_index(["model", "candidate"])["shortfall"]
    assert shortfall.min() >= 0
    assert shortfall[MODELS[0], 0] < shortfall[MODELS[0], 1]


# Statistics


@pytest.mark.parametrize(("right", "texts"), [(0, 10), (1, 10), (250, 320), (10, 10), (1, 1)])
def test_wilson_interval_agrees_with_statsmodels(right: int, texts: int) -> None:
    expected = proportion_confint(right, texts, method="wilson")
    assert wilson_interval(right / texts, texts) == pytest.approx(expected, abs=1e-12)


def test_wilson_interval_of_all_right_ends_at_one() -> None:
    low, high = wilson_interval([0.0, 1.0], [7, 7])
    assert low[0] == 0
    assert high[1] == 1


def test_wilson_interval_of_nothing_is_nothing() -> None:
    assert np.isnan(wilson_interval(float("nan"), float("nan"))).all()


def test_chance_is_zero_and_perfection_is_one() -> None:
    assert normalise_accuracy([0.5, 1.0, 0.25], [2, 2, 4]).tolist() == [0, 1, 0]
    assert normalise_accuracy(0.0, 2) == -1


# Words


def test_the_answer_is_the_highest_test_accuracy(cells: pd.DataFrame) -> None:
    answers = find_answers(cells)
    assert [answer.best["n_labels"] for answer in answers] == sorted(COUNTS)
    for answer in answers:
        same = cells[cells["n_labels"] == answer.best["n_labels"]]
        assert answer.best["accuracy"] == same["accuracy"].max()
        assert answer.runner_up is not None
        assert answer.runner_up["model"] != answer.best["model"]
        assert answer.runner_up["n_samples"] == answer.best["n_samples"]


def test_models_that_tie_all_win(cells: pd.DataFrame) -> None:
    tie = cells[(cells["n_labels"] == 2) & (cells["n_samples"] == 800)].assign(accuracy=0.75)
    assert count_wins(tie) == (1, [(model, 1) for model in MODELS])
    ((n_labels, (best,)),) = tabulate_best(tie)
    assert n_labels == 2
    assert best is not None
    assert best["models"] == list(MODELS)
    assert find_answers(tie)[0].tied


def test_every_combination_with_a_result_has_a_winner(cells: pd.DataFrame) -> None:
    combinations, wins = count_wins(cells)
    assert combinations == len(COUNTS) * len(SAMPLES) <= sum(count for _, count in wins)
    only = cells[cells["model"] == NO_RESULT_CELL[0]]
    assert count_wins(only) == (combinations - 1, [(NO_RESULT_CELL[0], combinations - 1)])


def test_progress_counts_cells_and_trials(run: Run) -> None:
    progress = count_progress(run)
    assert (progress.cells_done, progress.cells_planned) == (47, 48)
    assert sum(count for _, count in progress.statuses) == progress.trials_planned == 96


def test_a_missing_cell_is_named_with_its_error(run: Run) -> None:
    (missing,) = list_missing(run)
    assert (missing.model, missing.n_labels, missing.n_samples) == NO_RESULT_CELL
    assert missing.error is not None


def test_one_sample_size_has_no_gain(tmp_path: Path) -> None:
    run = load_run(write_fake_run(tmp_path / "run", counts=(2,), samples=(800,)))
    assert measure_gains(average_seeds(run)) == []


# Charts


def test_heatmap_shows_every_cell_of_the_grid(cells: pd.DataFrame) -> None:
    _, rows = read_spec(draw_heatmap(cells))
    shown = {(row["model"], row["n_labels"], row["n_samples"]): row["text"] for row in rows}
    expected = {
        (row.model, row.n_labels, row.n_samples): f"{100 * row.accuracy:.1f}"
        for row in cells.itertuples()
    }
    expected[NO_RESULT_CELL] = "none"
    assert shown == expected


def test_heatmap_numbers_read_on_every_fill() -> None:
    threshold = find_ink_threshold()
    for i in range(101):
        luminance = find_luminance(blend_fill(i / 100))
        ink = 1.0 if i / 100 > threshold else 0.0
        light, dark = max(luminance, ink), min(luminance, ink)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_heatmap_fill_darkens_with_accuracy() -> None:
    shades = [find_luminance(blend_fill(i / 50)) for i in range(51)]
    assert shades == sorted(shades, reverse=True)
    assert len(set(FILL_RANGE)) == len(FILL_RANGE)


def test_sample_curves_tell_models_by_colour_and_shape(cells: pd.DataFrame) -> None:
    spec, rows = read_spec(draw_sample_curves(cells))
    assert len(rows) == cells["accuracy"].notna().sum()
    for channel in ("color", "shape"):
        scale = find_scale(spec, channel)
        assert scale["domain"] == list(MODELS)
        assert len(set(scale["range"])) == len(MODELS)


def test_no_pair_of_colour_and_shape_repeats_within_fifty_models() -> None:
    n, m = len(MODEL_COLOURS), len(MODEL_SHAPES)
    assert len({(i % n, i % m) for i in range(50)}) == 50


def test_sample_curves_mark_chance(cells: pd.DataFrame) -> None:
    _, rows = read_spec(draw_sample_curves(cells))
    assert {row["n_labels"]: row["chance"] for row in rows} == {k: 1 / k for k in COUNTS}


def test_charts_have_a_description_and_their_data_once(run: Run, cells: pd.DataFrame) -> None:
    charts = [
        draw_heatmap(cells),
        draw_sample_curves(cells),
        draw_learning_curves(list_curves(run.history, run.results), list(MODELS)),
        draw_candidates(compare_candidates(run.results), list(MODELS)),
    ]
    for chart in charts:
        spec, rows = read_spec(chart)
        assert len(spec["description"]) > 30
        assert json.dumps(spec, allow_nan=False).count(json.dumps(rows[0])) == 1


def test_charts_leave_their_frame_as_it_was(cells: pd.DataFrame) -> None:
    before = cells.copy()
    draw_heatmap(cells)
    draw_sample_curves(cells)
    pd.testing.assert_frame_equal(cells, before)


def test_a_chart_compiles_to_vega(cells: pd.DataFrame) -> None:
    import vl_convert

    assert "95 %" in draw_sample_curves(cells).to_dict()["description"]
    svg = vl_convert.vegalite_to_svg(draw_heatmap(cells).to_dict())
    for model in MODELS:
        assert model in svg


def test_a_grid_without_any_result_still_draws(cells: pd.DataFrame) -> None:
    empty = cells.assign(accuracy=float("nan"), accuracy_low=float("nan"))
    _, rows = read_spec(draw_heatmap(empty))
    assert {row["text"] for row in rows} == {"none"}


def test_analysis_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys, analysis.report\n"
        "heavy = {'torch', 'ray', 'transformers', 'peft', 'datasets'} & set(sys.modules)\n"
        "own = {m for m in sys.modules if m.startswith('sweep.')}\n"
        "print(sorted(heavy), sorted(own))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] ['sweep.errors', 'sweep.journal', 'sweep.tables']"


def test_more_rows_than_altairs_limit_are_drawn(cells: pd.DataFrame) -> None:
    from analysis.page import encode_spec

    many = pd.concat([cells.assign(model=f"model-{i}") for i in range(120)])
    assert len(many) > 5000
    spec = json.loads(encode_spec(draw_heatmap(many)))
    assert [len(rows) for rows in spec["datasets"].values()] == [len(many)]
    with pytest.raises(alt.MaxRowsError):
        draw_heatmap(many).to_dict()
