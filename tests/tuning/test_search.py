"""The plan as Tune's grid search: lazily, in the plan's order."""

from typing import Any

import pytest
from ray.tune.experiment import Experiment, Trial

from sweep.cluster.ray_internals import forget_result
from sweep.config import Config
from sweep.plan import Plan
from sweep.storage.record import RunRecord, apply
from sweep.tuning.search import AXES, PlanSearch, build_param_space, iterate_cells, key_of


def train(config: dict[str, Any]) -> None:
    """Stand in for a trainable."""


def end(record: RunRecord, trial_id: str) -> None:
    event = {"event": "ended", "time": 1.0, "trial_id": trial_id, "status": "stopped"}
    apply(record, event)


def start_search(config: Config, plan: Plan, record: RunRecord) -> PlanSearch:
    # Tune itself fills in what is no axis, once it has the trial.
    space = {name: axis for name, axis in build_param_space(config, plan).items() if name in AXES}
    search = PlanSearch(plan, record)
    search.add_configurations([Experiment("x", train, config=space)])
    return search


def draw_all(search: PlanSearch) -> list[Trial]:
    trials = []
    while (trial := search.next_trial()) is not None:
        trials.append(trial)
    return trials


def test_trials_come_in_the_order_of_the_plan(
    config: Config, plan: Plan, record: RunRecord
) -> None:
    trials = draw_all(start_search(config, plan, record))
    assert [trial.trial_id for trial in trials] == [spec.trial_id for spec in plan.trials]
    assert [trial.config["position"] for trial in trials] == list(range(len(plan.trials)))
    assert [trial.config["trial"] for trial in trials] == list(plan.trials)


def test_a_trial_stands_at_its_place_on_the_axes(
    config: Config, plan: Plan, record: RunRecord
) -> None:
    trials = draw_all(start_search(config, plan, record))
    for trial, spec in zip(trials, plan.trials, strict=True):
        assert tuple(trial.config[name] for name in AXES) == key_of(spec)


def test_trials_with_a_result_are_left_out(config: Config, plan: Plan, record: RunRecord) -> None:
    done = [plan.trials[i].trial_id for i in (0, 1, 4)]
    for trial_id in done:
        end(record, trial_id)
    ids = [trial.trial_id for trial in draw_all(start_search(config, plan, record))]
    assert ids == [spec.trial_id for spec in plan.trials if spec.trial_id not in done]


def test_search_is_finished_after_the_last_trial_and_not_before(
    config: Config, plan: Plan, record: RunRecord
) -> None:
    search = start_search(config, plan, record)
    for _ in plan.trials:
        assert search.next_trial() is not None
        assert not search.is_finished()
    assert search.next_trial() is None
    assert search.is_finished()


def test_only_the_cell_at_hand_is_drawn_up(
    config: Config, plan: Plan, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    build = Trial.__init__

    def count(trial: Trial, *given: Any, **named: Any) -> None:
        made.append(named["trial_id"])
        build(trial, *given, **named)

    monkeypatch.setattr(Trial, "__init__", count)
    search = start_search(config, plan, record)
    search.next_trial()
    assert len(made) == 1


def test_a_cell_with_every_result_is_passed_over(plan: Plan) -> None:
    done = frozenset(spec.trial_id for spec in plan.trials if spec.cell == plan.cells[1])
    cells = [{spec.cell for _, spec in left.values()} for left in iterate_cells(plan, done)]
    assert cells == [{plan.cells[0]}, {plan.cells[2]}, {plan.cells[3]}]


def test_a_slim_trial_keeps_its_name_and_place(
    config: Config, plan: Plan, record: RunRecord
) -> None:
    trial = start_search(config, plan, record).next_trial()
    assert trial is not None
    trial.update_last_result({"epoch": 1, "val_accuracy": 0.5, "config": {"trial": {}}})
    trial._default_result_or_future = {"pid": 1}
    forget_result(trial)
    assert trial.trial_id == plan.trials[0].trial_id
    assert trial.config["candidate"] == plan.trials[0].candidate.index
    assert "trial" not in trial.config
    assert trial.last_result == {"trial_id": trial.trial_id}
    assert trial.metric_analysis == {}
