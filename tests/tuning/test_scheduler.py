"""CellASHA: only trials of one cell are compared."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from sweep.tuning.scheduler import METRIC, CellASHA

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


def make_trial(trial_id: str, cell: str, is_repeat: bool = False) -> Any:
    config = {
        "trial": SimpleNamespace(cell=SimpleNamespace(cell_id=cell)),
        "position": 0,
        "is_repeat": is_repeat,
    }
    return SimpleNamespace(trial_id=trial_id, config=config)


class Race:
    """A scheduler and the trials that have reported to it."""

    def __init__(self, **settings: Any) -> None:
        defaults = {"max_epochs": 9, "grace_epochs": 1, "reduction_factor": 3}
        self.asha = CellASHA(**{**defaults, **settings})
        self.trials: dict[str, Any] = {}

    def report(self, trial_id: str, cell: str, epoch: int, value: float | None) -> str:
        if trial_id not in self.trials:
            self.trials[trial_id] = make_trial(trial_id, cell)
            self.asha.on_trial_add(None, self.trials[trial_id])
        result = {"epoch": epoch} | ({} if value is None else {METRIC: value})
        return self.asha.on_trial_result(None, self.trials[trial_id], result)


def test_a_hard_cell_is_not_stopped_by_an_easy_one() -> None:
    race = Race()
    for number in range(6):
        race.report(f"easy{number}", "2 labels", 1, 0.9)
    assert race.report("hard", "16 labels", 1, 0.2) == CONTINUE


def test_the_worse_trial_of_a_cell_is_stopped() -> None:
    race = Race()
    assert race.report("a", "cell", 1, 0.8) == CONTINUE
    assert race.report("b", "cell", 1, 0.7) == STOP
    assert race.report("c", "cell", 1, 0.9) == CONTINUE


def test_a_repeat_is_not_compared_and_nothing_is_compared_with_it() -> None:
    race = Race()
    race.report("a", "cell", 1, 0.8)
    for name, value in (("poor", 0.1), ("good", 0.9)):
        race.trials[name] = make_trial(name, "cell", is_repeat=True)
        race.asha.on_trial_add(None, race.trials[name])
        for epoch in range(1, 9):
            assert race.report(name, "cell", epoch, value) == CONTINUE
            assert race.asha.rulings[name].rung is None
        race.asha.on_trial_complete(None, race.trials[name], {"epoch": 9, METRIC: value})
    assert race.report("b", "cell", 1, 0.85) == CONTINUE
    assert race.report("c", "cell", 1, 0.7) == STOP


def test_a_repeat_that_diverges_is_stopped() -> None:
    race = Race()
    race.trials["r"] = make_trial("r", "cell", is_repeat=True)
    race.asha.on_trial_add(None, race.trials["r"])
    assert race.report("r", "cell", 1, float("nan")) == STOP


def test_decisions_tell_rung_and_cutoff() -> None:
    race = Race()
    race.report("a", "cell", 1, 0.8)
    race.report("b", "cell", 1, 0.7)
    first, second = race.asha.rulings["a"], race.asha.rulings["b"]
    assert (first.decision, first.rung, first.cutoff) == ("continue", 1.0, None)
    assert (second.decision, second.rung, second.cutoff) == ("stop", 1.0, 0.8)
    race.report("a", "cell", 2, 0.8)
    assert race.asha.rulings["a"].rung is None


def test_equal_trials_go_on() -> None:
    race = Race()
    assert {race.report(name, "cell", 1, 0.5) for name in "abcdef"} == {CONTINUE}


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_result_without_a_finite_metric_is_stopped_and_enters_no_rung(value: float | None) -> None:
    race = Race()
    assert race.report("lost", "cell", 1, value) == STOP
    assert race.report("next", "cell", 1, 0.1) == CONTINUE
    assert race.asha.rulings["next"].cutoff is None


def test_replayed_results_lead_to_the_same_decision() -> None:
    live, resumed = Race(), Race()
    for name, value in (("a", 0.8), ("b", 0.6), ("c", 0.85)):
        live.report(name, "cell", 1, value)
        resumed.asha.replay("cell", name, 1, value)
    for race in (live, resumed):
        assert race.report("d", "cell", 1, 0.79) == STOP
    assert live.asha.rulings["d"] == resumed.asha.rulings["d"]


def test_trial_in_its_last_epoch_enters_the_rung_when_it_completes() -> None:
    race = Race(max_epochs=2, reduction_factor=2)
    race.report("a", "cell", 1, 0.5)
    race.asha.on_trial_complete(None, race.trials["a"], {"epoch": 2, METRIC: 0.9})
    race.report("b", "cell", 1, 0.6)
    assert race.report("b", "cell", 2, 0.7) == STOP


def waiting_room(*states: tuple[int, str], coming: tuple[int, ...] = ()) -> Any:
    """Return what CellASHA sees of Tune: trials by position and status, and those for which a
    worker is starting."""
    trials = {p: Waiting(status, {"position": p}) for p, status in states}
    return SimpleNamespace(
        get_live_trials=lambda: list(trials.values()),
        _trial_to_actor={trials[position]: f"worker {position}" for position in coming},
        _actor_manager=SimpleNamespace(live_actors=[f"worker {p}" for p in coming]),
    )


@dataclass(frozen=True, eq=False)
class Waiting:
    """Stands in for a Tune trial."""

    status: str
    config: dict[str, int]


def test_first_waiting_trial_of_the_plan_runs_next() -> None:
    room = waiting_room((3, "PENDING"), (1, "RUNNING"), (2, "PENDING"))
    assert CellASHA(4, 1, 2).choose_trial_to_run(room).config["position"] == 2


def test_trial_whose_own_worker_is_starting_is_left_to_it() -> None:
    room = waiting_room((3, "PENDING"), (1, "PENDING"), (2, "PENDING"), coming=(1,))
    assert CellASHA(4, 1, 2).choose_trial_to_run(room).config["position"] == 2
    assert CellASHA(4, 1, 2).choose_trial_to_run(waiting_room((1, "PENDING"), coming=(1,))) is None
