"""Passes of encoders over flat rows. Tokens see those on both sides. The class of a text is read at
its first token, so the last block works at that one only; or at the mean of all its tokens.

They call the models' modules, so they use adapters and heads that replace these later.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from sweep.models.flat.attention import Rules, attend, attend_once
from sweep.models.flat.blocks import FlatForward, run_block
from sweep.models.flat.rotary import Rotation, build_rotation, rotate
from sweep.models.flat.texts import FlatTexts
from sweep.models.heads import base_of


def build_bert(model: Any) -> FlatForward:
    """Return the pass of BERT, RoBERTa, ELECTRA and others whose blocks have the same structure."""
    body: Any = base_of(model)
    # How positions are counted, even if an adapter replaces the table.
    padding = body.embeddings.position_embeddings.padding_idx
    *blocks, last = body.encoder.layer

    def read(texts: FlatTexts) -> torch.Tensor:
        hidden = _embed(body.embeddings, texts, padding)
        if hasattr(body, "embeddings_project"):
            hidden = body.embeddings_project(hidden)
        for block in blocks:
            hidden = run_block(_pass_bert, block, hidden, texts)
        # What reads them takes the first of (texts, tokens, width).
        firsts = _pass_bert(last, hidden, texts, once=True)[:, None]
        if getattr(body, "pooler", None) is not None:
            firsts = model.dropout(body.pooler(firsts))
        logits: torch.Tensor = model.classifier(firsts)
        return logits

    return read


def _embed(embeddings: Any, texts: FlatTexts, padding: int | None) -> torch.Tensor:
    """Return the vectors (tokens, width) of tokens at their positions."""
    ids, options = texts.ids[None], {}
    if hasattr(embeddings, "token_type_embeddings"):
        # Left out, they are taken from a table that is no longer than one text may be.
        options["token_type_ids"] = torch.zeros_like(ids)
    positions = _count_positions(texts, padding)[None]
    found: torch.Tensor = embeddings(input_ids=ids, position_ids=positions, **options)
    return found[0]


def _count_positions(texts: FlatTexts, padding: int | None) -> torch.Tensor:
    """Return each token's position. With ``padding`` they are RoBERTa's: that token has its number
    for a position, wherever it is, and the others are counted from the next number on."""
    layout = texts.layout
    if padding is None:
        return layout.positions
    real = texts.ids.ne(padding).long()
    counted = real.cumsum(0)
    before = (counted - real).index_select(0, layout.starts)
    return (counted - before.index_select(0, layout.texts)) * real + padding


def _pass_bert(
    block: Any, hidden: torch.Tensor, texts: FlatTexts, once: bool = False
) -> torch.Tensor:
    """Return the output (tokens, width) of ``block`` or, ``once``, (texts, width) at the first
    token of each text."""
    parts, queried = block.attention.self, _select(hidden, texts, once)
    projections = (parts.query, parts.key, parts.value)
    mixed = _attend(parts, projections, queried, hidden, texts, once)
    mixed = block.attention.output(mixed, queried)
    result: torch.Tensor = block.output(block.intermediate(mixed), mixed)
    return result


def _select(hidden: torch.Tensor, texts: FlatTexts, once: bool) -> torch.Tensor:
    return hidden.index_select(0, texts.layout.starts) if once else hidden


def _attend(
    attention: Any,
    projections: Sequence[nn.Module],
    queried: torch.Tensor,
    hidden: torch.Tensor,
    texts: FlatTexts,
    once: bool,
) -> torch.Tensor:
    """Return what the tokens ``queried`` read from ``hidden`` (tokens, width), through the
    ``projections`` to queries, keys and values."""
    queries, keys, values, rules = read_heads(attention, projections, queried, hidden)
    return _mix(queries, keys, values, texts, rules, once)


def read_heads(
    attention: Any,
    projections: Sequence[nn.Module],
    queried: torch.Tensor,
    hidden: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Rules]:
    """Return queries of ``queried`` (..., width), keys and values of ``hidden`` (..., width), each
    (..., heads, size), and how BERT's ``attention`` weighs them in its current mode."""
    size = attention.attention_head_size
    queries, keys, values = (
        projection(x).unflatten(-1, (-1, size))
        for projection, x in zip(projections, (queried, hidden, hidden), strict=True)
    )
    dropout = attention.dropout.p if attention.training else 0.0
    return queries, keys, values, Rules(size**-0.5, causal=False, dropout=dropout)


def _mix(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    texts: FlatTexts,
    rules: Rules,
    once: bool,
) -> torch.Tensor:
    if once:
        return attend_once(queries, keys, values, texts, rules, first=True)
    return attend(queries, keys, values, texts, rules)


