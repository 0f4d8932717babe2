"""The optimizer of all slots at once, in plain PyTorch: it takes the place of the GPU's kernel."""

import torch

from sweep.training.optimizer import BETAS, EPSILON


def update_rows(
    weights: torch.Tensor,
    gradients: torch.Tensor,
    means: torch.Tensor,
    squares: torch.Tensor,
    steps: torch.Tensor,
    norms: torch.Tensor,
    settings: torch.Tensor,
    first: int,
    widest: int,
) -> None:
    """Do what ``row_kernel.update_rows`` does."""
    rows = slice(first, first + len(settings))
    used, rate, decay, limit = settings[:, :, None].unbind(1)
    step = steps[rows, None].double() + 1
    parts = [stack[rows, :widest] for stack in (weights, gradients, means, squares)]
    weight, gradient, mean, square = (part.double() for part in parts)
    gradient = gradient * (limit / (norms[:, None] + 1e-6)).clamp(max=1)
    mean = torch.lerp(gradient, mean, BETAS[0])
    square = torch.lerp(gradient.square(), square, BETAS[1])
    scale = ((square / (1 - BETAS[1] ** step)).sqrt() + EPSILON) * (1 - BETAS[0] ** step)
    weight = weight * (1 - rate * decay) - rate * mean / scale
    keep = torch.arange(widest, device=weights.device) < used
    for part, new in zip((parts[0], *parts[2:]), (weight, mean, square), strict=True):
        part.copy_(torch.where(keep, new.float(), part))
