"""Passes of decoders whose blocks are compiled by `torch.compile`, but for their attention and for
the last block, which works at one token of each text.

Only two functions are compiled, once each for training and for scoring (`regions`), so the time
that it takes does not grow with layers or trials. A trial's weights are looked up when its pass is
built: build it once the trial is attached.
"""

from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sweep.models.flat.attention import Rules, attend
from sweep.models.flat.blocks import FlatForward
from sweep.models.flat.decoders import FLAT_DECODERS, BlockPass, rules_of, rules_of_gpt2
from sweep.models.flat.regions import ACTIVATIONS, Entry, Exit, Linear, Lora, Norm, enter, leave
from sweep.models.flat.rotary import Rotation
from sweep.models.flat.texts import FlatTexts
from sweep.models.fused import NORMS, FastLinear

# With one token, or one text, sizes would be taken as fixed.
LEAST_TOKENS = 2


class UnfitError(Exception):
    """A model's blocks, or a trial's adapters, cannot be compiled; the message says why."""


class Compiler:
    """The compiled functions of a process; ``backend`` is that of ``torch.compile``."""

    def __init__(self, backend: str | Callable[..., Any] = "inductor") -> None:
        _settle()
        options: dict[str, Any] = {"backend": backend, "fullgraph": True}
        self._enter: Any = torch.compile(enter, **options)
        self._leave: Any = torch.compile(leave, **options)

    def build(self, model: PreTrainedModel, plain: FlatForward) -> FlatForward:
        """Return the pass of ``model``, whose flat pass is ``plain``, with compiled blocks.

        Raises UnfitError if a layer is none that `regions` knows, or draws random numbers.
        """
        if torch._dynamo.config.disable:
            raise UnfitError("torch.compile is switched off; unset TORCHDYNAMO_DISABLE")
        kind = model.config.model_type
        passes = [self._build_block(*parts) for parts in _READERS[kind](model)]
        if not passes:
            raise UnfitError("the model has one block only, the last, which is never compiled")
        compiled = FLAT_DECODERS[kind](model, passes)
        return lambda texts: (compiled if texts.tokens >= LEAST_TOKENS else plain)(texts)

    def _build_block(self, entry: Entry, exit_: Exit, rules: Callable[[], Rules]) -> BlockPass:
        for layer in (*entry.projections, exit_.out, exit_.gate, exit_.up, exit_.down):
            _mark_ranks(layer)

        def run(
            _: Any, hidden: torch.Tensor, texts: FlatTexts, rotation: Rotation | None
        ) -> torch.Tensor:
            if torch.is_grad_enabled() and not hidden.requires_grad:
                # Frozen embeddings: the first block would have to be compiled once more.
                hidden = hidden.detach().requires_grad_()
            _mark_rows(hidden, *(rotation or ()))
            queries, keys, values = self._enter(hidden, rotation, entry)
            mixed = attend(queries, keys, values, texts, rules())
            _mark_rows(hidden, mixed)
            result: torch.Tensor = self._leave(hidden, mixed, exit_)
            return result

        return run


def count_graphs() -> int:
    """Return how many graphs this process has compiled since it last forgot them."""
    return int(_read_counters()["stats"]["unique_graphs"])


def forget_compiled() -> None:
    """Drop all compiled code of this process; what is on disk stays."""
    torch._dynamo.reset()
    _read_counters().clear()


def _read_counters() -> Any:
    from torch._dynamo.utils import counters

    return counters


def _settle() -> None:
    import torch._dynamo.config
    import torch._inductor.config

    # Otherwise each rank of an adapter would be compiled for itself.
    torch._dynamo.config.force_parameter_static_shapes = False
    # By default there is a process for each core of the machine, whatever this process's share.
    torch._inductor.config.compile_threads = torch.get_num_threads()


def _mark_ranks(layer: Linear | None) -> None:
    if layer is not None and layer.lora is not None:
        torch._dynamo.maybe_mark_dynamic(layer.lora.a, 0)
        torch._dynamo.maybe_mark_dynamic(layer.lora.b, 1)


def _mark_rows(*tensors: torch.Tensor) -> None:
    for tensor in tensors:
        torch._dynamo.maybe_mark_dynamic(tensor, 0)


