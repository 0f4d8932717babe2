"""Workers that Ray's memory monitor ends are lost workers to Tune."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError

from sweep.cluster.ray_internals import memory_losses_as_lost_workers
from sweep.tuning.losses import explain_loss, is_memory_loss

KILLED = "1 worker(s) were killed due to the node running low on memory.\nMemory on the node"


def test_memory_loss_reaches_tune_as_a_lost_worker() -> None:
    heard: list[Exception] = []
    actor = SimpleNamespace(actor_id=1, _on_error=None)
    task = SimpleNamespace(_tracked_actor=actor, _on_error=lambda _, error: heard.append(error))
    manager = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)
    with pytest.raises(RuntimeError, match="Caught unexpected exception"):
        RayActorManager._actor_task_failed(manager, task, OutOfMemoryError(KILLED))
    with memory_losses_as_lost_workers():
        RayActorManager._actor_task_failed(manager, task, OutOfMemoryError(KILLED))
    assert isinstance(heard[0], RayActorError)
    assert "running low on memory" in str(heard[0])


@pytest.mark.parametrize(
    ("text", "reason", "memory"),
    [
        ("Failure # 1 (occurred at x)\nThe actor died\n", "The actor died", False),
        (
            f"Failure # 1 (occurred at x)\nThe actor died\nFailure # 2 (occurred at y)\n{KILLED}\n",
            KILLED.replace("\n", " "),
            True,
        ),
    ],
)
def test_newest_loss_is_what_counts(tmp_path: Path, text: str, reason: str, memory: bool) -> None:
    file = tmp_path / "error.txt"
    file.write_text(text)
    trial = SimpleNamespace(error_file=str(file))
    assert explain_loss(trial) == reason
    assert is_memory_loss(trial) is memory


def test_loss_without_a_word_is_none_of_memory() -> None:
    assert explain_loss(SimpleNamespace(error_file=None)) == ""
    assert not is_memory_loss(SimpleNamespace(error_file=None))
