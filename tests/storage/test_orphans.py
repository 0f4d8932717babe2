"""What a changed configuration leaves behind in a run."""

from collections.abc import Callable
from pathlib import Path

from sweep.config import load_config
from sweep.data import Subsets
from sweep.plan import Plan, build_plan
from sweep.storage.orphans import count_reasons, describe_orphaned_trials, list_orphaned_trials
from sweep.storage.record import replay


def test_same_plan_leaves_nothing_behind(plan: Plan) -> None:
    record = replay({"event": "planned", "trial": s} for s in plan.trials)
    assert describe_orphaned_trials(plan.trials, record) == []


def test_trials_that_no_longer_belong_are_named(
    plan: Plan, subsets: Subsets, write_config: Callable[..., Path]
) -> None:
    record = replay({"event": "planned", "trial": s} for s in plan.trials)
    changed = load_config(write_config(), ["tune.learning_rate=0.001", "grid.n_labels=[2]"])
    new = build_plan(changed, subsets, {"tiny-llama": "llama-v1"})
    first, *lines = describe_orphaned_trials(new.trials, record)
    assert first.startswith("8 trials of this run no longer belong to the configuration")
    ids = {spec.trial_id for spec in plan.trials}
    assert {line.split()[0] for line in lines} == ids
    assert all("learning rate 0.005: unfinished" in line for line in lines)
    assert "(4 with other settings, 4 no longer in the grid)" in first


def test_reason_is_the_first_thing_that_changed(
    plan: Plan, subsets: Subsets, write_config: Callable[..., Path]
) -> None:
    record = replay({"event": "planned", "trial": s} for s in plan.trials)
    config = load_config(write_config())
    weights = build_plan(config, subsets, {"tiny-llama": "llama-v2"})
    data = build_plan(config, ChangedSubsets(subsets), {"tiny-llama": "llama-v2"})
    assert count_reasons(list_orphaned_trials(weights.trials, record)) == "8 with other weights"
    assert count_reasons(list_orphaned_trials(data.trials, record)) == "8 with other data"


class ChangedSubsets:
    def __init__(self, subsets: Subsets) -> None:
        self.labels_for = subsets.labels_for
        self._subsets = subsets

    def fingerprint(self, n_labels: int, n_samples: int, seed: int) -> str:
        return self._subsets.fingerprint(n_labels, n_samples, seed)[::-1]
