"""A host: the actor that holds one base model on a GPU, or on CPUs, and trains the trials assigned
to it; torch is imported only once it starts."""

import os
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.cluster.visible_gpus import show_gpus
from sweep.plan import Capacity
from sweep.workers.lost_gpu import GpuLostError, end_process
from sweep.workers.own_torch import prepare_torch

if TYPE_CHECKING:
    from sweep.data import Subsets
    from sweep.plan import TrialSpec
    from sweep.storage.events import EpochResult
    from sweep.training.packed.engine import PackedEngine

# Threads of the actor; each waits for one trial's epoch.
CALLS_AT_A_TIME = 256
# Metrics or facts; or how the trial failed, under ``failed``; or, under ``lost``, why it has to
# restart from its checkpoint.
Answer = Mapping[str, Any]


class Host:
    """Serves trials with a single training thread, which handles their requests between two steps.

    The requests of one trial are answered one after another; those of different trials wait
    concurrently. An error in the step that they share ends no trial: all restart from their
    checkpoints.
    """

    def __init__(
        self,
        subsets: "Subsets",
        run_folder: str | None,
        threads: int,
        capacities: Mapping[str, Capacity],
        gpu: str | None = None,
    ) -> None:
        """``threads`` is how many CPU threads train, ``capacities`` the room for trials
        of each model. ``run_folder`` is None if not every node sees it: tiny models are then
        written to a folder of this host's own."""
        # The trials reserve the GPU, not this actor, so Ray assigns it none.
        show_gpus([] if gpu is None else [gpu])
        # Threads that spin while waiting would starve those of other processes.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self._make = partial(_build_engine, subsets, run_folder, threads, capacities)
        self._requests: queue.Queue[Callable[[], None]] = queue.Queue()
        self._waiting: dict[str, Future[Answer]] = {}
        # The start of each trial that counts: its latest, unless the trial was closed since.
        self._starting: dict[str, object] = {}
        self._engine: PackedEngine | None = None
        # Why this process is about to end.
        self._lost = ""
        threading.Thread(target=self._serve, daemon=True, name="training").start()

    def start(
        self, spec: "TrialSpec", checkpoints: str, resume_epoch: int, half_batches: bool
    ) -> Answer:
        """Add a trial to the pack; return the facts of its start, with notes about it under
        ``notes``, or ``full`` if it has to wait until another trial ends.

        All that takes long happens in this call's own thread, while the others train.
        """

        ticket = object()

        def load() -> Answer:
            self._answer(spec.trial_id, {"lost": "the trial was restarted"})
            engine, started = self._take_engine(), time.perf_counter()
            engine.close(spec.trial_id)
            self._starting[spec.trial_id] = ticket
            return {"loaded": (engine, engine.load(spec), started)}

        answer = self._ask(load)
        if "loaded" not in answer:
            return answer

        def prepare() -> Answer:
            engine, loaded, started = answer["loaded"]
            settings = (Path(checkpoints), resume_epoch, half_batches, started)
            prepared = engine.prepare(loaded, spec, *settings)
            if prepared is None:
                return {"full": True}
            shortage = engine.describe_shortage(loaded)
            notes = [] if shortage is None else [shortage]

            def admit() -> Answer:
                if not engine.holds(loaded):
                    return {"lost": "its pack was given up while it started"}
                if self._starting.get(spec.trial_id) is not ticket:
                    engine.drop(prepared)
                    return {"lost": "the trial was closed, or started again, while it started"}
                facts: Answer = engine.admit(prepared)
                return facts

            return {**self._ask(admit), "notes": notes}

        return self._guard(prepare)

    def run_epoch(self, trial_id: str) -> Answer:
        """Train a trial's next epoch; return its metrics and the trial's totals."""
        future: Future[Answer] = Future()

        def run() -> Answer:
            engine = self._take_engine()
            if trial_id not in engine.trials:
                return {"lost": "its host no longer has this trial"}
            engine.begin_epoch(trial_id)
            self._waiting[trial_id] = future
            return {}

        return self._ask(run) or future.result()

    def close(self, trial_id: str) -> None:
        """End a trial, even in the middle of an epoch."""

        def run() -> Answer:
            self._answer(trial_id, {"lost": "the trial was closed"})
            self._starting.pop(trial_id, None)
            if self._engine is not None:
                self._engine.close(trial_id)
            return {}

        self._ask(run)

    def warm(self) -> None:
        """Import what training needs."""
        self._ask(lambda: {"ready": self._take_engine() is not None})

    def pid(self) -> int:
        """Return this process's id, which shows that the host is alive; raise GpuLostError if it is
        about to end."""
        if self._lost:
            raise GpuLostError(self._lost)
        return os.getpid()

    def _ask(self, run: Callable[[], Answer]) -> Answer:
        """Run ``run`` on the training thread; return its answer."""
        future: Future[Answer] = Future()
        self._requests.put(lambda: future.set_result(self._guard(run)))
        return future.result()

    def _guard(self, run: Callable[[], Answer]) -> Answer:
        if self._lost:
            return {"lost": self._lost}
        try:
            return run()
        except Exception as error:  # the trial's failure, passed on to the trial
            return self._to_answer(error)

    def _serve(self) -> None:
        while True:
            busy = self._engine is not None and self._engine.busy
            try:
                while True:
                    self._requests.get(block=not busy)()
                    busy = self._engine is not None and self._engine.busy
            except queue.Empty:
                self._advance()

    def _advance(self) -> None:
        engine = self._engine
        if engine is None:
            return
        try:
            outcomes = engine.advance()
        except Exception as error:  # in the shared step: which trial caused it is unknown
            if "failed" in self._to_answer(error):
                self._lose(f"{type(error).__name__}: {error}")
            return
        for trial_id, outcome in outcomes.items():
            self._answer(trial_id, self._to_answer(outcome))

    def _to_answer(self, outcome: "EpochResult | Exception") -> Answer:
        if not isinstance(outcome, Exception):
            return outcome
        from sweep.workers.failures import explain_failure

        try:
            return {"failed": explain_failure(outcome)}
        except GpuLostError as error:
            self._end(str(error))
            return {"lost": str(error)}

    def _end(self, reason: str) -> None:
        """End this process, which can no longer use its GPU; all its trials restart elsewhere."""
        if self._lost:
            return  # a trial that started meanwhile met it too
        self._engine, self._lost = None, reason
        for trial_id in list(self._waiting):
            self._answer(trial_id, {"lost": reason})
        end_process(reason)

    def _lose(self, reason: str) -> None:
        try:
            if self._engine is not None:
                self._engine.discard()
        except Exception as error:  # what is left of the pack is in an unknown state
            self._end(f"the step of its pack failed ({reason[:200]}), and so did its end: {error}")
        for trial_id in list(self._waiting):
            self._answer(trial_id, {"lost": f"the step of its pack failed ({reason[:200]})"})

    def _answer(self, trial_id: str, answer: Answer) -> None:
        future = self._waiting.pop(trial_id, None)
        if future is not None:
            future.set_result(answer)

    def _take_engine(self) -> "PackedEngine":
        if self._engine is None:
            self._engine = self._make()
        return self._engine


def _build_engine(
    subsets: "Subsets", run_folder: str | None, threads: int, capacities: Mapping[str, Capacity]
) -> "PackedEngine":
    prepare_torch(threads)
    from sweep.storage.run_folder import MODELS_NAME
    from sweep.training.packed.engine import PackedEngine

    folder = run_folder or tempfile.mkdtemp(prefix="sweep-")
    return PackedEngine(subsets, Path(folder) / MODELS_NAME, capacities)
