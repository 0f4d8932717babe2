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

VERSION = 1
"""Raised whenever a baseline's results change."""
# Seconds between two looks at whether a task takes too long.
LOOK_EVERY_SECONDS = 5.0
# A worker's start and its imports on a loaded machine: not the baseline's own time.
START_SECONDS = 60.0


@dataclass(frozen=True)
class BaselineSpec:
    """One baseline on one subset."""

    baseline_id: str
    name: str
    cell: Cell
    data_fingerprint: str

    def to_fields(self) -> dict[str, Any]:
        """Return what the journal says of it, whatever its result."""
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
    """A baseline that the cluster has been given."""

    spec: BaselineSpec
    since: float = field(default_factory=time.monotonic)


class BaselineTasks(SessionCallback):
    """One task per baseline and subset that the journal has no result for.

    While there are trials, one runs at a time, on no CPU of Ray's books: trials start at once, and
    hold every CPU to the end. The rest then runs side by side. One that fails is written down with
    its error, and the others go on: a reference is worth less than the trials it stands beside.
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
        """Take ``resources`` for how often a lost worker is forgiven and how long a task may take;
        ``notify`` hears of failures, of each kind once."""
        self._recorder = recorder
        self._subsets = subsets
        self._resources = resources or ResourcesConfig()
        self._notify = notify
        self._told: set[tuple[str, str]] = set()
        self._losses: Counter[str] = Counter()
        self._corpus: ray.ObjectRef | None = None
        self._waiting: dict[ray.ObjectRef, Attempt] = {}
        known = recorder.record.baselines
        self.missing = [
            spec
            for spec in list_baselines(names, plan)
            # An id says nothing of what the classes are called.
            if spec.baseline_id not in known
            or tuple(known[spec.baseline_id]["labels"]) != spec.cell.labels
        ]

    def start(self) -> None:
        """Hand the first of the missing ones to the cluster."""
        self._corpus = ray.put(self._subsets)
        self._hand_over(1, cpus=0)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Write down those that are ready, and hand over the next."""
        self._collect(timeout=0)
        if self.missing and not self._waiting:
            self._hand_over(1, cpus=0)

    def finish(self) -> None:
        """Run the rest, as many at a time as there are CPUs, and wait for it."""
        while self.missing or self._waiting:
            places = max(1, int(ray.cluster_resources().get("CPU", 0)))
            self._hand_over(places - len(self._waiting), cpus=1)
            self._collect(timeout=LOOK_EVERY_SECONDS)

    def cancel(self) -> None:
        """Give up those that are not ready, where the run ends early: a task that is under way when
        the cluster ends has Ray's core print a line of its own."""
        for reference in self._waiting:
            ray.cancel(reference, force=True)

    def _hand_over(self, count: int, cpus: int) -> None:
        # Lost workers are counted here: Ray itself would start a task anew for ever where its
        # memory monitor ends the worker each time.
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
        """Write down what became of a task, or try it once more where its worker was lost."""
        try:
            outcome: Facts = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            # Outside the baseline's own code: its arguments, or this package, did not load there.
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
        """End the tasks that take longer than an epoch of a trial may."""
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
        if kind not in self._told:
            self._told.add(kind)
            self._notify(f"{describe_failure(fields)}; all else goes on")


def identify_baseline(name: str, fingerprint: str) -> str:
    """Return the id of a baseline on the subsets with that fingerprint."""
    return hashlib.sha256(f"{name}\0{VERSION}\0{fingerprint}".encode()).hexdigest()[:12]


def list_baselines(names: Sequence[str], plan: Plan) -> list[BaselineSpec]:
    """Return each baseline on every subset of the plan once, whatever the model."""
    subsets: dict[str, TrialSpec] = {spec.data_fingerprint: spec for spec in plan.trials}
    return [
        BaselineSpec(identify_baseline(name, fingerprint), name, spec.cell, fingerprint)
        for fingerprint, spec in subsets.items()
        for name in names
    ]


def _run_on_worker(name: str, subsets: Subsets, n_labels: int, n_samples: int, seed: int) -> Facts:
    """Return the baseline's scores, or its ``error`` and ``traceback``, as texts: an exception of
    some package may not survive the way to the driver."""
    try:
        # Brings scikit-learn and, by evaluate, transformers: seconds that the driver does not need.
        from sweep.training.baselines import run_baseline

        held = [subsets.evaluation(split, n_labels) for split in ("validation", "test")]
        return run_baseline(name, subsets.training(n_labels, n_samples, seed), *held)
    except Exception as error:  # a failed baseline is a row of the table, not the run's end
        return _describe_error(error)


def _describe_error(error: Exception) -> Facts:
    # For an error of a task this is the error itself, not Ray's frame around it.
    cause = getattr(error, "cause", None) or error
    return {
        "error": "".join(traceback.format_exception_only(cause)).strip(),
        "traceback": "".join(traceback.format_exception(error)),
    }
