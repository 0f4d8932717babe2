"""Prices of hours by type of machine, and what has none."""

import math
from typing import Any

import pandas as pd
import pytest

from analysis.stats.prices import Gap, match_price, price_hour, price_trials
from sweep.config import CostConfig
from sweep.storage.prices import Prices, list_prices

TYPES = {"A100": 3.0, "A100-spot": 1.0, "a100-sxm4-80gb": 4.0, "g5.xlarge": 2.0, "other": 9.0}
A100 = "NVIDIA A100-SXM4-40GB"


def test_a_single_price_counts_for_every_type() -> None:
    cost = CostConfig.model_validate({"gpu_hour": {"L4": "0.7"}, "cpu_hour": 0.04, "label": 1})
    assert list_prices(cost) == Prices({"L4": 0.7}, {"other": 0.04}, 1.0, "USD")
    assert list_prices(CostConfig()) == Prices()


@pytest.mark.parametrize(
    ("device", "node_type", "market", "price"),
    [
        (A100, None, None, 3.0),
        (A100, None, "on-demand", 3.0),
        (A100, None, "spot", 1.0),
        ("NVIDIA A100-SXM4-80GB", "p4de.24xlarge", None, 4.0),
        ("NVIDIA A10G", "g5.xlarge", None, 2.0),
        ("NVIDIA A10G", "g5.xlarge", "spot", 2.0),
        ("NVIDIA L4", None, None, 9.0),
        (None, None, "spot", 9.0),
    ],
)
def test_the_longest_type_that_the_machine_contains_has_the_price(
    device: str | None, node_type: str | None, market: str | None, price: float
) -> None:
    assert match_price(TYPES, device, node_type, market) == price


def test_a_type_that_is_not_there_has_no_price() -> None:
    assert match_price({"A100": 3.0}, "NVIDIA L4", "g6.xlarge", None) is None
    assert match_price({"A100-spot": 1.0}, A100, None, "on-demand") is None
    assert match_price({"other-spot": 1.0, "other": 2.0}, A100, None, "spot") == 1.0


@pytest.mark.parametrize(
    ("prices", "gpus", "cpus", "rate", "gap"),
    [
        (Prices({"other": 2.0}, None), 0.5, 4.0, 1.0, None),
        (Prices({"other": 2.0}, {"other": 0.1}), 0.5, 4.0, 1.4, None),
        (Prices({"other": 2.0}, {"other": 0.1}), 0.0, 4.0, 0.4, None),
        (Prices({"other": 2.0}, None), 0.0, 4.0, math.nan, Gap.CPU),
        (Prices({"H100": 2.0}, {"other": 0.1}), 1.0, 4.0, math.nan, Gap.GPU),
        (Prices(None, {"other": 0.1}), 1.0, 4.0, math.nan, Gap.GPU),
        (Prices({"other": 2.0}, {"c7": 0.1}), 1.0, 4.0, math.nan, Gap.CPU),
        (Prices(None, {"other": 0.1}), 0.0, math.nan, math.nan, Gap.SHARE),
    ],
)
def test_an_hour_costs_what_is_reserved_and_priced(
    prices: Prices, gpus: float, cpus: float, rate: float, gap: Gap | None
) -> None:
    assert price_hour(prices, gpus, cpus, A100, None, None) == (
        pytest.approx(rate, nan_ok=True),
        gap,
    )


def test_a_trials_cost_is_its_time_at_the_price_of_what_it_reserved() -> None:
    shared = {"device": A100, "node_type": None, "market": None, "gpus": 0.5, "cpus": 2.0}
    rows: list[dict[str, Any]] = [
        {**shared, "wall_seconds": 7200.0},
        {**shared, "wall_seconds": None},
        {**shared, "wall_seconds": 3600.0, "gpus": None, "cpus": None},
    ]
    found = price_trials(pd.DataFrame(rows), Prices({"A100": 3.0}))
    assert found["money"].tolist() == pytest.approx([3.0, math.nan, math.nan], nan_ok=True)
    assert found["gpu_hours"].tolist() == pytest.approx([1.0, math.nan, math.nan], nan_ok=True)
    assert found["gap"].tolist() == [None, Gap.TIME, Gap.SHARE]
