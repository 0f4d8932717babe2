"""Passes of decoders over flat rows. The class of a text is read at its last token, so the last
block works at that one only.

They call the models' modules, so they use adapters and heads that replace these later.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from sweep.models.flat.attention import Rules, attend, attend_once
from sweep.models.flat.blocks import FlatForward, run_block
from sweep.models.flat.rotary import Rotation, build_rotation, rotate
from sweep.models.flat.texts import FlatTexts

# From a block, its input (tokens, width), the texts and their rotation, if the model has such, to
# its output (tokens, width).
BlockPass = Callable[..., torch.Tensor]


def build_gated(model: Any, passes: Sequence[BlockPass] = ()) -> FlatForward:
    """Return the pass of Llama, Qwen2 or Gemma 3, whose blocks have the same structure; ``passes``
    are those of all blocks but the last, if others than those here."""
    body, config = model.model, model.config
    *blocks, last = body.layers
    passes = passes or [_pass_gated] * len(blocks)
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * len(body.layers)
    rotates_by_kind = config.model_type == "gemma3_text"

    def read(texts: FlatTexts) -> torch.Tensor:
        hidden = body.embed_tokens(texts.ids)
        rotations = {
            kind: build_rotation(
                body.rotary_emb, hidden, texts, *([kind] if rotates_by_kind else [])
            )
            for kind in set(kinds)
        }
        for block, block_pass, kind in zip(blocks, passes, kinds, strict=False):
            hidden = run_block(block_pass, block, hidden, texts, rotations[kind])
        hidden = _end_gated(last, hidden, texts, rotations[kinds[-1]])
        logits: torch.Tensor = model.score(body.norm(hidden))
        return logits

    return read


def _pass_gated(
    block: Any, hidden: torch.Tensor, texts: FlatTexts, rotation: Rotation
) -> torch.Tensor:
    """Return the output (tokens, width) of ``block``."""
    # What attention needs is gone when the rest of the block begins.
    return _finish_gated(block, hidden, _attend_gated(block, hidden, texts, rotation))


def _attend_gated(
    block: Any, hidden: torch.Tensor, texts: FlatTexts, rotation: Rotation
) -> torch.Tensor:
    attention = block.self_attn
    normed = block.input_layernorm(hidden)
    queries, keys, values = _project(attention, normed, normed)
    queries, keys = rotate(queries, rotation), rotate(keys, rotation)
    mixed: torch.Tensor = attention.o_proj(
        attend(queries, keys, values, texts, rules_of(attention))
    )
    return mixed


def _end_gated(
    block: Any, hidden: torch.Tensor, texts: FlatTexts, rotation: Rotation
) -> torch.Tensor:
    """Return the output (texts, width) of ``block`` at the last token of each text."""
    attention, ends = block.self_attn, texts.layout.ends
    normed = block.input_layernorm(hidden)
    at = normed.index_select(0, ends)
    queries, keys, values = _project(attention, at, normed)
    cosines, sines = rotation
    queries = rotate(queries, (cosines.index_select(0, ends), sines.index_select(0, ends)))
    keys = rotate(keys, rotation)
    mixed = attend_once(queries, keys, values, texts, rules_of(attention))
    return _finish_gated(block, hidden.index_select(0, ends), attention.o_proj(mixed))


def _project(
    attention: Any, queried: torch.Tensor, normed: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return queries, keys and values (tokens, heads, size)."""
    first, *others = attention.q_proj, attention.k_proj, attention.v_proj
    if queried is normed:
        flat = project(normed, [first, *others])
    else:
        flat = [first(queried), *project(normed, others)]
    queries, keys, values = (each.view(len(each), -1, attention.head_dim) for each in flat)
    del flat
    if hasattr(attention, "q_norm"):
        queries, keys = attention.q_norm(queries), attention.k_norm(keys)
    return queries, keys, values


