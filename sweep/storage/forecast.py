"""What the preflight expects of a run, as kept in the journal."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pydantic import ConfigDict, with_config

from sweep.config.strict import Amount, Epoch, Fraction, Ordinal

# Assumed until measured: the time for Ray to start and its workers to import PyTorch.
RUN_START_SECONDS = 12.0
# Likewise, to prepare a trial's adapter, tokens and first checkpoint on a worker.
TRIAL_START_SECONDS = 0.3
# Cost of scoring a text relative to training on it: one pass of three.
SCORING_SHARE = 1 / 3


@with_config(ConfigDict(extra="ignore"))
@dataclass(frozen=True)
class Forecast:
    """What a run will need; nothing is known of a model of unknown shape."""

    # Low, likely and high.
    seconds: tuple[Amount, Amount, Amount] | None = None
    # Model name -> bytes of one trial, and of one more where trials share the base model.
    memory_bytes: Mapping[str, Amount] | None = None
    slot_bytes: Mapping[str, Amount] | None = None

    def largest_trial(self) -> int | None:
        """Return the bytes of the largest model's trial; None if nothing is known."""
        return max(map(int, (self.memory_bytes or {}).values()), default=None)

    def without(self, models: Collection[str]) -> "Forecast":
        """Return the forecast of all but ``models``."""
        parts = (self.memory_bytes, self.slot_bytes)
        kept = ({k: v for k, v in (p or {}).items() if k not in models} or None for p in parts)
        return Forecast(self.seconds, *kept)

    def largest_slot(self) -> int | None:
        """Return the bytes that one more trial of the largest model takes; None as above."""
        return max(map(int, (self.slot_bytes or {}).values()), default=None)


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
