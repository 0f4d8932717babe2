"""The time left, against how long runs really took: recorded ones, and simulated ones."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from replays import Moment, find_misses, replay
from simulated import Setting, Simulation, simulate

from sweep.storage.events import Event
from sweep.storage.journal import read_events

RECORDED = Path(__file__).parents[1] / "recorded"
COSTS = {"small": 1.0, "large": 20.0}
STRICT = Setting(COSTS, grace=4)
"""No trial is stopped early: all that can be known of a run's length is known."""


def misses_of(events: list[Event], factor: float = 2.0, waiting: int = 0) -> list[Moment]:
    """Return the moments from a tenth of the run on at which the time left is wrong by more than
    ``factor``, and by more than a fifteenth of the run; only those are looked at that have so many
    trials ``waiting``."""
    seconds = events[-1]["time"] - max(e["time"] for e in events if e["event"] == "opened")
    moments = [moment for moment in replay(events) if moment.waiting >= waiting]
    return find_misses(moments, factor, max(3.0, seconds / 15))


def resume_half(setting: Setting) -> list[Event]:
    """Return the journal of a run that was ended after half of its epochs, and resumed an hour
    later."""
    run = Simulation(setting)
    half = len(run.trials) * setting.max_epochs // 2
    first = list(run.events(most_epochs=half))
    return first + list(run.events(start=first[-1]["time"] + 3600.0))


@pytest.mark.parametrize("name", sorted(path.name for path in RECORDED.iterdir() if path.is_dir()))
def test_recorded_run_takes_between_half_and_twice_of_what_was_told(name: str) -> None:
    assert misses_of(list(read_events(RECORDED / name))) == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"joins": (10.0,)}, id="one worker"),
        pytest.param({}, id="two workers"),
        pytest.param({"joins": (10.0,) * 8}, id="eight workers"),
        pytest.param({"costs": {"large": 20.0, "small": 1.0}}, id="expensive model first"),
        pytest.param({"forecast": {"small": 2.5, "large": 2.5}}, id="preflight too high"),
        pytest.param({"forecast": {"small": 0.4, "large": 0.4}}, id="preflight too low"),
        pytest.param({"forecast": {"small": 0.8, "large": 1.25}}, id="preflight wrong by model"),
        pytest.param({"loses": (60.0, 150.0)}, id="lost workers"),
        pytest.param({"slots": 4, "gain": 0.1}, id="packed, little gain"),
        pytest.param({"slots": 4, "gain": 0.5}, id="packed"),
        pytest.param({"slots": 8, "joins": (10.0,), "gain": 0.7}, id="packed, much gain"),
        pytest.param(
            {"costs": {"real": 100.0}, "n_labels": (4,), "max_epochs": 2, "grace": 2},
            id="four trials",
        ),
    ],
)
def test_run_whose_trials_all_end_takes_between_half_and_twice(
    changes: dict[str, Any], seed: int
) -> None:
    assert misses_of(simulate(replace(STRICT, **changes, seed=seed))) == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "changes", [{}, {"joins": (10.0,)}, {"candidates": 8}, {"slots": 4, "candidates": 4}]
)
def test_trials_that_asha_stops_are_expected_to_be(changes: dict[str, Any], seed: int) -> None:
    setting = replace(STRICT, grace=1, **changes, seed=seed)
    # In the end, the length of the run hangs on the fate of a single trial.
    assert misses_of(simulate(setting), waiting=4) == []


@pytest.mark.parametrize("grace", [1, 4])
def test_resumed_run_counts_what_is_left_of_it(grace: int) -> None:
    assert misses_of(resume_half(replace(STRICT, grace=grace)), waiting=1) == []


@pytest.mark.parametrize("seed", range(3))
def test_machines_that_come_later_are_counted_once_they_are_there(seed: int) -> None:
    # One worker of three is there in the beginning: nobody can know of the others.
    setting = replace(STRICT, joins=(10.0, 200.0, 250.0), seed=seed)
    events = simulate(setting)
    assert [moment for moment in misses_of(events) if moment.passed > 280.0] == []
    assert misses_of(events, factor=3.5) == []


@pytest.mark.parametrize("seed", range(3))
def test_old_journal_without_preflight_tells_nothing_before_the_first_epoch(seed: int) -> None:
    events = simulate(replace(STRICT, costs={"only": 5.0}, forecast=None, seed=seed))
    first = next(event["time"] for event in events if event["event"] == "epoch")
    for moment in replay(events, from_part=0.0):
        assert (moment.shown is None) == (moment.passed < first - events[0]["time"])
    assert [moment for moment in misses_of(events) if moment.shown is not None] == []


@pytest.mark.parametrize("seed", range(20))
def test_any_run_takes_between_half_and_twice(seed: int) -> None:
    draw = random.Random(seed)
    models = draw.randint(1, 4)
    setting = Setting(
        costs={f"model-{i}": 20 ** draw.random() for i in range(models)},
        n_samples=draw.choice([(800,), (800, 2400), (100, 3000)]),
        candidates=draw.randint(1, 6),
        max_epochs=draw.randint(1, 8),
        grace=draw.choice([1, 2, 8]),
        reduction=draw.choice([2.0, 3.0, 4.0]),
        joins=[10.0] * draw.randint(1, 8),
        slots=draw.choice([1, 1, 3]),
        forecast={f"model-{i}": 2 ** draw.uniform(-0.5, 0.5) for i in range(models)},
        seed=seed,
    )
    assert misses_of(simulate(setting), waiting=4) == []
