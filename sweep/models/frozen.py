"""A pretrained model that is read, not trained: each text becomes one vector."""

from dataclasses import dataclass

import torch
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from sweep.errors import ModelError
from sweep.models.base import load_pretrained, set_padding
from sweep.models.heads import check_loaded, without_pooler
from sweep.models.vocabulary import count_rows
from sweep.plan import ModelRef

# How far, relative to the largest value, rounding may move the vector of a token that does not see
# the one that changed; one that sees it moved by 0.0007 and more in random models of four families.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Frozen:
    """A model in evaluation mode, float32 on the CPU, and its tokenizer; ``rows`` is how many
    tokens it has embeddings for."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    rows: int


def load_frozen(ref: ModelRef, source: str) -> Frozen:
    """Load the model of ``ref`` from ``source`` (see ``materialize``) without any head; of an
    encoder with a decoder, the encoder.

    Raises ModelError with the remedy if weights, tokenizer or padding are missing or unusable.
    """
    model, tokenizer, loaded = load_pretrained(AutoModel, ref, source, torch.float32)
    check_loaded(model, {}, without_pooler(loaded), ref.name)
    set_padding(model, tokenizer, ref.name)
    rows = count_rows(model)
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    model.config.use_cache = False
    return Frozen(ref.name, model.requires_grad_(False).eval(), tokenizer, rows)


def is_causal(frozen: Frozen, ids: list[int]) -> bool:
    """Return whether tokens see only those before them, as in a decoder: whether the vectors of
    the text ``ids``, of at least two different tokens, stay as they are if the last one changes."""
    other = next(number for number in ids if number != ids[-1])
    pair = torch.tensor([ids, [*ids[:-1], other]])
    one, two = compute_states(frozen, pair, torch.ones_like(pair))[:, :-1]
    return bool((one - two).abs().max() <= ROUNDING * one.abs().max())


@torch.inference_mode()
def compute_states(frozen: Frozen, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the vector of each token (texts, tokens, width) after the last layer."""
    states = frozen.model(input_ids=ids, attention_mask=mask)[0]
    if not isinstance(states, torch.Tensor) or states.shape[:2] != ids.shape:
        raise ModelError(
            f"model {frozen.name} ({type(frozen.model).__name__}) gives no vector of each token, "
            "so it has no features to read; use a text encoder or a decoder"
        )
    return states.float()


def pool_states(states: torch.Tensor, mask: torch.Tensor, mode: str) -> torch.Tensor:
    """Return one vector of each text (texts, width): the ``mean`` of its tokens', that of its
    ``last`` or of its first token (``cls``). Padding, where ``mask`` is 0, comes last."""
    if mode == "cls":
        return states[:, 0]
    lengths = mask.sum(1)
    if mode == "last":
        return states[torch.arange(len(states)), lengths - 1]
    return (states * mask.unsqueeze(-1)).sum(1) / lengths.unsqueeze(-1)
