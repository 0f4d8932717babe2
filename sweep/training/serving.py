"""A trained classifier, or a reference, as whoever uses it would load it: from texts to classes."""

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn.functional import normalize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sweep.data import CellData, Subset, Subsets
from sweep.models.device import cast_to
from sweep.models.float16 import store_in_float16
from sweep.models.frozen import compute_states, pool_states
from sweep.models.full_pass import build_full_forward
from sweep.plan import FeaturesRef, Recipe, TrialSpec
from sweep.training.batches import Batch, Encoder, build_batch, split_batch
from sweep.training.checkpoint import Tensors
from sweep.training.classifier import build_classifier, merge
from sweep.training.features import choose_mode, compute_features, load_features_model
from sweep.training.fits import Predict, fit_readout

# Training texts of each class that a linear model of features is fitted to here: with more, it has
# the same shape, so the same speed and size.
FEW = 4


@dataclass(frozen=True)
class Served:
    """What scores texts, and the bytes that all of it takes on disk."""

    predict: Predict
    size_bytes: int


class GpuPeak:
    """The most memory allocated on a GPU since ``reset``, in bytes."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def reset(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._device)

    def read(self) -> int | None:
        return int(torch.cuda.max_memory_allocated(self._device))


def load_trial(
    spec: TrialSpec, dtype: str, source: str, weights: Tensors, device: torch.device
) -> Served:
    """Return the classifier that a trial trained, with the ``weights`` of its best epoch.

    It is a plain model of transformers with its own forward pass, its weights in the number format
    ``dtype`` of the trial's passes. An adapter is merged into them, as in an export with --merge,
    where it costs nothing any more.
    """
    # In 16 bits as stored: float32 might not fit where the trial did.
    stored = torch.float32 if dtype == "float32" else "auto"
    base, classifier = build_classifier(spec, source, weights, stored)
    model = merge(classifier)
    if dtype == "float16":
        store_in_float16(model.to(device))
        for path in base.head:
            # As in training: logits need the range.
            model.get_submodule(path).float()
    else:
        model.to(device, getattr(torch, dtype))
    forward, tokenizer = build_full_forward(model), base.tokenizer
    # Only float16 is too narrow for a pass without float32 in it.
    passes = torch.float16 if dtype == "float16" else torch.float32

    @torch.inference_mode()
    def predict(texts: Sequence[str]) -> list[int]:
        found = []
        with cast_to(device, passes):
            for batch in read_texts(tokenizer, spec.recipe, texts, device):
                found.append(forward(batch.input_ids, batch.attention_mask).argmax(-1))
        return [index for each in found for index in each.tolist()]

    return Served(predict, measure_size(model, tokenizer))


def load_features(
    ref: FeaturesRef, subsets: Subsets, data: CellData, device: torch.device
) -> Served:
    """Return a pretrained model with a linear model of its features, fitted to a few texts."""
    frozen = load_features_model(ref, subsets)
    few = take_few(data.training)
    if ref.pooling == "auto":
        encoded = Encoder(frozen.tokenizer, ref.recipe.max_length).encode(few.texts, few.classes)
        ref = replace(ref, pooling=choose_mode(frozen, encoded))
    readout = fit_readout(compute_features(ref, frozen, few.texts), few, few)
    frozen.model.to(device)

    @torch.inference_mode()
    def predict(texts: Sequence[str]) -> list[int]:
        found = []
        for batch in read_texts(frozen.tokenizer, ref.recipe, texts, device):
            states = compute_states(frozen, batch.input_ids, batch.attention_mask)
            pooled = pool_states(states, batch.attention_mask, ref.pooling)
            pooled = normalize(pooled) if ref.normalized else pooled
            found += readout(pooled.cpu().numpy())
        return found

    size = measure_size(frozen.model, frozen.tokenizer) + len(pickle.dumps(readout))
    return Served(predict, size)


def read_texts(
    tokenizer: PreTrainedTokenizerBase,
    recipe: Recipe,
    texts: Sequence[str],
    device: torch.device,
) -> Iterator[Batch]:
    """Tokenize ``texts``, and yield them in their order, in as few parts as memory allows."""
    # Anew each time: an encoder remembers the texts that it has seen.
    encoded = Encoder(tokenizer, recipe.max_length).encode(texts, [0] * len(texts))
    for part in split_batch(range(len(texts)), encoded.lengths, recipe.max_batch_tokens):
        yield build_batch(encoded, part, tokenizer.pad_token_id, device)  # type: ignore[arg-type]


def take_few(training: Subset) -> Subset:
    """Return the first few texts of each class."""
    chosen = [
        index
        for label in range(len(training.labels))
        for index in [i for i, each in enumerate(training.classes) if each == label][:FEW]
    ]
    return Subset(
        labels=training.labels,
        texts=tuple(training.texts[index] for index in chosen),
        classes=tuple(training.classes[index] for index in chosen),
        items=tuple(training.items[index] for index in chosen),
    )


def measure_size(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the bytes that model and tokenizer take on disk; tensors that share memory count
    once."""
    tensors: dict[int, int] = {t.data_ptr(): t.nbytes for t in model.state_dict().values()}
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        model.config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        return sum(tensors.values()) + sum(path.stat().st_size for path in files)
