"""How a trial's failure is reported: as a result that ends it, not as an error to Ray Tune, unless
its process is of no further use."""

import platform
import traceback

from sweep.errors import StorageError, SweepError, first_line
from sweep.models.device import is_gpu_lost, is_out_of_memory, lacks_kernels
from sweep.storage.events import EpochResult, TrialStatus, end_trial
from sweep.storage.journal import FREE_SPACE
from sweep.training.checkpoint import is_storage_full
from sweep.workers.lost_gpu import GpuLostError

OTHER_BUILD = (
    "install a PyTorch build for this GPU's compute capability, which 'nvidia-smi "
    "--query-gpu=compute_cap --format=csv' prints"
)


def explain_failure(error: Exception) -> EpochResult:
    """Return the last result of a trial that raised ``error``; ``halt`` in it ends the run.

    Raises GpuLostError if the trial has to restart in another process.
    """
    reason = explain_gpu_loss(error)
    if reason:
        raise GpuLostError(reason) from None
    message = str(error).strip() or type(error).__name__
    if is_out_of_memory(error):
        return end_trial(TrialStatus.OUT_OF_MEMORY, message.splitlines()[0][:300])
    if is_storage_full(error):
        # Every trial would fail this way, and none is at fault: the run has to end.
        text = f"no space is left on {platform.node()} ({message}); {FREE_SPACE}"
        return {"done": True, "halt": text}
    if isinstance(error, StorageError):
        return {"done": True, "halt": f"{message}, then continue with --resume"}
    if isinstance(error, SweepError):
        return end_trial(TrialStatus.FAILED, message)
    if lacks_kernels(error):
        return end_trial(TrialStatus.FAILED, f"{first_line(error)}; {OTHER_BUILD}")
    trace = "".join(traceback.format_exception(error))
    return end_trial(TrialStatus.FAILED, f"{type(error).__name__}: {message}", trace)


def explain_gpu_loss(error: Exception) -> str | None:
    """Return why this process has to end, in one sentence, if ``error`` is a CUDA error after which
    it cannot use its GPU; else None."""
    if not is_gpu_lost(error):
        return None
    return (
        f"{first_line(error)}: after it a process cannot use its GPU, so this one has ended; if it "
        "comes again, look for faults with 'nvidia-smi -q'"
    )
