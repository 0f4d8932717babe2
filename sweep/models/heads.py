"""The classification head of a model, and whether a checkpoint filled the rest of it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from sweep.errors import ModelError, format_names, truncate

HEAD = "score"
HEAD_PREFIX = f"{HEAD}."

# A count that no other layer's width is, so that a layer of that many outputs is the head.
MARKED_LABELS = 13


@dataclass(frozen=True)
class Loaded:
    """What loading a checkpoint left over: tensors that the model wants and the checkpoint lacks,
    tensors without a place in the model, and those of another shape: (name, stored, wanted)."""

    missing: Collection[str] = ()
    unexpected: Collection[str] = ()
    mismatched: Collection[tuple[str, Sequence[int], Sequence[int]]] = field(default=())

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> "Loaded":
        """Return what ``from_pretrained`` gave as its loading info."""
        return cls(info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])


def read_config(source: str, **options: Any) -> PreTrainedConfig:
    """Return the configuration of a classifier of ``source``'s architecture, to be loaded."""
    config = AutoConfig.from_pretrained(source, num_labels=MARKED_LABELS, **options)
    # What a checkpoint was fine-tuned for before is nothing to its next classifier.
    config.problem_type = None
    text = config.get_text_config()
    pad, rows = getattr(text, "pad_token_id", None), getattr(text, "vocab_size", None)
    if isinstance(pad, int) and isinstance(rows, int) and pad >= rows:
        # A padding token that was added without a row: the table of embeddings would refuse it.
        text.pad_token_id = None
    return config


def find_score(model: PreTrainedModel, name: str) -> nn.Linear:
    """Return the head of ``model``; raise ModelError, naming the one that it has, unless that is a
    single linear layer called ``score``, the only kind that is trained and taken off right."""
    head = getattr(model, HEAD, None)
    if isinstance(head, nn.Linear):
        return head
    kind = type(model).__name__
    raise ModelError(
        f"model {name}'s classification head ({_describe_head(model)} in {kind}) is not a "
        "linear layer called 'score', and no other is supported yet; take a decoder such as Llama, "
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
    """Raise ModelError unless the checkpoint gave everything of ``model`` but its head, which is
    replaced anyway."""
    wrong = [entry for entry in loaded.mismatched if not entry[0].startswith(HEAD_PREFIX)]
    if wrong:
        tensor, stored, wanted = min(wrong, key=lambda entry: entry[0])
        raise ModelError(
            f"model {name}'s weights and config.json contradict each other: {truncate(tensor, 80)} "
            f"is {_format_shape(stored)} in the weights and {_format_shape(wanted)} by "
            "config.json; put those of one model together"
        )
    needed = [key for key, _ in model.named_parameters() if not key.startswith(HEAD_PREFIX)]
    missing = sorted(set(loaded.missing) & set(needed))
    if missing:
        others = _describe_others(loaded) if len(missing) == len(needed) else ""
        raise ModelError(
            f"model {name}'s weights lack {len(missing)} of the {len(needed)} tensors of a "
            f"{model.config.model_type} model of this config.json ({format_names(missing, 2, 100)})"
            f"{others}: they are incomplete or another architecture's; put weights and config.json "
            "of one model together"
        )


def _describe_others(loaded: Loaded) -> str:
    others = sorted(loaded.unexpected)
    return f" and hold {format_names(others, 1, 100)} instead" if others else ""


def describe_left_out(model: PreTrainedModel, loaded: Loaded, name: str) -> str | None:
    """Return the sentence for layers in the checkpoint that config.json leaves out, or None."""
    inner = f"{model.base_model_prefix}."
    left = sorted(key for key in loaded.unexpected if key.startswith(inner))
    if not left:
        return None
    return (
        f"model {name}'s weights hold {len(left)} tensors ({format_names(left, 2, 100)}) that the "
        "model in its config.json has no place for; they are left out"
    )


def _format_shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
