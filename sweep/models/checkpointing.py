"""Gradient checkpointing of a model, by whichever name its release of transformers has for it:
5.23 renamed ``gradient_checkpointing_*`` to ``activation_checkpointing_*``."""

from typing import Any

from transformers import PreTrainedModel

NAMES = ("activation_checkpointing", "gradient_checkpointing")


def is_checkpointing(model: PreTrainedModel) -> bool:
    """Return whether ``model`` computes activations again in its backward pass."""
    return bool(_find(model, "is_{}"))


def enable_checkpointing(model: PreTrainedModel) -> None:
    # The reentrant form computes no gradient where a block's input needs none, as here.
    _find(model, "{}_enable")({"use_reentrant": False})


def disable_checkpointing(model: PreTrainedModel) -> None:
    _find(model, "{}_disable")()


def _find(model: PreTrainedModel, form: str) -> Any:
    """Return the attribute of ``model`` by its newest name; raise AttributeError without one."""
    new, old = (form.format(name) for name in NAMES)
    return getattr(model, new if hasattr(type(model), new) else old)
