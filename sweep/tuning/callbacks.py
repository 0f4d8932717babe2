"""Small callbacks of Tune: the live display, and what keeps the driver's memory small."""

from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial

from sweep.cluster.ray_internals import forget_result
from sweep.display.progress import Board


class SessionCallback(Callback):  # type: ignore[misc]
    """A callback that lives as long as its process: Tune pickles its callbacks, and open files
    have no place there."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class ProgressDisplay(Board, SessionCallback):
    """The board of a run that this process drives."""

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Draw again if it is time."""
        self.refresh()


class SlimTrials(tune.Callback):  # type: ignore[misc]
    """Keeps the driver's memory from growing with the trials that have ended; comes after every
    callback that reads them."""

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Slim a trial that has its result."""
        forget_result(trial)
