"""Runs whose data, split, weights or grid change before they are resumed: right numbers for what
the configuration asks for now, and every command reads the run."""

import csv
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from pandas.testing import assert_frame_equal
from ray_runs import start_nodes
from safetensors.numpy import load_file, save_file

from analysis.load import load_run
from analysis.report import main as report
from sweep.export.cli import main as export
from sweep.models.base import materialize
from sweep.plan import ModelRef
from sweep.run import main
from sweep.storage.journal import read_events
from sweep.storage.record import choose_best, choose_planned, replay

WORDS = {
    "praise": ["great", "lovely", "superb", "kind"],
    "blame": ["awful", "poor", "nasty", "cruel"],
    "doubt": ["maybe", "perhaps", "unsure", "hardly"],
}
RECORDED = Path(__file__).parents[1] / "recorded" / "data_grew_under_0_1.jsonl"


def write_corpus(folder: Path, per_label: int = 40, noise: float = 0.3) -> None:
    """Write train.csv and test.csv; a part of the texts says what another label says."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", per_label), ("test", 12)):
        draw = random.Random(split)
        rows = [
            (f"{split} {number} is {draw.choice(WORDS[_choose(draw, label, noise)])} today", label)
            for number in range(count)
            for label in WORDS
        ]
        write_rows(folder / f"{split}.csv", rows)


def _choose(draw: random.Random, label: str, noise: float) -> str:
    return draw.choice(list(WORDS)) if draw.random() < noise else label


def write_rows(path: Path, rows: list[Any]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def read_rows(path: Path) -> list[Any]:
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with start_nodes(1) as address:
        yield address


@pytest.fixture(scope="module")
def finished(address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a corpus, a model, a configuration, and its finished run."""
    root = tmp_path_factory.mktemp("changed")
    write_corpus(root / "data")
    ref = ModelRef("own", "tiny:llama", "llama-v1")
    texts = [text for text, _ in read_rows(root / "data" / "train.csv")]
    shutil.copytree(materialize(ref, root / "made", texts), root / "weights")
    write_config(root)
    assert main([str(root / "base.yaml"), "--out", str(root / "runs"), "--address", address]) == 0
    return root


