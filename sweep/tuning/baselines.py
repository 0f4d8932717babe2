"""Runs the baselines of a plan as Ray tasks beside its trials."""

import hashlib
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.tune.experiment import Trial

from sweep.config import ResourcesConfig
from sweep.data import Subsets
from sweep.errors import shorten
from sweep.plan import Cell, Plan, TrialSpec
from sweep.storage.events import Facts, TrialStatus
from sweep.storage.failed_baselines import describe_failure
from sweep.tuning.callbacks import SessionCallback
from sweep.tuning.recorder import Recorder

# Raised whenever a baseline's results change.
VERSION = 1
# Seconds between two checks for tasks that take too long.
CHECK_EVERY_SECONDS = 5.0
# A worker's start and imports on a loaded machine, which do not count as the baseline's time.
START_SECONDS = 60.0


@dataclass(frozen=True)
class BaselineSpec:
    """One baseline on one subset."""

    baseline_id: str
    name: str
    cell: Cell
    data_fingerprint: str

    def to_fields(self) -> dict[str, Any]:
        """Return what the journal says about it, whatever its result."""
        return {
            "trial_id": self.baseline_id,
            "cell_id": self.baseline_id,
            "model": self.name,
            "n_labels": self.cell.n_labels,
            "labels": list(self.cell.labels),
            "n_samples": self.cell.n_samples,
            "seed": self.cell.seed,
            "data_fingerprint": self.data_fingerprint,
        }


@dataclass(frozen=True)
class Attempt:
    """A baseline that was submitted to the cluster."""

    spec: BaselineSpec
    since: float = field(default_factory=time.monotonic)


