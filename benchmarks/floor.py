"""A lower bound to compare the engines with: the time that the arithmetic of the trials takes at
the speed of this machine's matrix multiplications."""

import time

import torch
from torch import nn

from sweep.data import CellData
from sweep.models.base import Base
from sweep.plan import TrialSpec
from sweep.training.batches import Encoder
from sweep.training.trial import encode_cell

# How long matrix multiplications are timed.
SECONDS = 0.5
# Tokens at a time: as many as the device needs to reach its full speed.
TOKENS = {"cpu": 2048, "cuda": 16_384}


def measure_matmul(device: torch.device, dtype: torch.dtype, width: int) -> float:
    """Return the floating-point operations per second of multiplications as wide as the model's
    layers, `TOKENS` at a time, on all cores or the complete GPU."""
    tokens = TOKENS[device.type]
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
    """Return the minimum number of operations to train and score one trial.

    Two per weight and token forward, and two backward to the activations: the frozen weights need
    no gradient. Only weights of matrix multiplications count, not the embedding's lookup. The
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
