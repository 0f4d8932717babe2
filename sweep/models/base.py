"""Base models, tokenizers and LoRA classifiers."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D

from sweep.errors import ModelError, format_error
from sweep.models.device import convert_dtype, is_out_of_memory
from sweep.models.float16 import Head
from sweep.models.fused import speed_up
from sweep.models.heads import Loaded, check_loaded, find_score, read_config
from sweep.models.last_token import LastTokenForward
from sweep.models.memory import activation_bytes
from sweep.models.shape import read_shape
from sweep.models.sources import is_local
from sweep.models.tiny import build_tiny_model
from sweep.models.tiny_configs import TINY_PREFIX
from sweep.models.vocabulary import check_vocabulary, choose_padding, count_rows
from sweep.plan import Candidate, ModelRef
from sweep.seeds import derive_seed
from sweep.storage.atomic import create_folder

# The file in a tiny model's folder with the hash of the texts that its tokenizer was built on.
TEXTS_MARK = ".texts"


@dataclass
class Base:
    """A frozen base model with its tokenizer, ready for one adapter after another."""

    ref: ModelRef
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    dtype: torch.dtype
    device: torch.device
    # Computes its logits, with adapter and head while these are attached.
    last_token_forward: LastTokenForward
    # Head and class names that it was loaded with, which it gets back after each trial.
    head: nn.Linear
    names: dict[int, str]


def materialize(ref: ModelRef, folder: Path, texts: Iterable[str]) -> str:
    """Return what ``from_pretrained`` takes for ``ref``.

    A tiny family is first written below ``folder`` as an ordinary model folder, with a tokenizer
    built on ``texts``. If one built on other texts is there already, it gets another name.
    """
    if not ref.path.startswith(TINY_PREFIX):
        return str(Path(ref.path).expanduser()) if is_local(ref.path) else ref.path
    texts = list(texts)
    mark, target = _hash_texts(texts), folder / ref.revision
    if target.exists() and _read_mark(target) != mark:
        target = folder / f"{ref.revision}-{mark}"
    if not target.exists():
        _write_tiny(ref.path.removeprefix(TINY_PREFIX), target, texts, mark)
    return str(target)


def _hash_texts(texts: Iterable[str]) -> str:
    """Return a hash of ``texts`` in any order: order makes no difference to a tokenizer."""
    digest = hashlib.sha256()
    for text in sorted(texts):
        digest.update(f"{len(text)} {text}\0".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:12]


def _read_mark(folder: Path) -> str:
    path = folder / TEXTS_MARK
    return path.read_text() if path.is_file() else ""


def _write_tiny(family: str, target: Path, texts: Iterable[str], mark: str) -> None:
    with create_folder(target) as folder:
        build_tiny_model(family, texts, folder)
        (folder / TEXTS_MARK).write_text(mark)


def load_base(ref: ModelRef, source: str, dtype: str, device: torch.device) -> Base:
    """Load the base model of ``ref`` from ``source`` (see ``materialize``), frozen, in ``dtype``.

    Raises ModelError with the remedy if weights, tokenizer or padding are missing or unusable.
    """
    options: dict[str, Any] = {"trust_remote_code": ref.trust_remote_code}
    # Otherwise the library may have a third-party service convert weights, and use the result.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    if not is_local(source):
        options["revision"] = ref.revision
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            source, config=read_config(source, **options),
            dtype=torch.float32 if dtype == "float32" else "auto",
            use_safetensors=None if ref.allow_pickle else True,
            # For the head only, which is replaced: `check_loaded` refuses any other mismatch.
            ignore_mismatched_sizes=True, output_loading_info=True, **options,
        )  # fmt: skip
    except Exception as error:  # the libraries raise all kinds of errors for damaged files
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"model {ref.name}: {source} cannot be loaded ({format_error(error)})"
        ) from error
    find_score(model, ref.name)
    check_loaded(model, Loaded.from_info(info), ref.name)
    set_padding(model, tokenizer, ref.name)
    model.requires_grad_(False)
    model, forward = convert_dtype(model, dtype, device)
    return Base(
        ref, model, tokenizer, model.dtype, device, forward, model.score, model.config.id2label
    )


def set_padding(model: PreTrainedModel, tokenizer: Any, name: str) -> None:
    """Make model and tokenizer agree on a padding token; the attention mask hides it either way.

    Raises ModelError if the tokenizer is not the model's.
    """
    rows = count_rows(model)
    check_vocabulary(tokenizer, rows, name)
    padding = choose_padding(tokenizer, rows, name)
    if padding != tokenizer.pad_token:
        tokenizer.pad_token = padding
    tokenizer.padding_side = "right"
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    model.config.pad_token_id = tokenizer.pad_token_id


def attach_adapter(
    base: Base, labels: tuple[str, ...], candidate: Candidate, seed: int
) -> PeftModel:
    """Return ``base`` with a new LoRA adapter and a new classification head, both float32.

    Every linear layer (GPT-2's Conv1D too) gets an adapter unless the configuration names target
    modules; Dettmers et al. 2023 (arXiv:2305.14314) found that this is needed to match full
    fine-tuning. Weights depend only on ``seed`` and shapes.
    """
    torch.manual_seed(derive_seed(seed, "adapter"))
    _replace_head(base, labels)
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=candidate.lora_rank,
        lora_alpha=candidate.lora_alpha,  # type: ignore[arg-type]
        lora_dropout=candidate.lora_dropout,
        target_modules=list(base.ref.target_modules or ()) or "all-linear",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in base.model.modules()),
    )
    try:
        model = get_peft_model(base.model, config)
    except ValueError as error:
        raise ModelError(
            f"model {base.ref.name}: target_modules {base.ref.target_modules} match no layer that "
            "LoRA can adapt; leave the key out to adapt every linear layer"
        ) from error
    speed_up(model)
    return _float_trainable(model)


def _replace_head(base: Base, labels: tuple[str, ...]) -> None:
    find_score(base.model, base.ref.name)
    _name_classes(base.model, dict(enumerate(labels)))
    text_config = base.model.config.get_text_config()
    # Its input is not always as wide as the blocks: OPT may project their output.
    head = Head(base.head.in_features, len(labels), bias=False)
    nn.init.normal_(head.weight, std=getattr(text_config, "initializer_range", 0.02))
    base.model.score = head.to(base.device)


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


def needs_checkpointing(base: Base, wanted: str | bool, rank: int, tokens: int) -> bool:
    """Return whether a training step of ``tokens`` should use gradient checkpointing: as
    ``wanted`` says or, for "auto", if its activations would take over 80 % of the GPU's free
    memory.

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
    free, _ = torch.cuda.mem_get_info(base.device)
    return tokens * activation_bytes(shape, rank, base.dtype.itemsize) > 0.8 * free


def set_checkpointing(base: Base, on: bool) -> None:
    if on:
        # The reentrant form computes no gradient where a block's input needs none, as here.
        base.model.activation_checkpointing_enable({"use_reentrant": False})
    elif base.model.is_activation_checkpointing:
        base.model.activation_checkpointing_disable()


def detach_adapter(base: Base, model: PeftModel) -> None:
    """Remove adapter and head, so that ``base`` is as it was when it was loaded."""
    set_checkpointing(base, False)
    base.model = model.unload()
    if hasattr(base.model, "peft_config"):
        del base.model.peft_config
    # PEFT leaves in its trained copies of whole layers.
    for name, module in list(base.model.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            base.model.set_submodule(name, module.original_module)
    base.model.score = base.head
    _name_classes(base.model, base.names)
    base.model.requires_grad_(False)
    base.model.eval()
