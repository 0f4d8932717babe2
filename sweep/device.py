"""The processor that trains: its name, its memory, and the number format it is fast in."""

import platform
import resource
import sys
import time

import torch
from torch import nn

BFLOAT16_GAIN = 1.2
"""bfloat16 must be this much faster on a CPU, or its lower precision is not worth it."""

MEMORY_SIGNS = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What PyTorch's allocators and CUDA's libraries say where they raise a plain RuntimeError."""


def choose_dtype(requested: str, device: torch.device, width: int) -> torch.dtype:
    """Return the number format for the base model's weights.

    ``auto`` means bfloat16 on a GPU that has it; on a CPU whichever is faster for matrices of
    this model's width, measured here, since small ones gain nothing.
    """
    if requested != "auto":
        return torch.bfloat16 if requested == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    seconds = {dtype: _time_matmul(dtype, width) for dtype in (torch.float32, torch.bfloat16)}
    gain = seconds[torch.float32] / seconds[torch.bfloat16]
    return torch.bfloat16 if gain >= BFLOAT16_GAIN else torch.float32


def _time_matmul(dtype: torch.dtype, width: int, tokens: int = 256) -> float:
    """Return the best of five times, in seconds, of a feed-forward-sized matrix product."""
    x = torch.ones(tokens, width, dtype=torch.float32)
    weight = torch.ones(4 * width, width, dtype=dtype)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        # The conversion of activations is part of what bfloat16 costs.
        nn.functional.linear(x.to(dtype), weight).float()
        best = min(best, time.perf_counter() - start)
    return best


def name_device(device: torch.device) -> str:
    """Return the processor's name, for the results table."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def is_out_of_memory(error: Exception) -> bool:
    """Return whether ``error`` says that a GPU or this machine has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in MEMORY_SIGNS)


def measure_peak_memory(device: torch.device) -> int:
    """Return the most bytes held so far: allocated on a GPU (since the trial began), resident
    in this process on a CPU (since the worker began)."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
