"""How often any two of equal recipes in a grid are called different, by simulation."""

import os
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.verdicts.grids import SCHEMES, Grid, draw_many, list_true
from benchmarks.verdicts.means import measure_alarms, measure_found
from benchmarks.verdicts.pairs import estimate_error
from benchmarks.verdicts.play import (
    follow_states,
    go_on_while_uncalled,
    measure_stopped_alarms,
    measure_yield,
    play,
    stop_at_first,
)
from sweep.verdicts import SCHEDULE, Looks, moderation
from sweep.verdicts.holm import LEVEL

THOROUGH = pytest.mark.skipif(
    "SWEEP_THOROUGH" not in os.environ, reason="takes minutes: runs with SWEEP_THOROUGH=1"
)
RULES = [follow_states, stop_at_first, go_on_while_uncalled]
SMALL = Grid(1, 4, texts=120, own=0.0)


def allow(draws: int) -> float:
    """Return what a rate whose true value is LEVEL exceeds in one of about 700 simulations."""
    return LEVEL + 3 * estimate_error(LEVEL, draws)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_grid_of_equal_recipes_rarely_has_any_alarm(scheme: str) -> None:
    grid = Grid(1, 4, scheme=scheme, factor=3.0)
    for seeds in (3, 8):
        assert measure_alarms(grid, seeds, 200) <= allow(200)


@pytest.mark.parametrize("rule", RULES)
def test_stopping_when_it_suits_makes_no_alarms(rule) -> None:  # type: ignore[no-untyped-def]
    grid = replace(SMALL, scheme="one wild", factor=3.0)
    assert measure_stopped_alarms(grid, rule, 8, 60) <= allow(60)


def test_looking_as_often_without_weights_does_make_them() -> None:
    pair, draws = Grid(1, 2), 500
    unweighted = Looks(SCHEDULE.sizes[:5], (1.0,) * 5)
    assert measure_alarms(pair, 12, draws, unweighted) > allow(draws)
    assert measure_alarms(pair, 12, draws, SCHEDULE) <= allow(draws)


def test_moderation_finds_more_where_variances_are_alike() -> None:
    grid = Grid(3, 6, gaps=(0.08,))
    moderated, own = (measure_found(grid, 5, 40, flag) for flag in (True, False))
    assert moderated > 2 * own


def test_smyths_own_estimates_would_call_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid(1, 4, scheme="one wild", factor=3.0)
    # The spread without its standard error, and the geometric mean.
    monkeypatch.setattr(moderation, "_measure_error", lambda *_: 0.0)
    exact = moderation.fit_prior

    def fit(variances: np.ndarray, freedoms: np.ndarray, independent: int) -> moderation.Prior:
        prior = exact(variances, freedoms, variances.size)
        half = prior.freedom / 2
        logs = np.log(variances) - moderation.log_bias(freedoms)
        shift = moderation.log_bias(np.array([min(prior.freedom, 1e6)]))[0] if half else 0.0
        return replace(prior, scale=float(np.exp(logs.mean() + shift)), most=1e9)

    monkeypatch.setattr(moderation, "fit_prior", fit)
    assert measure_alarms(grid, 2, 200) > allow(200)


def test_auto_gives_seeds_to_open_comparisons_alone() -> None:
    grid = Grid(1, 4, texts=300, gaps=(0.0, 0.0, -0.3, -0.3), spread=0.01)
    (right,) = draw_many(grid, 12, 1)
    played = play(right, follow_states, 12)
    assert played.trials < 4 * 12
    assert played.called[list_true(grid)].all()


def test_auto_needs_fewer_trials_than_a_fixed_number_for_as_many_verdicts() -> None:
    grid = Grid(1, 5, texts=300, gaps=(0.0, 0.0, -0.1, -0.2, -0.3))
    auto = measure_yield(grid, 12, 10)
    fixed = measure_yield(grid, 12, 10, None)
    assert auto.trials < 0.8 * fixed.trials
    assert auto.found > 0.8 * fixed.found


@THOROUGH
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_family_wise_error_holds_whatever_varies(scheme: str, correlation: float) -> None:
    draws = 1500
    for points, recipes in ((1, 4), (2, 3), (1, 8), (3, 5), (9, 8)):
        grid = Grid(points, recipes, scheme=scheme, factor=3.0, correlation=correlation)
        for seeds in (2, 3, 5, 8):
            assert measure_alarms(grid, seeds, draws) <= allow(draws), (grid, seeds)
        assert measure_alarms(grid, 18, draws, SCHEDULE) <= allow(draws), grid


@THOROUGH
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_any_rule_of_stopping_keeps_the_level(rule, scheme: str) -> None:  # type: ignore[no-untyped-def]
    draws = 1000
    for grid in (Grid(1, 4, texts=200, own=0.0), Grid(2, 4, texts=200, own=0.2)):
        alarms = measure_stopped_alarms(replace(grid, scheme=scheme, factor=3.0), rule, 18, draws)
        assert alarms <= allow(draws), grid
