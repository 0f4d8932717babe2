"""Prices, as kept in the journal."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ConfigDict, with_config

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
