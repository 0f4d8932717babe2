"""The live display and its plain lines."""

import re
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweep.plan import Plan
from sweep.storage.journal import Journal
from sweep.storage.record import RunRecord
from sweep.tuning.callbacks import ProgressDisplay
from sweep.tuning.recorder import Recorder
from sweep.tuning.scheduler import CellASHA


class Output(StringIO):
    """A text stream that claims an encoding."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding


class Stage:
    """A display of ``plan`` on a console of its own, and a recorder to feed it."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        terminal: bool,
        width: int = 100,
        encoding: str = "utf-8",
    ) -> None:
        self.output = Output(encoding)
        console = Console(file=self.output, force_terminal=terminal, width=width)
        journal = Journal(folder)
        self.recorder = Recorder(journal, RunRecord(), CellASHA(3, 1, 2))
        self.recorder.write_many([("planned", {"trial": s}) for s in plan.trials])
        self.display = ProgressDisplay(plan, self.recorder.record, self.recorder.running, console)
        self.plan = plan

    def end(self, count: int, status: str = "finished", **more: Any) -> None:
        """End the first ``count`` trials of the plan that are left."""
        left = [s for s in self.plan.trials if not self.recorder.record.trials[s.trial_id].ended]
        for spec in left[:count]:
            fields = {"trial_id": spec.trial_id, "val_accuracy": 0.75}
            self.recorder.write("epoch", epoch=1, decision="done", **fields)
            self.recorder.write("ended", status=status, **fields, **more)


@pytest.fixture
def stage(plan: Plan, tmp_path: Path) -> Stage:
    return Stage(plan, tmp_path, terminal=False)


def test_plain_output_has_a_line_per_finished_cell(stage: Stage) -> None:
    stage.display.start()
    stage.end(3)
    stage.display.stop()
    lines = stage.output.getvalue().splitlines()
    assert lines[0] == (
        "cell 1 of 4: tiny-llama, 2 labels x 16 samples, seed 0: validation accuracy 0.750"
    )
    assert sum(line.startswith("cell ") for line in lines) == 1
    assert "\x1b" not in stage.output.getvalue()


def test_counts_name_what_is_done_running_and_left(stage: Stage) -> None:
    stage.end(2)
    stage.end(1, "stopped")
    stage.recorder.running["another"] = 0.0
    text = stage.display.summarize()
    assert text.startswith("1 of 4 cells; 1 running; ")
    assert "2 finished" in text
    assert "1 stopped" in text
    assert "4 left" in text


def test_time_left_is_told_once_something_is_done(stage: Stage) -> None:
    assert "left; about" not in stage.display.summarize()
    stage.end(1)
    assert "about" in stage.display.summarize()


def test_cell_without_a_result_is_said_to_have_none(plan: Plan, stage: Stage) -> None:
    for spec in plan.trials[:2]:
        stage.recorder.write("ended", trial_id=spec.trial_id, status="failed", error="broken")
    stage.display.stop()
    assert "seed 0: no result" in stage.output.getvalue()


def test_terminal_shows_the_best_accuracy_of_each_cell(plan: Plan, tmp_path: Path) -> None:
    stage = Stage(plan, tmp_path, terminal=True)
    stage.display.start()
    stage.end(2)
    stage.display.stop()
    text = stage.output.getvalue()
    assert "2x16" in text
    assert "0.750" in text


def start(stage: Stage, count: int) -> None:
    """Let workers have the first ``count`` trials of the plan."""
    for spec in stage.plan.trials[:count]:
        stage.recorder.running[spec.trial_id] = time.monotonic()


def test_first_line_comes_with_the_first_step(stage: Stage) -> None:
    stage.display.start()
    stage.display.on_step_end(0, [])
    assert stage.output.getvalue().startswith("0 of 4 cells; 0 running; 8 left; 0 of 24 epochs")


def test_epochs_of_a_trial_that_ended_early_are_not_planned_any_more(stage: Stage) -> None:
    stage.end(1, "stopped")
    assert "; 1 of 22 epochs" in stage.display.summarize()


def test_failed_trials_leave_no_epochs_to_come(plan: Plan, stage: Stage) -> None:
    for spec in plan.trials:
        stage.recorder.write("ended", trial_id=spec.trial_id, status="failed", error="broken")
    text = stage.display.summarize()
    assert text.startswith("4 of 4 cells; 0 running; 8 failed; 0 of 0 epochs; took ")


def test_run_that_has_nothing_to_do_took_no_time(plan: Plan, stage: Stage) -> None:
    stage.end(8)
    again = ProgressDisplay(
        plan, stage.recorder.record, stage.recorder.running, Console(file=stage.output)
    )
    assert again.summarize() == "4 of 4 cells; 0 running; 8 finished; 8 of 8 epochs"


def test_running_trials_tell_what_they_have_reached(plan: Plan, stage: Stage) -> None:
    start(stage, 2)
    spec = plan.trials[0]
    values = {"val_accuracy": 0.5, "best_val_accuracy": 0.5}
    stage.recorder.write("epoch", trial_id=spec.trial_id, epoch=2, decision="continue", **values)
    stage.display.on_step_end(0, [])
    first, second = (spec.candidate.index for spec in plan.trials[:2])
    assert stage.output.getvalue().splitlines()[1] == (
        f"  running: tiny-llama 2x16 seed 0 #{first} epoch 2 of 3, 0.500; "
        f"tiny-llama 2x16 seed 0 #{second} epoch 0 of 3"
    )


def test_line_of_many_running_trials_is_cut(stage: Stage) -> None:
    start(stage, 8)
    stage.display.on_step_end(0, [])
    line = stage.output.getvalue().splitlines()[1]
    assert len(line) < 200
    assert line.endswith("; and 4 more")


def test_next_line_comes_half_a_minute_later(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for seconds, lines in ((0, 1), (29, 1), (31, 2)):
        monkeypatch.setattr(time, "monotonic", lambda seconds=seconds: now + seconds)
        stage.display.on_step_end(0, [])
        assert stage.output.getvalue().count(" epochs") == lines


def test_names_are_shown_as_they_are(plan: Plan, tmp_path: Path) -> None:
    cell = replace(plan.cells[0], model="[red]:smile:")
    specs = tuple(replace(spec, cell=cell) for spec in plan.trials[:2])
    for terminal in (False, True):
        (tmp_path / str(terminal)).mkdir()
        stage = Stage(Plan((cell,), plan.candidates, specs), tmp_path / str(terminal), terminal)
        start(stage, 1)
        stage.display.start()
        stage.end(2)
        stage.display.stop()
        assert "[red]:smile:" in stage.output.getvalue()


@pytest.mark.parametrize("width", [20, 40, 80])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_block_fits_narrow_terminals(width: int, encoding: str, plan: Plan, tmp_path: Path) -> None:
    stage = Stage(plan, tmp_path, terminal=True, width=width, encoding=encoding)
    start(stage, 8)
    stage.end(2)
    stage.display.start()
    stage.display.stop()
    lines = re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", stage.output.getvalue()).splitlines()
    assert max(map(len, lines)) <= width
    assert "0.750" in stage.output.getvalue()
    if encoding == "ascii":
        assert stage.output.getvalue().isascii()


def test_columns_that_do_not_fit_are_counted(plan: Plan, tmp_path: Path) -> None:
    stage = Stage(plan, tmp_path, terminal=True, width=24)
    stage.display.start()
    stage.end(8)
    stage.display.stop()
    assert "more columns do not fit" in " ".join(stage.output.getvalue().split())
