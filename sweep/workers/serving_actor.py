"""The Ray actor that measures classifiers and references in use, one after another."""

import pickle
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from sweep.cluster.hardware import measure_busy_share
from sweep.cluster.place import describe_place
from sweep.cluster.visible_gpus import show_assigned_gpus
from sweep.data import CellData, Subsets
from sweep.errors import SweepError, format_error
from sweep.models.tiny_configs import TINY_PREFIX
from sweep.plan import FeaturesRef, Recipe, TrialSpec, scored_at_once
from sweep.storage.events import ServingFacts
from sweep.storage.run_folder import MODELS_NAME
from sweep.workers.own_torch import prepare_torch

if TYPE_CHECKING:
    import torch

    from sweep.training.serving import Served
    from sweep.training.speed import Load


# A machine counts as idle if at most this part of its CPUs is used for some tenths of a second; the
# workers of the trials take a moment to end.
IDLE_SHARE, IDLE_SECONDS, IDLE_TRIES = 0.25, 0.3, 10


@dataclass(frozen=True)
class TrialJob:
    """A finished trial, and what its result says: the number format of its passes, its best epoch
    and, if its base model is tiny, the name of that folder."""

    spec: TrialSpec
    dtype: str
    best_epoch: int
    base: str | None


@dataclass(frozen=True)
class ReferenceJob:
    """A reference on the subset of ``n_labels``, ``n_samples`` and a seed."""

    name: str
    axes: tuple[int, int, int]
    recipe: Recipe
    features: FeaturesRef | None = None


Job = TrialJob | ReferenceJob


@dataclass(frozen=True)
class Answer:
    """What was measured, or ``serving_error``; and why this process is of no further use, if so."""

    facts: ServingFacts
    lost: str | None = None


class ServingActor:
    """Has a process to itself, in which nothing else has run: the memory of a reference is that of
    the libraries it needs, as long as it is measured before what needs PyTorch."""

    def __init__(
        self, subsets: Subsets, run_folder: str, storage: str | None, seconds: float
    ) -> None:
        """``storage`` is where checkpoints are; None means the run folder. Speed and latency are
        measured for ``seconds`` each."""
        self._subsets, self._seconds = subsets, seconds
        self._folder, self._storage = Path(run_folder), storage
        show_assigned_gpus()
        self._place = describe_place()

    def find_host(self) -> str:
        return platform.node()

    def wait_until_idle(self) -> float:
        """Return once nobody uses this machine's CPUs, after a few seconds at the latest: then the
        part of them that is used, else 0."""
        for _ in range(IDLE_TRIES):
            busy = measure_busy_share(IDLE_SECONDS) or 0.0
            if busy <= IDLE_SHARE:
                return 0.0
        return busy

    def measure(self, job: Job) -> Answer:
        """Fit or load what ``job`` names, and measure it."""
        from sweep.training.resident import release_unused

        # Of what was measured before: two do not fit on a small GPU.
        release_unused()
        try:
            if isinstance(job, TrialJob):
                return Answer(self._measure_trial(job))
            return Answer(self._measure_reference(job))
        except Exception as error:  # no measurement is worth a run
            said = str(error) if isinstance(error, SweepError) else format_error(error)
            return Answer({"serving_error": said}, _explain_loss(error))

    def _measure_reference(self, job: ReferenceJob) -> ServingFacts:
        data = self._subsets.of_cell(*job.axes)
        if job.features is not None:
            return self._measure_features(job.features, data)
        from threadpoolctl import threadpool_limits

        from sweep.training.fits import FITS, STRENGTHS, fit_tf_idf
        from sweep.training.resident import ResidentPeak
        from sweep.training.speed import measure_use

        parts, load = (data.training, data.validation), self._load(data, job.recipe)
        with threadpool_limits(limits=1):
            # Whichever strength validation chose, speed and size are the same.
            weak = job.name == "tf-idf"
            predict = fit_tf_idf(*parts, STRENGTHS[:1]) if weak else FITS[job.name](*parts)
            measured = measure_use(predict, load, ResidentPeak())
        size = len(pickle.dumps(predict))
        # Nothing in scikit-learn's linear models of sparse texts uses a second thread.
        return self._describe(measured, size, f"CPU ({platform.machine()}, 1 threads)", 1.0)

    def _measure_features(self, ref: FeaturesRef, data: CellData) -> ServingFacts:
        device = self._choose_device()
        from sweep.training.serving import load_features

        served = load_features(ref, self._subsets, data, device)
        return self._measure_model(served, device, self._load(data, ref.recipe))

    def _measure_trial(self, job: TrialJob) -> ServingFacts:
        device, spec = self._choose_device(), job.spec
        from sweep.training.classifier import read_best_weights
        from sweep.training.serving import load_trial

        cell = spec.cell
        data = self._subsets.of_cell(cell.n_labels, cell.n_samples, cell.seed)
        weights = read_best_weights(self._folder, self._storage, spec.trial_id, job.best_epoch)
        with TemporaryDirectory(prefix="sweep-") as scratch:
            source = self._find_source(job, Path(scratch))
            served = load_trial(spec, job.dtype, source, weights, device)
        del weights
        return self._measure_model(served, device, self._load(data, spec.recipe))

    def _find_source(self, job: TrialJob, scratch: Path) -> str:
        """Return what the trial's base model is loaded from: if it is tiny, the run's copy or,
        where that is out of sight, one in ``scratch``."""
        from sweep.models.base import materialize

        ref = job.spec.model
        kept = self._folder / MODELS_NAME / Path(job.base or ref.revision).name
        if ref.path.startswith(TINY_PREFIX) and kept.is_dir():
            return str(kept)
        return materialize(ref, scratch, self._subsets.training_texts)

    def _measure_model(
        self, served: "Served", device: "torch.device", load: "Load"
    ) -> ServingFacts:
        from sweep.models.device import name_device
        from sweep.training.resident import ResidentPeak
        from sweep.training.serving import GpuPeak
        from sweep.training.speed import measure_use

        memory = GpuPeak(device) if device.type == "cuda" else ResidentPeak()
        measured = measure_use(served.predict, load, memory)
        name = name_device(device)
        return self._describe(measured, served.size_bytes, name, self._place["cpus"] or 0.0)

    def _load(self, data: CellData, recipe: Recipe) -> "Load":
        from sweep.training.speed import Load

        return Load(data.test.texts, scored_at_once(recipe), self._seconds)

    def _choose_device(self) -> "torch.device":
        prepare_torch(max(1, int(self._place["cpus"] or 1)))
        import torch

        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def _describe(
        self, measured: ServingFacts, size: int, device: str, cpus: float
    ) -> ServingFacts:
        return {
            **measured,
            "serving_size_bytes": size,
            "serving_device": device,
            "serving_host": self.find_host(),
            "serving_cpus": cpus,
            "serving_node_type": self._place["node_type"],
            "serving_market": self._place["market"],
        }


def _explain_loss(error: Exception) -> str | None:
    """Return why this process cannot use its GPU any more; None if it can."""
    if "torch" not in sys.modules:
        return None
    from sweep.workers.failures import explain_gpu_loss

    return explain_gpu_loss(error)
