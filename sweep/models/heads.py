"""The classification head of a model, and whether its weights fill all of the rest."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from sweep.errors import ModelError, format_names, truncate

HEAD = "score"
HEAD_PREFIX = f"{HEAD}."

# No other layer has this many outputs, so a layer that does is the head.
MARKED_LABELS = 13


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


def find_score(model: PreTrainedModel, name: str) -> nn.Linear:
    """Return the head of ``model``. Raise ModelError, naming the head that it has, unless that is
    a single linear layer called ``score``, the only kind that can be trained and removed here."""
    head = getattr(model, HEAD, None)
    if isinstance(head, nn.Linear):
        return head
    kind = type(model).__name__
    raise ModelError(
        f"model {name}'s classification head ({_describe_head(model)} in {kind}) is not a "
        "linear layer called 'score', and no other is supported yet; use a decoder such as Llama, "
        "Qwen, Gemma or GPT-2"
    )


def _describe_head(model: PreTrainedModel) -> str:
    wide = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == model.config.num_labels
    ]
    name = wide[-1] if wide else ""
    inner = f"{model.base_model_prefix}."
    return (
        f"'{name.split('.')[0]}'" if name and not name.startswith(inner) else "a layer of its own"
    )


def check_loaded(model: PreTrainedModel, loaded: Loaded, name: str) -> None:
    """Raise ModelError unless the weights fill all of ``model`` but its head, which is replaced
    anyway."""
    wrong = [entry for entry in loaded.mismatched if not entry[0].startswith(HEAD_PREFIX)]
    if wrong:
        tensor, stored, wanted = min(wrong, key=lambda entry: entry[0])
        raise ModelError(
            f"model {name}'s weights and config.json do not match: {truncate(tensor, 80)} is "
            f"{_format_shape(stored)} in the weights but {_format_shape(wanted)} according to "
            "config.json; use weights and config.json of the same model"
        )
    needed = [key for key, _ in model.named_parameters() if not key.startswith(HEAD_PREFIX)]
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
