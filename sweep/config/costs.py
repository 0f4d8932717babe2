"""The sections about money: prices, and what is measured to put a price on use."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from sweep.config.section import Section
from sweep.config.types import Number

Price = Annotated[Number, Field(ge=0)]


def _price_form(value: Any) -> str:
    return "by type" if isinstance(value, dict) else "one"


HourPrice = Annotated[
    Annotated[Price, Tag("one")] | Annotated[dict[str, Price], Field(min_length=1), Tag("by type")],
    Discriminator(_price_form),
]


class CostConfig(Section):
    """Prices, so that the report can say what a choice costs; without them it speaks of hours and
    labels."""

    gpu_hour: HourPrice | None = None
    """Price of one GPU for an hour, or prices by type, such as ``{A100: 3.2, A100-spot: 1.1}``: a
    GPU's or node type's name, or a part of it, and ``-spot`` for spot machines; ``other`` is any
    other."""
    cpu_hour: HourPrice | None = None
    """Price of one CPU for an hour, or prices by node type."""
    label: Price | None = None
    """Price of one labeled text."""
    currency: Annotated[str, Field(min_length=1, max_length=12, pattern=r"^[^\s\d]+$")] = "USD"
    """What the prices are in."""


class ServingConfig(Section):
    """What is measured after the sweep: how fast and how large each contender is in use."""

    measure: bool = True
    """Whether speed, latency, memory and size of each contender and baseline are measured for each
    label count, once all trials have ended."""
    seconds: Annotated[Number, Field(gt=0, le=600)] = 1
    """Seconds of scoring per measurement of speed, and of latency."""
