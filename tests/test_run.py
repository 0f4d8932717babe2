"""The command line: what it prints, what it refuses, how it exits."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sweep.api import _describe_foreign
from sweep.config import load_config
from sweep.data import Subsets
from sweep.plan import Plan, build_repeat
from sweep.run import main
from sweep.storage.record import RunRecord, apply
from sweep.storage.run_folder import open_run_folder, save_config

WriteConfig = Callable[..., Path]


def test_dry_run_lists_the_plan_within_two_seconds() -> None:
    start = time.perf_counter()
    command = [sys.executable, "-m", "sweep.run", "--dry-run"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "48 cells x 2 candidates = 96 trials" in answer.stdout
    assert time.perf_counter() - start < 8  # two seconds on an idle machine


def test_dry_run_as_json_is_one_object_with_the_contracted_keys(
    write_config: WriteConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(write_config()), "--dry-run", "--json", *SMALL]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert set(plan["cells"][0]) == {
        "cell_id", "model", "n_labels", "labels", "n_samples", "seed",
    }  # fmt: skip
    assert set(plan["trials"][0]) == {
        "trial_id", "cell_id", "lora_rank", "learning_rate", "done",
    }  # fmt: skip


def test_dry_run_writes_nothing(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config()
    before = set(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    assert main([str(config), "--dry-run", *SMALL]) == 0
    assert set(tmp_path.iterdir()) == before


SMALL = ["--set", "grid.n_samples=[64]"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["--name", "../x"], "--name: '../x' is not a usable name"),
        (["--json"], "--json requires --dry-run"),
        (["--retry-failed"], "--retry-failed requires --resume"),
        (["--set", "grid.n_labels=[17]", "--set", "grid.n_samples=[1700]"], "17 labels requested"),
        (["--set", "grid.n_samples=[80000]"], "use at most"),
        (["--set", "data.source=files", "--set", "data.path=/nowhere"],
         "/nowhere: there is no such file"),
        (["--set", "grid.models=[{name: a, path: /nowhere}]"], "no config.json"),
        (["--set", "grid.models=[{name: a, path: 'tiny:bert'}]"], "no tiny family 'bert'"),
        (["--name", "missing", "--resume"], "config.yaml: cannot be read"),
        (["--set", "tune.candidates=2", "--set", "tune.lora_rank=4",
          "--set", "tune.learning_rate=0.1"], "allows only 1 different"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_sentence_and_exit_code_two(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_folder_that_is_not_empty_is_refused_and_left_alone(
    write_config: WriteConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / "small"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine")
    assert main([str(write_config()), "--out", str(tmp_path / "runs"), *SMALL]) == 2
    assert "is not empty; add --resume" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_resume_needs_a_run(
    write_config: WriteConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(write_config()), "--out", str(tmp_path), "--resume", *SMALL]) == 2
    assert "no run to resume here" in capsys.readouterr().err


def test_run_killed_before_its_first_event_is_resumed_by_its_own_configuration(
    write_config: WriteConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = open_run_folder(tmp_path, "small", resume=False)
    save_config(folder, load_config(write_config()))
    words = ["--name", "small", "--out", str(tmp_path), "--resume"]
    assert open_run_folder(tmp_path, "small", resume=True) == folder
    assert main([*words, "--dry-run"]) == 0
    assert "4 cells x 2 candidates = 8 trials" in capsys.readouterr().out


def test_help_names_the_exit_codes_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "130 interrupted" in text
    assert "python -m sweep.run --name quickstart --resume" in text


def test_changes_that_were_taken_over_and_repeats_are_no_other_study(
    plan: Plan, record: RunRecord, subsets: Subsets
) -> None:
    tuned = plan.trials[0]
    repeat = {"trial": build_repeat(tuned, 1, subsets), "repeat_of": tuned.trial_id}
    apply(record, {"event": "planned", "time": 1.0, **repeat})  # type: ignore[typeddict-item]
    assert _describe_foreign(plan, record) == []
    fewer = replace(plan, trials=plan.trials[2:])
    assert "3 trials of this run no longer belong" in _describe_foreign(fewer, record)[0]
    ids = [spec.trial_id for spec in fewer.trials]
    apply(record, {"event": "replanned", "time": 2.0, "trials": ids})
    assert _describe_foreign(fewer, record) == []
