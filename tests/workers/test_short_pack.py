"""A pack for which memory does not suffice: it has fewer slots, and trials wait for one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sweep.cluster.visible_gpus import VARIABLE
from sweep.data import Subsets
from sweep.plan import Capacity, Plan, TrialSpec
from sweep.training.packed.stacks import Stacks
from sweep.workers.host import Host


@pytest.fixture
def specs(plan: Plan) -> list[TrialSpec]:
    return [replace(spec, recipe=replace(spec.recipe, dtype="float32")) for spec in plan.trials]


@pytest.fixture
def short_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is memory for two slots."""
    # A host changes it in its own process, which is this one here.
    monkeypatch.setenv(VARIABLE, "")
    real = Stacks.__init__

    def build(self: Stacks, shape: Any, slots: int, *others: Any) -> None:
        if slots > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        real(self, shape, slots, *others)

    monkeypatch.setattr(Stacks, "__init__", build)


def test_trials_wait_for_a_slot_of_a_pack_that_has_fewer_than_it_should(
    subsets: Subsets, specs: list[TrialSpec], tmp_path: Path, short_of_memory: None
) -> None:
    host = Host(
        subsets, str(tmp_path), torch.get_num_threads(), {"tiny-llama": Capacity(8, 64, 16)}
    )
    start: Callable[[TrialSpec], Any] = lambda spec: host.start(  # noqa: E731
        spec, str(tmp_path / spec.trial_id), 0, False
    )
    first, second, third = specs[:3]
    (note,) = start(first)["notes"]
    assert "2 trials at a time" in note and "not for 8" in note
    assert "full" not in start(second)
    assert start(third) == {"full": True}
    host.close(first.trial_id)
    assert start(third)["resumed_epoch"] == 0
    assert host.run_epoch(third.trial_id)["epoch"] == 1
