"""What the preflight says: findings, each one sentence with its remedy."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One fact found before training: an ``error`` keeps the run from starting."""

    level: Level
    key: str
    """The key of the configuration it concerns, e.g. ``grid.models.0``."""
    sentence: str
