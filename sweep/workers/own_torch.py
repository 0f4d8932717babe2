"""PyTorch as a process that trains takes it up."""

import os

from sweep.cluster.visible_gpus import VARIABLE
from sweep.workers.lost_gpu import GpuLostError


def prepare_torch(threads: int) -> None:
    """Import PyTorch to train on ``threads`` CPU threads, and on the GPUs that this process sees.

    Raises GpuLostError if it sees some and none of them works: it would train on the CPU, slowly,
    while it holds the GPU.
    """
    # From 2.13 on it builds some kernels for GPUs with a C compiler, which a machine may lack.
    os.environ.setdefault("TORCH_DISABLE_NATIVE_JIT", "1")
    import torch

    torch.set_num_threads(max(1, threads))
    assigned = os.environ.get(VARIABLE, "")
    # A build without CUDA would not have planned for GPUs, but in tests that only count them.
    if assigned and torch.version.cuda is not None and not torch.cuda.is_available():
        raise GpuLostError(
            f"GPU {assigned} was assigned to this process, but PyTorch cannot use it; look at it "
            "with nvidia-smi, and restart the node if it does not answer"
        )
