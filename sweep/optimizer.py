"""AdamW with its schedule, and its state as plain tensors; for one trial, or for a stack."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.adamw import adamw

from sweep.checkpoints import Tensors
from sweep.plan import Candidate
from sweep.stacks import Stacks

BETAS = (0.9, 0.999)
EPSILON = 1e-8
"""PyTorch's defaults, which are Kingma and Ba's (2014, arXiv:1412.6980)."""


@dataclass(frozen=True)
class RowStep:
    """One trial's settings of one step."""

    learning_rate: float
    weight_decay: float
    max_grad_norm: float


def build_optimizer(parameters: Iterable[nn.Parameter], candidate: Candidate) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) over the trainable ones."""
    return torch.optim.AdamW(
        [parameter for parameter in parameters if parameter.requires_grad],
        lr=candidate.learning_rate,
        betas=BETAS,
        eps=EPSILON,
        weight_decay=candidate.weight_decay,
        fused=True,
    )


def schedule(step: int, total_steps: int, warmup_ratio: float) -> float:
    """Return the factor on the peak learning rate: linear from 0 up, then linear down to 0.

    The same as ``transformers.get_linear_schedule_with_warmup``, shifted by one step so that no
    step has rate 0.
    """
    warmup = round(total_steps * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    return (total_steps - step) / max(1, total_steps - warmup)


def flatten_moments(
    named: list[tuple[str, nn.Parameter]], optimizer: torch.optim.Optimizer
) -> Tensors:
    """Return AdamW's state as flat tensors named ``PARAMETER/KEY``."""
    return {
        f"{name}/{key}": torch.as_tensor(value)
        for name, parameter in named
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_moments(
    named: list[tuple[str, nn.Parameter]],
    optimizer: torch.optim.Optimizer,
    flat: Mapping[str, torch.Tensor],
) -> None:
    """Give ``optimizer`` the state that ``flatten_moments`` returned."""
    for name, parameter in named:
        for key in ("step", "exp_avg", "exp_avg_sq"):
            value = flat.get(f"{name}/{key}")
            if value is not None:
                optimizer.state[parameter][key] = value.to(parameter.device, copy=True)


def step_rows(stacks: Stacks, steps: Mapping[int, RowStep]) -> None:
    """Take one step of AdamW in each row of ``steps``; all gradients are spent.

    Each row's gradient is clipped by its own norm, as ``clip_grad_norm_`` does; the update is the
    fused one of ``torch.optim.AdamW``, a row at a time, so rows that are not named stay as they
    are to the bit.
    """
    limits = torch.full((len(stacks.weights), 1), math.inf)
    for row, step in steps.items():
        limits[row] = step.max_grad_norm
    norms = torch.linalg.vector_norm(stacks.gradients, dim=1, keepdim=True)
    factors = limits.to(stacks.device, non_blocking=True) / (norms + 1e-6)
    stacks.gradients.mul_(factors.clamp_(max=1.0))
    for row, step in steps.items():
        adamw(
            [stacks.weights[row]],
            [stacks.gradients[row]],
            [stacks.means[row]],
            [stacks.squares[row]],
            [],
            [stacks.steps[row]],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=step.learning_rate,
            weight_decay=step.weight_decay,
            eps=EPSILON,
            maximize=False,
        )
