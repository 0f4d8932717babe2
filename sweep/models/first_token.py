"""The last block of BERT-like encoders at the first token only, where texts are padded: their
classifiers read no other."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from sweep.models.flat.attention import attend_rectangle
from sweep.models.flat.encoders import read_heads
from sweep.models.heads import base_of

PARTS = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output")


def find_last_block(model: PreTrainedModel) -> Any:
    """Return the last block of an encoder that is built like BERT's; None if there is none."""
    layers = getattr(getattr(base_of(model), "encoder", None), "layer", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        return None
    block: Any = layers[-1]
    names = {name for name, _ in block.named_modules()}
    alike = {*PARTS, "intermediate", "output"} <= names and not hasattr(block, "crossattention")
    return block if alike and hasattr(block.attention.self, "attention_head_size") else None


def shorten_last_block(model: PreTrainedModel) -> Callable[[], None] | None:
    """Have the last block of ``model`` return (texts, 1, width), its output at the first token;
    None if it is not built like BERT's. Call what is returned to take that back.

    The block's modules are called, so it uses adapters that replace them later.
    """
    block = find_last_block(model)
    if block is None:
        return None

    def forward(
        hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
    ) -> torch.Tensor:
        mixed = _attend(block.attention.self, hidden_states, attention_mask)
        mixed = block.attention.output(mixed, hidden_states[:, :1])
        result: torch.Tensor = block.output(block.intermediate(mixed), mixed)
        return result

    block.forward = forward
    return lambda: block.__dict__.pop("forward", None)


def _attend(attention: Any, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return what the first token of ``hidden`` (texts, tokens, width) reads from all."""
    projections = (attention.query, attention.key, attention.value)
    queries, keys, values, rules = read_heads(attention, projections, hidden[:, :1], hidden)
    return attend_rectangle(
        queries, keys, values, None if mask is None else mask[..., :1, :], rules
    )
