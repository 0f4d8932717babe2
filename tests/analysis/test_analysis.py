"""Frames of a run, and the answers computed from them."""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_run import BASELINES, COUNTS, MODELS, NO_RESULT_CELL, SAMPLES, write_fake_run

from analysis.load import Run, load_run
from analysis.stats.answers import (
    count_progress,
    count_verdicts,
    count_wins,
    find_answers,
    list_missing,
    tabulate_best,
)
from analysis.stats.cells import (
    average_seeds,
    compare_candidates,
    list_cells,
    list_curves,
    list_trials,
    measure_optimism,
)
from analysis.stats.pairs import PAIR_COLUMNS
from analysis.study import Study, build_study
from sweep.errors import RunFolderError
from sweep.storage.journal import JOURNAL_NAME, Journal
from sweep.storage.tables import RESULTS_NAME

NO_PAIRS = pd.DataFrame(columns=PAIR_COLUMNS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("runs") / "fake")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load_run(folder)


@pytest.fixture(scope="module")
def study(run: Run) -> Study:
    return build_study(run)


@pytest.fixture(scope="module")
def cells(study: Study) -> pd.DataFrame:
    return study.cells


# Loading


def test_every_planned_trial_is_loaded(run: Run) -> None:
    assert len(run.plan) == len(MODELS) * len(COUNTS) * len(SAMPLES) * 2
    assert run.results["kind"].eq("model").sum() == len(run.plan)
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
    assert load_run(folder).results["kind"].eq("model").sum() == len(MODELS) * 2
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
    rows = len(MODELS) + len(BASELINES)
    assert len(cells) == rows * len(COUNTS) * len(SAMPLES)
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


def test_seeds_have_a_spread_of_their_own(tmp_path: Path) -> None:
    run = load_run(write_fake_run(tmp_path / "run", counts=(2,), samples=(800,), seeds=(0, 1)))
    cells = average_seeds(run).set_index("model")
    values = run.results.query("best_of_cell and model == @MODELS[0]")["test_accuracy"]
    assert cells.loc[MODELS[0], "seed_spread"] == pytest.approx(values.std())
    assert cells.loc[MODELS[0], "seed_low"] < values.min() <= values.max()
    assert (
        average_seeds(load_run(write_fake_run(tmp_path / "one", counts=(2,), samples=(800,))))[
            ["seed_spread", "seed_low", "seed_high"]
        ]
        .isna()
        .all(axis=None)
    )


def test_optimism_is_validation_minus_test(run: Run) -> None:
    optimism = measure_optimism(run)
    assert "majority" not in set(optimism["model"])
    expected = optimism["val_accuracy"] - optimism["test_accuracy"]
    assert optimism["optimism"].tolist() == expected.tolist()


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


# Answers


def test_the_answer_is_the_highest_test_accuracy(study: Study) -> None:
    cells = study.cells[study.cells["kind"].eq("model")]
    answers = find_answers(study.cells, study.against_best, study.baselines)
    assert [answer.best["n_labels"] for answer in answers] == sorted(COUNTS)
    for answer in answers:
        same = cells[cells["n_labels"] == answer.best["n_labels"]]
        assert answer.best["accuracy"] == same["accuracy"].max()
        assert answer.runner_up is not None
        assert answer.runner_up["model"] != answer.best["model"]
        assert answer.runner_up["n_samples"] == answer.best["n_samples"]


def test_an_answer_carries_the_verdicts_on_its_own_pair(study: Study) -> None:
    for answer in find_answers(study.cells, study.against_best, study.baselines):
        assert answer.runner_up is not None
        for pair, other in (
            (answer.rival, answer.runner_up["model"]),
            (answer.reference, "tf-idf"),
        ):
            assert pair is not None
            assert (pair["model_a"], pair["model_b"]) == (answer.best["model"], other)
            assert pair["n_samples"] == answer.best["n_samples"]


def test_verdicts_add_up(study: Study) -> None:
    verdicts = count_verdicts(study.pairs, study.against_best, study.baselines)
    assert verdicts.referenced == verdicts.combinations == len(COUNTS) * len(SAMPLES)
    assert verdicts.pairs == len(study.pairs)
    assert verdicts.real == study.pairs["verdict"].ne("too close to call").sum()


def test_a_best_model_ahead_of_all_is_a_clear_one() -> None:
    pair = {"n_labels": 2, "n_samples": 800, "model_a": "x", "verdict": "A better"}
    pairs = pd.DataFrame([{**pair, "model_b": name} for name in ("y", "z", "tf-idf")])
    verdicts = count_verdicts(pairs, pairs, ["tf-idf"])
    assert (verdicts.clear, verdicts.beaten, verdicts.open, verdicts.lost) == (1, 1, 0, 0)
    pairs.loc[0, "verdict"] = "too close to call"
    pairs.loc[2, "verdict"] = "B better"
    verdicts = count_verdicts(pairs, pairs, ["tf-idf"])
    assert (verdicts.clear, verdicts.beaten, verdicts.open, verdicts.lost) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        (["A better", "A better"], (1, 0, 0)),
        (["A better", "too close to call"], (0, 1, 0)),
        (["B better", "too close to call"], (0, 0, 1)),
        (["A better", "B better"], (0, 0, 1)),
    ],
)
def test_of_several_baselines_the_strongest_counts(
    others: list[str], expected: tuple[int, int, int]
) -> None:
    shared = {"n_labels": 2, "n_samples": 800, "model_a": "x"}
    names = ["tf-idf", "features"]
    rows = zip(names, others, strict=True)
    pairs = pd.DataFrame([{**shared, "model_b": name, "verdict": each} for name, each in rows])
    verdicts = count_verdicts(pairs, pairs, names)
    assert (verdicts.beaten, verdicts.open, verdicts.lost) == expected
    assert verdicts.references == ("tf-idf", "features")


def test_models_that_tie_all_win(cells: pd.DataFrame) -> None:
    tie = cells[(cells["n_labels"] == 2) & (cells["n_samples"] == 800)].assign(accuracy=0.75)
    assert count_wins(tie) == (1, [(model, 1) for model in MODELS])
    ((n_labels, (best,)),) = tabulate_best(tie)
    assert n_labels == 2
    assert best is not None
    assert best["models"] == list(MODELS)
    assert find_answers(tie, NO_PAIRS, [])[0].tied


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
