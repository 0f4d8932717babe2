"""The least time the arithmetic of a set of trials takes at the speed of this machine's matrix
products, to hold the engines against."""

import time

import torch
from torch import nn

from sweep.data import CellData
from sweep.models.base import Base
from sweep.plan import TrialSpec
from sweep.training.batches import Encoder
from sweep.training.trial import encode_cell

SECONDS = 0.5
"""How long the matrix products are timed."""


def measure_matmul(device: torch.device, dtype: torch.dtype, width: int) -> float:
    """Return the floating-point operations a second of products as wide as the model's layers,
    2048 tokens at a time, on every core or the whole GPU."""
    tokens = 2048
    x = torch.randn(tokens, width, device=device, dtype=dtype)
    weight = torch.randn(4 * width, width, device=device, dtype=dtype)
    nn.functional.linear(x, weight)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        for _ in range(4):
            nn.functional.linear(x, weight)
        count += 4
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return count * 2 * tokens * width * 4 * width / (time.perf_counter() - start)


def count_operations(base: Base, data: CellData, spec: TrialSpec) -> float:
    """Return the operations that training and scoring one trial cannot do without.

    Two for each weight and token forward, and two back to the activations: the frozen weights
    need no gradient. Weights are those of matrix products, the embedding's lookup aside. The
    validation texts are scored every epoch, the test texts once.
    """
    weights = sum(
        parameter.numel()
        for name, parameter in base.model.named_parameters()
        if parameter.ndim == 2 and not _is_lookup(base, name)
    )
    encoder = Encoder(base.tokenizer, spec.recipe.max_length)
    texts, epochs = encode_cell(encoder, data), spec.recipe.max_epochs
    scored = epochs * texts.validation.tokens + texts.test.tokens
    return weights * (4.0 * epochs * texts.training.tokens + 2.0 * scored)


def _is_lookup(base: Base, name: str) -> bool:
    module = base.model.get_submodule(name.rpartition(".")[0])
    return isinstance(module, nn.Embedding)
