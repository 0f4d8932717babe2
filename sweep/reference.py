"""Runs the baselines of a plan as Ray tasks beside its trials."""

import hashlib
from collections.abc import Sequence
from typing import Any

import ray
from ray.tune.experiment import Trial

from sweep.plan import Plan, TrialSpec
from sweep.recorder import Recorder, SessionCallback
from sweep.subsets import Subsets

VERSION = 1
"""Raised whenever a baseline's results change."""


class BaselineTasks(SessionCallback):
    """One task per baseline and subset that the journal has no result for.

    While there are trials, one runs at a time, on no CPU of Ray's books: trials start at once, and
    hold every CPU to the end. The rest then runs side by side.
    """

    def __init__(
        self, names: Sequence[str], plan: Plan, subsets: Subsets, recorder: Recorder
    ) -> None:
        self._recorder = recorder
        self._subsets = subsets
        self._corpus: ray.ObjectRef | None = None
        self._waiting: dict[ray.ObjectRef, dict[str, Any]] = {}
        known = recorder.record.baselines
        self.missing = [
            axes
            for axes in list_baselines(names, plan)
            # An id says nothing of what the classes are called.
            if known.get(axes["trial_id"], {}).get("labels") != axes["labels"]
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
        """Hand over the rest, and wait for it."""
        self._hand_over(len(self.missing), cpus=1)
        while self._waiting:
            self._collect(timeout=None)

    def cancel(self) -> None:
        """Give up those that are not ready, where the run ends early: a task that is under way when
        the cluster ends has Ray's core print a line of its own."""
        for reference in self._waiting:
            ray.cancel(reference, force=True)

    def _hand_over(self, count: int, cpus: int) -> None:
        task = ray.remote(num_cpus=cpus, max_retries=2)(_run_on_worker)
        for axes in self.missing[:count]:
            place = (axes["n_labels"], axes["n_samples"], axes["seed"])
            self._waiting[task.remote(axes["model"], self._corpus, *place)] = axes
        self.missing = self.missing[count:]

    def _collect(self, timeout: float | None) -> None:
        if not self._waiting:
            return
        ready, _ = ray.wait(list(self._waiting), num_returns=1, timeout=timeout)
        for reference in ready:
            axes = self._waiting.pop(reference)
            test_set = self._recorder.test_sets.get(tuple(axes["labels"]))
            self._recorder.write("baseline", **axes, **ray.get(reference), test_set=test_set)


def identify_baseline(name: str, fingerprint: str) -> str:
    """Return the id of a baseline on the subsets with that fingerprint."""
    return hashlib.sha256(f"{name}\0{VERSION}\0{fingerprint}".encode()).hexdigest()[:12]


def list_baselines(names: Sequence[str], plan: Plan) -> list[dict[str, Any]]:
    """Return the axes of each baseline: every subset of the plan once, whatever the model."""
    subsets: dict[str, TrialSpec] = {spec.data_fingerprint: spec for spec in plan.trials}
    return [
        {
            "trial_id": identify_baseline(name, fingerprint),
            "cell_id": identify_baseline(name, fingerprint),
            "model": name,
            "n_labels": spec.cell.n_labels,
            "labels": list(spec.cell.labels),
            "n_samples": spec.cell.n_samples,
            "seed": spec.cell.seed,
            "data_fingerprint": fingerprint,
        }
        for fingerprint, spec in subsets.items()
        for name in names
    ]


def _run_on_worker(
    name: str, subsets: Subsets, n_labels: int, n_samples: int, seed: int
) -> dict[str, Any]:
    # Brings scikit-learn and, by evaluate, transformers: seconds that the driver does not need.
    from sweep.baselines import run_baseline

    held = [subsets.evaluation(split, n_labels) for split in ("validation", "test")]
    return run_baseline(name, subsets.training(n_labels, n_samples, seed), *held)
