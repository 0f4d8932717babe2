"""Forward passes of classifiers that compute no more than is read: the class of a text is read at
its last token, so the last block works at that position only."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

from sweep.models.first_token import shorten_last_block
from sweep.models.full_pass import (
    AGREEMENT,
    build_full_forward,
    build_texts,
    choose_full_forward,
    score,
    try_out,
)
from sweep.models.full_pass import LastTokenForward as LastTokenForward
from sweep.models.fused import restore_norms, speed_up_norms


def choose_last_token_forward(
    model: PreTrainedModel, trains_base: bool = False
) -> LastTokenForward:
    """Return the fastest forward pass of ``model``: one that skips what is not read, if there is
    one for its architecture and it agrees with the model's own pass; else its own.

    It calls the model's modules, so it uses adapters and heads that replace them later; gradients
    are those of the full pass, to rounding. Norms are fused in place, unless training changes
    them.
    """
    full = build_full_forward(model)
    shorten_encoder(model, full)
    build = LAST_TOKEN_FORWARDS.get(model.config.model_type)
    # A model's own code (trust_remote_code) may go by the name of another architecture.
    if not type(model).__module__.startswith("transformers."):
        return full
    if build is None:
        return choose_full_forward(model, full)
    expected = try_out(model, full)
    limit = AGREEMENT.get(model.dtype, 0.1) * float(expected.abs().max())
    if not trains_base:
        speed_up_norms(model)
    for forward in (build(model), full):
        if bool((try_out(model, forward) - expected).abs().max() <= limit):
            return forward
    restore_norms(model)
    return full


def shorten_encoder(model: PreTrainedModel, full: LastTokenForward) -> None:
    """Have the last block of an encoder work at the first token only, if the logits of its own
    pass stay the same."""
    if not type(model).__module__.startswith("transformers."):
        return
    expected = try_out(model, full)
    restore = shorten_last_block(model)
    if restore is None:
        return
    limit = AGREEMENT.get(model.dtype, 0.1) * float(expected.abs().max())
    try:
        found = try_out(model, full)
    except (RuntimeError, ValueError, IndexError, AttributeError, TypeError):
        # The classifier reads other tokens too, or a layer returns more than a tensor.
        restore()
        return
    if found.shape != expected.shape or not bool((found - expected).abs().max() <= limit):
        restore()


@torch.no_grad()
def ignores_padding(model: PreTrainedModel) -> bool:
    """Return whether the logits of a text do not depend on the padding to its right."""
    full = build_full_forward(model)
    padded, (ids, _) = try_out(model, full), build_texts(model)
    alone = score(model, full, ids[2:3, :9], torch.ones_like(ids[2:3, :9]))
    # The model is still as it was stored: in 16 bits each step of its passes is rounded, and that
    # moved a logit of SmolLM2 135M by a tenth. XLNet, which reads padding, is off by 0.5 to 1.3.
    part = AGREEMENT[torch.float32] if model.dtype == torch.float32 else 0.4
    limit = part * float(padded.abs().max())
    # Not a number compares as false: broken weights are told by the trial that meets them.
    return not bool((alone[0] - padded[2]).abs().max() > limit)


def find_last(input_ids: torch.Tensor, pad_id: int) -> torch.Tensor:
    """Return the position (texts,) of each text's last token that is not padding, as transformers'
    own classifiers find it."""
    positions = torch.arange(input_ids.shape[1], device=input_ids.device)
    return torch.where(input_ids != pad_id, positions, 0).argmax(-1)


def _build_gated(model: Any) -> LastTokenForward:
    # Llama, Qwen2 and Gemma 3, whose blocks have the same structure.
    body, config = model.model, model.config
    *_, last = body.layers
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * len(body.layers)
    rotates_by_kind = config.model_type == "gemma3_text"

    def read(input_ids: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        hidden = body.embed_tokens(input_ids)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        if rotates_by_kind:
            rotations = {kind: body.rotary_emb(hidden, positions, kind) for kind in set(kinds)}
        else:
            rotations = dict.fromkeys(kinds, body.rotary_emb(hidden, positions))
        masks = _build_masks(config, hidden, set(kinds[:-1]))
        for layer, kind in zip(body.layers[:-1], kinds, strict=False):
            hidden = layer(
                hidden,
                attention_mask=masks[kind],
                position_embeddings=rotations[kind],
                position_ids=positions,
            )
        ends = find_last(input_ids, config.pad_token_id)
        hidden = _end_gated(last, hidden, ends, rotations[kinds[-1]])
        logits: torch.Tensor = model.score(body.norm(hidden))
        return logits[:, 0]

    return read


def _build_masks(
    config: Any, hidden: torch.Tensor, kinds: set[str]
) -> dict[str, torch.Tensor | None]:
    """Return the attention mask for blocks of each kind.

    Padding is to the right of everything that is read, where no earlier token looks. So it needs no
    mask, and PyTorch's fastest attention takes none. Positions are not given: transformers would
    search them for several texts in a row, and wait for a GPU to do so.
    """
    makers = {
        "full_attention": create_causal_mask,
        "sliding_attention": create_sliding_window_causal_mask,
    }
    return {
        kind: makers[kind](
            config=config,
            inputs_embeds=hidden,
            attention_mask=None,
            past_key_values=None,
        )
        for kind in kinds
    }


def _end_gated(
    layer: Any,
    hidden: torch.Tensor,
    ends: torch.Tensor,
    rotation: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Return the output (texts, 1, width) of the block ``layer`` for ``hidden`` (texts, tokens,
    width) at the positions ``ends`` (texts,)."""
    attention = layer.self_attn
    texts = torch.arange(len(hidden), device=hidden.device)
    normed = layer.input_layernorm(hidden)
    residual: torch.Tensor = hidden[texts, ends][:, None]
    at = normed[texts, ends][:, None]
    queries, keys, values = (
        projection(x).unflatten(-1, (-1, attention.head_dim))
        for projection, x in (
            (attention.q_proj, at),
            (attention.k_proj, normed),
            (attention.v_proj, normed),
        )
    )
    if hasattr(attention, "q_norm"):
        queries, keys = attention.q_norm(queries), attention.k_norm(keys)
    cosines, sines = (part[0, :, None] for part in rotation)
    queries = _rotate(queries, cosines[ends][:, None], sines[ends][:, None])
    keys = _rotate(keys, cosines, sines)
    window = getattr(attention, "sliding_window", None)
    dropout = attention.attention_dropout if attention.training else 0.0
    rules = AttentionRules(attention.scaling, window, dropout)
    mixed = attend_once(queries[:, 0], keys, values, ends, rules)
    mixed = attention.o_proj(mixed[:, None])
    if not hasattr(layer, "pre_feedforward_layernorm"):
        residual = residual + mixed
        inner: torch.Tensor = layer.mlp(layer.post_attention_layernorm(residual))
        return residual + inner
    residual = residual + layer.post_attention_layernorm(mixed)
    inner = layer.mlp(layer.pre_feedforward_layernorm(residual))
    inner = layer.post_feedforward_layernorm(inner)
    return residual + inner