def build_distilbert(model: Any) -> FlatForward:
    body = model.distilbert
    padding = body.embeddings.position_embeddings.padding_idx
    *blocks, last = body.transformer.layer

    def read(texts: FlatTexts) -> torch.Tensor:
        hidden = _embed(body.embeddings, texts, padding)
        for block in blocks:
            hidden = run_block(_pass_distilbert, block, hidden, texts)
        hidden = _pass_distilbert(last, hidden, texts, once=True)
        hidden = nn.functional.relu(model.pre_classifier(hidden))
        logits: torch.Tensor = model.classifier(model.dropout(hidden))
        return logits

    return read


def _pass_distilbert(
    block: Any, hidden: torch.Tensor, texts: FlatTexts, once: bool = False
) -> torch.Tensor:
    parts, queried = block.attention, _select(hidden, texts, once)
    projections = (parts.q_lin, parts.k_lin, parts.v_lin)
    mixed = parts.out_lin(_attend(parts, projections, queried, hidden, texts, once))
    mixed = block.sa_layer_norm(mixed + queried)
    # The module itself may cut rectangles into chunks of tokens.
    result: torch.Tensor = block.output_layer_norm(block.ffn.ff_chunk(mixed) + mixed)
    return result


def build_modernbert(model: Any) -> FlatForward:
    body, config = model.model, model.config
    *blocks, last = body.layers
    *kinds, last_kind = config.layer_types
    reads_mean = config.classifier_pooling == "mean"

    def read(texts: FlatTexts) -> torch.Tensor:
        hidden = body.embeddings(input_ids=texts.ids[None])[0]
        rotations = {
            kind: build_rotation(body.rotary_emb, hidden, texts, kind)
            for kind in {*kinds, last_kind}
        }
        for block, kind in zip(blocks, kinds, strict=True):
            hidden = run_block(_pass_modernbert, block, hidden, texts, rotations[kind])
        if reads_mean:
            hidden = run_block(_pass_modernbert, last, hidden, texts, rotations[last_kind])
            hidden = _average(body.final_norm(hidden), texts)
        else:
            hidden = _pass_modernbert(last, hidden, texts, rotations[last_kind], once=True)
            hidden = body.final_norm(hidden)
        logits: torch.Tensor = model.classifier(model.drop(model.head(hidden)))
        return logits

    return read


def _average(hidden: torch.Tensor, texts: FlatTexts) -> torch.Tensor:
    """Return the mean (texts, width) of the vectors of each text."""
    # A product, since a GPU adds rows at indices in any order.
    numbers = torch.arange(len(texts.lengths), device=hidden.device)
    shares = (texts.layout.texts == numbers[:, None]).to(hidden.dtype)
    return (shares / shares.sum(1, keepdim=True)) @ hidden


def _pass_modernbert(
    block: Any, hidden: torch.Tensor, texts: FlatTexts, rotation: Rotation, once: bool = False
) -> torch.Tensor:
    mixed = _attend_modernbert(block, hidden, texts, rotation, once)
    residual = _select(hidden, texts, once) + mixed
    inner: torch.Tensor = block.mlp(block.mlp_norm(residual))
    return residual + inner


def _attend_modernbert(
    block: Any, hidden: torch.Tensor, texts: FlatTexts, rotation: Rotation, once: bool
) -> torch.Tensor:
    attention = block.attn
    projected = attention.Wqkv(block.attn_norm(hidden))
    queries, keys, values = projected.unflatten(-1, (3, -1, attention.head_dim)).unbind(1)
    cosines, sines = rotation
    at = _select(cosines, texts, once), _select(sines, texts, once)
    queries = rotate(_select(queries, texts, once), at).to(values.dtype)
    keys = rotate(keys, rotation).to(values.dtype)
    dropout = attention.attention_dropout if attention.training else 0.0
    rules = Rules(attention.head_dim**-0.5, False, attention.sliding_window, dropout)
    mixed: torch.Tensor = attention.Wo(_mix(queries, keys, values, texts, rules, once))
    result: torch.Tensor = attention.out_drop(mixed)
    return result


# By transformers' ``model_type``.
FLAT_ENCODERS: dict[str, Callable[[Any], FlatForward]] = {
    "bert": build_bert,
    "roberta": build_bert,
    "xlm-roberta": build_bert,
    "camembert": build_bert,
    "data2vec-text": build_bert,
    "electra": build_bert,
    "ernie": build_bert,
    "distilbert": build_distilbert,
    "modernbert": build_modernbert,
}
