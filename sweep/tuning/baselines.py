"""Runs the baselines of a plan as Ray tasks beside its trials."""

import hashlib
import json
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.tune.experiment import Trial

from sweep.cluster.nodes import list_nodes
from sweep.cluster.visible_gpus import hidden_gpus
from sweep.config import ResourcesConfig
from sweep.data import Subsets
from sweep.errors import shorten
from sweep.plan import Cell, FeaturesRef, Plan, TrialSpec
from sweep.storage.events import Facts, TrialStatus
from sweep.storage.failed_baselines import describe_failure
from sweep.storage.record import RunRecord
from sweep.training.text_features import TextFeatures
from sweep.tuning.callbacks import SessionCallback
from sweep.tuning.recorder import Recorder

# Raised whenever a baseline's results change.
VERSION = 1
# Seconds between two checks for tasks that take too long.
CHECK_EVERY_SECONDS = 5.0
# Seconds after which a Ctrl-C is noticed at the latest.
INTERRUPT_SECONDS = 0.5
# A worker's start and imports on a loaded machine, which do not count as the baseline's time.
START_SECONDS = 60.0
# The part of a machine's CPUs that computes features beside trials that train on GPUs; beside
# trials that train on CPUs, one CPU does.
SPARE_SHARE = 0.5

# n_labels, n_samples, seed.
Axes = tuple[int, int, int]


@dataclass(frozen=True)
class BaselineSpec:
    """One baseline on one subset."""

    baseline_id: str
    name: str
    cell: Cell
    data_fingerprint: str
    features: FeaturesRef | None = None

    @property
    def axes(self) -> Axes:
        return self.cell.n_labels, self.cell.n_samples, self.cell.seed

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
    """A baseline that was submitted to the cluster; ``computes``: not itself yet, but the features
    that the baselines of its name with these ids read."""

    spec: BaselineSpec
    computes: frozenset[str] = frozenset()
    since: float = field(default_factory=time.monotonic)

    @property
    def key(self) -> str:
        """What losses are counted by."""
        return self.spec.name if self.computes else self.spec.baseline_id


