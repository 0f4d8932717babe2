"""Passes of a classifier on PyTorch's meta device, as training makes them."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from transformers import PreTrainedModel

from sweep.models.emulation import ATTENTION, Emulation, composes_attention
from sweep.models.facts import TrialLoad
from sweep.models.first_token import shorten_last_block
from sweep.models.flat.texts import FlatTexts
from sweep.models.float16 import store_in_float16
from sweep.models.forward_pass import FLAT_PASSES
from sweep.models.full_pass import build_full_forward, build_unmasked_forward, takes_cache
from sweep.models.fused import restore_norms, speed_up_norms


@dataclass(frozen=True)
class MetaPass:
    """A way to pass texts through a model without values.

    In training it gets an attention mask if ``padded``; here only if ``masked``. Some models ask
    whether a mask hides anything, which has no answer here; others do not work without one. A
    ``flat`` pass has no padding.
    """

    forward: Callable[..., Any]
    load: TrialLoad
    padded: bool
    masked: bool
    flat: bool = False

    def __call__(self, texts: int, tokens: int) -> Emulation:
        with Emulation(self.load, self.padded) as emulation, torch.device("meta"):
            ids = torch.ones(texts, tokens, dtype=torch.long)
            self.forward(ids, torch.ones_like(ids) if self.masked else None)
        return emulation


def choose_pass(model: PreTrainedModel, load: TrialLoad) -> MetaPass:
    """Return the pass that training would make (see `forward_pass.choose_forward`), in
    its number format; raise what the model raises if none works without values."""
    model.requires_grad_(False)
    model.eval()
    # Some constructors make tensors on the CPU, whatever the default device.
    stored = load.method == "lora" and load.dtype == "bfloat16"
    model.to("meta", torch.bfloat16 if stored else torch.float32)
    if load.method == "lora" and load.dtype == "float16":
        store_in_float16(model)
    build = FLAT_PASSES.get(model.config.model_type)
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    windowed = window is not None and load.longest > window
    if build is not None:
        if load.method == "lora":
            speed_up_norms(model)
        with suppress(Exception):  # another release may call modules by other names
            flat = build(model)
            run = MetaPass(lambda ids, _: flat(_flatten(ids)), load, windowed, False, flat=True)
            run(2, load.longest)
            return run
        restore_norms(model)
    if takes_cache(model):
        with suppress(Exception):  # others than causal decoders are trained with their masks
            return _find_pass(model, build_unmasked_forward(model), load, padded=windowed)
    full, restore = build_full_forward(model), shorten_last_block(model)
    try:
        return _find_pass(model, full, load, padded=True)
    except Exception:  # the classifier may read other tokens, too
        if restore is None:
            raise
        restore()
        return _find_pass(model, full, load, padded=True)


def _flatten(ids: torch.Tensor) -> FlatTexts:
    texts, tokens = ids.shape
    return FlatTexts(ids.flatten(), [tokens] * texts, [tokens - 1] * texts, pad_id=0)


def _find_pass(
    model: PreTrainedModel, forward: Callable[..., Any], load: TrialLoad, padded: bool
) -> MetaPass:
    attentions = ("eager", ATTENTION) if composes_attention(load) else (ATTENTION, "eager")
    *others, last = product(attentions, (False, True))
    for attention, masked in others:
        model.config._attn_implementation = attention
        run = MetaPass(forward, load, padded, masked)
        try:
            run(2, load.longest)
        except Exception:  # models raise all kinds of errors where they look at values
            continue
        return run
    model.config._attn_implementation, masked = last
    run = MetaPass(forward, load, padded, masked)
    run(2, load.longest)
    return run
