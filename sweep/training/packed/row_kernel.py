"""AdamW of all slots that step, in one launch on a GPU. Needs Triton, which comes with PyTorch's
builds for CUDA.

The update is that of ``torch.optim.AdamW(fused=True)`` to rounding. Without it each slot costs a
launch of its own, which is most of what a short row costs.
"""

import math

import torch
import triton
import triton.language as tl

from sweep.training.optimizer import BETAS, EPSILON

# Values that one program updates.
BLOCK = 2048


# Specialized on ``first``, the kernel would be compiled again in the middle of a run. Knowing that
# 16 divides ``width``, Triton would give each thread four neighboring values, but still load them
# one by one, since where a row ends is not known: then a warp's loads are not contiguous.
@triton.jit(do_not_specialize=["first", "width"])  # type: ignore[untyped-decorator]
def adamw_rows(  # type: ignore[no-untyped-def]
    weights,
    gradients,
    means,
    squares,
    steps,
    norms,
    settings,
    first,
    width,
    beta1: tl.constexpr,
    beta2: tl.constexpr,
    log_beta1: tl.constexpr,
    log_beta2: tl.constexpr,
    epsilon: tl.constexpr,
    block: tl.constexpr,
):
    """Update ``block`` values of one slot: its gradient is clipped by its own norm, then decay,
    moments and weights follow its own settings and count of steps."""
    row = tl.program_id(1)
    at = tl.program_id(0) * block + tl.arange(0, block)
    keep = at < tl.load(settings + row * 4).to(tl.int32)
    rate = tl.load(settings + row * 4 + 1)
    decay = (rate * tl.load(settings + row * 4 + 2)).to(tl.float32)
    limit = tl.load(settings + row * 4 + 3).to(tl.float32)
    clip = tl.div_rn(limit, tl.load(norms + row) + 1e-6)
    # Unlike a minimum, this keeps a factor that is not a number.
    clip = tl.where(clip > 1.0, 1.0, clip)
    # In float32, 1 - beta2 ** step would lose four of seven digits at the first step.
    step = tl.load(steps + first + row).to(tl.float64) + 1
    size = (rate / (1 - tl.exp(step * log_beta1))).to(tl.float32)
    spread = tl.sqrt(1 - tl.exp(step * log_beta2)).to(tl.float32)

    # Stacks may hold more values than an int32 counts.
    place = (first + row).to(tl.int64) * width + at
    gradient = tl.load(gradients + place, keep, 0.0) * clip
    weight = tl.load(weights + place, keep, 0.0)
    mean = tl.load(means + place, keep, 0.0)
    square = tl.load(squares + place, keep, 0.0)
    weight -= decay * weight
    mean += (gradient - mean) * (1 - beta1)
    square += (gradient * gradient - square) * (1 - beta2)
    weight -= size * tl.div_rn(mean, tl.div_rn(tl.sqrt_rn(square), spread) + epsilon)
    tl.store(weights + place, weight, keep)
    tl.store(means + place, mean, keep)
    tl.store(squares + place, square, keep)


CONSTANTS = {
    "beta1": BETAS[0],
    "beta2": BETAS[1],
    "log_beta1": math.log(BETAS[0]),
    "log_beta2": math.log(BETAS[1]),
    "epsilon": EPSILON,
    "block": BLOCK,
}


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
    """Update the rows from ``first`` on of four stacks (slots, width), by the ``norms`` (rows,) of
    their gradients and the ``settings`` (rows, 4) in float64: how many values a row uses, at most
    the ``widest``, or 0 if it takes no step; learning rate, weight decay, largest norm.

    ``steps`` (slots,) are those taken before. Nothing else is read or written, and nothing waits.
    """
    grid = (triton.cdiv(widest, BLOCK), len(settings))
    stacks = (weights, gradients, means, squares)
    # Triton launches on the current device, whatever the tensors are on.
    with torch.accelerator.device_index(weights.device.index):
        adamw_rows[grid](*stacks, steps, norms, settings, first, weights.shape[1], **CONSTANTS)
