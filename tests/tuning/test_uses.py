"""Which results are measured in use."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweep.cluster import nodes
from sweep.config import load_config
from sweep.plan import Plan, TrialSpec
from sweep.storage.record import RunRecord, apply
from sweep.tuning.baselines import list_baselines
from sweep.tuning.uses import list_missing, list_uses

NAMES = ("majority", "tf-idf")


def end(record: RunRecord, spec: TrialSpec, accuracy: float, status: str = "finished") -> None:
    """Enter the result of a trial."""
    facts: dict[str, Any] = {"val_accuracy": accuracy, "val_loss": 1.0, "best_epoch": 1}
    event = {"event": "ended", "time": 0.0, "trial_id": spec.trial_id, "status": status, **facts}
    apply(record, event)  # type: ignore[arg-type]


def pick(plan: Plan, n_labels: int, n_samples: int, candidate: int) -> TrialSpec:
    """Return a trial of the plan."""
    axes = (n_labels, n_samples, candidate)
    return next(
        spec
        for spec in plan.trials
        if (spec.cell.n_labels, spec.cell.n_samples, spec.candidate.index) == axes
    )


@pytest.fixture
def ids(
    record: RunRecord, plan: Plan, write_config: Callable[..., Path]
) -> Callable[[], list[str]]:
    """Return a function that lists the trials to measure."""
    config = load_config(write_config(serving={"measure": True}, baselines=[]))
    return lambda: [use.trial_id for use in list_uses(config, plan, record)]


def test_best_tuned_trial_with_the_most_samples_is_measured(
    record: RunRecord, plan: Plan, ids: Callable[[], list[str]]
) -> None:
    for n_samples, accuracies in ((16, (0.9, 0.8)), (32, (0.5, 0.6))):
        for candidate, accuracy in enumerate(accuracies):
            end(record, pick(plan, 2, n_samples, candidate), accuracy)
    best = pick(plan, 2, 32, 1)
    assert ids() == [best.trial_id]
    # The candidate once more with another seed, which does better.
    again = replace(best, trial_id="again", cell=replace(best.cell, cell_id="other", seed=7))
    planned = {"event": "planned", "time": 0.0, "trial": again, "repeat_of": best.trial_id}
    apply(record, planned)  # type: ignore[arg-type]
    end(record, again, 0.99)
    assert ids() == [best.trial_id]


def test_without_a_finished_trial_the_next_smaller_size_is_measured(
    record: RunRecord, plan: Plan, ids: Callable[[], list[str]]
) -> None:
    end(record, pick(plan, 4, 32, 0), 0.9, status="stopped")
    assert ids() == []
    end(record, pick(plan, 4, 16, 0), 0.3)
    assert ids() == [pick(plan, 4, 16, 0).trial_id]


def test_baselines_that_have_a_result_are_measured_with_the_most_samples(
    record: RunRecord, plan: Plan, write_config: Callable[..., Path]
) -> None:
    config = load_config(write_config(serving={"measure": True}, baselines=[*NAMES]))
    for spec in list_baselines(NAMES, plan):
        failed = {"status": "failed"} if (spec.name, spec.cell.n_labels) == ("tf-idf", 4) else {}
        event = {"event": "baseline", "time": 0.0, **spec.to_fields(), **failed}
        apply(record, event)  # type: ignore[arg-type]
    uses = list_uses(config, plan, record)
    said = sorted(use.words for use in uses)
    assert said == [
        "baseline majority, 2 labels x 32 samples, seed 0",
        "baseline majority, 4 labels x 32 samples, seed 0",
        "baseline tf-idf, 2 labels x 32 samples, seed 0",
    ]
    first, second, third = uses
    for use, facts in ((first, {}), (second, {"serving_error": "no room"})):
        served = {"event": "served", "time": 0.0, "trial_id": use.trial_id, **facts}
        apply(record, served)  # type: ignore[arg-type]
    assert list_missing(uses, record, retry_failed=False) == [third]
    assert list_missing(uses, record, retry_failed=True) == [second, third]
    off = load_config(write_config(serving={"measure": False}))
    assert list_uses(off, plan, record) == []


@pytest.mark.parametrize(
    ("on_gpu", "expected"),
    [(False, ("big", {"CPU": 16.0})), (True, ("cards", {"CPU": 2.0, "GPU": 1.0}))],
)
def test_one_machine_is_reserved_whole_or_one_gpu_with_its_part_of_the_cpus(
    on_gpu: bool, expected: tuple[str, dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"head": {"CPU": 4.0}, "big": {"CPU": 16.0}, "cards": {"CPU": 8.0, "GPU": 4.0}}
    found = [{"NodeID": name, "Resources": has} for name, has in sizes.items()]
    monkeypatch.setattr(nodes, "list_nodes", lambda: found)
    assert nodes.choose_machine(on_gpu) == expected


def test_without_a_node_that_has_what_is_needed_the_cluster_chooses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head = {"NodeID": "head", "Resources": {}}
    monkeypatch.setattr(nodes, "list_nodes", lambda: [head])
    assert nodes.choose_machine(True) == (None, {"CPU": 1.0, "GPU": 1.0})
