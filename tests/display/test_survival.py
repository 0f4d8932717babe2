"""How many epochs trials are expected to run."""

import random

import pytest

from sweep.display.survival import Survival
from sweep.plan import Plan, TrialSpec
from sweep.storage.forecast import PaceForecast
from sweep.storage.record import RunRecord, apply

RUNGS = ((1, 0.75), (2, 0.75))


def open_run(rungs: tuple[tuple[int, float], ...] = ()) -> RunRecord:
    run = RunRecord()
    apply(run, {"event": "opened", "time": 0.0, "pace": PaceForecast(rungs=rungs)})
    return run


def expect(survival: Survival, spec: TrialSpec, reached: int = 0) -> float:
    chances = survival.chances(spec.cell.model)
    return survival.expect(spec, reached, chances, dict(survival.arrivals))[0]


def test_trial_of_which_nothing_is_known_runs_to_its_end(plan: Plan) -> None:
    assert expect(Survival(open_run(), 2), plan.trials[0]) == 3.0


def test_first_trial_of_a_cell_goes_on_and_the_second_by_chance(plan: Plan) -> None:
    survival, arrivals = Survival(open_run(RUNGS), 2), {}
    first, second = plan.trials[:2]
    chances = survival.chances(first.cell.model)
    assert survival.expect(first, 0, chances, arrivals) == (3.0, 1.0)
    # Of two trials three quarters go on: half of the second ones do, at each rung.
    assert survival.expect(second, 0, chances, arrivals) == (1 + 0.5 + 0.25, 0.25)


def test_draws_agree_with_what_is_expected(plan: Plan) -> None:
    survival, dice = Survival(open_run(RUNGS), 2), random.Random(0)
    spec, arrivals = plan.trials[1], {(plan.cells[0].cell_id, e): 1.0 for e in (1, 2)}
    chances = survival.chances(spec.cell.model)
    drawn = [survival.draw(spec, 0, chances, dict(arrivals), dice)[0] for _ in range(4000)]
    assert sum(drawn) / len(drawn) == pytest.approx(1.75, abs=0.05)


def test_trials_that_stop_more_often_than_expected_are_learned_from(plan: Plan) -> None:
    survival, spec = Survival(open_run(RUNGS), 2), plan.trials[-1]
    for other in plan.trials[:6]:
        survival.add_epoch(other, 1, True, 0.5)
        survival.add_early_end(other, 1)
    chances = survival.chances(spec.cell.model)
    assert 0.5 < chances[1] < 1.0
    assert chances[2] == pytest.approx(0.5)


def test_model_whose_trials_fail_at_once_has_no_epochs_to_come(plan: Plan) -> None:
    survival = Survival(open_run(), 2)
    for spec in plan.trials:
        survival.add_early_end(spec, 0)
    assert expect(survival, plan.trials[0]) < 1.5


def test_trial_above_the_cutoff_of_its_next_rung_goes_on(plan: Plan) -> None:
    survival = Survival(open_run(RUNGS), 2)
    first, second = plan.trials[:2]
    survival.add_epoch(first, 2, True, 0.7)
    chances = survival.chances(first.cell.model)
    assert survival.sharpen(chances, second, 1, 0.8)[2] == 0.0
    assert survival.sharpen(chances, second, 1, 0.6)[2] > 0.8
    assert survival.sharpen(chances, second, 1, None) == chances


def test_single_candidate_is_never_stopped(plan: Plan) -> None:
    assert expect(Survival(open_run([[1, 1.0], [2, 1.0]]), 1), plan.trials[0]) == 3.0
