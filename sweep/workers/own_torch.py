"""PyTorch as a process that trains takes it up."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from sweep.cluster.visible_gpus import VARIABLE
from sweep.workers.lost_gpu import GpuLostError

# Where compiled code is kept for later processes of this machine.
CACHE = "TORCHINDUCTOR_CACHE_DIR"


def prepare_torch(threads: int) -> None:
    """Import PyTorch to train on ``threads`` CPU threads, and on the GPUs that this process sees.

    Raises GpuLostError if it sees some and none of them works: it would train on the CPU, slowly,
    while it holds the GPU.
    """
    # From 2.13 on it builds some kernels for GPUs with a C compiler, which a machine may lack.
    os.environ.setdefault("TORCH_DISABLE_NATIVE_JIT", "1")
    if CACHE not in os.environ:
        # PyTorch would set its own as it is imported.
        os.environ[CACHE] = str(find_cache())
    import torch

    torch.set_num_threads(max(1, threads))
    assigned = os.environ.get(VARIABLE, "")
    # A build without CUDA would not have planned for GPUs, but in tests that only count them.
    if assigned and torch.version.cuda is not None and not torch.cuda.is_available():
        raise GpuLostError(
            f"GPU {assigned} was assigned to this process, but PyTorch cannot use it; look at it "
            "with nvidia-smi, and restart the node if it does not answer"
        )


def find_cache() -> Path:
    """Return a folder for compiled code that only this user can write to: what is in it runs.

    It is on this machine, because code is made for its processor, and where PyTorch's own would be,
    but that may have been made by another user, as it goes by the user's name alone.
    """
    folder = Path(tempfile.gettempdir()) / f"sweep-compiled-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    own = found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode)
    if own and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return folder
    return Path(tempfile.mkdtemp(prefix="sweep-compiled-"))
