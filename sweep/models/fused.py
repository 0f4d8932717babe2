"""LoRA layers (Hu et al. 2021, arXiv:2106.09685) and RMS norms, each fused into one autograd
function, with as few operations as possible and in their fastest order."""

from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import nn
from transformers.pytorch_utils import Conv1D

# What is needed again for the gradients: z, z A^T, the frozen weight, A and B, in its type.
Saved = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
# Types of x and z; that of z is None where it is x.
Types = tuple[torch.dtype, torch.dtype | None]


def adapt(
    base: nn.Module,
    x: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    scaling: float,
    dropped: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return ``base(x) + scaling (z A^T) B^T`` in the type of ``base``'s weight, which is frozen.

    ``base`` is an ``nn.Linear`` or a ``Conv1D``, ``x`` is (rows, inputs), A (rank, inputs) and B
    (outputs, rank). z is ``dropped`` (``x`` after dropout), else ``x``.
    """
    result: torch.Tensor = _Adapt.apply(x, dropped, a, b, base, scaling)  # type: ignore[no-untyped-call]
    return result


def adapt_forward(
    base: nn.Module,
    x: torch.Tensor,
    dropped: torch.Tensor | None,
    a: torch.Tensor,
    b: torch.Tensor,
    scaling: float | torch.Tensor,
) -> tuple[torch.Tensor, Saved]:
    """Return what ``adapt`` does, and what ``adapt_backward`` needs.

    For the adapters of a pack, ``x``, A and B have the slots as their first dimension, and
    ``scaling`` is (slots, 1, 1).
    """
    weight: torch.Tensor = base.weight.t() if isinstance(base, Conv1D) else base.weight  # type: ignore[assignment]
    dtype = weight.dtype
    x, a, b = x.to(dtype), a.to(dtype), b.to(dtype)
    z = x if dropped is None else dropped.to(dtype)
    low = z @ a.mT * scaling
    result = nn.functional.linear(x, weight, base.bias)  # type: ignore[arg-type]
    _add_product(result, low, b.mT)
    return result, (z, low, weight, a, b)


def adapt_backward(
    saved: Saved,
    gradient: torch.Tensor,
    scaling: float | torch.Tensor,
    types: Types,
    needs: tuple[bool, bool],
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor, torch.Tensor]:
    """Return the gradients of x and z, as far as ``needs`` says, and those of A and of B^T in the
    weight's type."""
    # As separate operations, PyTorch would keep and fill one more tensor of the result's size, cast
    # twice what it needs twice, and multiply thin matrices in a slow order: on one core with 265
    # rows of 192, (B^T g^T)^T takes 19 us and g B 61.
    z, low, weight, a, b = saved
    x_type, dropped_type = types
    gradient = gradient.to(weight.dtype)
    low_gradient = b.mT @ gradient.mT * scaling
    a_gradient, b_gradient = low_gradient @ z, low.mT @ gradient
    x_gradient = z_gradient = None
    if needs[0]:
        x_gradient = gradient @ weight
        if dropped_type is None:
            _add_product(x_gradient, low_gradient.mT, a)
        x_gradient = x_gradient.to(x_type)
    if needs[1] and dropped_type is not None:
        z_gradient = (low_gradient.mT @ a).to(dropped_type)
    return x_gradient, z_gradient, a_gradient, b_gradient


class _Adapt(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: torch.Tensor,
        dropped: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        base: nn.Module,
        scaling: float,
    ) -> torch.Tensor:
        ctx.types = (x.dtype, None if dropped is None else dropped.dtype)
        ctx.adapter_types, ctx.scaling = (a.dtype, b.dtype), scaling
        result, saved = adapt_forward(base, x, dropped, a, b, scaling)
        ctx.save_for_backward(*saved)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        x, z, a, b = adapt_backward(
            ctx.saved_tensors, gradient, ctx.scaling, ctx.types, ctx.needs_input_grad[:2]
        )
        a_type, b_type = ctx.adapter_types
        return x, z, a.to(a_type), b.mT.to(b_type), None, None


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """Add the product of two matrices, or of two stacks of them, to ``total`` in place."""
    if total.dim() == 2:
        total.addmm_(left, right)
    else:
        total.baddbmm_(left, right)


class FastLinear(PeftLinear):  # type: ignore[misc]
    """PEFT's LoRA layer with a fused forward pass; weights, names and everything else are
    PEFT's."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return (..., outputs) of ``x`` (..., inputs)."""
        if args or kwargs or self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return self._pass_as_peft(x, *args, **kwargs)
        (name,) = self.active_adapters
        if name not in self.lora_A or name in self.lora_variant or self.lora_bias[name]:
            return self._pass_as_peft(x)
        flat = x.reshape(-1, x.shape[-1])
        dropout = self.lora_dropout[name]
        dropping = isinstance(dropout, nn.Dropout) and dropout.training
        a, b, scaling = self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name]
        result = adapt(self.base_layer, flat, a, b, scaling, dropout(flat) if dropping else None)
        return result.view(*x.shape[:-1], -1)

    def _pass_as_peft(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        result: torch.Tensor = super().forward(x, *args, **kwargs)
        return result


def speed_up(model: PeftModel) -> None:
    """Fuse the LoRA layers of ``model``, except those whose base layer is not plainly linear or
    is trained itself."""
    for module in model.modules():
        if type(module) is PeftLinear:
            base = module.get_base_layer()
            if type(base) in (nn.Linear, Conv1D) and not base.weight.requires_grad:
                module.__class__ = FastLinear


class _Normalize(torch.autograd.Function):
    # Composed of PyTorch's operations, the backward pass takes 15 of the full size; this takes
    # five: on one core, 300 rows of 576 took 320 us forward and backward, and 1,100 composed.

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: torch.Tensor, epsilon: float) -> torch.Tensor:  # type: ignore[override]
        wide = x.float()
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        inverse = norm.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, inverse, scale)
        result: torch.Tensor = (wide * inverse).mul_(scale).to(x.dtype)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        x, inverse, scale = ctx.saved_tensors
        wide = x.float()
        gradient = gradient.float() * scale
        along = (gradient * wide).sum(-1, keepdim=True).mul_(inverse.pow(3)).div_(x.shape[-1])
        return gradient.mul_(inverse).addcmul_(wide, along, value=-1).to(x.dtype), None, None


