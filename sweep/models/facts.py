"""What a contender asks of a machine, whatever its architecture: measured by ``probe`` or, without
torch, derived from a shape by ``formulas``."""

from dataclasses import dataclass
from typing import Literal

from sweep.config import Method


@dataclass(frozen=True)
class TrialLoad:
    """The largest trial of a contender: what passes through the model at once, in tokens with
    padding, in training and in scoring; the tokens of the longest text; what is trained, and
    how."""

    train_tokens: int
    eval_tokens: int
    rank: int
    n_labels: int
    targets: tuple[str, ...] | None = None
    # Gradient checkpointing: blocks keep only their input and are recomputed in the backward pass.
    checkpointed: bool = False
    method: Method = "lora"
    longest: int = 64
    dropout: float = 0.0
    # The number format of a pass. Weights that are all trained are float32 nevertheless.
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    on_gpu: bool = False
    # The most tokens that a pass of many trials on one base model holds.
    pass_tokens: int = 0

    @property
    def bytes_per_value(self) -> int:
        return 4 if self.dtype == "float32" else 2

    @property
    def train_texts(self) -> int:
        """How many of the longest texts ``train_tokens`` are."""
        return max(1, self.train_tokens // self.longest)

    @property
    def eval_texts(self) -> int:
        return max(1, self.eval_tokens // self.longest)


@dataclass(frozen=True)
class ModelFacts:
    """What a model's largest trial takes. Operations and bytes are per token, padding included."""

    # Of the base model, as far as texts pass through it; and what else is loaded.
    parameters: int
    unused: int
    # Adapters and head, or all that is used.
    trained: int
    layers: int
    hidden: int
    vocabulary: int
    # The most tokens of a text; None if nothing limits them.
    positions: int | None
    training_flops: float
    scoring_flops: float
    # What autograd keeps for the backward pass, and the peak of scoring; weights not counted.
    kept_bytes: float
    scoring_bytes: float
    # Parameters of which a pass makes copies in its own number format.
    cast: int
    # Bytes of a parameter in the weight files.
    stored_bytes: float
    # Whether trials can share the base model.
    packable: bool
    # Whether its code has gradient checkpointing.
    checkpointable: bool = True
    # Whether texts pass without padding.
    flat: bool = False
