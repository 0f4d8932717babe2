"""Which repeats become due: by number, by look, within a budget, and after a resume."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.config import Config, load_config
from sweep.data import Subsets
from sweep.plan import Plan, TrialSpec, build_plan, build_repeat
from sweep.repeats import RepeatSchedule, summarize_repeats
from sweep.storage.record import RunRecord, apply

TEXTS = 400
REVISIONS = {"good": "1", "poor": "2"}


class World:
    """A run whose trials end as planted: each is right on the share of the test texts that its
    model's accuracy and its seed's luck say."""

    def __init__(
        self,
        write_config: Callable[..., Path],
        subsets: Subsets,
        spread: float = 0.0,
        **sections: Any,
    ) -> None:
        models = [
            {"name": name, "path": "tiny:llama" if name == "good" else "tiny:gpt2"}
            for name in REVISIONS
        ]
        grid = {"models": models, "n_labels": [2, 4], "n_samples": [16]}
        settings = {"grid": grid, "baselines": [], **sections}
        self.config: Config = load_config(write_config(**settings))
        self.subsets, self.spread = subsets, spread
        self.accuracies = {"good": 0.9, "poor": 0.6, "tf-idf": 0.6}
        self.plan: Plan = build_plan(self.config, subsets, REVISIONS)
        self.record = RunRecord()
        for labels in {cell.labels: None for cell in self.plan.cells}:
            truth = [0] * TEXTS
            fields = {"labels": list(labels), "items": list(range(TEXTS)), "truth": truth}
            self.apply("test_set", fingerprint=str(len(labels)), **fields)
        for spec in self.plan.trials:
            self.apply("planned", trial=spec)

    def apply(self, kind: str, **fields: Any) -> None:
        apply(self.record, {"event": kind, "time": 1.0, **fields})

    def draw(self, model: str, seed: int, n_labels: int) -> list[int]:
        rng = np.random.default_rng([seed, n_labels, len(model)])
        accuracy = self.accuracies.get(f"{model} {n_labels}", self.accuracies[model])
        accuracy += self.spread * rng.normal()
        return [int(value) for value in rng.random(TEXTS) >= accuracy]

    def end(self, spec: TrialSpec, status: str = "finished", seconds: float = 10.0) -> None:
        cell = spec.cell
        result: dict[str, Any] = {"status": status, "val_accuracy": 0.5, "wall_seconds": seconds}
        if status == "finished":
            predictions = self.draw(cell.model, cell.seed, cell.n_labels)
            result |= {"predictions": predictions, "test_set": str(cell.n_labels)}
        self.apply("ended", trial_id=spec.trial_id, **result)

    def end_tuned(self) -> None:
        for spec in self.plan.trials:
            self.end(spec)

    def end_baselines(self) -> None:
        """Give every planned subset its TF-IDF."""
        for record in self.record.planned().values():
            spec, cell = record.spec, record.spec.cell
            name = f"tf-idf {spec.data_fingerprint}"
            fields = {"n_labels": cell.n_labels, "labels": list(cell.labels), "seed": cell.seed}
            predictions = self.draw("tf-idf", cell.seed, cell.n_labels)
            result = {"predictions": predictions, "test_set": str(cell.n_labels)}
            facts = {"n_samples": cell.n_samples, "data_fingerprint": spec.data_fingerprint}
            self.apply(
                "baseline", trial_id=name, cell_id=name, model="tf-idf", **fields, **facts, **result
            )

    def schedule(self) -> RepeatSchedule:
        return RepeatSchedule(self.config, self.plan, self.subsets, self.record)

    def plan_due(self, schedule: RepeatSchedule) -> list[TrialSpec]:
        """Plan what is due, as the driver does."""
        due = schedule.take_due()
        for spec, of in due:
            self.apply("planned", trial=spec, repeat_of=of.trial_id)
        return [spec for spec, _ in due]

    def run(self, schedule: RepeatSchedule, rounds: int = 20) -> Counter[tuple[str, int]]:
        """Let all that becomes due end; return how many repeats each model and label count got."""
        counts: Counter[tuple[str, int]] = Counter()
        for _ in range(rounds):
            due = self.plan_due(schedule)
            if not due:
                return counts
            for spec in due:
                self.end(spec)
                counts[spec.cell.model, spec.cell.n_labels] += 1
            self.end_baselines()
            schedule.catch_up()
        raise AssertionError("repeats without end")


Build = Callable[..., World]


@pytest.fixture
def build(write_config: Callable[..., Path], subsets: Subsets) -> Build:
    return lambda **given: World(write_config, subsets, **given)


def test_a_repeat_is_the_trial_that_its_seed_would_have_in_the_grid(
    build: Build, subsets: Subsets
) -> None:
    one = build()
    grid = {**one.config.model_dump()["grid"], "seeds": [0, 1]}
    two = build(grid=grid)
    specs = {spec.trial_id: spec for spec in two.plan.trials}
    for tuned in one.plan.trials:
        repeat = build_repeat(tuned, 1, subsets)
        assert specs[repeat.trial_id] == repeat


def test_each_settled_cell_gets_as_many_repeats_as_asked(build: Build) -> None:
    world = build(repeat={"seeds": 3})
    schedule = world.schedule()
    assert not schedule.take_due()
    first = world.plan.cells[0].cell_id
    own = [spec for spec in world.plan.trials if spec.cell.cell_id == first]
    world.end(own[0])
    schedule.catch_up()
    assert not schedule.take_due()
    world.end(own[1])
    schedule.catch_up()
    due = schedule.take_due()
    assert [spec.cell.seed for spec, _ in due] == [1, 2, 3]
    assert {of for _, of in due} <= set(own)
    assert not schedule.take_due()


def test_the_best_candidate_is_the_one_repeated(build: Build) -> None:
    world = build(repeat={"seeds": 1})
    for number, spec in enumerate(world.plan.trials):
        world.end(spec)
        world.record.trials[spec.trial_id].ended["val_accuracy"] = number / 100
    due = world.schedule().take_due()
    assert [of for _, of in due] == [spec for i, spec in enumerate(world.plan.trials) if i % 2]
    assert all(spec.candidate == of.candidate for spec, of in due)


def test_a_cell_without_a_finished_trial_is_not_repeated(build: Build) -> None:
    world = build(repeat={"seeds": 1})
    for spec in world.plan.trials:
        world.end(spec, "failed" if spec.cell.model == "poor" else "finished")
    assert {spec.cell.model for spec, _ in world.schedule().take_due()} == {"good"}


def test_no_repeats_unless_asked(build: Build) -> None:
    world = build()
    world.end_tuned()
    assert not world.schedule().take_due()


def test_a_resumed_run_goes_on_with_what_is_missing(build: Build) -> None:
    world = build(repeat={"seeds": 2})
    world.end_tuned()
    due = world.plan_due(world.schedule())
    world.end(due[0])
    again = world.schedule()
    assert [spec.trial_id for spec, _ in again.known] != [] and not again.take_due()
    assert {spec for spec, _ in again.known} == set(due)


def test_more_seeds_later_add_to_those_that_are_there(build: Build) -> None:
    world = build(repeat={"seeds": 2})
    world.end_tuned()
    assert set(world.run(world.schedule()).values()) == {2}
    world.config = build(repeat={"seeds": 5}).config
    assert set(world.run(world.schedule()).values()) == {3}


def test_fewer_seeds_later_keep_results_and_drop_what_has_none(build: Build) -> None:
    world = build(repeat={"seeds": 4})
    world.end_tuned()
    due = world.plan_due(world.schedule())
    for spec in due:
        if spec.cell.seed <= 3:
            world.end(spec)
    world.config = build(repeat={"seeds": 1}).config
    schedule = world.schedule()
    assert {spec.cell.seed for spec, _ in schedule.known} == {1, 2, 3}
    assert not schedule.take_due()


def test_repeats_of_a_former_winner_no_longer_count(build: Build) -> None:
    world = build(repeat={"seeds": 1})
    world.end_tuned()
    world.run(world.schedule())
    tuned = world.schedule().known[0].of
    other = next(s for s in world.plan.trials if s.cell == tuned.cell and s != tuned)
    world.record.trials[other.trial_id].ended["val_accuracy"] = 0.9
    schedule = world.schedule()
    assert tuned not in {of for _, of in schedule.known}
    assert [of for _, of in schedule.take_due()] == [other]


def test_a_budget_is_given_out_in_turn_once_all_cells_are_settled(build: Build) -> None:
    world = build(repeat={"seeds": 3, "budget": "65s"})
    schedule = world.schedule()
    for spec in world.plan.trials:
        schedule.catch_up()
        assert not schedule.take_due()
        world.end(spec)
    schedule.catch_up()
    counts = world.run(schedule)
    # Of 12 repeats of 10 seconds each, six.
    assert sorted(counts.values()) == [1, 1, 2, 2]
    assert schedule.unaffordable == 6
    (_, told) = summarize_repeats(schedule, world.record, "RESUME")
    assert "6 repeats left out" in told and "RESUME --set repeat.budget" in told


def test_a_larger_budget_goes_on(build: Build) -> None:
    world = build(repeat={"seeds": 3, "budget": "65s"})
    world.end_tuned()
    assert world.run(world.schedule()).total() == 6
    world.config = build(repeat={"seeds": 3, "budget": "2m"}).config
    assert world.run(world.schedule()).total() == 6


def test_auto_stops_soon_where_the_difference_is_plain(build: Build) -> None:
    world = build(repeat={"seeds": "auto"})
    world.end_tuned()
    counts = world.run(world.schedule())
    assert max(counts.values()) < world.config.repeat.most


def test_auto_gives_more_seeds_only_where_a_comparison_is_open(build: Build) -> None:
    world = build(repeat={"seeds": "auto"}, spread=0.02)
    world.accuracies["poor 4"] = 0.86
    world.end_tuned()
    counts = world.run(world.schedule())
    assert counts["good", 2] == counts["poor", 2]
    assert counts["good", 4] == counts["poor", 4] > counts["good", 2]


def test_auto_never_goes_beyond_the_most_allowed(build: Build) -> None:
    world = build(repeat={"seeds": "auto", "most": 4}, spread=0.03)
    world.accuracies["poor"] = 0.87
    world.end_tuned()
    counts = world.run(world.schedule())
    # Looks come after 2, 3 and 5 seeds.
    assert max(counts.values()) <= 3


def test_auto_waits_for_the_baselines_of_its_seeds(build: Build) -> None:
    world = build(repeat={"seeds": "auto"}, baselines=["tf-idf"])
    world.end_tuned()
    world.end_baselines()
    schedule = world.schedule()
    for spec in world.plan_due(schedule):
        world.end(spec)
    schedule.catch_up()
    assert not schedule.take_due()
    assert schedule.waits_for_baselines
    world.end_baselines()
    schedule.take_due()
    assert not schedule.waits_for_baselines


def test_a_repeat_that_fails_is_made_up_for(build: Build) -> None:
    world = build(repeat={"seeds": "auto"}, spread=0.03)
    world.accuracies["poor"] = 0.87
    world.end_tuned()
    schedule = world.schedule()
    for spec in world.plan_due(schedule):
        world.end(spec, "diverged" if spec.cell.seed == 1 else "finished")
    schedule.catch_up()
    later = world.plan_due(schedule)
    assert later and min(spec.cell.seed for spec in later) == 3


def test_auto_decides_the_same_after_a_resume(build: Build) -> None:
    world = build(repeat={"seeds": "auto"}, spread=0.02)
    world.accuracies["poor"] = 0.86
    world.end_tuned()
    schedule = world.schedule()
    for spec in world.plan_due(schedule):
        world.end(spec)
    again = world.schedule()
    schedule.catch_up()
    assert [each.spec for each in again.take_due()] == [each.spec for each in schedule.take_due()]


def test_the_last_seed_is_followed_by_the_first(build: Build) -> None:
    grid = {**build().config.model_dump()["grid"], "seeds": [2**32 - 1]}
    world = build(grid=grid, repeat={"seeds": 1})
    world.end_tuned()
    assert {spec.cell.seed for spec, _ in world.schedule().take_due()} == {0}


def test_auto_waits_for_the_only_rivals_of_a_single_contender(build: Build) -> None:
    grid = {"models": [{"name": "good", "path": "tiny:llama"}], "n_labels": [2], "n_samples": [16]}
    world = build(grid=grid, repeat={"seeds": "auto"}, baselines=["tf-idf"])
    world.end_tuned()
    schedule = world.schedule()
    assert not schedule.take_due() and schedule.waits_for_baselines
    world.end_baselines()
    assert len(schedule.take_due()) == 2


def test_a_trial_that_was_stopped_in_an_earlier_grid_is_no_repeat_yet(build: Build) -> None:
    world = build(repeat={"seeds": 2})
    world.end_tuned()
    due = world.plan_due(world.schedule())
    for spec in due:
        world.apply("planned", trial=spec)
        world.end(spec, "stopped" if spec.cell.seed == 1 else "finished")
    assert [spec for spec, _ in world.schedule().take_due()] == due


def test_the_summary_leaves_out_what_was_never_planned(build: Build) -> None:
    world = build(repeat={"seeds": 1})
    world.end_tuned()
    schedule = world.schedule()
    assert schedule.take_due()
    assert list(summarize_repeats(schedule, world.record, "resume")) == []
