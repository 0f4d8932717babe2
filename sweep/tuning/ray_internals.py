"""Lost workers: what Ray says of them, in a form that Tune can deal with."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler

from sweep.workers.packed_actor import HostLostError

MEMORY_SIGNS = ("running low on memory", "OutOfMemoryError", "(OOM)")
"""What Ray says where its memory monitor has ended a worker."""
HOST_LOST = HostLostError.__name__


@contextmanager
def memory_losses_as_lost_workers() -> Iterator[None]:
    """Let Tune see a worker that Ray's memory monitor ended as a lost worker, inside the block.

    The error it raises for one, OutOfMemoryError, is neither of the two kinds that Tune's actor
    manager knows (Ray 2.60, ``_actor_task_failed``): Tune would end the whole run with
    "Caught unexpected exception", for one trial too large.
    """
    original = RayActorManager._actor_task_failed

    def translate(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=f"OutOfMemoryError: {exception}")
        original(manager, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = translate
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = original


def explain_loss(trial: Trial) -> str:
    """Return what Ray said of the newest loss of the trial's worker, in one line."""
    path = trial.error_file
    if path is None or not Path(path).is_file():
        return ""
    newest = Path(path).read_text(errors="replace").rpartition("Failure # ")[2]
    text = newest.partition("\n")[2]
    # A host's loss comes with the traceback of the trial that asked it, its reason last.
    return " ".join((text.rpartition(f"{HOST_LOST}: ")[2] or text).split())


def is_memory_loss(trial: Trial) -> bool:
    """Return whether Ray's memory monitor ended the trial's worker, its machine being full."""
    return any(sign in explain_loss(trial) for sign in MEMORY_SIGNS)


def has_worker_coming(controller: Any, trial: Trial) -> bool:
    """Return whether a worker of its own is starting for a trial that waits."""
    actor = controller._trial_to_actor.get(trial)
    # Until a place is found for it, a worker is a request like any other.
    return actor is not None and actor in controller._actor_manager.live_actors


def withdraw_requests(controller: Any, position: int) -> None:
    """Take back Tune's requests for the workers of trials after ``position`` in the plan.

    Tune serves requests in the order in which they were made, and asks for a lost trial last: all
    that wait would overtake it, and meet other rungs than in a run without the loss. In its next
    step Tune asks again, first for the trial that ``choose_trial_to_run`` names.
    """
    unserved = set(controller._actor_manager.pending_actors)
    for trial in sorted(controller._staged_trials, key=lambda trial: trial.config["position"]):
        actor = controller._trial_to_actor.get(trial)
        if actor in unserved and trial.config["position"] > position:
            del controller._trial_to_actor[trial], controller._actor_to_trial[actor]
            controller._actor_manager.remove_actor(actor)
            controller._unstage_trial_with_resources(trial)
            controller._pending_trials_list.append(trial)


def find_rung(asha: ASHAScheduler, trial_id: str, epoch: int) -> tuple[float | None, float | None]:
    """Return the rung at which ``asha`` will compare the trial now, and its cutoff."""
    bracket = asha._brackets[0]
    for milestone, recorded in bracket._rungs:
        if epoch >= milestone and trial_id not in recorded:
            cutoff = bracket.cutoff(recorded)
            return float(milestone), None if cutoff is None else float(cutoff)
    return None, None
