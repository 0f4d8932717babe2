"""Small Tune callbacks: the live display, and one that keeps the driver's memory small."""

from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial

from sweep.cluster.ray_internals import forget_result
from sweep.display.progress import Board


class SessionCallback(Callback):  # type: ignore[misc]
    """A callback that is pickled without its state: Tune pickles its callbacks, but open files
    cannot be pickled, and nothing is ever restored."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class ProgressDisplay(Board, SessionCallback):
    """The board of a run that this process drives."""

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self.refresh()


class SlimTrials(tune.Callback):  # type: ignore[misc]
    """Keeps the driver's memory from growing with ended trials; must come after every callback that
    reads them."""

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        forget_result(trial)
