"""The live display and its plain lines."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweep.journal import Journal
from sweep.plan import Plan
from sweep.progress import ProgressDisplay
from sweep.record import RunRecord
from sweep.recorder import Recorder
from sweep.scheduler import CellASHA


class Stage:
    """A display of ``plan`` on a console of its own, and a recorder to feed it."""

    def __init__(self, plan: Plan, folder: Path, terminal: bool) -> None:
        self.output = StringIO()
        console = Console(file=self.output, force_terminal=terminal, width=100)
        journal = Journal(folder)
        self.recorder = Recorder(journal, RunRecord(), CellASHA(3, 1, 2), folder)
        self.recorder.write_many([("planned", {"trial": s.to_dict()}) for s in plan.trials])
        self.display = ProgressDisplay(plan, self.recorder, console)
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
    text = stage.display.summarise()
    assert text.startswith("1 of 4 cells; 1 running; ")
    assert "2 finished" in text
    assert "1 stopped" in text
    assert "4 left" in text


def test_time_left_is_told_once_something_is_done(stage: Stage) -> None:
    assert "left; about" not in stage.display.summarise()
    stage.end(1)
    assert "about" in stage.display.summarise()


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
