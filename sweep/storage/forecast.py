"""What the preflight expects of a run, as kept in the journal."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ConfigDict, with_config

from sweep.config.strict import Amount, Epoch, Fraction, Ordinal

T = TypeVar("T")

# Assumed until measured: the time for Ray to start and its workers to import PyTorch.
RUN_START_SECONDS = 12.0
# Likewise, to prepare a trial's adapter, tokens and first checkpoint on a worker.
TRIAL_START_SECONDS = 0.3
# Cost of scoring a text relative to training on it: one pass of three.
SCORING_SHARE = 1 / 3


@with_config(ConfigDict(extra="ignore"))
@dataclass(frozen=True)
class PackBytes:
    """What a host takes whose trials share a base model: bytes on its GPU or, on CPUs, resident."""

    # The process, and the base model's weights.
    base: Amount
    # Each trial's weights, gradients, AdamW's moments, and best weights.
    slot: Amount
    # What a pass keeps of the widest batch of one trial.
    batch: Amount
    # The most that a pass keeps, however many trials bring a batch.
    largest_pass: Amount

    def total(self, slots: int) -> int:
        """Return the bytes of a host with ``slots`` trials."""
        return int(self.base + slots * self.slot + min(slots * self.batch, self.largest_pass))

    def count_slots(self, size: float) -> int:
        """Return how many trials fit into ``size`` bytes, 0 if none does."""
        left = size - self.base
        in_part = left // (self.slot + self.batch)
        return max(0, int(max(in_part, (left - self.largest_pass) // self.slot)))


@with_config(ConfigDict(extra="ignore"))
@dataclass(frozen=True)
class Forecast:
    """What a run will need; nothing is known of a model of unknown shape."""

    # Low, likely and high.
    seconds: tuple[Amount, Amount, Amount] | None = None
    # Model name -> bytes of one trial, and of one more where trials share the base model.
    memory_bytes: Mapping[str, Amount] | None = None
    slot_bytes: Mapping[str, Amount] | None = None
    # Model name -> what a host of its trials takes.
    packs: Mapping[str, PackBytes] | None = None

    def largest_trial(self) -> int | None:
        """Return the bytes of the largest model's trial; None if nothing is known."""
        return max(map(int, (self.memory_bytes or {}).values()), default=None)

    def without(self, models: Collection[str]) -> "Forecast":
        """Return the forecast of all but ``models``."""

        def keep(part: Mapping[str, T] | None) -> Mapping[str, T] | None:
            return {k: v for k, v in (part or {}).items() if k not in models} or None

        kept = keep(self.memory_bytes), keep(self.slot_bytes), keep(self.packs)
        return Forecast(self.seconds, *kept)

    def list_packs(self) -> list[PackBytes]:
        """Return what hosts take, by model; empty if nothing is known."""
        return list((self.packs or {}).values())


@with_config(ConfigDict(extra="ignore"))
@dataclass(frozen=True)
class PaceForecast:
    """What the time left is estimated from before anything is measured."""

    # Cell id -> seconds of an epoch's training, and of scoring validation once.
    epoch_seconds: Mapping[str, tuple[Amount, Amount]] | None = None
    # Epoch -> fraction of the trials there that ASHA is expected to let continue.
    rungs: tuple[tuple[Epoch, Fraction], ...] | None = None
    # None while the machines that train are unknown.
    trials_at_a_time: Ordinal | None = None
