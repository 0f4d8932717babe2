"""The sections about verdicts: how often winners are trained again, and what matters."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from sweep.config.section import Section
from sweep.config.types import Count, Number, PositiveInt
from sweep.errors import format_value

DURATION_PATTERN = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(value: str) -> float:
    """Return the seconds of ``value``, such as ``90m`` or ``1.5h``; else raise ValueError."""
    match = DURATION_PATTERN.fullmatch(value)
    if match is None or not float(match[1]):
        raise ValueError(
            f"{format_value(value)} is not a duration; write a number above 0 and s, m, h or d, "
            "such as 90m or 1.5h"
        )
    return float(match[1]) * UNIT_SECONDS[match[2]]


def _check_duration(value: str) -> str:
    parse_duration(value)
    return value


Duration = Annotated[
    str,
    AfterValidator(_check_duration),
    WithJsonSchema(
        {"type": "string", "pattern": f"^{DURATION_PATTERN.pattern}$", "examples": ["90m", "1.5h"]}
    ),
]


class RepeatConfig(Section):
    """How often each cell's best candidate is trained again with other seeds, so that verdicts
    speak of the recipe and not of one trained model."""

    seeds: Literal["auto"] | Annotated[Count, Field(le=1000)] = 0
    """Further seeds (other training texts, initial weights and batch order) with which the best
    candidate of each cell is trained, without tuning again; ``auto``: as many as the comparisons
    that matter need; 0: none."""
    most: Annotated[PositiveInt, Field(ge=2, le=1000)] = 8
    """Maximum of further seeds per cell with ``auto``."""
    budget: Duration | None = None
    """Time that the repeats may take, summed over trials, such as ``90m`` or ``2h``; null: no
    limit."""

    @property
    def most_seeds(self) -> int:
        """The most further seeds that a cell can get."""
        return self.most if self.seeds == "auto" else self.seeds

    @property
    def budget_seconds(self) -> float | None:
        """``budget`` in seconds."""
        return parse_duration(self.budget) if self.budget else None


class VerdictConfig(Section):
    """What counts as a difference."""

    smallest: Annotated[Number, Field(ge=0, lt=1)] = 0.01
    """The smallest difference of accuracies that matters, as a fraction: ``repeat.seeds: auto``
    stops at smaller ones."""
