"""The classification head of a model: what it consists of, how it is drawn, and whether weights
fill all of the rest."""

import copy
import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from sweep.errors import ModelError, format_names, truncate
from sweep.models.float16 import Head

# No other layer of a head has this many outputs, so a layer that does gives the logits.
MARKED_LABELS = 13
# What classes of base models call the option to build a layer on top of the blocks.
POOLING_OPTION = "add_pooling_layer"

# Dotted path -> module. Together they are the head.
Parts = Mapping[str, nn.Module]


@dataclass(frozen=True)
class Loaded:
    """How weights and model differed in loading: tensors missing from the weights, tensors unknown
    to the model, and tensors of another shape: (name, stored, wanted)."""

    missing: Collection[str] = ()
    unexpected: Collection[str] = ()
    mismatched: Collection[tuple[str, Sequence[int], Sequence[int]]] = field(default=())

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> "Loaded":
        """Read the loading info of ``from_pretrained``."""
        return cls(info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])


def without_pooler(loaded: Loaded) -> Loaded:
    """Return ``loaded`` without the missing tensors of a pooler, which works on the vectors of the
    tokens: features are read before it, and weights often lack it."""
    missing = [name for name in loaded.missing if not name.startswith("pooler.")]
    return Loaded(missing, loaded.unexpected, loaded.mismatched)


def read_config(source: str, **options: Any) -> PreTrainedConfig:
    """Return the configuration with which ``source`` is loaded as a classifier."""
    config = AutoConfig.from_pretrained(source, num_labels=MARKED_LABELS, **options)
    # What the model was fine-tuned for earlier does not concern its next classifier.
    config.problem_type = None
    text = config.get_text_config()
    pad, rows = getattr(text, "pad_token_id", None), getattr(text, "vocab_size", None)
    if isinstance(pad, int) and isinstance(rows, int) and pad >= rows:
        # A padding token that was added without a row, which the table of embeddings would refuse.
        text.pad_token_id = None
    return config


def find_head(model: PreTrainedModel, loaded: Loaded, name: str) -> dict[str, nn.Module]:
    """Return the head of ``model``, which was built for `MARKED_LABELS` labels: all layers outside
    its base model, and a pooler inside for which there were no weights.

    Raises ModelError if no linear layer there gives the logits, or if the model could not tell
    texts from padding.
    """
    inner = base_of(model)
    if inner is None:
        raise ModelError(
            f"model {name}'s architecture ({type(model).__name__}) does not separate a base model "
            f"from its classification head; {OTHER_MODEL}"
        )
    outside = {path: part for path, part in model.named_children() if part is not inner}
    outside = {path: part for path, part in outside.items() if any(True for _ in part.parameters())}
    if not any(map(gives_logits, _modules_of(outside))):
        raise ModelError(
            f"model {name}'s classification head ({format_names(sorted(outside), 3) or 'none'} in "
            f"{type(model).__name__}) has no linear layer with an output per label; {OTHER_MODEL}"
        )
    if "attention_mask" not in inspect.signature(model.forward).parameters:
        raise ModelError(
            f"model {name}'s architecture ({type(model).__name__}) takes no attention mask, so the "
            f"padding of shorter texts would count; {OTHER_MODEL}"
        )
    return _find_lacking_pooler(model, inner, loaded) | outside


OTHER_MODEL = "use another model, such as BERT, ModernBERT, Llama, Qwen or Gemma"


def base_of(model: PreTrainedModel) -> nn.Module | None:
    """Return the part of a classifier that other tasks share with it."""
    inner = getattr(model, model.base_model_prefix, None) if model.base_model_prefix else None
    return inner if isinstance(inner, nn.Module) else None


def gives_logits(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) and layer.out_features == MARKED_LABELS


def _modules_of(parts: Parts) -> list[nn.Module]:
    return [module for part in parts.values() for module in part.modules()]


def _find_lacking_pooler(
    model: PreTrainedModel, inner: nn.Module, loaded: Loaded
) -> dict[str, nn.Module]:
    """Return the parts of the base model that its class builds on request only, if the weights
    lack them entirely: models published for other tasks come without a pooler."""
    prefix, missing = model.base_model_prefix, set(loaded.missing)
    lacking = {
        f"{prefix}.{path}": part
        for path, part in inner.named_children()
        if (keys := {f"{prefix}.{path}.{key}" for key, _ in part.named_parameters()})
        and keys <= missing
    }
    if not lacking or POOLING_OPTION not in inspect.signature(type(inner).__init__).parameters:
        return {}
    with torch.device("meta"):
        bare = type(inner)(model.config, **{POOLING_OPTION: False})  # type: ignore[call-arg]
    always = {f"{prefix}.{path}" for path, _ in bare.named_children()}
    return {path: part for path, part in lacking.items() if path not in always}


