"""Classifiers of random weights, and forward passes compared with the models' own."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sweep.models.checkpointing import enable_checkpointing
from sweep.models.flat.texts import FlatTexts
from sweep.models.heads import base_of

# The sizes of a small encoder and, with key heads of its own, of a small decoder.
ENCODER: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0, "num_labels": 5,
}  # fmt: skip
DECODER = ENCODER | {"num_key_value_heads": 2}


def build(config: PreTrainedConfig) -> PreTrainedModel:
    """Return a frozen classifier whose every weight is random, norms and biases too."""
    # Building a model writes into its configuration.
    model = AutoModelForSequenceClassification.from_config(copy.deepcopy(config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.requires_grad_(False)
    return model.eval()


def draw_texts() -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask of texts of 1 to 20 tokens, padded right."""
    mask = torch.arange(20) < torch.tensor([[20], [1], [7], [13], [19]])
    return torch.randint(1, 96, (5, 20)).where(mask, 0), mask.long()


def compare(
    logits: torch.Tensor,
    found: torch.Tensor,
    weights: list[nn.Parameter],
    fast: list[nn.Parameter],
) -> None:
    """Assert that two passes give the same logits, and the same gradients of their weights."""
    torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-5)
    for each in (logits, found):
        torch.autograd.backward(each.square().sum())
    # Some are zero but for rounding: a key's bias adds the same to all scores of a query.
    rounding = 1e-6 * max(float(weight.grad.abs().max()) for weight in weights)  # type: ignore[union-attr]
    for expected, weight in zip(weights, fast, strict=True):
        assert expected.grad is not None
        atol = 1e-5 * float(expected.grad.abs().max()) + rounding
        torch.testing.assert_close(weight.grad, expected.grad, rtol=1e-3, atol=atol)


def flatten(ids: torch.Tensor, mask: torch.Tensor) -> FlatTexts:
    return FlatTexts.from_padded(ids, mask, 0)


def run_whole(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return logits


def adapt_all(model: PreTrainedModel, dropout: float = 0.0, rank: int = 3) -> list[nn.Parameter]:
    """Give every linear layer but those of the head an adapter; return what is trained, adapters
    and head, none of it zero."""
    # PEFT adds its own names of heads, and takes every name that ends with one for that.
    outside = [name for name, part in model.named_children() if part is not base_of(model)]
    head = [name for name in outside if [*model.get_submodule(name).parameters()]]
    config = LoraConfig(
        task_type="SEQ_CLS", r=rank, lora_alpha=5, lora_dropout=dropout,
        target_modules="all-linear",
        modules_to_save=[name for name in head if name not in ("classifier", "score")] or None,
        fan_in_fan_out=any(isinstance(m, Conv1D) for m in model.modules()),
    )  # fmt: skip
    adapted = get_peft_model(model, config)
    weights = [p for p in adapted.parameters() if p.requires_grad]
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in weights:
            weight.normal_(std=0.2)
    return weights


def check_checkpointing(model: PreTrainedModel, forward: Callable[[FlatTexts], object]) -> None:
    """Assert that a pass of ``model``, set to gradient checkpointing, keeps little of each
    block."""
    texts = flatten(*draw_texts())
    model.requires_grad_(True)
    all_of_it = _count_kept(lambda: forward(texts))
    enable_checkpointing(model)
    assert _count_kept(lambda: forward(texts)) < all_of_it / 2


def _count_kept(run: Callable[[], object]) -> int:
    """Return how many values autograd keeps of a pass."""
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        # Let go of, what is kept could make room for the next.
        result = run()
    assert result is not None
    return sum(tensor.numel() for tensor in kept.values())
