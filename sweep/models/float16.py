"""Models stored in float16, for GPUs that multiply its matrices fast but have no bfloat16."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel


def store_in_float16(model: PreTrainedModel) -> None:
    """Store the matrices of ``model`` in float16, in place.

    Norms, buffers and what blocks add up stay float32, as in mixed precision by autocast
    (Micikevicius et al. 2018, arXiv:1710.03740), which the model needs from then on: float16 ends
    at 65,504, and the sums exceed it. In Gemma 3 270M they reach 104,000 with everyday texts, and
    in SmolLM2 135M 26,000.
    """
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False)).values()
        dtype = torch.float16 if any(each.dim() > 1 for each in own) else torch.float32
        for each in own:
            each.data = each.data.to(dtype)
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_floating_point():
                setattr(module, name, buffer.float())
    # Blocks add in the type of their input.
    model.get_input_embeddings().register_forward_hook(_widen)


def _widen(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return output.float()


def is_autocast_to_float16(device: torch.device) -> bool:
    return torch.is_autocast_enabled(device.type) and (
        torch.get_autocast_dtype(device.type) == torch.float16
    )


class Head(nn.Linear):
    """A classification head that computes in float32 where all else is autocast to float16.

    There its gradient would be the first to exceed the range: it sums the largest gradients of a
    pass, those of the logits, over the texts.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not is_autocast_to_float16(x.device):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())