def is_plain(head: Parts) -> bool:
    """Return whether the head is a single linear layer without bias, as decoders have it."""
    parts = list(head.values())
    return len(parts) == 1 and isinstance(parts[0], nn.Linear) and parts[0].bias is None


def is_of_head(key: str, head: Collection[str]) -> bool:
    """Return whether ``key`` is the name of a weight or layer of the head."""
    return any(key == path or key.startswith(f"{path}.") for path in head)


def draw_head(model: PreTrainedModel, head: Parts, n_labels: int) -> None:
    """Put a new head into ``model``, in float32 and with ``n_labels`` outputs, drawn as the
    architecture initializes it, from PyTorch's default generator. ``head`` stays as it is."""
    # The head may come first, and then tells the model's device.
    device = model.device
    for path, part in head.items():
        model.set_submodule(path, _renew(part, n_labels))
    _initialize(model, head)
    for path in head:
        model.get_submodule(path).to(device)


def _renew(part: nn.Module, n_labels: int) -> nn.Module:
    """Return a copy of ``part`` on the CPU with PyTorch's initial weights."""
    if gives_logits(part):
        return _build_output(part, n_labels)
    fresh = copy.deepcopy(part).cpu().float()
    for path, layer in list(fresh.named_modules()):
        if gives_logits(layer):
            fresh.set_submodule(path, _build_output(layer, n_labels))
        elif hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    return fresh.requires_grad_()


def _build_output(layer: Any, n_labels: int) -> nn.Linear:
    return Head(layer.in_features, n_labels, bias=layer.bias is not None)


def _initialize(model: PreTrainedModel, head: Collection[str]) -> None:
    """Initialize the head as transformers initializes weights that a checkpoint lacks: it skips
    what is marked."""
    parents = {path[:end] for path in head for end in range(len(path)) if path[end] == "."} | {""}
    for path, module in model.named_modules():
        module._is_hf_initialized = not is_of_head(path, head) and path not in parents  # type: ignore[assignment]
    for named in (model.named_parameters(), model.named_buffers()):
        for key, tensor in named:
            if not is_of_head(key, head):
                tensor._is_hf_initialized = True  # type: ignore[attr-defined]
    model.initialize_weights()


def check_loaded(model: PreTrainedModel, head: Collection[str], loaded: Loaded, name: str) -> None:
    """Raise ModelError unless the weights fill all of ``model`` but its head, which is replaced
    anyway."""
    wrong = [entry for entry in loaded.mismatched if not is_of_head(entry[0], head)]
    if wrong:
        tensor, stored, wanted = min(wrong, key=lambda entry: entry[0])
        raise ModelError(
            f"model {name}'s weights and config.json do not match: {truncate(tensor, 80)} is "
            f"{_format_shape(stored)} in the weights but {_format_shape(wanted)} according to "
            "config.json; use weights and config.json of the same model"
        )
    needed = [key for key, _ in model.named_parameters() if not is_of_head(key, head)]
    missing = sorted(set(loaded.missing) & set(needed))
    if missing:
        others = _describe_others(loaded) if len(missing) == len(needed) else ""
        raise ModelError(
            f"model {name}'s weights lack {len(missing)} of the {len(needed)} tensors of a "
            f"{model.config.model_type} model with this config.json "
            f"({format_names(missing, 2, 100)}){others}: they are incomplete or from another "
            "architecture; use weights and config.json of the same model"
        )


def _describe_others(loaded: Loaded) -> str:
    others = sorted(loaded.unexpected)
    return f" and hold {format_names(others, 1, 100)} instead" if others else ""


def describe_left_out(model: PreTrainedModel, loaded: Loaded, name: str) -> str | None:
    """Return a sentence about weights of layers that config.json leaves out, or None."""
    inner = f"{model.base_model_prefix}."
    left = sorted(key for key in loaded.unexpected if key.startswith(inner))
    if not left:
        return None
    return (
        f"model {name}'s weights hold {len(left)} tensors ({format_names(left, 2, 100)}) that the "
        "model described by its config.json does not have; they are left out"
    )


def _format_shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
