"""What workers are told, and tell, about compiled blocks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweep.config import load_config
from sweep.data import Subsets
from sweep.plan import Plan
from sweep.preflight.setup import RunSetup
from sweep.storage.forecast import Forecast, PaceForecast
from sweep.workers.factory import estimate_ahead
from sweep.workers.solo_actor import SoloTrialActor

REASON = "no: it failed (RuntimeError: no g++); install g++"


def build_setup(plan: Plan, subsets: Subsets, config: Path, **parts: Any) -> RunSetup:
    return RunSetup(load_config(config), plan, subsets, config.parent, **parts)


def test_a_worker_is_told_its_part_of_the_forecast_by_model(
    plan: Plan, subsets: Subsets, write_config: Any
) -> None:
    # Half of the trials are those of another model, whose epochs take three times as long.
    half = len(plan.trials) // 2
    others = [
        replace(spec, cell=replace(spec.cell, cell_id="other"), model=replace(spec.model, name="b"))
        for spec in plan.trials[:half]
    ]
    both = replace(plan, trials=(*plan.trials[:half], *others))
    epochs = {spec.cell.cell_id: (1.0, 1.0) for spec in plan.trials} | {"other": (4.0, 2.0)}
    setup = build_setup(
        both, subsets, write_config(),
        forecast=Forecast(seconds=(100.0, 400.0, 900.0)), pace=PaceForecast(epochs),
    )  # fmt: skip
    assert estimate_ahead(setup) == pytest.approx({"tiny-llama": 100.0, "b": 300.0})


@pytest.mark.parametrize(
    "parts", [{}, {"forecast": Forecast(seconds=(1.0, 2.0, 3.0))}, {"pace": PaceForecast({})}]
)
def test_without_a_forecast_it_is_told_nothing(
    parts: dict[str, Any], plan: Plan, subsets: Subsets, write_config: Any
) -> None:
    assert estimate_ahead(build_setup(plan, subsets, write_config(), **parts)) == {}


@pytest.mark.parametrize(("wanted", "told"), [(True, 1), ("auto", 0), (False, 0)])
def test_a_wish_that_fails_is_noted_once(wanted: Any, told: int, plan: Plan) -> None:
    actor, spec = object.__new__(SoloTrialActor), plan.trials[0]
    notes = []
    for _ in range(3):
        trial = replace(spec, recipe=replace(spec.recipe, compile=wanted))
        actor._take({"trial": trial, "resume_epoch": 0})
        actor._tell_compiled(REASON)
        notes += actor._notes
    sentence = "train.compile=true, but blocks are not compiled: it failed (RuntimeError: no g++); "
    assert notes == [f"{sentence}install g++"] * told


def test_success_is_not_noted(plan: Plan) -> None:
    actor, spec = object.__new__(SoloTrialActor), plan.trials[0]
    actor._take(
        {"trial": replace(spec, recipe=replace(spec.recipe, compile=True)), "resume_epoch": 0}
    )
    actor._tell_compiled("yes: compiled in 9 s")
    assert not actor._notes
