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
# better than one that continues.
METRIC = "best_val_accuracy"


@dataclass(frozen=True)
class Ruling:
    """The decision about a trial at a result: ``rung`` and ``cutoff`` are None between rungs (and
    the cutoff for the first trial to reach one)."""

    decision: Decision
    rung: float | None = None
    cutoff: float | None = None


class CellASHA(TrialScheduler):  # type: ignore[misc]
    """One ``ASHAScheduler`` per cell; each trial's results go to its own cell's.

    A single ASHA over all cells would compare accuracies on 2 labels with accuracies on 16, and
    stop every trial of the harder cells. Repeats of a cell's best candidate are not compared.
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
        # The latest ruling about each running trial, for the recorder.
        self.rulings: dict[str, Ruling] = {}

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
        self._asha(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return Tune's CONTINUE or STOP, and keep the ruling."""
        value = result.get(METRIC)
        if value is None or not math.isfinite(value):
            # Ray's ASHA would never stop such a trial, since no comparison with NaN is true.
            self.rulings[trial.trial_id] = Ruling(Decision.STOP)
            return str(TrialScheduler.STOP)
        if _is_repeat(trial):
            # It runs to its own end: nothing is chosen among repeats.
            self.rulings[trial.trial_id] = Ruling(Decision.CONTINUE)
            return str(TrialScheduler.CONTINUE)
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
        if value is not None and math.isfinite(value) and not _is_repeat(trial):
            self._asha(trial).on_trial_complete(tune_controller, trial, result)
        self.rulings.pop(trial.trial_id, None)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Keep a lost trial's position in the plan, in case it is restarted; its results stay in
        the rungs."""
        self._asha(trial).on_trial_error(tune_controller, trial)
        self.rulings.pop(trial.trial_id, None)
        withdraw_requests(tune_controller, trial.config["position"])

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self._asha(trial).on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the first waiting trial, in the plan's order, for which no worker is starting.

        Tune gives a free worker to the trial returned here and drops the worker requested for it.
        If that one were just starting on a new machine, trials shorter than a start would keep the
        new machine idle forever.
        """
        waiting = (t for t in tune_controller.get_live_trials() if t.status == Trial.PENDING)
        ordered = sorted(waiting, key=lambda trial: trial.config["position"])
        return next((t for t in ordered if not has_worker_coming(tune_controller, t)), None)

    def debug_string(self) -> str:
        return "\n".join(f"{cell}: {a.debug_string()}" for cell, a in self._cells.items())


def _is_repeat(trial: Trial) -> bool:
    return bool(trial.config.get("is_repeat"))


def cell_of(trial: Trial) -> str:
    return str(trial.config["trial"].cell.cell_id)
