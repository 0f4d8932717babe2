"""A running sweep, watched from another terminal."""

import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweep.display import attach as room
from sweep.display.attach import attach, rebuild_plan
from sweep.plan import Plan
from sweep.run import main
from sweep.storage.journal import Journal, is_held, read_events
from sweep.storage.record import replay


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def journal(folder: Path, plan: Plan) -> Iterator[Journal]:
    """Give the journal of a run that has planned its trials and given out the first."""
    with Journal(folder) as journal:
        journal.append("opened", predicted=None)
        journal.append_all([("planned", {"trial": spec}) for spec in plan.trials])
        journal.append("started", trial_id=plan.trials[0].trial_id)
        yield journal


def end(journal: Journal, plan: Plan, *places: int) -> None:
    """Give the trials at ``places`` of the plan a result."""
    for place in places:
        fields: dict[str, Any] = {"trial_id": plan.trials[place].trial_id, "val_accuracy": 0.75}
        journal.append("epoch", epoch=1, decision="done", **fields)
        journal.append("ended", status="finished", **fields)


def watch(folder: Path, *steps: Any, terminal: bool = False) -> tuple[int, str]:
    """Attach; take one of ``steps`` each time it waits. Return the exit code and the output."""
    output, left = StringIO(), list(steps)

    def wait(seconds: float) -> None:
        if left:
            left.pop(0)()

    console = Console(file=output, force_terminal=terminal, width=100)
    return attach(folder, console, wait).exit_code, output.getvalue()


def test_progress_is_followed_until_the_driver_leaves(
    folder: Path, journal: Journal, plan: Plan
) -> None:
    code, told = watch(
        folder,
        lambda: end(journal, plan, 0, 1),
        lambda: journal.append("closed", trials_left=6),
    )
    lines = told.splitlines()
    assert code == 0
    assert lines[0].startswith("0 of 4 cells; 1 running; 7 left; 0 of 24 epochs")
    assert lines[1] == "  running: tiny-llama 2x16 seed 0 #0 epoch 0 of 3"
    assert lines[2] == (
        "cell 1 of 4: tiny-llama, 2 labels x 16 samples, seed 0: validation accuracy 0.750"
    )
    assert lines[-1] == "the driver has ended; 6 trials are unfinished"


def test_terminal_shows_the_table_of_accuracies(folder: Path, journal: Journal, plan: Plan) -> None:
    end(journal, plan, *range(8))
    _, told = watch(folder, lambda: journal.append("closed", trials_left=0), terminal=True)
    assert "best validation accuracy so far" in told
    assert "0.750" in told


def test_run_that_is_over_is_told_at_once(folder: Path, journal: Journal, plan: Plan) -> None:
    end(journal, plan, *range(8))
    journal.append("closed", trials_left=0)
    code, told = watch(folder)
    assert code == 0
    assert told.startswith("4 of 4 cells; 0 running; 8 finished; 8 of 8 epochs; took ")
    assert told.count("took") == 1


def test_resumed_run_is_followed_past_its_first_end(
    folder: Path, journal: Journal, plan: Plan
) -> None:
    end(journal, plan, 0)
    journal.append("closed", trials_left=7)
    journal.append("opened", predicted=None)
    journal.append("started", trial_id=plan.trials[1].trial_id)
    code, told = watch(folder, lambda: journal.append("closed", trials_left=7))
    assert code == 0
    # The trial of the first session took no time of this one.
    assert told.splitlines()[0] == "0 of 4 cells; 1 running; 1 finished, 6 left; 1 of 22 epochs"


def test_line_that_is_being_written_is_waited_for(
    folder: Path, journal: Journal, plan: Plan
) -> None:
    file = (folder / "journal.jsonl").open("ab")

    def write(data: bytes) -> None:
        file.write(data)
        file.flush()

    half = b'{"event":"clo', b'sed","time":1.0,"trials_left":1}\n'
    code, _ = watch(folder, lambda: write(half[0]), lambda: None, lambda: write(half[1]))
    file.close()
    assert code == 0


def test_driver_that_was_killed_is_noticed(
    folder: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(folder) as journal:
        journal.append("opened", predicted=None)
        assert is_held(folder)
    monkeypatch.setattr(room, "SILENT_SECONDS", -1.0)
    code, told = watch(folder)
    assert code == 1
    assert "the driver is gone; continue with the same command and --resume" in told


def test_driver_that_has_not_planned_yet_is_waited_for(folder: Path, plan: Plan) -> None:
    with Journal(folder) as journal:
        journal.append("opened", predicted=None)
        planned = [("planned", {"trial": spec}) for spec in plan.trials]
        code, told = watch(
            folder,
            lambda: journal.append_all(planned),
            lambda: journal.append("closed", trials_left=8),
        )
    assert code == 0
    assert told.startswith("0 of 4 cells; 0 running; 8 left")


def test_plan_is_that_of_the_run(folder: Path, journal: Journal, plan: Plan) -> None:
    found = rebuild_plan(replay(read_events(folder)))
    assert (found.cells, found.trials) == (plan.cells, plan.trials)
    assert {k: set(v) for k, v in found.candidates.items()} == {
        k: set(v) for k, v in plan.candidates.items()
    }


@pytest.mark.parametrize("place", ["missing", "."])
def test_folder_without_a_run_is_refused(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--attach", str(tmp_path / place)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {tmp_path}")
    assert "no journal.jsonl here; name a run folder" in told
    assert told.count("\n") == 1


def test_attach_takes_no_other_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--attach", "runs/x", "--resume"]) == 2
    assert "so it takes no other options; leave out --resume" in capsys.readouterr().err


def test_ctrl_c_leaves_the_sweep_alone_and_no_ray_was_loaded(
    folder: Path, journal: Journal
) -> None:
    code = (
        "import sys, threading, _thread, sweep.run\n"
        "threading.Timer(1.0, _thread.interrupt_main).start()\n"
        "code = sweep.run.main(sys.argv[1:])\n"
        "print(sorted({'ray', 'torch', 'transformers'} & set(sys.modules)), code)"
    )
    command = [sys.executable, "-c", code, "--attach", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("0 of 4 cells; 1 running")
    assert lines[-2:] == ["the sweep continues", "[] 0"]
    assert is_held(folder)
