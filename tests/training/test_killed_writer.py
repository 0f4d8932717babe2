"""A process that dies inside the writing of a checkpoint, at every point of it."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
from killed_writer import Epochs, Work, train

from sweep.data import Subsets
from sweep.plan import Plan, TrialSpec
from sweep.storage.checkpoints import list_checkpoints
from sweep.storage.manifest import MANIFEST
from tests.faults.in_workers.kill_points import BEFORE_REPORT, POINTS

ENGINES = ("solo", "packed")
EPOCHS = 3


@pytest.fixture
def spec(plan: Plan) -> TrialSpec:
    first = plan.trials[0]
    return replace(first, recipe=replace(first.recipe, dtype="float32", max_epochs=EPOCHS))


@pytest.fixture(scope="module")
def alone() -> dict[str, Epochs]:
    """Keep what each engine makes of the trial if it is left alone."""
    return {}


@pytest.mark.parametrize("epoch", [2, EPOCHS])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("engine", ENGINES)
def test_trial_killed_there_ends_like_one_left_alone(
    engine: str,
    point: str,
    epoch: int,
    spec: TrialSpec,
    subsets: Subsets,
    tmp_path: Path,
    alone: dict[str, Epochs],
) -> None:
    if engine not in alone:
        undisturbed = Work(engine, spec, subsets, tmp_path / "alone")
        assert train(undisturbed) == 0
        alone[engine] = undisturbed.read_epochs()
    killed = Work(engine, spec, subsets, tmp_path / "killed")
    assert train(killed, point, epoch) == -signal.SIGKILL
    assert len(killed.read_epochs()) == epoch - 1
    newest = list_checkpoints(tmp_path / "killed" / "checkpoints")[0]
    assert newest.name == f"epoch-{epoch:04d}"
    assert (newest / MANIFEST).exists() == (point == BEFORE_REPORT)
    assert train(killed) == 0
    assert killed.read_epochs() == alone[engine]
