"""The live display of a run, fed by Tune."""

from typing import Any

from ray.tune.experiment import Trial
from rich.console import Console

from sweep.display.progress import Board
from sweep.plan import Plan
from sweep.recorder import Recorder, SessionCallback


class ProgressDisplay(Board, SessionCallback):
    """The board of a run that this process drives."""

    def __init__(self, plan: Plan, recorder: Recorder, console: Console) -> None:
        super().__init__(plan, recorder.record, recorder.running, console)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Draw again if it is time."""
        self.refresh()
