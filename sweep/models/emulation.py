"""What a CPU or a GPU would do to a pass that runs on PyTorch's meta device: number formats,
attention, dropout. Only what a pass keeps in memory is imitated, since there are no values."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map
from transformers import AttentionInterface

from sweep.models.facts import TrialLoad
from sweep.models.flat.attention import Rules, compose, composes

# The name under which transformers' models find the attention of `Emulation`.
ATTENTION = "sweep_emulated"

# What autocast computes in 16 bits and, on a GPU, in float32 (PyTorch's ATen/autocast_mode.h), but
# for losses, images and recurrent layers, which no pass of a classifier has.
NARROW_NAMES = (
    "linear", "conv1d", "conv2d", "conv3d", "prelu", "matmul", "__matmul__", "__rmatmul__", "bmm",
    "mm", "mv", "addmm", "addmv", "addr", "addbmm", "baddbmm", "einsum", "chain_matmul",
)  # fmt: skip
WIDE_NAMES = (
    "acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal",
    "rsqrt", "sinh", "tan", "pow", "__pow__", "__rpow__", "softplus", "layer_norm",
    "native_layer_norm", "rms_norm", "group_norm", "cosine_similarity", "dist", "pdist", "cdist",
    "renorm", "logsumexp", "prod", "softmax", "log_softmax", "cumprod", "cumsum", "vector_norm",
    "matrix_norm", "sum", "norm", "normalize",
)  # fmt: skip


def _find_operations(names: Collection[str]) -> set[Any]:
    """Return PyTorch's functions and methods of these ``names``."""
    spaces = (torch, functional, torch.Tensor, torch.linalg)
    return {getattr(space, name) for space in spaces for name in names if hasattr(space, name)}


NARROW, WIDE = _find_operations(NARROW_NAMES), _find_operations(WIDE_NAMES)
# What passes ask of values, and what they are told: as if nothing were hidden, marked or found.
ASKED = {
    torch.Tensor.item: 0,
    torch.Tensor.__bool__: False,
    torch.Tensor.__int__: 0,
    torch.Tensor.__float__: 0.0,
}

Operation = Callable[..., Any]


