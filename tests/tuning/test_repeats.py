"""Repeats in Tune's search: after the plan, as they become due, until none can."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Experiment, Trial

from sweep.config import Config, load_config
from sweep.data import Subsets
from sweep.plan import Plan, TrialSpec, build_repeat
from sweep.repeats import Repeat, RepeatSchedule
from sweep.storage.journal import Journal, read_events
from sweep.storage.record import RunRecord, replay
from sweep.tuning.recorder import Recorder
from sweep.tuning.repeats import RepeatFeed
from sweep.tuning.scheduler import CellASHA
from sweep.tuning.search import AXES, PlanSearch, build_param_space


def train(config: dict[str, Any]) -> None:
    """Stand in for a trainable."""


class Baselines:
    """Baselines that are there at once."""

    def __init__(self) -> None:
        self.trials: list[TrialSpec] = []

    def extend(self, trials: list[TrialSpec]) -> None:
        self.trials += trials

    def finish_between_trials(self, go_on: Callable[[], bool]) -> None:
        raise AssertionError("nothing waits for baselines")


class Session:
    """A driver's search, recorder and feed, without Tune."""

    def __init__(self, config: Config, plan: Plan, subsets: Subsets, journal: Journal) -> None:
        record = replay(read_events(journal.path.parent))
        self.recorder = Recorder(journal, record, CellASHA(3, 1, 2))
        new = [spec for spec in plan.trials if spec.trial_id not in record.trials]
        self.recorder.write_many(("planned", {"trial": spec}) for spec in new)
        self.shown: list[TrialSpec] = []
        self.baselines = Baselines()
        schedule = RepeatSchedule(config, plan, subsets, record)
        feed = RepeatFeed(schedule, self.recorder, self.baselines, self.shown.extend)  # type: ignore[arg-type]
        feed.refill()
        self.search = PlanSearch(plan, record, feed)
        space = build_param_space(config, plan, self.search.specs)
        axes = {name: axis for name, axis in space.items() if name in AXES}
        self.search.add_configurations([Experiment("x", train, config=axes)])

    @property
    def record(self) -> RunRecord:
        return self.recorder.record

    def end(self, trial: Trial, status: str = "finished") -> None:
        self.recorder.write(
            "ended", trial_id=trial.trial_id, status=status, val_accuracy=0.5, wall_seconds=1.0
        )

    def draw(self) -> list[Trial]:
        """Return the trials that there are for now."""
        return list(iter(self.search.next_trial, None))


@pytest.fixture
def repeated(write_config: Callable[..., Path]) -> Config:
    return load_config(write_config(repeat={"seeds": 2}, baselines=[]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    with Journal(folder) as journal:
        yield journal


def test_repeats_come_once_their_cell_is_settled(
    repeated: Config, plan: Plan, subsets: Subsets, journal: Journal
) -> None:
    session = Session(repeated, plan, subsets, journal)
    tuned = session.draw()
    assert len(tuned) == len(plan.trials) and not session.search.is_finished()
    session.end(tuned[0])
    assert session.draw() == []
    session.end(tuned[1])
    first = session.draw()
    assert [trial.config["seed"] for trial in first] == [1, 2]
    assert [trial.config["is_repeat"] for trial in tuned + first] == [False] * 8 + [True] * 2
    assert session.shown == session.baselines.trials == [t.config["trial"] for t in first]
    positions = [trial.config["position"] for trial in tuned + first]
    assert positions == list(range(10))


def test_the_search_ends_after_the_last_repeat(
    repeated: Config, plan: Plan, subsets: Subsets, journal: Journal
) -> None:
    session = Session(repeated, plan, subsets, journal)
    for trial in session.draw():
        session.end(trial)
    repeats = session.draw()
    assert len(repeats) == 8 and not session.search.is_finished()
    for trial in repeats:
        session.end(trial)
    assert session.draw() == [] and session.search.is_finished()


def test_a_repeat_that_an_earlier_grid_stopped_runs_again(
    repeated: Config, plan: Plan, subsets: Subsets, journal: Journal
) -> None:
    session = Session(repeated, plan, subsets, journal)
    tuned = session.draw()
    earlier = build_repeat(plan.trials[0], 1, subsets)
    session.recorder.write("planned", trial=earlier)
    session.recorder.write("ended", trial_id=earlier.trial_id, status="stopped")
    # The trial that it repeats wins by its loss.
    for trial in tuned:
        loss = 1.0 if trial.trial_id == plan.trials[0].trial_id else 2.0
        session.recorder.write(
            "ended", trial_id=trial.trial_id, status="finished", val_accuracy=0.5, val_loss=loss
        )
    assert earlier.trial_id in {trial.trial_id for trial in session.draw()}
    assert session.record.trials[earlier.trial_id].repeat_of == plan.trials[0].trial_id


def test_the_journal_says_what_is_repeated(
    repeated: Config, plan: Plan, subsets: Subsets, journal: Journal, folder: Path
) -> None:
    session = Session(repeated, plan, subsets, journal)
    for trial in session.draw():
        session.end(trial)
    repeats = session.draw()
    read = replay(read_events(folder))
    for trial in repeats:
        known = read.trials[trial.trial_id]
        assert known.repeat_of is not None and read.is_planned(trial.trial_id)
        tuned = read.trials[known.repeat_of].spec
        assert known.spec.candidate == tuned.candidate
        assert known.spec.cell.axes[:3] == tuned.cell.axes[:3]


def test_a_resumed_search_begins_with_the_repeats_that_are_left(
    repeated: Config, plan: Plan, subsets: Subsets, journal: Journal
) -> None:
    session = Session(repeated, plan, subsets, journal)
    for trial in session.draw():
        session.end(trial)
    repeats = session.draw()
    for trial in repeats[:3]:
        session.end(trial)
    again = Session(repeated, plan, subsets, journal)
    assert [t.trial_id for t in again.draw()] == [t.trial_id for t in repeats[3:]]
    assert again.shown == []


class Waiting:
    """A schedule whose next look needs baselines."""

    known: tuple[Repeat, ...] = ()
    is_settled = waits_for_baselines = True

    def catch_up(self) -> bool:
        return False

    def take_due(self) -> list[Repeat]:
        return []


def test_ctrl_c_ends_the_wait_for_baselines(
    repeated: Config, plan: Plan, subsets: Subsets, journal: Journal
) -> None:
    asked: list[bool] = []

    class Slow(Baselines):
        def finish_between_trials(self, go_on: Callable[[], bool]) -> None:
            asked.append(go_on())
            # As Tune does when it takes a Ctrl-C.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            asked.append(go_on())

    session = Session(repeated, plan, subsets, journal)
    feed = RepeatFeed(Waiting(), session.recorder, Slow())  # type: ignore[arg-type]
    before = signal.getsignal(signal.SIGINT)
    try:
        assert feed.next_repeat() is None
        assert asked == [True, False] and feed.is_finished()
    finally:
        signal.signal(signal.SIGINT, before)
