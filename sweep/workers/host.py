"""A host: the actor that holds one base model on a GPU, or on CPUs, and trains every trial that
asks; torch comes in only when it starts."""

import os
import queue
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.data import Subsets
    from sweep.plan import TrialSpec
    from sweep.storage.events import EpochResult
    from sweep.training.packed.engine import PackedEngine

CALLS_AT_A_TIME = 256
"""Threads of the actor; a trial waits in one of them for its epoch."""
Answer = Mapping[str, Any]
"""Metrics or facts; or how the trial failed, under ``failed``; or ``lost``: why it has to start
anew from its checkpoint."""


class Host:
    """Serves trials from one thread that trains: it takes what they ask for between two steps.

    Requests of a trial are answered one after another; those of different trials wait side by
    side. What breaks the step they share ends no trial: all start anew from their checkpoints.
    """

    def __init__(
        self, subsets: "Subsets", run_folder: str | None, threads: int, gpu: str | None = None
    ) -> None:
        """Serve trials with ``threads`` CPU threads; without a run folder that every node sees,
        tiny models are written to a folder of this host's."""
        if gpu is not None:
            # The trials hold the GPU in Ray's books, so Ray names none for this actor.
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        # Threads that spin while they wait would starve those of other processes.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self._make = partial(_build_engine, subsets, run_folder, threads)
        self._requests: queue.Queue[Callable[[], None]] = queue.Queue()
        self._waiting: dict[str, Future[Answer]] = {}
        self._engine: PackedEngine | None = None
        threading.Thread(target=self._serve, daemon=True, name="training").start()

    def start(
        self, spec: "TrialSpec", checkpoints: str, resume_epoch: int, half_batches: bool
    ) -> Answer:
        """Take in a trial; return the facts of its start."""

        def run() -> Answer:
            self._answer(spec.trial_id, {"lost": "the trial was started anew"})
            return self._take_engine().start(spec, Path(checkpoints), resume_epoch, half_batches)

        return self._ask(run)

    def run_epoch(self, trial_id: str) -> Answer:
        """Train a trial's next epoch; return its metrics with the trial's totals."""
        future: Future[Answer] = Future()

        def run() -> Answer:
            engine = self._take_engine()
            if trial_id not in engine.trials:
                return {"lost": "its host has no such trial any more"}
            engine.begin_epoch(trial_id)
            self._waiting[trial_id] = future
            return {}

        return self._ask(run) or future.result()

    def close(self, trial_id: str) -> None:
        """End a trial, in the middle of an epoch too."""

        def run() -> Answer:
            self._answer(trial_id, {"lost": "the trial was closed"})
            if self._engine is not None:
                self._engine.close(trial_id)
            return {}

        self._ask(run)

    def warm(self) -> None:
        """Import what trains."""
        self._ask(lambda: {"ready": self._take_engine() is not None})

    def pid(self) -> int:
        """Return this process's id."""
        return os.getpid()

    def _ask(self, run: Callable[[], Answer]) -> Answer:
        """Have ``run`` done by the thread that trains; return its answer."""
        future: Future[Answer] = Future()
        self._requests.put(lambda: future.set_result(_guard(run)))
        return future.result()

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
        except Exception as error:  # the step that all share is broken, by whom nobody knows
            self._lose(f"{type(error).__name__}: {error}")
            return
        for trial_id, outcome in outcomes.items():
            self._answer(trial_id, _to_answer(outcome))

    def _lose(self, reason: str) -> None:
        if self._engine is not None:
            self._engine.discard()
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


def _build_engine(subsets: "Subsets", run_folder: str | None, threads: int) -> "PackedEngine":
    import torch

    from sweep.training.packed.engine import PackedEngine

    torch.set_num_threads(max(1, threads))
    place = run_folder or tempfile.mkdtemp(prefix="sweep-")
    return PackedEngine(subsets, Path(place) / "models")


def _guard(run: Callable[[], Answer]) -> Answer:
    try:
        return run()
    except Exception as error:  # the trial's failure, told to the trial
        return _to_answer(error)


def _to_answer(outcome: "EpochResult | Exception") -> Answer:
    if not isinstance(outcome, Exception):
        return outcome
    from sweep.workers.failures import explain_failure

    return {"failed": explain_failure(outcome)}