class Emulation(TorchFunctionMode):
    """A context in which passes on the meta device keep what they would keep elsewhere.

    ``padded`` says whether the pass is given an attention mask. Afterwards, ``copies`` are the
    16-bit copies of weights that the pass made, and ``attention_flops`` the operations of fused
    attention, which no counter sees.
    """

    def __init__(self, load: TrialLoad, padded: bool) -> None:
        super().__init__()
        self._on_gpu = load.on_gpu
        self._dtype: torch.dtype = getattr(torch, load.dtype)
        self._padded = padded
        self._composes = composes_attention(load)
        self.copies: dict[nn.Parameter, torch.Tensor] = {}
        self.attention_flops = 0

    def __enter__(self) -> Self:
        AttentionInterface.register(ATTENTION, self._attend)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_function__(
        self,
        func: Operation,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func in ASKED and args[0].is_meta:
            return ASKED[func]
        if func is torch._grouped_mm:
            # Each row is multiplied with one of a stack of matrices, whichever.
            return self.__torch_function__(torch.matmul, types, (args[0], args[1][0]))
        if func is functional.scaled_dot_product_attention:
            return self._mix_rectangles(*_read_attention(*args, **options))
        if func is functional.dropout and self._on_gpu:
            return _drop_on_gpu(*args, **options)
        if self._narrows() and func in NARROW:
            args, options = tree_map(self._narrow, (args, options))
        elif self._narrows() and self._on_gpu and func in WIDE:
            args, options = tree_map(_widen, (args, options))
        return func(*args, **options)

    def _narrows(self) -> bool:
        return self._dtype != torch.float32

    def _narrow(self, value: Any) -> Any:
        if not (isinstance(value, torch.Tensor) and value.dtype == torch.float32):
            return value
        if not isinstance(value, nn.Parameter):
            return value.to(self._dtype)
        if value not in self.copies:  # autocast, too, remembers them until the pass ends
            self.copies[value] = value.to(self._dtype)
        return self.copies[value]

    def _attend(
        self,
        module: nn.Module,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        *args: Any,
        dropout: float = 0.0,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        """Return the output (texts, tokens, heads, size) of ``queries``, ``keys`` and ``values``
        (texts, heads, tokens, size)."""
        heads = queries.shape[1] // keys.shape[1]
        if heads > 1 and (self._padded or self._composes):
            # With a mask, transformers copies keys and values for each head of the queries.
            keys, values = (x.repeat_interleave(heads, 1) for x in (keys, values))
        mix = _compose if self._composes else self._mix
        return mix(queries, keys, values, dropout).transpose(1, 2).contiguous(), None

    def _mix_rectangles(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, dropout: float
    ) -> torch.Tensor:
        """Attend as a pass without transformers' attention does (see `attend_rectangle`)."""
        if not composes(queries.dtype, not self._on_gpu, keys.shape[2]):
            return self._mix(queries, keys, values, dropout)
        # What is hidden makes no difference, but that something is, where all tokens are queries.
        causal = queries.shape[2] == keys.shape[2]
        rules = Rules(queries.shape[-1] ** -0.5, causal, dropout=dropout)
        mixed = compose(
            queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), None, rules
        )
        return mixed.view(*mixed.shape[:2], queries.shape[1], -1).transpose(1, 2)

    def _mix(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, dropout: float
    ) -> torch.Tensor:
        """Attend as PyTorch does; all are (texts, heads, tokens, size)."""
        if self._narrows():
            queries, keys, values = map(self._narrow, (queries, keys, values))
        if dropout and not self._on_gpu:
            # No kernel for CPUs drops scores; PyTorch then composes attention of operations.
            return functional.scaled_dot_product_attention(queries, keys, values, None, dropout)
        self.attention_flops += 4 * queries.numel() * keys.shape[2]
        mixed: torch.Tensor = _Fused.apply(queries, keys, values, self._padded)  # type: ignore[no-untyped-call]
        return mixed


def composes_attention(load: TrialLoad) -> bool:
    """Return whether training would choose eager attention (see `device.choose_attention`)."""
    stored = load.method == "lora"
    return stored and composes(getattr(torch, load.dtype), not load.on_gpu, load.longest)


def _compose(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, dropout: float
) -> torch.Tensor:
    """Attend by separate operations, as transformers' eager attention does."""
    scores = torch.matmul(queries, keys.transpose(2, 3)) * queries.shape[-1] ** -0.5
    weights = functional.softmax(scores, dim=-1, dtype=torch.float32).to(queries.dtype)
    weights = functional.dropout(weights, dropout)
    return torch.matmul(weights, values)


class _Fused(torch.autograd.Function):
    """A fused kernel, which keeps no scores, but queries, keys, values and output, the norm of each
    query's scores, and the mask as numbers."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, padded: bool
    ) -> torch.Tensor:
        texts, heads, tokens, size = queries.shape
        if values.shape[-1] == size:
            mixed = torch.empty_like(queries)  # in the order of dimensions that the queries have
        else:
            mixed = queries.new_empty(texts, heads, tokens, values.shape[-1])
        norms = queries.new_empty(texts, heads, tokens, dtype=torch.float32)
        mask = queries.new_empty(texts, 1, tokens, keys.shape[2]) if padded else None
        ctx.save_for_backward(queries, keys, values, mixed, norms, mask)
        return mixed


def _read_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    """Return what matters of the arguments of PyTorch's attention."""
    return query, key, value, dropout_p


def _drop_on_gpu(
    x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> torch.Tensor:
    # Keeps a byte per value, where a CPU keeps a number.
    dropped: torch.Tensor = torch.native_dropout(x, p, training)[0] if training and p else x
    return dropped


def _widen(value: Any) -> Any:
    narrow = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if narrow else value
