"""The Tune side of the packed engine: an actor that reserves a trial's resources in Ray and asks
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

# How long a trial waits for a host that others still occupy: about as long as a new one takes to
# start.
PATIENCE_SECONDS = 10
RETRY_SECONDS = 0.1
# Seconds until a trial asks again whether a pack that had less memory than expected has room.
FULL_SECONDS = 1.0


class HostLostError(Exception):
    """The host, or the trial in it, is gone: Tune has to restart the trial."""


class HostFailureError(Exception):
    """The trial failed on its host; ``result`` ends it."""

    def __init__(self, result: EpochResult) -> None:
        super().__init__(result.get("error") or result.get("halt"))
        self.result = result


class HostedEngine:
    """A proxy of the host's engine, with the interface of ``TrialEngine``."""

    def __init__(self, hosts: Any, seconds: float | None) -> None:
        self._hosts = hosts
        self._seconds = seconds
        self._host: Any = None
        self._trial_id = ""
        # Sentences about the last start.
        self.notes: list[str] = []

    def start(
        self, spec: TrialSpec, checkpoints: Path, resume_epoch: int = 0, half_batches: bool = False
    ) -> Facts:
        """Start a trial on a host on this actor's node and GPU."""
        self._trial_id = spec.trial_id
        while True:
            self._host = self._acquire(spec)
            answer = self._ask("start", spec, str(checkpoints), resume_epoch, half_batches)
            if "full" not in answer:
                self.notes = answer.pop("notes")
                facts: Facts = answer
                return facts
            self._hosts.forget.remote(spec.trial_id)
            time.sleep(FULL_SECONDS)

    def _acquire(self, spec: TrialSpec) -> Any:
        model = f"{spec.model.name} {spec.model.revision}"
        try:
            return self._find(spec.trial_id, model)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
            raise HostLostError(f"no host is available: {shorten(error, 200)}") from None

    def _find(self, trial_id: str, model: str) -> Any:
        location, start = find_location(), time.monotonic()
        host = None
        while host is None:
            insist = time.monotonic() - start > PATIENCE_SECONDS
            find = self._hosts.acquire.remote(trial_id, model, location, insist)
            host = ray.get(find, timeout=self._seconds)
            if host is None:
                time.sleep(RETRY_SECONDS)
        return host

    def run_epoch(self) -> EpochResult:
        """Train the next epoch on the host."""
        result: EpochResult = self._ask("run_epoch", self._trial_id)
        return result

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            reference = getattr(self._host, method).remote(*arguments)
            answer: dict[str, Any] = ray.get(reference, timeout=self._seconds)
        except ray.exceptions.GetTimeoutError:
            ray.kill(self._host)
            raise HostLostError("its host did not finish an epoch in time") from None
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
        """End the trial on its host, if that is still alive."""
        if self._host is None:
            return
        # A host that is gone, or hangs, has no trial to end.
        with suppress(ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            ray.get(self._host.close.remote(self._trial_id), timeout=self._seconds)
        self._hosts.forget.remote(self._trial_id)
        self._host = None

    def discard(self) -> None:
        """End the trial on its host; the others there continue."""
        self.close()


class PackedTrialActor(TuneTrial):
    """Runs one trial after another, each trained by a host that has its base model."""

    def setup(
        self,
        config: dict[str, Any],
        hosts: Any,
        run_folder: str,
        max_epoch_seconds: float | None = None,
        storage: str | None = None,
    ) -> None:
        """Prepare the actor, once; further trials come through ``reset_config``."""
        self._open_folders(run_folder, storage)
        self._engine = HostedEngine(hosts, max_epoch_seconds)
        self._take(config)

    def _start(self) -> Facts:
        facts = super()._start()
        if isinstance(self._engine, HostedEngine):
            self._notes += self._engine.notes
        return facts

    def _explain(self, error: Exception) -> EpochResult:
        if isinstance(error, HostFailureError):
            return error.result
        if isinstance(error, HostLostError):
            raise error
        from sweep.workers.failures import explain_failure  # imports torch; rarely needed

        return explain_failure(error)


def find_location() -> tuple[str, str | None]:
    """Return the node that this actor runs on, and the GPU that it has a share of."""
    context = ray.get_runtime_context()
    gpus = context.get_accelerator_ids().get("GPU", [])
    return context.get_node_id(), gpus[0] if gpus else None
