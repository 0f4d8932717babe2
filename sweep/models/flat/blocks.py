"""What passes over flat rows have in common."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from sweep.models.flat.texts import FlatTexts

# From texts to logits (texts, classes).
FlatForward = Callable[[FlatTexts], torch.Tensor]


def run_block(run: Callable[..., torch.Tensor], block: Any, *arguments: Any) -> torch.Tensor:
    """Return ``run(block, *arguments)``, whose activations are computed again in the backward pass
    if the block is set to that."""
    # The model's own property goes through all modules: with adapters, 2 ms in MiniLM-L6 and 10 in
    # SmolLM2 135M, each time.
    if block.gradient_checkpointing and torch.is_grad_enabled():
        found: torch.Tensor = checkpoint(run, block, *arguments, use_reentrant=False)
        return found
    return run(block, *arguments)
