"""A baseline that fails is a row with its error; the trials and the other baselines go on."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray
from fake_run import LABELS, write_fake_run
from ray_runs import ONE_WORKER

from analysis.load import load_run
from analysis.report import write_report
from analysis.stats.answers import list_missing
from analysis.stats.cells import average_seeds, list_cells
from analysis.stats.costs import list_failures
from sweep.config import ResourcesConfig
from sweep.data import Subset, Subsets
from sweep.errors import RunFolderError
from sweep.export.winner import find_winner
from sweep.plan import Plan
from sweep.storage.journal import Journal, read_events
from sweep.storage.record import RunRecord, replay
from sweep.storage.tables import write_tables
from sweep.training.baselines import run_baseline
from sweep.tuning import baselines
from sweep.tuning.baselines import BaselineTasks
from sweep.tuning.recorder import Recorder
from sweep.tuning.scheduler import CellASHA

EMPTY = "ValueError: empty vocabulary"
RESULT = {"val_accuracy": 0.5, "test_accuracy": 0.5, "predictions": []}


def make_subset(texts: list[str]) -> Subset:
    classes = tuple(number % 2 for number in range(len(texts)))
    return Subset(("a", "b"), tuple(texts), classes, tuple(range(len(texts))))


def score_tf_idf(texts: list[str]) -> float:
    subset = make_subset(texts)
    accuracy: float = run_baseline("tf-idf", subset, subset, subset)["test_accuracy"]
    return accuracy


@pytest.mark.parametrize(
    "texts",
    [
        ["A C D E", "K L M N", "A D D E", "K K M N"],
        ["😀 🍕", "😢 🏠", "😀 😀", "😢 😭"],
        ["+ +", "- -", "+", "-"],
    ],
)
def test_tf_idf_works_without_any_word_of_two_letters(texts: list[str]) -> None:
    assert score_tf_idf(texts) == 1.0


def test_one_word_of_two_letters_is_enough_for_the_usual_words() -> None:
    assert score_tf_idf(["A C no", "K L", "A", "K"]) == 1.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    # No worker can import a test.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    ray.shutdown()


@pytest.fixture
def run_baselines(
    cluster: None, tmp_path: Path, plan: Plan, subsets: Subsets, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., RunRecord]:
    """Return a function that runs the baselines of four subsets; tf-idf's results ``fit`` gives."""

    def run(fit: Callable[[], None], **resources: float) -> RunRecord:
        def run_on_worker(name: str, *rest: Any) -> Any:
            return fit() if name == "tf-idf" else RESULT

        monkeypatch.setattr(baselines, "_run_on_worker", run_on_worker)
        monkeypatch.setattr(baselines, "START_SECONDS", 10.0)
        with Journal(tmp_path) as journal:
            recorder = Recorder(journal, RunRecord(), CellASHA(3, 1, 2))
            limits = ResourcesConfig(max_retries=1, **resources)
            tasks = BaselineTasks(["majority", "tf-idf"], plan, subsets, recorder, limits)
            tasks.start()
            tasks.finish()
        return replay(read_events(tmp_path))

    return run


def raise_value_error() -> None:
    raise ValueError("empty vocabulary")


def raise_what_cannot_be_pickled() -> None:
    class OddError(Exception):
        def __init__(self) -> None:
            super().__init__("odd")
            self.file = sys.stdout

    raise OddError


def end_worker() -> None:
    os._exit(1)


def hang() -> None:
    time.sleep(600)


def errors_of(record: RunRecord, name: str) -> list[str]:
    events = record.baselines.values()
    return [event.get("error", "") for event in events if event["model"] == name]


@pytest.mark.parametrize(
    ("fit", "told"),
    [
        (raise_value_error, EMPTY),
        (raise_what_cannot_be_pickled, "odd"),
        (end_worker, "its worker was lost"),
        (hang, "no result within 0.01 minutes (resources.max_epoch_minutes)"),
    ],
)
def test_failed_baseline_has_its_reason_and_the_others_their_results(
    run_baselines: Callable[..., RunRecord], fit: Callable[[], None], told: str
) -> None:
    record = run_baselines(fit, **({"max_epoch_minutes": 0.01} if fit is hang else {}))
    errors = errors_of(record, "tf-idf")
    assert len(errors) == 4
    assert all(told in error for error in errors)
    assert errors_of(record, "majority") == [""] * 4


def test_worker_that_is_lost_once_is_forgiven(
    run_baselines: Callable[..., RunRecord], tmp_path: Path
) -> None:
    def end_first_time() -> Any:
        try:
            (tmp_path / "ended").mkdir()
        except FileExistsError:
            return RESULT
        os._exit(1)

    assert errors_of(run_baselines(end_first_time), "tf-idf") == [""] * 4


