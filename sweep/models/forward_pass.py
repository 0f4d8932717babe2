"""The forward pass of a classifier: the fastest one that gives the logits of the model's own."""

import torch
from transformers import PreTrainedModel

from sweep.models.first_token import shorten_last_block
from sweep.models.flat.blocks import FlatForward
from sweep.models.flat.decoders import FLAT_DECODERS
from sweep.models.flat.encoders import FLAT_ENCODERS
from sweep.models.flat.texts import FlatTexts
from sweep.models.full_pass import (
    AGREEMENT,
    ForwardPass,
    PaddedForward,
    agrees,
    build_full_forward,
    build_texts,
    choose_full_forward,
    score,
    try_out,
)
from sweep.models.fused import restore_norms, speed_up_norms

# By transformers' ``model_type``.
FLAT_PASSES = {**FLAT_DECODERS, **FLAT_ENCODERS}


def choose_forward(model: PreTrainedModel, trains_base: bool = False) -> ForwardPass:
    """Return the fastest forward pass of ``model``: one without padding that skips what is not
    read, if there is one for its architecture and it agrees with the model's own; else its own.

    It calls the model's modules, so it uses adapters and heads that replace them later; gradients
    are those of the full pass, to rounding. Norms are fused in place, unless training changes
    them.
    """
    full = build_full_forward(model)
    # A model's own code (trust_remote_code) may go by the name of another architecture.
    if not type(model).__module__.startswith("transformers."):
        return ForwardPass.of_rectangles(full)
    expected = try_out(model, full)
    if not trains_base:
        speed_up_norms(model)
    flat = _build_flat(model)
    if flat is not None and agrees(model, _flatten(model, flat), expected):
        return ForwardPass(flat, flat=True)
    restore_norms(model)
    shorten_encoder(model, full, expected)
    return ForwardPass.of_rectangles(choose_full_forward(model, full))


def _build_flat(model: PreTrainedModel) -> FlatForward | None:
    build = FLAT_PASSES.get(model.config.model_type)
    try:
        return None if build is None else build(model)
    except (AttributeError, ValueError):  # another release may call modules by other names
        return None


def _flatten(model: PreTrainedModel, flat: FlatForward) -> PaddedForward:
    pad_id = model.config.get_text_config().pad_token_id
    return lambda ids, mask: flat(FlatTexts.from_padded(ids, mask, pad_id))


def shorten_encoder(model: PreTrainedModel, full: PaddedForward, expected: torch.Tensor) -> None:
    """Have the last block of an encoder work at the first token only, if the logits of its own
    pass stay those ``expected``."""
    restore = shorten_last_block(model)
    # The classifier may read other tokens too, or a layer return more than a tensor.
    if restore is not None and not agrees(model, full, expected):
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
