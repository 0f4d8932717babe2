"""Copies between the CPU and a GPU for which neither waits, but where a value is needed."""

from collections.abc import Sequence

import torch


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return ``tensor``, which is on the CPU, on ``device``. The CPU goes on at once: a GPU copies
    from pinned memory by itself, before the work that it is given later."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def start_reading(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return copies of the tensors on the CPU, in pinned memory that a GPU has yet to fill."""
    return [tensor.detach().to("cpu", non_blocking=True) for tensor in tensors]


def read(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensors on the CPU. On a GPU this waits, once, until its work is done."""
    copies = start_reading(tensors)
    if any(tensor.is_cuda for tensor in tensors):
        torch.cuda.current_stream(tensors[0].device).synchronize()
    return copies