def project(x: torch.Tensor, layers: Sequence[Any]) -> Sequence[torch.Tensor]:
    """Return what each of ``layers`` makes of ``x`` (tokens, width): together, if they are of a
    kind that can."""
    kind = type(layers[0])
    if hasattr(kind, "pass_together") and all(type(layer) is kind for layer in layers):
        results: Sequence[torch.Tensor] = kind.pass_together(layers, x)
        return results
    return [layer(x) for layer in layers]


def rules_of(attention: Any) -> Rules:
    """Return how attention of the current mode, in training or not, weighs tokens."""
    dropout = attention.attention_dropout if attention.training else 0.0
    window = getattr(attention, "sliding_window", None)
    return Rules(attention.scaling, window=window, dropout=dropout)


def _finish_gated(block: Any, residual: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    """Return a block's output from its input and what its attention gives."""
    if not hasattr(block, "pre_feedforward_layernorm"):
        residual = residual + mixed
        return residual + _feed_gated(block.mlp, block.post_attention_layernorm(residual))
    residual = residual + block.post_attention_layernorm(mixed)
    inner = _feed_gated(block.mlp, block.pre_feedforward_layernorm(residual))
    inner = block.post_feedforward_layernorm(inner)
    result: torch.Tensor = residual + inner
    return result


def _feed_gated(mlp: Any, normed: torch.Tensor) -> torch.Tensor:
    gates, values = project(normed, [mlp.gate_proj, mlp.up_proj])
    gates = mlp.act_fn(gates)
    inner = gates * values
    # The widest of a block, which scoring need not keep.
    del gates, values
    result: torch.Tensor = mlp.down_proj(inner)
    return result


def build_gpt2(model: Any, passes: Sequence[BlockPass] = ()) -> FlatForward:
    """Return the pass of GPT-2; for ``passes`` see `build_gated`."""
    body = model.transformer
    *blocks, last = body.h
    passes = passes or [_pass_gpt2] * len(blocks)

    def read(texts: FlatTexts) -> torch.Tensor:
        hidden = body.drop(body.wte(texts.ids) + body.wpe(texts.layout.positions))
        for block, block_pass in zip(blocks, passes, strict=True):
            hidden = run_block(block_pass, block, hidden, texts, None)
        hidden = _pass_gpt2(last, hidden, texts, ends=texts.layout.ends)
        logits: torch.Tensor = model.score(body.ln_f(hidden))
        return logits

    return read


def _pass_gpt2(
    block: Any,
    hidden: torch.Tensor,
    texts: FlatTexts,
    _: Rotation | None = None,
    ends: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the output (tokens, width) of ``block``, or (texts, width) at the tokens ``ends``."""
    mixed = _attend_gpt2(block, hidden, texts, ends)
    residual = mixed + (hidden if ends is None else hidden.index_select(0, ends))
    inner: torch.Tensor = block.mlp(block.ln_2(residual))
    return residual + inner


def _attend_gpt2(
    block: Any, hidden: torch.Tensor, texts: FlatTexts, ends: torch.Tensor | None
) -> torch.Tensor:
    attention = block.attn
    rules = rules_of_gpt2(attention)
    queries, keys, values = (
        x.unflatten(-1, (-1, attention.head_dim))
        for x in attention.c_attn(block.ln_1(hidden)).chunk(3, -1)
    )
    if ends is None:
        mixed = attend(queries, keys, values, texts, rules)
    else:
        mixed = attend_once(queries.index_select(0, ends), keys, values, texts, rules)
    result: torch.Tensor = attention.resid_dropout(attention.c_proj(mixed))
    return result


def rules_of_gpt2(attention: Any) -> Rules:
    """Return how attention of the current mode, in training or not, weighs tokens."""
    dropout = attention.attn_dropout.p if attention.training else 0.0
    return Rules(attention.scaling, dropout=dropout)


# By transformers' ``model_type``.
FLAT_DECODERS: dict[str, Callable[..., FlatForward]] = {
    "llama": build_gated,
    "qwen2": build_gated,
    "gemma3_text": build_gated,
    "gpt2": build_gpt2,
}
