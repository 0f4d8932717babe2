"""LoRA layers (Hu et al. 2021, arXiv:2106.09685) and RMS norms, each fused into one autograd
function, with as few operations as possible and in their fastest order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import nn
from transformers.pytorch_utils import Conv1D


@dataclass(frozen=True)
class Part:
    """Rows of a batch that pass the same adapter, or equally many for each of some.

    A is (rank, inputs) and B^T (rank, outputs), or (adapters, ...) of several, whose rows are each
    adapter's in turn. ``scaling`` is a number, or (adapters, 1, 1). Gradients are added to
    ``a_gradient`` and ``b_gradient`` or, if these are ``fresh``, replace what is there.

    Subclasses multiply in other ways.
    """

    rows: slice
    a: torch.Tensor
    b: torch.Tensor
    scaling: float | torch.Tensor
    a_gradient: torch.Tensor
    b_gradient: torch.Tensor
    fresh: bool = False

    @property
    def keeps_b(self) -> bool:
        """Whether B^T is kept for the gradients, rather than prepared once more."""
        return True

    def prepare_a(self, dtype: torch.dtype) -> torch.Tensor:
        """Return A in ``dtype``, as the other methods take it."""
        return self.a.to(dtype)

    def prepare_b(self, dtype: torch.dtype) -> torch.Tensor:
        """Return B^T in ``dtype``, as the other methods take it."""
        return self.b.to(dtype)

    def cut(self, x: torch.Tensor) -> torch.Tensor:
        """Return the rows of ``x`` (rows, values), as (adapters, rows, values) for several."""
        rows = x[self.rows]
        return rows if self.a.dim() == 2 else rows.view(len(self.a), -1, x.shape[-1])

    def cut_gradient(self, x: torch.Tensor) -> torch.Tensor:
        """Return the same of a gradient, where no row may count twice."""
        return self.cut(x)

    def narrow(self, rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        """Return ``rows``, which were cut, times A or B^T, transposed."""
        # On one core with 265 rows of 192, (M x^T)^T takes 19 us and x M^T 61.
        return (matrix @ rows.mT).mT

    def widen(self, total: torch.Tensor, low: torch.Tensor, matrix: torch.Tensor) -> None:
        """Add ``low``, which `narrow` returned, times the other matrix to ``total``."""
        _add_product(self.cut(total), low, matrix, self.scaling)

    def collect(self, low: torch.Tensor, rows: torch.Tensor, of_b: bool) -> None:
        """Add the sum of ``low`` times ``rows``, which were cut, to a gradient."""
        gradient = self.b_gradient if of_b else self.a_gradient
        _add_product(gradient, low.mT, rows, self.scaling, self.fresh)


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


class Frozen(NamedTuple):
    """A linear layer that is not trained: weight (outputs, inputs) and bias (outputs,)."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    @classmethod
    def of(cls, base: Any) -> "Frozen":
        """Read ``base``, an ``nn.Linear`` or a ``Conv1D``."""
        return cls(base.weight.t() if isinstance(base, Conv1D) else base.weight, base.bias)


# What is needed again for the gradients: z, the frozen weight and, for each part, z A^T, A and B^T,
# in the weight's type; None for a B^T that is prepared once more.
Saved = tuple[Any, ...]


def adapt_forward(
    frozen: Frozen, x: torch.Tensor, dropped: torch.Tensor | None, parts: Sequence[Part]
) -> tuple[torch.Tensor, Saved]:
    """Return what ``adapt`` does, with the adapters of ``parts``, and what ``adapt_backward``
    needs."""
    weight, dtype = frozen.weight, frozen.weight.dtype
    x = x.to(dtype)
    z = x if dropped is None else dropped.to(dtype)
    result = nn.functional.linear(x, weight, frozen.bias)
    saved: list[torch.Tensor | None] = [z, weight]
    for part in parts:
        a, b = part.prepare_a(dtype), part.prepare_b(dtype)
        low = part.narrow(part.cut(z), a)
        part.widen(result, low, b)
        saved += (low, a, b if part.keeps_b else None)
    return result, tuple(saved)