def build_norm(norm: nn.Module, epsilon: float, offset: float) -> Any:
    """Return a fused forward pass for ``norm``, which multiplies by its frozen weight plus
    ``offset``."""
    weight: torch.Tensor = norm.weight  # type: ignore[assignment]
    scale = weight.detach().float() + offset

    def forward(x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = _Normalize.apply(x, scale, epsilon)  # type: ignore[no-untyped-call]
        return result

    return forward


def speed_up_norms(model: nn.Module) -> None:
    """Replace the forward passes of ``model``'s RMS norms by fused ones. Norms that are trained or
    not in ``NORMS`` stay as they are."""
    for module in model.modules():
        known = NORMS.get(type(module).__name__)
        if known is not None and not module.weight.requires_grad:
            epsilon, offset = known
            module.forward = build_norm(module, getattr(module, epsilon), offset)  # type: ignore[method-assign]


def restore_norms(model: nn.Module) -> None:
    """Give the norms of ``model`` their own ``forward`` back."""
    for module in model.modules():
        if type(module).__name__ in NORMS:
            module.__dict__.pop("forward", None)


# By class name in transformers: the attribute that holds epsilon, and what the norm adds to its
# weight.
NORMS = {
    "LlamaRMSNorm": ("variance_epsilon", 0.0),
    "Qwen2RMSNorm": ("variance_epsilon", 0.0),
    "Gemma3RMSNorm": ("eps", 1.0),
}