class BaselineTasks(SessionCallback):
    """One task per baseline and subset without a result in the journal.

    While there are trials, one task runs at a time without reserving a CPU: trials start at once
    and occupy every CPU to the end. The remaining tasks then run concurrently. A failed baseline is
    recorded with its error, and everything else continues: it is worth less than the trials.
    """

    def __init__(
        self,
        names: Sequence[str],
        plan: Plan,
        subsets: Subsets,
        recorder: Recorder,
        resources: ResourcesConfig | None = None,
        notify: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        """``resources`` says how often a lost worker is replaced and how long a task may take;
        ``notify`` is called once for each kind of failure."""
        self._recorder = recorder
        self._subsets = subsets
        self._resources = resources or ResourcesConfig()
        self._notify = notify
        self._reported: set[tuple[str, str]] = set()
        self._losses: Counter[str] = Counter()
        self._corpus: ray.ObjectRef | None = None
        self._waiting: dict[ray.ObjectRef, Attempt] = {}
        known = recorder.record.baselines
        self.missing = [
            spec
            for spec in list_baselines(names, plan)
            # An id does not cover the names of the classes.
            if spec.baseline_id not in known
            or tuple(known[spec.baseline_id]["labels"]) != spec.cell.labels
        ]

    def start(self) -> None:
        """Submit the first missing baseline."""
        self._corpus = ray.put(self._subsets)
        self._submit(1, cpus=0)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Record the finished task, if any, and submit the next."""
        self._collect(timeout=0)
        if self.missing and not self._waiting:
            self._submit(1, cpus=0)

    def finish(self) -> None:
        """Run the remaining baselines, as many at a time as there are CPUs, and wait for them."""
        while self.missing or self._waiting:
            cpus = max(1, int(ray.cluster_resources().get("CPU", 0)))
            self._submit(cpus - len(self._waiting), cpus=1)
            self._collect(timeout=CHECK_EVERY_SECONDS)

    def cancel(self) -> None:
        """Cancel the unfinished tasks of a run that ends early: Ray would print a line of its own
        about a task that is running when the cluster shuts down."""
        for reference in self._waiting:
            ray.cancel(reference, force=True)

    def _submit(self, count: int, cpus: int) -> None:
        # Lost workers are counted here: Ray itself would restart a task forever if its memory
        # monitor kills the worker each time.
        task = ray.remote(num_cpus=cpus, max_retries=0)(_run_on_worker)
        count = max(0, count)
        for spec in self.missing[:count]:
            axes = (spec.cell.n_labels, spec.cell.n_samples, spec.cell.seed)
            self._waiting[task.remote(spec.name, self._corpus, *axes)] = Attempt(spec)
        self.missing = self.missing[count:]

    def _collect(self, timeout: float) -> None:
        if not self._waiting:
            return
        ready, _ = ray.wait(list(self._waiting), num_returns=1, timeout=timeout)
        for reference in ready:
            self._take(reference, self._waiting.pop(reference).spec)
        self._end_late()

    def _take(self, reference: ray.ObjectRef, spec: BaselineSpec) -> None:
        """Record the outcome of a task, or retry it if its worker was lost."""
        try:
            outcome: Facts = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            # Not from the baseline's own code: its arguments or this package could not be loaded.
            outcome = _describe_error(error)
        except ray.exceptions.RayError as error:
            self._losses[spec.baseline_id] += 1
            if self._losses[spec.baseline_id] <= self._resources.max_retries:
                self.missing.insert(0, spec)
                return
            reason = shorten(error, 300)
            outcome = {"error": f"its worker was lost ({reason or type(error).__name__})"}
        self._write(spec, outcome)

    def _end_late(self) -> None:
        """Cancel the tasks that take longer than an epoch of a trial may."""
        minutes = self._resources.max_epoch_minutes
        oldest = time.monotonic() - START_SECONDS - 60 * minutes
        late = [each for each, task in self._waiting.items() if task.since < oldest]
        for reference in late:
            ray.cancel(reference, force=True)
            reason = f"no result within {minutes:g} minutes (resources.max_epoch_minutes)"
            self._write(self._waiting.pop(reference).spec, {"error": reason})

    def _write(self, spec: BaselineSpec, outcome: Facts) -> None:
        fields = spec.to_fields() | dict(outcome)
        error = outcome.get("error")
        if error is None:
            test_set = self._recorder.test_sets.get(spec.cell.labels)
            self._recorder.write("baseline", **fields, test_set=test_set)
            return
        self._recorder.write("baseline", **fields, status=TrialStatus.FAILED)
        kind = (spec.name, error)
        if kind not in self._reported:
            self._reported.add(kind)
            self._notify(f"{describe_failure(fields)}; everything else continues")


def identify_baseline(name: str, fingerprint: str) -> str:
    """Return the id of a baseline on the subsets with the given fingerprint."""
    return hashlib.sha256(f"{name}\0{VERSION}\0{fingerprint}".encode()).hexdigest()[:12]


def list_baselines(names: Sequence[str], plan: Plan) -> list[BaselineSpec]:
    """Return each baseline on every subset of the plan, once for all models."""
    subsets: dict[str, TrialSpec] = {spec.data_fingerprint: spec for spec in plan.trials}
    return [
        BaselineSpec(identify_baseline(name, fingerprint), name, spec.cell, fingerprint)
        for fingerprint, spec in subsets.items()
        for name in names
    ]


def _run_on_worker(name: str, subsets: Subsets, n_labels: int, n_samples: int, seed: int) -> Facts:
    """Return the baseline's scores, or its ``error`` and ``traceback`` as text: a package's own
    exception may not survive being pickled."""
    try:
        # Imports scikit-learn and, through evaluate, transformers: the driver is spared seconds.
        from sweep.training.baselines import run_baseline

        held = [subsets.evaluation(split, n_labels) for split in ("validation", "test")]
        return run_baseline(name, subsets.training(n_labels, n_samples, seed), *held)
    except Exception as error:  # a failed baseline is a row of the table, not the run's end
        return _describe_error(error)


def _describe_error(error: Exception) -> Facts:
    # For a task's error, the error itself rather than Ray's wrapper.
    cause = getattr(error, "cause", None) or error
    return {
        "error": "".join(traceback.format_exception_only(cause)).strip(),
        "traceback": "".join(traceback.format_exception(error)),
    }
