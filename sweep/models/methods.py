"""How a base model is fine-tuned: by LoRA adapters, or all of it; and how it becomes again what it
was, for the next trial."""

import re
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sweep.errors import ModelError
from sweep.models.base import Base
from sweep.models.checkpointing import (
    disable_checkpointing,
    enable_checkpointing,
    is_checkpointing,
)
from sweep.models.device import free_gpu_memory
from sweep.models.formulas import activation_bytes, full_activation_bytes
from sweep.models.fused import speed_up
from sweep.models.heads import draw_head
from sweep.models.memory import STATE_BYTES
from sweep.models.shape import ModelShape, read_shape
from sweep.plan import Candidate, LoraSettings
from sweep.seeds import derive_seed

# Names of PyTorch's generator streams.
ADAPTER, HEAD = "adapter", "head"


def attach(base: Base, labels: tuple[str, ...], candidate: Candidate, seed: int) -> Any:
    """Return the classifier that ``candidate`` trains: ``base`` with a new head and, for LoRA, a
    new adapter. What is trained requires gradients and is float32. Initial weights depend only on
    ``seed`` and shapes."""
    if candidate.lora is not None:
        return attach_adapter(base, labels, candidate, seed)
    return unfreeze(base, labels, seed)


def detach(base: Base, model: Any) -> None:
    """Make ``base`` what it was before ``attach`` returned ``model``."""
    set_checkpointing(base, False)
    if isinstance(model, PeftModel):
        _remove_adapter(base, model)
    else:
        _restore_weights(base)
    for path, part in base.head.items():
        base.model.set_submodule(path, part)
    _name_classes(base.model, base.names)
    base.model.requires_grad_(False)
    base.model.eval()


def unfreeze(base: Base, labels: tuple[str, ...], seed: int) -> PreTrainedModel:
    """Return ``base`` with a new head and all weights trained, but those that no text passes
    through."""
    torch.manual_seed(derive_seed(seed, HEAD))
    _replace_head(base, labels)
    base.model.requires_grad_(True)
    for path in base.unused:
        base.model.get_submodule(path).requires_grad_(False)
    return base.model


@torch.no_grad()
def _restore_weights(base: Base) -> None:
    # Copied in place: the last-token pass holds on to the modules.
    current = base.model.state_dict()
    for key, value in base.original.items():
        current[key].copy_(value)
    for parameter in base.model.parameters():
        parameter.grad = None


def attach_adapter(
    base: Base, labels: tuple[str, ...], candidate: Candidate, seed: int
) -> PeftModel:
    """Return ``base`` with a new LoRA adapter and a new classification head, both float32.

    Every linear layer (GPT-2's Conv1D too) gets an adapter unless the configuration names target
    modules; Dettmers et al. 2023 (arXiv:2305.14314) found that this is needed to match full
    fine-tuning. Weights depend only on ``seed`` and shapes.
    """
    torch.manual_seed(derive_seed(seed, ADAPTER))
    _replace_head(base, labels)
    try:
        model = get_peft_model(base.model, build_lora_config(base, lora_of(candidate)))
    except ValueError as error:
        raise ModelError(
            f"model {base.ref.name}: target_modules {base.ref.target_modules} match no layer that "
            "LoRA can adapt; leave the key out to adapt every linear layer"
        ) from error
    speed_up(model)
    return _float_trainable(model)


def lora_of(candidate: Candidate) -> LoraSettings:
    """Return the adapter of ``candidate``; raise ValueError if it has none."""
    if candidate.lora is None:
        raise ValueError("the candidate trains all weights: it has no adapter")
    return candidate.lora


def build_lora_config(base: Base, lora: LoraSettings) -> LoraConfig:
    """Return PEFT's settings. The head is trained beside the adapters, and what no text passes
    through gets none."""
    unused = "|".join(map(re.escape, base.unused))
    return LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=list(base.ref.target_modules or ()) or "all-linear",
        exclude_modules=rf"({unused})\..*" if unused else None,
        # PEFT adds its own names of heads, "classifier" and "score".
        modules_to_save=[path for path in base.head if path not in ("classifier", "score")] or None,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in base.model.modules()),
    )


def _replace_head(base: Base, labels: tuple[str, ...]) -> None:
    _name_classes(base.model, dict(enumerate(labels)))
    draw_head(base.model, base.head, len(labels))


def _name_classes(model: PreTrainedModel, names: dict[int, str]) -> None:
    config = model.config
    config.id2label = names
    config.label2id = {name: index for index, name in names.items()}
    model.num_labels = len(names)


def _float_trainable(model: PeftModel) -> PeftModel:
    # bfloat16 would lose small updates of AdamW's, so trainable weights stay float32.
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def state_bytes(base: Base, model: nn.Module) -> int:
    """Return the bytes that training ``model``, attached to ``base``, takes beside its weights and
    activations: gradients, moments, best weights and, of weights that are all trained, copies in
    the number format of a pass."""
    copied = base.ref.method == "full" and base.dtype != torch.float32
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained * (STATE_BYTES + (base.dtype.itemsize if copied else 0))


def needs_checkpointing(
    base: Base, wanted: str | bool, rank: int, tokens: int, pending: int = 0
) -> bool:
    """Return whether a training step of ``tokens`` should use gradient checkpointing: as
    ``wanted`` says or, for "auto", if its activations would take over 80 % of the GPU's free
    memory, less the ``pending`` bytes that the trial has yet to allocate beside them.

    Raises ModelError if it is wanted of a model that does not support it.
    """
    if not base.model.supports_gradient_checkpointing:
        if wanted is True:
            raise ModelError(
                f"model {base.ref.name}'s architecture does not support gradient checkpointing; "
                "set train.gradient_checkpointing=false"
            )
        return False
    if isinstance(wanted, bool):
        return wanted
    shape = read_shape(base.model.config.to_dict())
    if base.device.type != "cuda" or shape is None:
        return False
    return tokens * _kept_bytes(base, shape, rank) > 0.8 * (free_gpu_memory(base.device) - pending)


def _kept_bytes(base: Base, shape: ModelShape, rank: int) -> float:
    """Return the bytes per token that a training step keeps on a GPU for its backward pass."""
    if base.ref.method == "full":
        return full_activation_bytes(shape, base.dtype.itemsize)
    dtype = str(base.dtype).removeprefix("torch.")
    return activation_bytes(shape, rank, dtype, on_gpu=True)


def set_checkpointing(base: Base, on: bool) -> None:
    if on:
        enable_checkpointing(base.model)
    elif is_checkpointing(base.model):
        disable_checkpointing(base.model)


def _remove_adapter(base: Base, model: PeftModel) -> None:
    base.model = model.unload()
    if hasattr(base.model, "peft_config"):
        del base.model.peft_config
    # PEFT leaves in its trained copies of whole layers.
    for name, module in list(base.model.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            base.model.set_submodule(name, module.original_module)
