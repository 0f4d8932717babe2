"""Base models with their tokenizers, loaded for one trial after another."""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sweep.errors import ModelError, format_error
from sweep.models.device import convert_dtype, convert_full, is_out_of_memory
from sweep.models.forward_pass import ignores_padding
from sweep.models.full_pass import ForwardPass, build_full_forward
from sweep.models.heads import Loaded, base_of, check_loaded, find_head, is_of_head, read_config
from sweep.models.sources import is_local
from sweep.models.tiny import build_tiny_model
from sweep.models.tiny_configs import TINY_PREFIX
from sweep.models.vocabulary import check_vocabulary, choose_padding, count_rows
from sweep.plan import ModelRef
from sweep.storage.atomic import create_folder

# The file in a tiny model's folder with the hash of the texts that its tokenizer was built on.
TEXTS_MARK = ".texts"


@dataclass
class Base:
    """A base model with its tokenizer, ready for one trial after another."""

    ref: ModelRef
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    # The number format of its passes. Weights that are all trained are float32 nevertheless.
    dtype: torch.dtype
    device: torch.device
    # Computes its logits, with adapter and head while these are attached.
    forward: ForwardPass
    # Head and class names that it was loaded with, which it gets back after each trial.
    head: dict[str, nn.Module]
    names: dict[int, str]
    # Parts of the base model that no text passes through, such as a tower for images.
    unused: tuple[str, ...] = ()
    # Where all weights are trained: those that it was loaded with, on the CPU.
    original: dict[str, torch.Tensor] = field(default_factory=dict)


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


def load_pretrained(
    kind: Any, ref: ModelRef, source: str, dtype: torch.dtype | str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Loaded]:
    """Load the model of ``ref`` from ``source`` (see ``materialize``) as a ``kind``, such as
    ``AutoModel``; return it, its tokenizer, and how its weights fit, which the caller has to check.
    ``dtype`` "auto": as stored.

    Raises ModelError if a file is missing or unusable.
    """
    options: dict[str, Any] = {"trust_remote_code": ref.trust_remote_code}
    # Otherwise the library may have a third-party service convert weights, and use the result.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    if not is_local(source):
        options["revision"] = ref.revision
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model, info = kind.from_pretrained(
            source, config=read_config(source, **options), dtype=dtype,
            use_safetensors=None if ref.allow_pickle else True,
            # `check_loaded` refuses any mismatch with a sentence, except in a head.
            ignore_mismatched_sizes=True, output_loading_info=True, **options,
        )  # fmt: skip
    except Exception as error:  # the libraries raise all kinds of errors for damaged files
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"model {ref.name}: {source} cannot be loaded ({format_error(error)})"
        ) from error
    return model, tokenizer, Loaded.from_info(info)


def load_base(ref: ModelRef, source: str, dtype: str, device: torch.device) -> Base:
    """Load the base model of ``ref`` from ``source`` (see ``materialize``), frozen, in ``dtype``.

    Raises ModelError with the remedy if weights, tokenizer or padding are missing or unusable.
    """
    stored = torch.float32 if dtype == "float32" else "auto"
    model, tokenizer, head = _load_checked(ref, source, stored)
    unused = find_unused(model)
    if ref.method == "full":
        original = {
            key: value.clone()
            for key, value in model.state_dict().items()
            if not is_of_head(key, (*head, *unused))
        }
        model, forward, pass_dtype = convert_full(model, dtype, device)
    else:
        original = {}
        model, forward = convert_dtype(model, dtype, device)
        pass_dtype = model.dtype
    parts = {path: model.get_submodule(path) for path in head}
    names = model.config.id2label
    return Base(ref, model, tokenizer, pass_dtype, device, forward, parts, names, unused, original)


def load_stock_base(ref: ModelRef, source: str, dtype: torch.dtype | str) -> Base:
    """Load the base model of ``ref`` as ``load_base`` does, for one classifier: on the CPU, in
    ``dtype`` ("auto": as stored), and with the forward pass that transformers gives it."""
    model, tokenizer, head = _load_checked(ref, source, dtype)
    forward = ForwardPass.of_rectangles(build_full_forward(model))
    names, unused = model.config.id2label, find_unused(model)
    return Base(ref, model, tokenizer, model.dtype, model.device, forward, head, names, unused)


def _load_checked(
    ref: ModelRef, source: str, dtype: torch.dtype | str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, nn.Module]]:
    """Return the model of ``ref``, frozen, its tokenizer and its head."""
    model, tokenizer, loaded = load_pretrained(
        AutoModelForSequenceClassification, ref, source, dtype
    )
    head = find_head(model, loaded, ref.name)
    check_loaded(model, head, loaded, ref.name)
    set_padding(model, tokenizer, ref.name)
    model.requires_grad_(False)
    if not ignores_padding(model):
        raise ModelError(
            f"model {ref.name}'s classifier ({type(model).__name__}) gives a text other logits "
            "beside longer ones, padded on the right, than alone; use another model"
        )
    return model, tokenizer, head


def has_padded_positions(model: PreTrainedModel) -> bool:
    """Return whether positions are counted from the padding token's number, as in RoBERTa."""
    return any(
        isinstance(layer, nn.Embedding) and layer.padding_idx is not None
        for path, layer in model.named_modules()
        if "position" in path.rpartition(".")[2]
    )


@torch.no_grad()
def find_unused(model: PreTrainedModel, run: Callable[[], object] | None = None) -> tuple[str, ...]:
    """Return the parts of the base model that no text passes through, as dotted paths; ``run``
    passes one, if the model's own forward pass cannot."""
    inner = base_of(model)
    parts = dict(inner.named_children()) if inner else {}
    stacks = [part for part in parts.values() if _holds_blocks(part)]
    if len(stacks) < 2:
        return ()
    called: set[nn.Module] = set()
    hooks = [
        module.register_forward_pre_hook(lambda module, _: called.add(module))
        for part in parts.values()
        for module in part.modules()
    ]
    if run is not None:
        run()
    else:
        ids = torch.ones(1, 4, dtype=torch.long, device=model.device)
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    for hook in hooks:
        hook.remove()
    return tuple(
        f"{model.base_model_prefix}.{path}"
        for path, part in parts.items()
        if called.isdisjoint(part.modules())
    )


def _holds_blocks(part: nn.Module) -> bool:
    return any(isinstance(module, nn.ModuleList) for module in part.modules())


def set_padding(model: PreTrainedModel, tokenizer: Any, name: str) -> None:
    """Make model and tokenizer agree on a padding token; the attention mask hides it either way.

    Where positions are counted from its number, it stays the one that the weights were trained
    with.

    Raises ModelError if the tokenizer is not the model's.
    """
    rows = count_rows(model)
    check_vocabulary(tokenizer, rows, name)
    padding = choose_padding(tokenizer, rows, name)
    if padding != tokenizer.pad_token:
        tokenizer.pad_token = padding
    tokenizer.padding_side = "right"
    known = model.config.get_text_config().pad_token_id
    if isinstance(known, int) and has_padded_positions(model):
        return
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
