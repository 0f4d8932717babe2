"""Lost workers: what Ray says of them, in a form that Tune can deal with."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.experiment import Trial

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
