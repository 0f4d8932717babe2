"""Prices, as kept in the journal."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ConfigDict, with_config

from sweep.config.costs import CostConfig
from sweep.config.strict import Amount, Text

OTHER = "other"
SPOT = "-spot"


@with_config(ConfigDict(extra="ignore"))
@dataclass(frozen=True)
class Prices:
    """What an hour of a GPU and of a CPU costs, by type (``other``: any other), and a label."""

    gpu_hour: Mapping[Text, Amount] | None = None
    cpu_hour: Mapping[Text, Amount] | None = None
    label: Amount | None = None
    currency: Text = "USD"


def list_prices(cost: CostConfig) -> Prices:
    """Return the prices of a configuration; a single one counts for every type."""
    return Prices(
        gpu_hour=_price_types(cost.gpu_hour),
        cpu_hour=_price_types(cost.cpu_hour),
        label=None if cost.label is None else float(cost.label),
        currency=cost.currency,
    )


def _price_types(price: float | Mapping[str, float] | None) -> dict[str, float] | None:
    if price is None:
        return None
    types = price if isinstance(price, Mapping) else {OTHER: price}
    return {name: float(value) for name, value in types.items()}
