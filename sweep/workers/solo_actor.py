"""The Tune side of the solo engine: a reusable actor that trains its trials itself."""

import faulthandler
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from sweep.cluster.visible_gpus import show_assigned_gpus
from sweep.data import Subsets
from sweep.storage.events import EpochResult
from sweep.storage.run_folder import MODELS_NAME
from sweep.workers.own_torch import prepare_torch
from sweep.workers.trial_actor import TrialEngine, TuneTrial


class SoloTrialActor(TuneTrial):
    """Runs one trial after another, each trained in this actor."""

    def setup(
        self,
        config: dict[str, Any],
        subsets: Subsets,
        run_folder: str,
        max_epoch_seconds: float | None = None,
        storage: str | None = None,
        ahead: Mapping[str, float] | None = None,
    ) -> None:
        """Prepare the actor, once; further trials come through ``reset_config``.

        ``storage`` is where checkpoints go; None means the run folder, which every node must see.
        ``ahead`` has the seconds of training that a worker has ahead of it, by model.
        """
        self._open_folders(run_folder, storage)
        self._max_epoch_seconds = max_epoch_seconds
        self._engine = build_solo_engine(subsets, self._scratch, ahead)
        self._take(config)

    def step(self) -> EpochResult:
        with end_if_late(self._max_epoch_seconds):
            return super().step()

    def _explain(self, error: Exception) -> EpochResult:
        from sweep.workers.failures import explain_failure

        return explain_failure(error)


def build_solo_engine(
    subsets: Subsets, scratch: Path, ahead: Mapping[str, float] | None = None
) -> TrialEngine:
    """Return an engine that trains in this actor, on the GPUs and as many threads as it has."""
    show_assigned_gpus()
    prepare_torch(int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))
    # Imported here because the driver, which starts without torch, imports this module too.
    from sweep.training.solo import SoloEngine

    return SoloEngine(subsets, scratch / MODELS_NAME, ahead)


@contextmanager
def end_if_late(seconds: float | None) -> Iterator[None]:
    """End this process if the block takes longer; each thread's stack goes to its log.

    The watchdog is a thread outside the interpreter, so it also ends a call that never releases the
    interpreter (a library's deadlock, a GPU that does not respond).
    """
    if seconds is None:
        yield
        return
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