def write_config(root: Path) -> None:
    tree = {
        "name": "base",
        "data": {"source": "files", "path": str(root / "data")},
        "grid": {
            "models": [
                {"name": "own", "path": str(root / "weights")},
                {"name": "tiny", "path": "tiny:gpt2"},
            ],
            "n_labels": [2, 3],
            "n_samples": [24],
        },
        "tune": {"candidates": 1, "lora_rank": 4, "learning_rate": [5e-3, 6e-3]},
        "serving": {"measure": False},
        "asha": {"max_epochs": 1},
        "train": {"batch_size": 8, "max_length": 24, "dtype": "float32"},
    }
    (root / "base.yaml").write_text(yaml.safe_dump(tree))


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of ``finished``, to change."""
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    write_config(copy)
    return copy


@pytest.fixture
def resume(root: Path, address: str) -> Callable[..., Path]:
    """Return a function that resumes the run with overrides, and gives its folder."""

    def resume(*overrides: str) -> Path:
        words = [word for override in overrides for word in ("--set", override)]
        out = ["--out", str(root / "runs"), "--address", address]
        assert main([str(root / "base.yaml"), *out, "--resume", *words]) == 0
        return root / "runs" / "base"

    return resume


def check_accuracies(run: Path) -> None:
    """Recompute each accuracy and macro-F1 of the results from the predictions."""
    results = pq.read_table(run / "results.parquet").to_pandas()
    groups = dict(iter(pq.read_table(run / "predictions.parquet").to_pandas().groupby("trial_id")))
    best = results[results["best_of_cell"]]
    assert set(groups) == set(best["trial_id"])
    for _, row in best.iterrows():
        group = groups[row["trial_id"]]
        right = group["label"] == group["predicted"]
        assert right.mean() == pytest.approx(row["test_accuracy"])
        assert len(group) == row["n_test"]
        assert set(group["label"]) == set(row["labels"])


def check_commands(run: Path, root: Path) -> None:
    """See that report, dry run and export read the run."""
    assert report([str(run)]) == 0
    out = ["--out", str(run.parent), "--resume", "--dry-run"]
    assert main([str(root / "base.yaml"), *out]) == 0


def list_places(run: Path) -> list[tuple[Any, ...]]:
    """Return the axes of the cells that the report shows."""
    plan = load_run(run).plan
    return [tuple(row) for row in plan[["model", "n_labels", "n_samples", "seed"]].to_numpy()]


def count_trained(run: Path) -> int:
    """Return how many trials ended in the last session."""
    events = list(read_events(run))
    start = max(i for i, event in enumerate(events) if event["event"] == "opened")
    return sum(event["event"] == "ended" for event in events[start:])


def test_undisturbed_run_agrees_with_its_predictions(finished: Path) -> None:
    check_accuracies(finished / "runs" / "base")


def grow(root: Path) -> list[str]:
    write_corpus(root / "data", per_label=60, noise=0.2)
    return []


def split_anew(root: Path) -> list[str]:
    (root / "data" / "test.csv").unlink()
    return ["data.split_seed=1"]


def take_other_test(root: Path) -> list[str]:
    path = root / "data" / "test.csv"
    write_rows(path, [(text.replace("today", "now"), label) for text, label in read_rows(path)])
    return []


def shorten_test(root: Path) -> list[str]:
    return ["data.max_eval_per_label=5"]


def rename_labels(root: Path) -> list[str]:
    for path in (root / "data").glob("*.csv"):
        path.write_text(path.read_text().replace(",praise", ",zeal"))
    return []


def change_weights(root: Path) -> list[str]:
    path = root / "weights" / "model.safetensors"
    tensors = load_file(path)
    save_file({name: value + np.float32(0.01) for name, value in tensors.items()}, path,
              {"format": "pt"})  # fmt: skip
    return []


def check_changed(run: Path, trained: int, reason: str, printed: str) -> None:
    """See that the run has right numbers for its present plan, and tells of the rest."""
    assert f"({reason}); such trials do not run again" in printed
    assert count_trained(run) == trained
    check_accuracies(run)
    places = list_places(run)
    assert len(places) == len(set(places)) == 4
    assert report([str(run)]) == 0
    assert f"({reason})" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "trained", "reason"),
    [
        (split_anew, 4, "4 with other data"),
        (shorten_test, 4, "4 with other data"),
        (rename_labels, 2, "2 with other data"),
        (change_weights, 2, "2 with other weights"),
    ],
)
def test_changed_run_gives_right_numbers_for_its_present_plan_and_tells_of_the_rest(
    change: Callable[[Path], list[str]],
    trained: int,
    reason: str,
    root: Path,
    resume: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = resume(*change(root))
    check_changed(run, trained, reason, capsys.readouterr().out)


def read_scores(run: Path) -> Any:
    """Return the scores of the trials of the present plan."""
    results = load_run(run).results
    models = results[results["kind"] == "model"].set_index("trial_id").sort_index()
    return models[["val_accuracy", "val_loss", "test_accuracy", "test_macro_f1"]]


def test_grown_data_give_the_numbers_of_a_run_of_its_own_until_they_are_put_back(
    root: Path, resume: Callable[..., Path], address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_run(root / "runs" / "base").results["test_accuracy"].tolist()
    kept = root / "kept"
    shutil.copytree(root / "data", kept)
    grow(root)
    run = resume()
    check_changed(run, 4, "4 with other data", capsys.readouterr().out)
    assert main([str(root / "base.yaml"), "--out", str(root / "own"), "--address", address]) == 0
    assert_frame_equal(read_scores(run), read_scores(root / "own" / "base"), rtol=1e-6)
    shutil.rmtree(root / "data")
    kept.rename(root / "data")
    run = resume()
    assert count_trained(run) == 0
    assert load_run(run).results["test_accuracy"].tolist() == before
    check_accuracies(run)
    check_commands(run, root)


def test_cell_of_which_only_an_earlier_candidate_has_a_result_is_missing(
    root: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hopeless = ["--set", "tune.learning_rate=1e9", "--set", "tune.lora_rank=4"]
    out = ["--out", str(root / "runs"), "--address", address, "--resume"]
    assert main([str(root / "base.yaml"), *out, *hopeless]) == 1
    assert "4 of 4 cells have no result" in capsys.readouterr().out
    run = root / "runs" / "base"
    assert export([str(run), "--best", "--out", str(root / "winner")]) == 2
    assert "earlier cell, for example with --cell" in capsys.readouterr().err


def test_rows_in_another_order_are_the_same_test_set_for_a_larger_grid_too(
    root: Path, resume: Callable[..., Path]
) -> None:
    path = root / "data" / "test.csv"
    write_rows(path, read_rows(path)[::-1])
    run = resume("grid.n_samples=[24,48]")
    check_accuracies(run)
    assert load_run(run).others == ()
    assert len(set(list_places(run))) == 8
    truths = load_run(run).predictions.groupby(["n_labels", "item"])["label"].nunique()
    assert truths.eq(1).all()


def test_renamed_model_with_another_candidate_stays_one_model(
    root: Path, resume: Callable[..., Path]
) -> None:
    run = resume("grid.models.0.name=renamed", "tune.candidates=2")
    assert set(load_run(run).results["model"]) == {"renamed", "tiny", "majority", "tf-idf"}
    check_accuracies(run)
    check_commands(run, root)


def test_resume_that_cannot_be_planned_leaves_the_run_untouched(
    root: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = root / "runs" / "base"
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    (root / "data" / "train.csv").write_text("text,label\nonly one row,praise\n")
    out = ["--out", str(root / "runs"), "--address", address]
    assert main([str(root / "base.yaml"), *out, "--resume"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_another_test_file_makes_earlier_cells_winners_only_by_their_id(
    root: Path, resume: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = set(choose_best(replay(read_events(root / "runs" / "base"))))
    take_other_test(root)
    run = resume()
    check_changed(run, 4, "4 with other data", capsys.readouterr().out)
    record = replay(read_events(run))
    assert not earlier & set(choose_planned(record))
    assert earlier < set(choose_best(record))
    assert export([str(run), "--best", "--out", str(root / "winner")]) == 0
    capsys.readouterr()
    assert export([str(run), "--cell", min(earlier), "--out", str(root / "old")]) == 2
    assert "data" in capsys.readouterr().err


def test_journal_of_an_earlier_release_that_lost_its_run_is_read_and_resumed(
    tmp_path: Path, address: str
) -> None:
    """There, the file of 40 rows a label was replaced by a larger one, and the resume wrote lines
    that no command read again."""
    run = tmp_path / "runs" / "base"
    run.mkdir(parents=True)
    shutil.copy(RECORDED, run / "journal.jsonl")
    shown = load_run(run)
    assert len(shown.plan) == 1
    assert len(shown.others) == 1
    assert report([str(run)]) == 0
    # The majority's guesses of 12 texts belong to no texts that the journal holds.
    assert shown.unmatched == 3
    results = pq.read_table(run / "results.parquet").to_pandas()
    assert results["in_plan"].tolist() == [False, True, False, False, True, True]