CODE = """
import sys
from sweep import run
from sweep.tuning import baselines
usual = baselines._run_on_worker
def fail_tf_idf(name, *rest):
    return usual("no such baseline" if name == "tf-idf" else name, *rest)
if sys.argv.pop(1) == "broken":
    baselines._run_on_worker = fail_tf_idf
sys.exit(run.main(sys.argv[1:]))
"""


def run_sweep(how: str, *arguments: str) -> str:
    command = [sys.executable, "-c", CODE, how, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_sweep_ends_well_and_retries_the_failed_baseline_when_told_to(
    tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    config = write_config(asha={"max_epochs": 1, "grace_epochs": 1, "reduction_factor": 2})
    arguments = [str(config), "--out", str(tmp_path), "--set", "grid.n_labels=[2]", *ONE_WORKER]
    first = run_sweep("broken", *arguments)
    assert "2 of 4 baselines failed (tf-idf: KeyError: 'no such baseline')" in first
    assert f"--out {tmp_path} --resume --retry-failed" in first
    assert "2 of 4 baselines failed" in run_sweep("whole", *arguments, "--resume")
    assert "failed" not in run_sweep("whole", *arguments, "--resume", "--retry-failed")
    rows = pd.read_parquet(tmp_path / "small" / "results.parquet")
    assert rows.loc[rows["kind"].eq("baseline"), "status"].tolist() == ["finished"] * 4


def add_failed(run: Path, name: str, n_labels: int, n_samples: int) -> None:
    """Note that a baseline failed on a subset."""
    identity = f"{name}-{n_labels}-{n_samples}-0"
    with Journal(run) as journal:
        journal.append(
            "baseline",
            trial_id=identity,
            cell_id=identity,
            model=name,
            n_labels=n_labels,
            labels=LABELS[:n_labels],
            n_samples=n_samples,
            seed=0,
            status="failed",
            error=EMPTY,
        )
    write_tables(run)


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """Return a run in which TF-IDF failed on one of two subsets."""
    run = write_fake_run(tmp_path / "half", counts=(2, 4), samples=(800,))
    add_failed(run, "tf-idf", 4, 800)
    return run


def test_failed_baseline_is_a_row_without_numbers(half: Path) -> None:
    rows = pd.read_parquet(half / "results.parquet").query("model == 'tf-idf' and n_labels == 4")
    (row,) = rows.to_dict("records")
    assert (row["status"], row["error"], row["best_of_cell"]) == ("failed", EMPTY, False)
    assert pd.isna(row["test_accuracy"])


def test_report_says_which_baseline_failed_and_why(half: Path) -> None:
    run = load_run(half)
    assert [(m.model, m.n_labels, m.error) for m in list_missing(run)][-1] == ("tf-idf", 4, EMPTY)
    assert (["tf-idf"], EMPTY) in [(f["models"], f["error"]) for f in list_failures(run)]
    assert EMPTY in write_report(half).read_text()


def test_cell_of_a_failed_baseline_is_shown_without_a_result(half: Path) -> None:
    run = load_run(half)
    cells = average_seeds(run).query("model == 'tf-idf' and n_labels == 4")
    assert cells["kind"].tolist() == ["baseline"]
    assert cells["accuracy"].isna().tolist() == [True]
    assert (
        "tf-idf" in list_cells(run).query("n_labels == 4 and test_accuracy.isna()")["model"].values
    )


def test_report_of_a_run_whose_baselines_all_failed_can_be_written(tmp_path: Path) -> None:
    run = write_fake_run(tmp_path / "all", counts=(2,), samples=(800,), baselines=False)
    for name in ("majority", "tf-idf"):
        add_failed(run, name, 2, 800)
    assert EMPTY in write_report(run).read_text()


def test_exported_winner_names_only_baselines_with_a_result(half: Path) -> None:
    winner = find_winner(half, "c0-4-800-0")
    assert set(winner.baselines) == {"majority"}


def test_failed_baseline_without_a_reason_is_a_damaged_line(tmp_path: Path) -> None:
    run = write_fake_run(tmp_path / "bad", counts=(2,), samples=(800,))
    add_failed(run, "tf-idf", 2, 800)
    journal = run / "journal.jsonl"
    journal.write_text(journal.read_text().replace(f',"error":"{EMPTY}"', ""))
    with pytest.raises(RunFolderError, match="'error' is missing"):
        list(read_events(run))
