"""A classifier's own forward pass, and ways to call it that never make the CPU wait for a GPU, as
transformers does when it asks whether a mask hides anything."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import Cache, PreTrainedModel
from transformers.masking_utils import (
    create_bidirectional_mask,
    create_bidirectional_sliding_window_mask,
)

from sweep.models.checkpointing import is_checkpointing
from sweep.models.flat.texts import FlatTexts
from sweep.models.heads import base_of

# From token ids and attention mask (texts, tokens), padded right, to logits (texts, classes).
PaddedForward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# Largest allowed deviation from the model's own logits, relative to the largest logit.
# Measured in float16: up to 7e-4 (GPT-2 of random weights, SmolLM2 135M).
AGREEMENT = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.01}
# How far, relative to the largest value, rounding may move the vector of a token that does not see
# the one that changed.
ROUNDING = 1e-5


@dataclass(frozen=True)
class ForwardPass:
    """From texts to logits (texts, classes); ``flat``: without padding between them."""

    run: Callable[[FlatTexts], torch.Tensor]
    flat: bool

    @classmethod
    def of_rectangles(cls, run: PaddedForward) -> "ForwardPass":
        """Return a pass that pads texts to the width of the longest."""
        return cls(lambda texts: run(*texts.padded()), flat=False)

    def __call__(self, texts: FlatTexts) -> torch.Tensor:
        return self.run(texts)

    def count(self, texts: FlatTexts) -> int:
        """Return how many tokens of ``texts`` pass, padding included."""
        return texts.tokens if self.flat else len(texts.lengths) * texts.longest


class _NoCache(Cache):  # type: ignore[misc]
    """A cache that keeps nothing. With one, transformers does not look at positions for several
    texts in a row, for which it would wait."""

    def __init__(self) -> None:
        super().__init__(layers=[])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return key_states, value_states


def build_full_forward(model: PreTrainedModel) -> PaddedForward:
    """Return the model's own forward pass."""
    options = {"use_cache": False} if "use_cache" in _list_options(model) else {}

    def full(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        output = model(input_ids=input_ids, attention_mask=attention_mask, **options)
        logits: torch.Tensor = output.logits
        return logits

    return full


def _list_options(model: PreTrainedModel) -> set[str]:
    """Return the arguments that the model's forward pass takes, or hands on to its base model."""
    known = inspect.signature(model.forward).parameters
    inner = base_of(model)
    if inner is None or not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return set(known)
    return {*known, *inspect.signature(inner.forward).parameters}


def choose_full_forward(model: PreTrainedModel, full: PaddedForward) -> PaddedForward:
    """Return the model's ``full`` pass without waits, if there is a way that gives the same logits.

    A decoder needs no mask, if its tokens see only earlier ones; an encoder's masks are made beside
    its pass.
    """
    expected = try_out(model, full)
    if takes_cache(model):
        unmasked = build_unmasked_forward(model)
        if is_causal(model) and agrees(model, unmasked, expected):
            return unmasked
        return full
    remove = _prepare_masks(model)
    # The same kernels get the same masks.
    if not agrees(model, full, expected, AGREEMENT[torch.float32]):
        remove()
    return full


def agrees(
    model: PreTrainedModel,
    forward: PaddedForward,
    expected: torch.Tensor,
    part: float | None = None,
) -> bool:
    """Return whether ``forward`` gives the logits ``expected`` of `try_out`, up to ``part`` of the
    largest: by default what ``AGREEMENT`` says of the model's number format."""
    try:
        found = try_out(model, forward)
    except Exception:  # models raise all kinds of errors for arguments that they do not expect
        return False
    if found.shape != expected.shape:
        return False
    limit = (part or AGREEMENT.get(model.dtype, 0.1)) * expected.abs().max()
    return bool((found - expected).abs().max() <= limit)


def takes_cache(model: PreTrainedModel) -> bool:
    """Return whether the model is a decoder, which could go on from earlier tokens."""
    return "past_key_values" in inspect.signature(model.forward).parameters


def build_unmasked_forward(model: PreTrainedModel) -> PaddedForward:
    """Return the forward pass of a decoder without an attention mask: padding is to the right of
    everything that is read, where no earlier token looks. PyTorch's fastest attention takes
    none."""
    options = {"use_cache": False} if "use_cache" in _list_options(model) else {}
    cache = _NoCache()

    def unmasked(input_ids: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        # Blocks that are computed again take none, and warn.
        given = None if is_checkpointing(model) else cache
        output = model(input_ids=input_ids, past_key_values=given, **options)
        logits: torch.Tensor = output.logits
        return logits

    return unmasked


@torch.no_grad()
def is_causal(model: PreTrainedModel) -> bool:
    """Return whether tokens see only those before them: whether their vectors stay as they are if
    the last one changes."""
    inner = base_of(model)
    if inner is None:
        return False
    ids = build_texts(model)[0][:1].repeat(2, 1)
    ids[1, -1] = ids[0, 0]
    with evaluating(model):
        one, two = inner(input_ids=ids)[0][:, :-1].float()
    return bool((one - two).abs().max() <= ROUNDING * one.abs().max())


def _prepare_masks(model: PreTrainedModel) -> Callable[[], None]:
    """Have the base model of an encoder get masks that are ready to use, on a GPU; call what is
    returned to take that back. On a CPU nothing is waited for, and texts of equal lengths pass
    faster without masks."""
    inner = base_of(model)
    if inner is None:
        return lambda: None

    def prepare(
        module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        mask = options.get("attention_mask")
        if not isinstance(mask, torch.Tensor) or mask.dim() != 2 or not mask.is_cuda:
            return None
        return args, options | {"attention_mask": _build_masks(model, mask)}

    return inner.register_forward_pre_hook(prepare, with_kwargs=True).remove


def _build_masks(model: PreTrainedModel, mask: torch.Tensor) -> Any:
    """Return what blocks take for ``mask`` (texts, tokens): (texts, 1, tokens, tokens), or that by
    kind of attention where blocks differ."""
    dtype = model.get_input_embeddings().weight.dtype
    options = {
        "config": model.config,
        # Of these only shape, type and device are read.
        "inputs_embeds": torch.empty(*mask.shape, 0, dtype=dtype, device=mask.device),
        "attention_mask": mask,
        # Otherwise transformers asks whether the mask hides anything.
        "allow_is_bidirectional_skip": False,
    }
    full = create_bidirectional_mask(**options)
    if "sliding_attention" not in (getattr(model.config, "layer_types", None) or ()):
        return full
    sliding = create_bidirectional_sliding_window_mask(**options)
    return {"full_attention": full, "sliding_attention": sliding}


@torch.no_grad()
def try_out(model: PreTrainedModel, forward: PaddedForward) -> torch.Tensor:
    """Return the logits of four texts of 2 to 17 tokens."""
    return score(model, forward, *build_texts(model))


def score(
    model: PreTrainedModel, forward: PaddedForward, ids: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Return the logits of texts as a trained model would give them."""
    with evaluating(model):
        return forward(ids, mask).float()


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Evaluate in the model's number format."""
    training = model.training
    model.eval()
    # A model stored in float16 is no longer of one type.
    half = model.dtype == torch.float16
    try:
        with torch.autocast(model.device.type, torch.float16, enabled=half):
            yield
    finally:
        model.train(training)


def build_texts(model: PreTrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask of four texts of 17, 2, 9 and 5 tokens."""
    config = model.config.get_text_config()
    ids = torch.arange(4 * 17, device=model.device).view(4, 17).mul(7919) % config.vocab_size
    ids[ids == config.pad_token_id] = (config.pad_token_id + 1) % config.vocab_size
    lengths = torch.tensor([[17], [2], [9], [5]], device=model.device)
    mask = torch.arange(17, device=model.device) < lengths
    ids[~mask] = config.pad_token_id
    return ids, mask.long()
