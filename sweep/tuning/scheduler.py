"""CellASHA: asynchronous successive halving that compares only trials of one cell."""

import math
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from sweep.cluster.ray_internals import (
    enter_result,
    find_rung,
    has_worker_coming,
    withdraw_requests,
)
from sweep.storage.events import Decision

# The best validation accuracy so far: it never falls, so a trial that is stopped cannot have been
# better than one that goes on.
METRIC = "best_val_accuracy"


@dataclass(frozen=True)
class Ruling:
    """What became of a trial at a result: ``rung`` and ``cutoff`` are None off the rungs (and
    the cutoff for the first trial to reach one)."""

    decision: Decision
    rung: float | None = None
    cutoff: float | None = None


class CellASHA(TrialScheduler):  # type: ignore[misc]
    """One ``ASHAScheduler`` per cell; each trial's results go to its own cell's.

    A single ASHA over all cells would compare accuracies of 2 labels with accuracies of 16 and
    stop every trial of the harder cells.
    """

    def __init__(self, max_epochs: int, grace_epochs: int, reduction_factor: float) -> None:
        super().__init__()
        self._settings = {
            "time_attr": "epoch",
            "metric": METRIC,
            "mode": "max",
            "max_t": max_epochs,
            "grace_period": grace_epochs,
            "reduction_factor": reduction_factor,
        }
        self._cells: dict[str, ASHAScheduler] = {}
        self.rulings: dict[str, Ruling] = {}
        """The newest ruling of each running trial, for whoever writes the journal."""

    def replay(self, cell_id: str, trial_id: str, epoch: int, value: float) -> None:
        """Enter a result recorded in an earlier session into its cell's rungs."""
        enter_result(self._asha_of(cell_id), trial_id, epoch, value)

    def _asha_of(self, cell_id: str) -> ASHAScheduler:
        if cell_id not in self._cells:
            self._cells[cell_id] = ASHAScheduler(**self._settings)
        return self._cells[cell_id]

    def _asha(self, trial: Trial) -> ASHAScheduler:
        return self._asha_of(cell_of(trial))

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Admit a trial to its cell."""
        self._asha(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return Tune's CONTINUE or STOP, and remember why."""
        value = result.get(METRIC)
        if value is None or not math.isfinite(value):
            # Ray's ASHA never stops such a trial, since no comparison with NaN is true.
            self.rulings[trial.trial_id] = Ruling(Decision.STOP)
            return str(TrialScheduler.STOP)
        asha = self._asha(trial)
        rung, cutoff = find_rung(asha, trial.trial_id, result["epoch"])
        action = asha.on_trial_result(tune_controller, trial, result)
        stopped = action == TrialScheduler.STOP
        decision = Decision.STOP if stopped else Decision.CONTINUE
        self.rulings[trial.trial_id] = Ruling(decision, rung, cutoff)
        return str(action)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Enter a trial's last result into its cell's rungs, if it has one."""
        value = result.get(METRIC)
        if value is not None and math.isfinite(value):
            self._asha(trial).on_trial_complete(tune_controller, trial, result)
        self.rulings.pop(trial.trial_id, None)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Let a trial that is lost keep its place in the plan, should it be started again; what it
        has entered into the rungs stays."""
        self._asha(trial).on_trial_error(tune_controller, trial)
        self.rulings.pop(trial.trial_id, None)
        withdraw_requests(tune_controller, trial.config["position"])

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Forget a trial that never ran."""
        self._asha(trial).on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the first trial in the order of the plan that waits and has no worker coming.

        Tune hands a worker that is free to the trial named here and drops the one that was to run
        it. Were that one just starting on a new machine, trials shorter than a start would keep
        the new machine idle for ever.
        """
        waiting = (t for t in tune_controller.get_live_trials() if t.status == Trial.PENDING)
        ordered = sorted(waiting, key=lambda trial: trial.config["position"])
        return next((t for t in ordered if not has_worker_coming(tune_controller, t)), None)

    def debug_string(self) -> str:
        """Return one line per cell."""
        return "\n".join(f"{cell}: {a.debug_string()}" for cell, a in self._cells.items())


def cell_of(trial: Trial) -> str:
    """Return the id of the cell that a Tune trial belongs to."""
    return str(trial.config["trial"].cell.cell_id)