def _rotate(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Apply rotary position embeddings (Su et al. 2021, arXiv:2104.09864) to ``x``, pairing the
    halves of each head."""
    first, second = x.chunk(2, -1)
    return x * cosines + torch.cat((-second, first), -1) * sines


class AttentionRules(NamedTuple):
    """How a layer weighs tokens; ``window`` is how many tokens back a query sees."""

    scaling: float
    window: int | None = None
    dropout: float = 0.0


def attend_once(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    ends: torch.Tensor,
    rules: AttentionRules,
) -> torch.Tensor:
    """Attend with one query per text, at position ``ends``, to the tokens up to it; return (texts,
    heads x size).

    ``queries`` are (texts, heads, size), ``keys`` and ``values`` (texts, tokens, key heads, size);
    key heads serve equally many query heads each.
    """
    texts, tokens, groups, size = keys.shape
    tokens_at = torch.arange(tokens, device=keys.device)
    hidden = tokens_at > ends[:, None]
    if rules.window is not None:
        hidden |= tokens_at <= ends[:, None] - rules.window
    scaling = rules.scaling
    if values.dtype == torch.float16:
        # Unscaled, they may exceed float16's range: those of Qwen2 7B do, see
        # https://github.com/huggingface/transformers/pull/33317.
        queries, scaling = queries * scaling, 1.0
    scores = queries.view(texts, groups, -1, size) @ keys.permute(0, 2, 3, 1) * scaling
    scores = scores.masked_fill(hidden[:, None, None], -torch.inf)
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
    weights = nn.functional.dropout(weights, rules.dropout, training=rules.dropout > 0)
    return (weights @ values.permute(0, 2, 1, 3)).reshape(texts, -1)


def _build_gpt2(model: Any) -> LastTokenForward:
    body, config = model.transformer, model.config
    *_, last = body.h

    def read(input_ids: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        hidden = body.drop(body.wte(input_ids) + body.wpe(positions))
        kinds = {"full_attention"} if len(body.h) > 1 else set()
        masks = _build_masks(config, hidden, kinds)
        for block in body.h[:-1]:
            hidden = block(hidden, None, masks["full_attention"], position_ids=positions)
        hidden = _end_gpt2(last, hidden, find_last(input_ids, config.pad_token_id))
        logits: torch.Tensor = model.score(body.ln_f(hidden))
        return logits[:, 0]

    return read


def _end_gpt2(block: Any, hidden: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Return the output (texts, 1, width) of ``block`` for ``hidden`` (texts, tokens, width) at the
    positions ``ends`` (texts,)."""
    attention = block.attn
    texts = torch.arange(len(hidden), device=hidden.device)
    queries, keys, values = attention.c_attn(block.ln_1(hidden)).chunk(3, -1)
    queries = queries[texts, ends]
    queries, keys, values = (
        x.unflatten(-1, (-1, attention.head_dim)) for x in (queries, keys, values)
    )
    dropout = attention.attn_dropout.p if attention.training else 0.0
    rules = AttentionRules(attention.scaling, dropout=dropout)
    mixed = attend_once(queries, keys, values, ends, rules)
    mixed = attention.resid_dropout(attention.c_proj(mixed[:, None]))
    residual: torch.Tensor = mixed + hidden[texts, ends][:, None]
    inner: torch.Tensor = block.mlp(block.ln_2(residual))
    return residual + inner


# By transformers' ``model_type``.
LAST_TOKEN_FORWARDS: dict[str, Callable[[Any], LastTokenForward]] = {
    "llama": _build_gated,
    "qwen2": _build_gated,
    "gemma3_text": _build_gated,
    "gpt2": _build_gpt2,
}
