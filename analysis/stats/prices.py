"""What trials cost: hours of GPUs and CPUs and, where the run has prices, money."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

from analysis.load import Run
from sweep.storage.prices import OTHER, SPOT, Prices

HOUR = 3600.0
SPENT_COLUMNS = ["hours", "gpu_hours", "cpu_hours", "money"]


class Gap(StrEnum):
    """Why a cost is unknown although there are prices."""

    TIME = "time"  # no time was recorded
    SHARE = "share"  # no GPUs and CPUs were recorded
    GPU = "gpu price"  # no price matches the GPU
    CPU = "cpu price"  # no price matches the CPU's machine


def find_prices(run: Run) -> Prices:
    """Return the prices that the newest driver wrote down; none in a run of an earlier release."""
    return (run.opened[-1].get("prices") if run.opened else None) or Prices()


def match_price(
    prices: Mapping[str, float], device: str | None, node_type: str | None, market: str | None
) -> float | None:
    """Return the price of an hour of a machine; None if none matches.

    A type matches if the device or the node type contains it, in whatever case; with ``-spot`` at
    its end, it matches spot machines alone. The longest match wins, and ``other`` only where
    nothing else matches.
    """
    names = [name.casefold() for name in (device, node_type) if name]
    ranks = [
        ((base != OTHER, len(base), base != key.casefold()), price)
        for key, price in prices.items()
        for base in (key.casefold().removesuffix(SPOT),)
        if base == key.casefold() or market == "spot"
        if base == OTHER or any(base in name for name in names)
    ]
    return max(ranks)[1] if ranks else None


def price_hour(
    prices: Prices,
    gpus: float,
    cpus: float,
    device: str | None,
    node_type: str | None,
    market: str | None,
) -> tuple[float, Gap | None]:
    """Return what an hour of ``gpus`` and ``cpus`` costs, or NaN and why that is unknown.

    Where GPUs work, CPUs count only if they have prices too.
    """
    machine = device, node_type, market
    total = 0.0
    if gpus > 0:
        price = match_price(prices.gpu_hour or {}, *machine)
        if price is None:
            return np.nan, Gap.GPU
        total += gpus * price
    if not gpus > 0 or prices.cpu_hour is not None:
        price = match_price(prices.cpu_hour or {}, *machine)
        if price is None:
            return np.nan, Gap.CPU
        if pd.isna(cpus):
            return np.nan, Gap.SHARE
        total += cpus * price
    return total, None


def price_trials(results: pd.DataFrame, prices: Prices) -> pd.DataFrame:
    """Return ``results`` with what each trial took.

    Columns: ``hours`` of trial time, ``gpu_hours`` and ``cpu_hours`` (reserved GPUs and CPUs times
    time), ``money`` in ``prices.currency``, all NaN where unknown; ``gap``: why ``money`` is, None
    where it is not.
    """
    hours = results["wall_seconds"].astype(float) / HOUR
    rates = [_price_row(row, prices) for row in results.to_dict("records")]
    rate = pd.Series([rate for rate, _ in rates], index=results.index, dtype=float)
    return results.assign(
        hours=hours,
        gpu_hours=hours * results["gpus"].astype(float),
        cpu_hours=hours * results["cpus"].astype(float),
        money=hours * rate,
        gap=pd.Series([gap for _, gap in rates], index=results.index, dtype=object),
    )


def _price_row(row: Mapping[Any, Any], prices: Prices) -> tuple[float, Gap | None]:
    if pd.isna(row["wall_seconds"]):
        return np.nan, Gap.TIME
    if pd.isna(row["gpus"]):
        return np.nan, Gap.SHARE
    texts = (_read_text(row[name]) for name in ("device", "node_type", "market"))
    return price_hour(prices, row["gpus"], row["cpus"], *texts)


def _read_text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
