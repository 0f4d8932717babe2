"""The Tune side of the packed engine: an actor that holds a trial's place in Ray's books and asks
its host for each epoch; it imports neither torch nor transformers."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from sweep.errors import shorten
from sweep.plan import TrialSpec
from sweep.storage.events import EpochResult, Facts
from sweep.workers.trial_actor import TuneTrial

PATIENCE_SECONDS = 10
"""How long a trial waits for a host that others still hold: about as long as a new one needs to
start."""
ASK_AGAIN_SECONDS = 0.1


class HostLostError(Exception):
    """The host, or the trial's place in it, is gone: Tune has to start the trial anew."""


class HostFailureError(Exception):
    """The trial failed at its host; ``result`` ends it."""

    def __init__(self, result: EpochResult) -> None:
        super().__init__(result.get("error") or result.get("halt"))
        self.result = result


class HostedEngine:
    """Stands for the engine in the host, in the calls of ``TrialEngine``."""

    def __init__(self, hosts: Any, seconds: float | None) -> None:
        self._hosts = hosts
        self._seconds = seconds
        self._host: Any = None
        self._trial_id = ""

    def start(
        self, spec: TrialSpec, checkpoints: Path, resume_epoch: int = 0, half_batches: bool = False
    ) -> Facts:
        """Have the host of this place take in a trial."""
        self._trial_id = spec.trial_id
        model = f"{spec.model.name} {spec.model.revision}"
        try:
            self._host = self._find(spec.trial_id, model)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
            raise HostLostError(f"no host can be had: {shorten(error, 200)}") from None
        facts: Facts = self._ask("start", spec, str(checkpoints), resume_epoch, half_batches)
        return facts

    def _find(self, trial_id: str, model: str) -> Any:
        place, start = find_place(), time.monotonic()
        host = None
        while host is None:
            insist = time.monotonic() - start > PATIENCE_SECONDS
            find = self._hosts.acquire.remote(trial_id, model, place, insist)
            host = ray.get(find, timeout=self._seconds)
            if host is None:
                time.sleep(ASK_AGAIN_SECONDS)
        return host

    def run_epoch(self) -> EpochResult:
        """Have the host train the next epoch."""
        result: EpochResult = self._ask("run_epoch", self._trial_id)
        return result

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            reference = getattr(self._host, method).remote(*arguments)
            answer: dict[str, Any] = ray.get(reference, timeout=self._seconds)
        except ray.exceptions.GetTimeoutError:
            ray.kill(self._host)
            raise HostLostError("its host gave no epoch in time") from None
        except ray.exceptions.OutOfMemoryError as error:
            raise HostLostError(f"OutOfMemoryError: {shorten(error, 200)}") from None
        except ray.exceptions.RayActorError as error:
            raise HostLostError(f"its host has ended: {shorten(error, 200)}") from None
        if "lost" in answer:
            raise HostLostError(answer["lost"])
        if "failed" in answer:
            raise HostFailureError(answer["failed"])
        return answer

    def close(self) -> None:
        """End the trial at its host, if that is still there."""
        if self._host is None:
            return
        # A host that is gone, or hangs, holds no trial.
        with suppress(ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            ray.get(self._host.close.remote(self._trial_id), timeout=self._seconds)
        self._hosts.forget.remote(self._trial_id)
        self._host = None

    def discard(self) -> None:
        """End the trial at its host; the others there go on."""
        self.close()


class PackedTrialActor(TuneTrial):
    """One trial after another, each trained by the host of its base model."""

    def setup(
        self,
        config: dict[str, Any],
        hosts: Any,
        run_folder: str,
        max_epoch_seconds: float | None = None,
        storage: str | None = None,
    ) -> None:
        """Prepare the actor, once; trials follow through ``reset_config``."""
        self._open_folders(run_folder, storage)
        self._engine: HostedEngine = HostedEngine(hosts, max_epoch_seconds)
        self._take(config)

    def _explain(self, error: Exception) -> EpochResult:
        if isinstance(error, HostFailureError):
            return error.result
        if isinstance(error, HostLostError):
            raise error
        from sweep.workers.failures import explain_failure  # brings torch, for once

        return explain_failure(error)


def find_place() -> tuple[str, str | None]:
    """Return the node that this actor runs on, and the GPU it has a part of."""
    context = ray.get_runtime_context()
    gpus = context.get_accelerator_ids().get("GPU", [])
    return context.get_node_id(), gpus[0] if gpus else None
