"""Lost workers: what Ray says about them."""

from pathlib import Path

from ray.tune.experiment import Trial

from sweep.workers.packed_actor import HostLostError

# What Ray says if its memory monitor killed a worker.
MEMORY_SIGNS = ("running low on memory", "OutOfMemoryError", "(OOM)")
HOST_LOST = HostLostError.__name__


def explain_loss(trial: Trial) -> str:
    """Return what Ray said about the latest loss of the trial's worker, in one line."""
    path = trial.error_file
    if path is None or not Path(path).is_file():
        return ""
    newest = Path(path).read_text(errors="replace").rpartition("Failure # ")[2]
    text = newest.partition("\n")[2]
    # A host's loss comes with the traceback of the trial that called it, its reason last.
    return " ".join((text.rpartition(f"{HOST_LOST}: ")[2] or text).split())


def is_memory_loss(trial: Trial) -> bool:
    """Return whether Ray's memory monitor killed the trial's worker because memory was full."""
    return any(sign in explain_loss(trial) for sign in MEMORY_SIGNS)