# What a block is made of, and the rules of its attention.
Parts = tuple[Entry, Exit, Callable[[], Rules]]


def _read_gated(model: Any) -> list[Parts]:
    return [_read_gated_block(block, model.config) for block in model.model.layers[:-1]]


def _read_gated_block(block: Any, config: Any) -> Parts:
    attention, mlp = block.self_attn, block.mlp
    normed = hasattr(attention, "q_norm")
    entry = Entry(
        _read_rms(block.input_layernorm),
        tuple(_read_linear(getattr(attention, f"{name}_proj")) for name in "qkv"),
        attention.head_dim,
        (_read_rms(attention.q_norm), _read_rms(attention.k_norm)) if normed else None,
    )
    sandwiched = hasattr(block, "pre_feedforward_layernorm")
    after = block.post_attention_layernorm
    exit_ = Exit(
        _read_linear(attention.o_proj),
        _read_rms(block.pre_feedforward_layernorm if sandwiched else after),
        _read_linear(mlp.up_proj),
        _read_linear(mlp.down_proj),
        _read_activation(config, "hidden_activation" if sandwiched else "hidden_act"),
        _read_linear(mlp.gate_proj),
        _read_rms(after) if sandwiched else None,
        _read_rms(block.post_feedforward_layernorm) if sandwiched else None,
    )
    return entry, exit_, lambda: rules_of(attention)


def _read_gpt2(model: Any) -> list[Parts]:
    return [_read_gpt2_block(block, model.config) for block in model.transformer.h[:-1]]


def _read_gpt2_block(block: Any, config: Any) -> Parts:
    attention, mlp = block.attn, block.mlp
    if attention.resid_dropout.p or mlp.dropout.p:
        raise UnfitError("the model has dropout between its layers, which would draw other masks")
    entry = Entry(
        _read_layer_norm(block.ln_1), (_read_linear(attention.c_attn),), attention.head_dim
    )
    exit_ = Exit(
        _read_linear(attention.c_proj),
        _read_layer_norm(block.ln_2),
        _read_linear(mlp.c_fc),
        _read_linear(mlp.c_proj),
        _read_activation(config, "activation_function"),
    )
    return entry, exit_, lambda: rules_of_gpt2(attention)


_READERS: dict[str, Callable[[Any], list[Parts]]] = {
    "llama": _read_gated,
    "qwen2": _read_gated,
    "gemma3_text": _read_gated,
    "gpt2": _read_gpt2,
}
# Whose blocks can be compiled, by transformers' ``model_type``.
KINDS = tuple(_READERS)


def _read_activation(config: Any, key: str) -> str:
    name = str(getattr(config, key, None))
    if name not in ACTIVATIONS:
        raise UnfitError(f"the activation function {name} is none of {', '.join(ACTIVATIONS)}")
    return name


def _read_rms(norm: Any) -> Norm:
    known = NORMS.get(type(norm).__name__)
    if known is None:
        raise UnfitError(f"{type(norm).__name__} is no norm that is known")
    name, offset = known
    return Norm(norm.weight, None, float(getattr(norm, name)), offset)


def _read_layer_norm(norm: Any) -> Norm:
    if type(norm) is not nn.LayerNorm or norm.bias is None:
        raise UnfitError(f"{type(norm).__name__} is no norm that is known")
    return Norm(norm.weight, norm.bias, norm.eps)


def _read_linear(layer: Any) -> Linear:
    if type(layer) in (nn.Linear, Conv1D):
        return Linear(layer.weight, layer.bias, isinstance(layer, Conv1D))
    if not isinstance(layer, LoraLayer):
        raise UnfitError(f"{type(layer).__name__} is no layer that can be compiled")
    if type(layer) is not FastLinear or (adapter := layer.find_adapter()) is None:
        raise UnfitError("an adapter is not plain LoRA")
    if not isinstance(layer.lora_dropout[adapter], nn.Identity):
        raise UnfitError("LoRA dropout would draw other masks")
    a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    lora = Lora(a, b, torch.full((), layer.scaling[adapter], device=a.device))
    return _read_linear(layer.base_layer)._replace(lora=lora)
