"""AdamW with its schedule, and its state as plain tensors."""

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from sweep.plan import Candidate
from sweep.training.checkpoint import Tensors

# PyTorch's defaults, which are Kingma and Ba's (2014, arXiv:1412.6980).
BETAS = (0.9, 0.999)
EPSILON = 1e-8


def build_optimizer(parameters: Iterable[nn.Parameter], candidate: Candidate) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) over the trainable ones.

    Where all weights are trained, biases and the weights of norms do not decay, as in BERT (Devlin
    et al. 2019, arXiv:1810.04805) and in transformers' Trainer.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [{"params": trained}]
    if candidate.lora is None:
        vectors = [parameter for parameter in trained if parameter.dim() < 2]
        matrices = [parameter for parameter in trained if parameter.dim() >= 2]
        groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]  # type: ignore[dict-item]
    return torch.optim.AdamW(
        groups,
        lr=candidate.learning_rate,
        betas=BETAS,
        eps=EPSILON,
        weight_decay=candidate.weight_decay,
        fused=True,
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def schedule(step: int, total_steps: int, warmup_ratio: float) -> float:
    """Return the factor on the peak learning rate: linear warmup, then linear decay to 0.

    The same as ``transformers.get_linear_schedule_with_warmup``, shifted by one step so that no
    step has a rate of 0.
    """
    warmup = round(total_steps * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    return (total_steps - step) / max(1, total_steps - warmup)


def flatten_adamw_state(
    named: list[tuple[str, nn.Parameter]], optimizer: torch.optim.Optimizer
) -> Tensors:
    """Return AdamW's state as flat tensors named ``PARAMETER/KEY``."""
    return {
        f"{name}/{key}": torch.as_tensor(value)
        for name, parameter in named
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_adamw_state(
    named: list[tuple[str, nn.Parameter]],
    optimizer: torch.optim.Optimizer,
    flat: Mapping[str, torch.Tensor],
) -> None:
    """Load what ``flatten_adamw_state`` returned into ``optimizer``."""
    for name, parameter in named:
        for key in ("step", "exp_avg", "exp_avg_sq"):
            value = flat.get(f"{name}/{key}")
            if value is not None:
                optimizer.state[parameter][key] = value.to(parameter.device, copy=True)