class BaselineTasks(SessionCallback):
    """One task per baseline and subset without a result in the journal, and one more per model
    whose features are read: it computes those of all their texts, which stay in memory.

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
        # Name -> the features so far, and the ids of the baselines whose texts they cover.
        self._features: dict[str, tuple[ray.ObjectRef, frozenset[str]]] = {}
        self._waiting: dict[ray.ObjectRef, Attempt] = {}
        self._names, self._plan = names, plan
        self.missing = self._list_missing(plan)

    def _list_missing(self, plan: Plan) -> list[BaselineSpec]:
        known = self._recorder.record.baselines
        return [
            spec
            for spec in list_baselines(self._names, plan)
            # An id does not cover the names of the classes, nor that of a baseline on features.
            if spec.baseline_id not in known
            or tuple(known[spec.baseline_id]["labels"]) != spec.cell.labels
            or known[spec.baseline_id]["model"] != spec.name
        ]

    def extend(self, trials: Sequence[TrialSpec]) -> None:
        """Add the baselines on the subsets of further ``trials``."""
        known = {spec.baseline_id for spec in self.missing}
        known |= {task.spec.baseline_id for task in self._waiting.values()}
        new = self._list_missing(replace(self._plan, trials=tuple(trials)))
        self.missing += [spec for spec in new if spec.baseline_id not in known]

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
            self._advance(1, CHECK_EVERY_SECONDS)

    def finish_between_trials(self, go_on: Callable[[], bool]) -> None:
        """Do the same while ``go_on()``, without reserving CPUs: Tune keeps its workers for the
        trials to come, and all CPUs with them."""
        while (self.missing or self._waiting) and go_on():
            self._advance(0, INTERRUPT_SECONDS)

    def _advance(self, reserved: int, timeout: float) -> None:
        cpus = max(1, int(ray.cluster_resources().get("CPU", 0)))
        self._submit(cpus - len(self._waiting), cpus=reserved)
        self._collect(timeout)

    def cancel(self) -> None:
        """Cancel the unfinished tasks of a run that ends early: Ray would print a line of its own
        about a task that is running when the cluster shuts down."""
        for reference in self._waiting:
            ray.cancel(reference, force=True)

    def _submit(self, count: int, cpus: int) -> None:
        computing = {task.spec.name for task in self._waiting.values() if task.computes}
        ready = [spec for spec in self.missing if spec.name not in computing]
        for spec in ready[: max(0, count)]:
            if spec.features is None or spec.baseline_id in self._covered(spec.name):
                self.missing.remove(spec)
                self._fit(spec, cpus)
            elif spec.name not in computing:
                computing.add(spec.name)
                self._compute(spec, spec.features, cpus)

    def _covered(self, name: str) -> frozenset[str]:
        return self._features[name][1] if name in self._features else frozenset()

    def _fit(self, spec: BaselineSpec, cpus: int) -> None:
        # Lost workers are counted here: Ray itself would restart a task forever if its memory
        # monitor kills the worker each time.
        task = ray.remote(num_cpus=cpus, max_retries=0)(_run_on_worker)
        features = [self._features[spec.name][0]] if spec.features else []
        reference = task.remote(spec.name, self._corpus, *spec.axes, *features)
        self._waiting[reference] = Attempt(spec)

    def _compute(self, spec: BaselineSpec, features: FeaturesRef, cpus: int) -> None:
        """Compute the features of all texts that the missing baselines of this name read."""
        on_gpus = self._resources.gpus_per_trial != 0 and ray.cluster_resources().get("GPU", 0)
        share = 1.0 if cpus else SPARE_SHARE if on_gpus else 0.0
        own = [each for each in self.missing if each.name == spec.name]
        known = [self._features[spec.name][0]] if spec.name in self._features else []
        task = ray.remote(num_cpus=cpus, max_retries=0)(_compute_on_worker)
        cells = [each.axes for each in own]
        reference = task.remote(features, self._corpus, cells, share, *known)
        covered = frozenset(each.baseline_id for each in own) | self._covered(spec.name)
        self._waiting[reference] = Attempt(spec, computes=covered)

    def _collect(self, timeout: float) -> None:
        if not self._waiting:
            return
        ready, _ = ray.wait(list(self._waiting), num_returns=1, timeout=timeout)
        for reference in ready:
            self._take(reference, self._waiting.pop(reference))
        self._end_late()

    def _take(self, reference: ray.ObjectRef, attempt: Attempt) -> None:
        """Record the outcome of a task, or retry it if its worker was lost."""
        try:
            outcome: Facts | TextFeatures = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            # Not from the baseline's own code: its arguments or this package could not be loaded.
            outcome = _describe_error(error)
        except ray.exceptions.RayError as error:
            self._losses[attempt.key] += 1
            if self._losses[attempt.key] <= self._resources.max_retries:
                if not attempt.computes:
                    self.missing.insert(0, attempt.spec)
                return
            reason = shorten(error, 300)
            outcome = {"error": f"its worker was lost ({reason or type(error).__name__})"}
        if isinstance(outcome, TextFeatures):
            # Kept here, since the machine that computed them may be lost.
            self._features[attempt.spec.name] = ray.put(outcome), attempt.computes
        else:
            self._end(attempt, outcome)

    def _end_late(self) -> None:
        """Cancel the tasks that take longer than an epoch of a trial may."""
        minutes = self._resources.max_epoch_minutes
        oldest = time.monotonic() - START_SECONDS - 60 * minutes
        late = [each for each, task in self._waiting.items() if task.since < oldest]
        for reference in late:
            ray.cancel(reference, force=True)
            reason = f"no result within {minutes:g} minutes (resources.max_epoch_minutes)"
            self._end(self._waiting.pop(reference), {"error": reason})

    def _end(self, attempt: Attempt, outcome: Facts) -> None:
        """Write the outcome of a task: that of failed features for all who would read them."""
        if not attempt.computes:
            self._write(attempt.spec, outcome)
            return
        name, covered = attempt.spec.name, self._covered(attempt.spec.name)
        failed = [s for s in self.missing if s.name == name and s.baseline_id not in covered]
        self.missing = [spec for spec in self.missing if spec not in failed]
        for spec in failed:
            self._write(spec, outcome)

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


def identify_features(ref: FeaturesRef, fingerprint: str) -> str:
    """Return the id of a baseline on features on the subsets with the given fingerprint."""
    weights = [ref.model.revision, ref.model.trust_remote_code]
    reading = [ref.pooling, ref.normalized, ref.recipe.max_length]
    text = json.dumps(["features", VERSION, weights, reading, fingerprint])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def list_baselines(names: Sequence[str], plan: Plan) -> list[BaselineSpec]:
    """Return each baseline on every subset of the plan, once for all models; those on features,
    which take longest, come last."""
    subsets: dict[str, TrialSpec] = {spec.data_fingerprint: spec for spec in plan.trials}
    refs = {ref.model.name: ref for ref in plan.features}
    specs = [_build_spec(name, spec, refs.get(name)) for spec in subsets.values() for name in names]
    return sorted(specs, key=lambda spec: spec.features is not None)


def _build_spec(name: str, trial: TrialSpec, ref: FeaturesRef | None) -> BaselineSpec:
    data = trial.data_fingerprint
    identity = identify_features(ref, data) if ref else identify_baseline(name, data)
    return BaselineSpec(identity, name, trial.cell, data, ref)


def list_replaced(names: Sequence[str], plan: Plan, record: RunRecord) -> list[str]:
    """Return the ids of the results on subsets of the plan that baselines on features had under
    their names with another model, or with features that were computed in another way."""
    specs = [spec for spec in list_baselines(names, plan) if spec.features]
    ids = {(spec.name, spec.data_fingerprint): spec.baseline_id for spec in specs}
    return [
        trial_id
        for trial_id, event in record.baselines.items()
        if ids.get((event["model"], event.get("data_fingerprint") or ""), trial_id) != trial_id
    ]


def _run_on_worker(
    name: str,
    subsets: Subsets,
    n_labels: int,
    n_samples: int,
    seed: int,
    features: TextFeatures | None = None,
) -> Facts:
    """Return the baseline's scores, or its ``error`` and ``traceback`` as text: a package's own
    exception may not survive being pickled."""
    try:
        # Imports scikit-learn and, through evaluate, transformers: the driver is spared seconds.
        from threadpoolctl import threadpool_limits

        from sweep.training.baselines import run_baseline, run_on_features

        held = [subsets.evaluation(split, n_labels) for split in ("validation", "test")]
        training = subsets.training(n_labels, n_samples, seed)
        with hidden_gpus():
            if features is None:
                facts = run_baseline(name, training, *held)
            else:
                with threadpool_limits(limits=1):
                    facts = run_on_features(features, training, *held)
        return facts | {"gpus": 0.0, "cpus": float(features.cpus if features else 1)}
    except Exception as error:  # a failed baseline is a row of the table, not the run's end
        return _describe_error(error)


def _compute_on_worker(
    ref: FeaturesRef,
    subsets: Subsets,
    cells: Sequence[Axes],
    share: float,
    known: TextFeatures | None = None,
) -> TextFeatures | Facts:
    """Return the features of the cells' texts and those ``known``, computed on a ``share`` of the
    machine's CPUs but at least one; or ``error`` and ``traceback``."""
    try:
        import torch

        from sweep.training.features import compute_features, load_features_model

        cpus = max(1, int(share * _count_cpus()))
        torch.set_num_threads(cpus)
        data = [subsets.of_cell(*axes) for axes in cells]
        parts = [part for cell in data for part in (cell.training, cell.validation, cell.test)]
        held = known.positions if known else {}
        texts = [text for part in parts for text in part.texts if text not in held]
        if known and not texts:
            return known
        with hidden_gpus():
            found = compute_features(ref, load_features_model(ref, subsets), texts)
        found = replace(found, cpus=cpus)
        return known.join(found) if known else found
    except Exception as error:  # as above
        return _describe_error(error)


def _count_cpus() -> float:
    """Return how many CPUs Ray may use on this machine."""
    here = ray.get_runtime_context().get_node_id()
    found = [node["Resources"] for node in list_nodes() if node["NodeID"] == here]
    return max((each.get("CPU", 0.0) for each in found), default=0.0)


def _describe_error(error: Exception) -> Facts:
    # For a task's error, the error itself rather than Ray's wrapper.
    cause = getattr(error, "cause", None) or error
    return {
        "error": "".join(traceback.format_exception_only(cause)).strip(),
        "traceback": "".join(traceback.format_exception(error)),
    }
