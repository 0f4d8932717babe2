"""Attention inside each text of a flat row."""

from functools import cache
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from sweep.models.flat.texts import Bucket, FlatTexts, Layout

# Longest texts, in tokens, for which attention by separate operations is faster than the fused
# kernel in bfloat16 on a CPU. Forward and backward over 2,048 tokens with 9 heads of 64 took 6
# against 65 ms at 16 tokens a text, 9 against 41 at 64, 59 against 85 at 512, 294 against 138 at
# 1,024.
EAGER_TOKENS = 512


class Rules(NamedTuple):
    """How a layer weighs tokens. ``window`` is how many tokens back a query sees, itself included
    and, in a layer that is not causal, as many ahead."""

    scaling: float
    causal: bool = True
    window: int | None = None
    dropout: float = 0.0


def attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    texts: FlatTexts,
    rules: Rules,
) -> torch.Tensor:
    """Return (tokens, heads x size) of ``queries`` (tokens, heads, size), each of which sees
    ``keys`` and ``values`` (tokens, key heads, size) of its own text. Key heads serve equally many
    query heads each."""
    run = _attend_flat if _has_flat_kernel(queries, rules) else _attend_in_rectangles
    return run(queries, keys, values, texts, rules)


def _attend_flat(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    texts: FlatTexts,
    rules: Rules,
) -> torch.Tensor:
    # Not in every release that is supported.
    from torch.nn.attention.varlen import varlen_attn

    # How many tokens a query sees on each side of itself; -1: all.
    back = -1 if rules.window is None else rules.window - 1
    window = (back, 0 if rules.causal else back)
    mixed = varlen_attn(
        queries, keys, values, texts.bounds, texts.bounds, texts.longest, texts.longest,
        scale=rules.scaling, window_size=window, enable_gqa=queries.shape[1] != keys.shape[1],
    )  # fmt: skip
    return cast(torch.Tensor, mixed).flatten(1)


def _attend_in_rectangles(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    texts: FlatTexts,
    rules: Rules,
) -> torch.Tensor:
    layout, mixed = texts.layout, []
    alike = len(set(texts.lengths)) == 1
    if not alike:
        queries, keys, values = (_Pad.apply(x, layout) for x in (queries, keys, values))  # type: ignore[no-untyped-call]
    for bucket in layout.buckets:
        query, key, value = (_cut_rectangle(x, bucket) for x in (queries, keys, values))
        mask = _mask_padding(bucket, rules)
        mixed.append(attend_rectangle(query, key, value, mask, rules).flatten(0, 1))
    together = torch.cat(mixed) if len(mixed) > 1 else mixed[0]
    result: torch.Tensor = together if alike else _Unpad.apply(together, layout)  # type: ignore[no-untyped-call]
    return result


def attend_once(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    texts: FlatTexts,
    rules: Rules,
    first: bool = False,
) -> torch.Tensor:
    """Return (texts, heads x size) of one query per text, ``queries`` (texts, heads, size): of its
    last token or, in a layer that is not causal, its ``first``."""
    layout = texts.layout
    keys, values = (_Pad.apply(x, layout) for x in (keys, values))  # type: ignore[no-untyped-call]
    queries = queries.index_select(0, layout.order)
    ends = layout.starts if first else layout.ends
    at = (ends - layout.starts).index_select(0, layout.order)
    mixed = []
    for bucket in layout.buckets:
        own = slice(bucket.first, bucket.first + bucket.texts)
        key, value = (_cut_rectangle(x, bucket) for x in (keys, values))
        mask = _mask_others(at[own], bucket, rules)
        mixed.append(attend_rectangle(queries[own, None], key, value, mask, rules)[:, 0])
    return torch.cat(mixed).index_select(0, layout.ranks)


def _cut_rectangle(padded: torch.Tensor, bucket: Bucket) -> torch.Tensor:
    """Return (texts, width, ...) of a bucket's tokens among those of all rectangles."""
    if bucket.stop - bucket.start == len(padded):
        return padded.view(bucket.texts, -1, *padded.shape[1:])
    return padded[bucket.start : bucket.stop].view(bucket.texts, -1, *padded.shape[1:])


def attend_rectangle(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    rules: Rules,
) -> torch.Tensor:
    """Return (texts, queries, heads x size) of ``queries`` (texts, queries, heads, size), ``keys``
    and ``values`` (texts, width, key heads, size). ``mask`` says which keys are seen, or what is
    added to scores, in the shape (texts or 1, 1, queries or 1, width); None: all or, if the layer
    is causal, those up to the query."""
    if composes(queries.dtype, queries.device.type == "cpu", keys.shape[1]):
        return compose(queries, keys, values, mask, rules)
    shares = queries.shape[2] // keys.shape[2]
    if shares > 1 and queries.is_cuda:
        # There only some kernels let query heads share a key head; the others keep all scores.
        keys, values = (x.repeat_interleave(shares, 2) for x in (keys, values))
    mixed = scaled_dot_product_attention(
        queries.transpose(1, 2),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        attn_mask=mask,
        dropout_p=rules.dropout,
        is_causal=mask is None and rules.causal,
        scale=rules.scaling,
        enable_gqa=queries.shape[2] != keys.shape[2],
    )
    return mixed.transpose(1, 2).flatten(2)


