"""What a run is made of, passed in one object from the command line to the workers."""

from dataclasses import dataclass, field
from pathlib import Path

from sweep.cluster.hardware import Machine
from sweep.config import Config
from sweep.data import Subsets
from sweep.plan import Plan
from sweep.storage.account import DataAccount
from sweep.storage.forecast import Forecast, PaceForecast


@dataclass(frozen=True)
class RunSetup:
    """A configuration with the plan and the subsets that follow from it, and the run's folder."""

    config: Config
    plan: Plan
    subsets: Subsets
    folder: Path
    forecast: Forecast = field(default_factory=Forecast)
    pace: PaceForecast = field(default_factory=PaceForecast)
    packable: frozenset[str] | None = None
    """Names of the models whose LoRA trials a pack can hold; None: not known, so it is tried."""
    account: DataAccount | None = None
    """What became of the rows that the subsets are drawn from; the journal keeps it."""


@dataclass(frozen=True)
class Target:
    """The machines that will train."""

    machine: Machine | None
    """None for a cluster that is not connected yet; its GPUs and memory are then not checked."""
    expected: Machine | None = None
    """What such a cluster may grow to, if known."""

    @property
    def known(self) -> Machine | None:
        """What is known about them; None if nothing is."""
        return self.machine or self.expected
