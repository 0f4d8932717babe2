"""How often the test about recipes calls equal ones different, by simulation."""

import math
import os
from itertools import product

import pytest

from benchmarks.verdicts.pairs import Setting, estimate_error, measure_rates

THOROUGH = pytest.mark.skipif(
    "SWEEP_THOROUGH" not in os.environ, reason="takes minutes: runs with SWEEP_THOROUGH=1"
)
LEVEL = 0.05
DRAWS, MANY = 600, 6000


def allow(draws: int) -> float:
    """Return what a rate whose true value is LEVEL exceeds in one of about 700 simulations."""
    return LEVEL + 3 * estimate_error(LEVEL, draws)


@pytest.mark.parametrize("own", [0.0, 0.2], ids=["identical", "equally accurate"])
@pytest.mark.parametrize("seeds", [2, 3, 5, 8])
def test_equal_recipes_are_called_different_no_more_often_than_nominal(
    seeds: int, own: float
) -> None:
    rates = measure_rates(Setting(seeds, 300, own=own), DRAWS, ("report",))
    assert rates["report"] <= allow(DRAWS)


@THOROUGH
@pytest.mark.parametrize("texts", [200, 1000])
@pytest.mark.parametrize("seeds", [2, 3, 5, 8])
def test_rates_hold_whatever_varies(seeds: int, texts: int) -> None:
    settings = [
        Setting(seeds, texts, spread=spread, own=own)
        for spread, own in product((0.0, 0.01, 0.025, 0.05), (0.0, 0.2, 0.4))
    ]
    rates = {each: measure_rates(each, MANY, ("report",))["report"] for each in settings}
    assert {each: rate for each, rate in rates.items() if rate > allow(MANY)} == {}


def test_a_test_of_texts_alone_calls_identical_recipes_different_far_more_often() -> None:
    rates = measure_rates(Setting(3, 300), 300, ("texts alone",))
    assert rates["texts alone"] > 2 * LEVEL


def test_satterthwaites_degrees_of_freedom_are_too_many_for_two_seeds() -> None:
    setting = Setting(2, 1000, own=0.2)
    rates = measure_rates(setting, 1200, ("Satterthwaite", "report"))
    assert rates["Satterthwaite"] > allow(1200)
    assert rates["report"] <= allow(1200)


def test_more_seeds_find_more() -> None:
    few, many = (
        measure_rates(Setting(seeds, 300, gap=0.05, own=0.2), 200, ("report",))["report"]
        for seeds in (3, 12)
    )
    assert few < 0.35
    assert many > 0.7


def test_the_standard_error_of_a_rate_is_the_binomials() -> None:
    assert estimate_error(0.5, 100) == pytest.approx(math.sqrt(0.25 / 100))
