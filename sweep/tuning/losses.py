"""Lost workers: what Ray says about them."""

import re
from pathlib import Path

from ray.tune.experiment import Trial

from sweep.workers.lost_gpu import GpuLostError
from sweep.workers.packed_actor import HostLostError

# What Ray says if its memory monitor killed a worker.
MEMORY_SIGNS = ("running low on memory", "OutOfMemoryError", "(OOM)")
# In a traceback, what comes before the reason that a trial itself gave.
GIVEN = re.compile(rf".*\b({HostLostError.__name__}|{GpuLostError.__name__}): ", re.DOTALL)


def explain_loss(trial: Trial) -> str:
    """Return what Ray said about the latest loss of the trial's worker, in one line."""
    path = trial.error_file
    if path is None or not Path(path).is_file():
        return ""
    newest = Path(path).read_text(errors="replace").rpartition("Failure # ")[2]
    text = newest.partition("\n")[2]
    # The loss of a host or a GPU comes with a traceback, its reason last.
    return " ".join(GIVEN.sub("", text, count=1).split())


def is_memory_loss(trial: Trial) -> bool:
    """Return whether Ray's memory monitor killed the trial's worker because memory was full."""
    return any(sign in explain_loss(trial) for sign in MEMORY_SIGNS)
