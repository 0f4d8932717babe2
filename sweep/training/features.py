"""Features of texts: vectors that a pretrained model gives of them, without being trained."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize

from sweep.data import Subsets
from sweep.errors import ModelError
from sweep.models.base import materialize
from sweep.models.frozen import Frozen, compute_states, is_causal, load_frozen, pool_states
from sweep.plan import FeaturesRef, scored_at_once
from sweep.training.batches import Encoded, Encoder, build_batch, order_scoring, split_batch
from sweep.training.text_features import TextFeatures

CPU = torch.device("cpu")


def load_features_model(ref: FeaturesRef, subsets: Subsets) -> Frozen:
    # A tiny family is built in a folder of its own: workers may not see the run's.
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        source = materialize(ref.model, Path(folder), subsets.training_texts)
        return load_frozen(ref.model, source)


def compute_features(ref: FeaturesRef, frozen: Frozen, texts: Sequence[str]) -> TextFeatures:
    """Return the features of ``texts``, each of which passes through the model once.

    Raises ModelError if some are not finite numbers.
    """
    start = time.perf_counter()
    recipe, unique = ref.recipe, list(dict.fromkeys(texts))
    encoder = Encoder(frozen.tokenizer, recipe.max_length, frozen.rows)
    encoded = encoder.encode(unique, [0] * len(unique))
    mode = ref.pooling if ref.pooling != "auto" else choose_mode(frozen, encoded)
    seconds = np.full(len(unique), (time.perf_counter() - start) / max(1, len(unique)))
    vectors = np.empty((0, 0), np.float32)
    for part, pooled, taken in _pass(ref, frozen, encoded, mode):
        if not vectors.size:
            vectors = np.empty((len(unique), pooled.shape[1]), np.float32)
        vectors[part] = pooled.numpy()
        seconds[part] += taken / len(part)
    if not np.isfinite(vectors).all():
        raise ModelError(f"model {frozen.name} gives features that are not finite numbers")
    return TextFeatures({text: i for i, text in enumerate(unique)}, vectors, seconds)


def choose_mode(frozen: Frozen, encoded: Encoded) -> str:
    """Return ``last`` for a decoder, whose other tokens see only a part of the text, else
    ``mean``."""
    varied = max(encoded.ids, key=lambda ids: len(set(ids)))
    return "last" if len(set(varied)) > 1 and is_causal(frozen, varied) else "mean"


def _pass(
    ref: FeaturesRef, frozen: Frozen, encoded: Encoded, mode: str
) -> Iterator[tuple[list[int], torch.Tensor, float]]:
    """Yield batches: positions of their texts, vectors (texts, width) and seconds."""
    pad_id = frozen.tokenizer.pad_token_id
    for indices in order_scoring(encoded.lengths, scored_at_once(ref.recipe)):
        for part in split_batch(indices, encoded.lengths, ref.recipe.max_batch_tokens):
            start = time.perf_counter()
            batch = build_batch(encoded, part, pad_id, CPU)
            states = compute_states(frozen, batch.input_ids, batch.attention_mask)
            pooled = pool_states(states, batch.attention_mask, mode)
            pooled = normalize(pooled) if ref.normalized else pooled
            yield part, pooled, time.perf_counter() - start