def composes(dtype: torch.dtype, on_cpu: bool, width: int) -> bool:
    """Return whether attention in texts of up to ``width`` tokens is faster by separate operations
    than by PyTorch's fused kernel."""
    return dtype == torch.bfloat16 and on_cpu and width <= EAGER_TOKENS


def _mask_padding(bucket: Bucket, rules: Rules) -> torch.Tensor | None:
    """Return which keys the queries of all tokens see, as far as a layer that is causal does not
    say it itself. Padding comes last, where no earlier token of a causal layer looks."""
    device, width = bucket.lengths.device, bucket.width
    window, near = rules.window or width, None
    if window < width:
        near = torch.ones(width, width, dtype=torch.bool, device=device).triu(1 - window)
        near = near.tril(0 if rules.causal else window - 1)[None, None]
    if rules.causal or not bucket.padded:
        return near
    real = (torch.arange(width, device=device) < bucket.lengths[:, None])[:, None, None]
    if near is None:
        return real
    # Padding sees itself: queries that see nothing have gradients that are no numbers.
    return near & real | torch.eye(width, dtype=torch.bool, device=device)


def _mask_others(at: torch.Tensor, bucket: Bucket, rules: Rules) -> torch.Tensor | None:
    """Return which keys one query of each text sees, at the positions ``at`` (texts,); None:
    all."""
    window = rules.window or bucket.width
    if not (rules.causal or bucket.padded or window < bucket.width):
        return None
    places = torch.arange(bucket.width, device=at.device)
    seen = places < bucket.lengths[:, None] if not rules.causal else places <= at[:, None]
    if window < bucket.width:
        seen &= (places - at[:, None]).abs() < window
    return seen[:, None, None]


def compose(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    rules: Rules,
) -> torch.Tensor:
    """Attend by separate operations; shapes are those of `attend_rectangle`."""
    (texts, width, groups, size), count = keys.shape, queries.shape[1]
    if mask is None and rules.causal:
        mask = torch.ones(width, width, dtype=torch.bool, device=keys.device).tril()[None, None]
    grouped = queries.reshape(texts, count, groups, -1, size).permute(0, 2, 3, 1, 4).flatten(2, 3)
    scores = grouped @ keys.permute(0, 2, 3, 1) * rules.scaling
    scores = scores.view(texts, groups, -1, count, width)
    if mask is not None:
        each = mask[:, None]
        scores = (
            scores.masked_fill(~each, -torch.inf) if mask.dtype == torch.bool else scores + each
        )
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
    weights = nn.functional.dropout(weights, rules.dropout, training=rules.dropout > 0)
    mixed = weights.flatten(2, 3) @ values.permute(0, 2, 1, 3)
    mixed = mixed.view(texts, groups, -1, count, size).permute(0, 3, 1, 2, 4)
    return mixed.reshape(texts, count, -1)


class _Pad(torch.autograd.Function):
    """From the row (tokens, ...) to rectangles one after another. What padding holds is not read,
    so it has no gradient, and each token of the row has that of its only place."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layout: Layout) -> torch.Tensor:  # type: ignore[override]
        ctx.layout = layout
        return x.index_select(0, layout.places)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        return gradient.index_select(0, ctx.layout.origins), None


class _Unpad(torch.autograd.Function):
    """From rectangles one after another to the row: the inverse of `_Pad`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layout: Layout) -> torch.Tensor:  # type: ignore[override]
        ctx.layout, ctx.shape = layout, x.shape
        return x.index_select(0, layout.origins)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        padded = gradient.new_zeros(ctx.shape)
        return padded.index_copy_(0, ctx.layout.origins, gradient), None


def _has_flat_kernel(queries: torch.Tensor, rules: Rules) -> bool:
    if not queries.is_cuda or rules.dropout:
        return False
    window = None if rules.window is None else 3
    tried = Rules(queries.shape[-1] ** -0.5, rules.causal, window)
    return runs_flat(queries.device, queries.dtype, queries.shape[-1], tried)


@cache
def runs_flat(device: torch.device, dtype: torch.dtype, size: int, rules: Rules) -> bool:
    """Return whether PyTorch's kernel for flat rows runs on ``device`` with heads of ``size``, and
    gives what the one for rectangles gives, gradients included."""
    if dtype not in (torch.bfloat16, torch.float16):
        return False
    # It may be asked first by a pass without gradients, and the answer holds for all.
    plain = torch.autocast(device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), plain:
        return _gives_the_same(device, dtype, size, rules)


def _gives_the_same(device: torch.device, dtype: torch.dtype, size: int, rules: Rules) -> bool:
    texts = FlatTexts(torch.zeros(24, device=device), (9, 1, 14), (8, 0, 13), 0)
    results = []
    for run in (_attend_flat, _attend_in_rectangles):
        generator = torch.Generator().manual_seed(0)
        # Side by side, as layers that pass as one give them.
        drawn = torch.randn(24, 8, size, generator=generator).to(device, dtype).requires_grad_()
        try:
            queries, keys, values = torch.split_with_sizes(drawn, (4, 2, 2), 1)
            mixed = run(queries, keys, values, texts, rules)
            results.append([mixed, *torch.autograd.grad(mixed.float().square().sum(), drawn)])
        except (RuntimeError, ValueError, TypeError, ImportError):
            return False
    return all(
        torch.allclose(one.float(), other.float(), rtol=0.05, atol=0.05)
        for one, other in zip(*results, strict=True)
    )
