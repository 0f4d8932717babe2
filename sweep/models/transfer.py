"""Copies between this machine's memory and a device that make neither wait."""

import torch


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return ``tensor``, which is on the CPU, on ``device``; nothing waits for the copy.

    Only pinned memory can be copied without waiting; PyTorch keeps it until the copy is done.
    """
    if device.type == "cpu":
        return tensor
    if torch.cuda.is_available():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
