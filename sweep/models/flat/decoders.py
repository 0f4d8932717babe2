"""Passes of decoders over flat rows. The class of a text is read at its last token, so the last
block works at that one only.

They call the models' modules, so they use adapters and heads that replace these later.
"""

from collections.abc import Callable
from typing import Any

import torch

from sweep.models.flat.attention import Rules, attend, attend_once
from sweep.models.flat.blocks import FlatForward, run_block
from sweep.models.flat.rotary import Rotation, rotate
from sweep.models.flat.texts import FlatTexts


def build_gated(model: Any) -> FlatForward:
    """Return the pass of Llama, Qwen2 or Gemma 3, whose blocks have the same structure."""
    body, config = model.model, model.config
    *blocks, last = body.layers
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * len(body.layers)
    rotates_by_kind = config.model_type == "gemma3_text"

    def read(texts: FlatTexts) -> torch.Tensor:
        hidden = body.embed_tokens(texts.ids)
        rotations = {}
        for kind in set(kinds):
            options = (kind,) if rotates_by_kind else ()
            pair = body.rotary_emb(hidden, texts.layout.positions[None], *options)
            rotations[kind] = tuple(part[0, :, None] for part in pair)
        for block, kind in zip(blocks, kinds, strict=False):
            hidden = run_block(_pass_gated, block, hidden, texts, rotations[kind])
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
        attend(queries, keys, values, texts, _rules_of(attention))
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
    mixed = attend_once(queries, keys, values, texts, _rules_of(attention))
    return _finish_gated(block, hidden.index_select(0, ends), attention.o_proj(mixed))


def _project(
    attention: Any, queried: torch.Tensor, normed: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return queries, keys and values (tokens, heads, size)."""
    queries, keys, values = (
        projection(x).unflatten(-1, (-1, attention.head_dim))
        for projection, x in (
            (attention.q_proj, queried),
            (attention.k_proj, normed),
            (attention.v_proj, normed),
        )
    )
    if hasattr(attention, "q_norm"):
        queries, keys = attention.q_norm(queries), attention.k_norm(keys)
    return queries, keys, values


def _rules_of(attention: Any) -> Rules:
    dropout = attention.attention_dropout if attention.training else 0.0
    window = getattr(attention, "sliding_window", None)
    return Rules(attention.scaling, window=window, dropout=dropout)


def _finish_gated(block: Any, residual: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    """Return a block's output from its input and what its attention gives."""
    if not hasattr(block, "pre_feedforward_layernorm"):
        residual = residual + mixed
        inner: torch.Tensor = block.mlp(block.post_attention_layernorm(residual))
        return residual + inner
    residual = residual + block.post_attention_layernorm(mixed)
    inner = block.mlp(block.pre_feedforward_layernorm(residual))
    inner = block.post_feedforward_layernorm(inner)
    return residual + inner


def build_gpt2(model: Any) -> FlatForward:
    body = model.transformer
    *blocks, last = body.h

    def read(texts: FlatTexts) -> torch.Tensor:
        hidden = body.drop(body.wte(texts.ids) + body.wpe(texts.layout.positions))
        for block in blocks:
            hidden = run_block(_pass_gpt2, block, hidden, texts)
        hidden = _pass_gpt2(last, hidden, texts, ends=texts.layout.ends)
        logits: torch.Tensor = model.score(body.ln_f(hidden))
        return logits

    return read


def _pass_gpt2(
    block: Any, hidden: torch.Tensor, texts: FlatTexts, ends: torch.Tensor | None = None
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
    dropout = attention.attn_dropout.p if attention.training else 0.0
    rules = Rules(attention.scaling, dropout=dropout)
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


# By transformers' ``model_type``.
FLAT_DECODERS: dict[str, Callable[[Any], FlatForward]] = {
    "llama": build_gated,
    "qwen2": build_gated,
    "gemma3_text": build_gated,
    "gpt2": build_gpt2,
}