def adapt_backward(
    saved: Saved,
    gradient: torch.Tensor,
    parts: Sequence[Part],
    types: tuple[torch.dtype, torch.dtype | None],
    needs: tuple[bool, bool],
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Add to the gradients of ``parts``; return those of x and z, in their ``types``, as far as
    ``needs`` says. The type of z is None where it is x."""
    # As separate operations, PyTorch would keep and fill one more tensor of the result's size, cast
    # twice what it needs twice, and multiply thin matrices in a slow order.
    z, weight, *rest = saved
    x_type, dropped_type = types
    gradient = gradient.to(weight.dtype)
    x_gradient = gradient @ weight if needs[0] else None
    z_gradient = x_gradient
    if dropped_type is not None:
        z_gradient = torch.zeros_like(z) if needs[1] else None
    for number, part in enumerate(parts):
        low, a, b = rest[3 * number : 3 * number + 3]
        b = part.prepare_b(weight.dtype) if b is None else b
        own = part.cut_gradient(gradient)
        low_gradient = part.narrow(own, b)
        if z_gradient is not None:
            part.widen(z_gradient, low_gradient, a)
        part.collect(low_gradient, part.cut(z), of_b=False)
        part.collect(low, own, of_b=True)
    x_gradient = None if x_gradient is None else x_gradient.to(x_type)
    if dropped_type is None or z_gradient is None:
        return x_gradient, None
    return x_gradient, z_gradient.to(dropped_type)


def _add_product(
    total: torch.Tensor,
    left: torch.Tensor,
    right: torch.Tensor,
    scaling: float | torch.Tensor,
    fresh: bool = False,
) -> None:
    """Add the product of two matrices, or of two stacks of them, times ``scaling`` to ``total`` in
    place; if that is ``fresh``, put it there."""
    if total.dtype != left.dtype:
        # The factor in the wider type: in float16 the product might exceed the range with it.
        product = left @ right
        if isinstance(scaling, torch.Tensor):
            total.addcmul_(product.to(total.dtype), scaling)
        elif fresh:
            total.copy_(product).mul_(scaling)
        else:
            total.add_(product, alpha=scaling)
        return
    if isinstance(scaling, torch.Tensor):
        left, scaling = left * scaling.to(left.dtype), 1.0
    if total.dim() == 2:
        total.addmm_(left, right, beta=0.0 if fresh else 1.0, alpha=scaling)
    else:
        total.baddbmm_(left, right, beta=0.0 if fresh else 1.0, alpha=scaling)


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
        a, b = a.detach(), b.detach().mT
        ctx.part = Part(slice(None), a, b, scaling, a, b, fresh=True)
        result, saved = adapt_forward(Frozen.of(base), x, dropped, [ctx.part])
        ctx.save_for_backward(*saved)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        part = ctx.part
        a, b = torch.empty_like(part.a), torch.empty_like(part.b)
        if not b.is_cuda:
            # Row by row, whatever the order in B^T: it is filled several times as fast, so that
            # the copy which autograd makes of it is worth it.
            b = part.b.new_empty(part.b.shape)
        parts = [replace(part, a_gradient=a, b_gradient=b)]
        needs = ctx.needs_input_grad[:2]
        x, z = adapt_backward(ctx.saved_tensors, gradient, parts, ctx.types, needs)
        return x, z, a, b.mT, None, None


class FastLinear(PeftLinear):  # type: ignore[misc]
    """PEFT's LoRA layer with a fused forward pass; weights, names and everything else are
    PEFT's."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return (..., outputs) of ``x`` (..., inputs)."""
        name = None if args or kwargs else self.find_adapter()
        if name is None:
            return self._pass_as_peft(x, *args, **kwargs)
        flat = x.reshape(-1, x.shape[-1])
        dropout = self.lora_dropout[name]
        dropping = isinstance(dropout, nn.Dropout) and dropout.training
        a, b, scaling = self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name]
        result = adapt(self.base_layer, flat, a, b, scaling, dropout(flat) if dropping else None)
        return result.view(*x.shape[:-1], -1)

    def find_adapter(self) -> str | None:
        """Return the name of the adapter, if there is one and it is plain LoRA."""
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return None
        (name,) = self.active_adapters
        plain = name in self.lora_A and name not in self.lora_variant and not self.lora_bias[name]
        return name if plain else None

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
    def forward(  # type: ignore[override]
        ctx: Any, x: torch.Tensor, scale: torch.Tensor, epsilon: torch.Tensor
    ) -> torch.Tensor:
        wide = x.float()
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        inverse = torch.addcmul(epsilon, norm, norm, value=1 / x.shape[-1]).rsqrt_()
        ctx.save_for_backward(x, inverse, scale)
        result: torch.Tensor = (wide * inverse).mul_(scale).to(x.dtype)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        x, inverse, scale = ctx.saved_tensors
        wide = x.float()
        gradient = gradient.float() * scale
        along = (gradient * wide).sum(-1, keepdim=True).mul_(inverse.pow(3))
        result = gradient.mul_(inverse).addcmul_(wide, along, value=-1 / x.shape[-1])
        return result.to(x.dtype), None, None


def build_norm(norm: nn.Module, epsilon: float, offset: float) -> Any:
    """Return a fused forward pass for ``norm``, which multiplies by its frozen weight plus
    ``offset``."""
    weight: torch.Tensor = norm.weight  # type: ignore[assignment]
    scale = weight.detach().float() + offset
    added = torch.full((1,), epsilon, device=weight.device)

    def forward(x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = _Normalize.apply(x, scale, added)  # type: ignore[no-untyped-call]
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
