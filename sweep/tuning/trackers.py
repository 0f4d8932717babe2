"""Experiment trackers: TensorBoard, MLflow and Weights & Biases through Ray's own callbacks."""

import logging
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.logger import LoggerCallback

from sweep.cluster.environment import check_tracker_packages
from sweep.config import MlflowConfig, TrackersConfig, WandbConfig
from sweep.errors import ConfigError, first_line
from sweep.plan import TrialSpec
from sweep.storage.events import FAILURES
from sweep.storage.history import EPOCH_METRICS
from sweep.tuning.callbacks import SessionCallback
from sweep.tuning.search import AXES

METRICS = (*EPOCH_METRICS, "best_val_accuracy", "test_accuracy", "test_macro_f1")
TUNED = ("lora_rank", "lora_alpha", "learning_rate", "lora_dropout", "weight_decay")
WANDB_KEY = "WANDB_API_KEY"
# A tracking server that does not answer must not block the trials for MLflow's default minutes.
MLFLOW_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}

logger = logging.getLogger("sweep.tuning.trackers")


class TrialView:
    """What a tracker sees of a trial: its name, its hyperparameters, and a permanent folder.

    It replaces Tune's ``Trial``, whose configuration contains the full trial spec and whose folder
    is deleted at the end of the run.
    """

    checkpoint = None

    def __init__(self, trial: Trial, folder: Path) -> None:
        self._name = str(trial)
        self.trial_id = f"{folder.parent.name[:50]}-{trial.trial_id}"
        self.config = extract_hyperparameters(trial.config)
        self.evaluated_params = self.config
        self.experiment_dir_name = folder.parent.name
        self.local_path = str(folder / self._name)

    def __str__(self) -> str:
        return self._name

    def init_local_path(self) -> None:
        """Create the trial's folder; called by Ray's callbacks."""
        Path(self.local_path).mkdir(parents=True, exist_ok=True)


def extract_hyperparameters(config: dict[str, Any]) -> dict[str, Any]:
    """Return the trial's coordinates on the axes and its tuned values from Tune's ``config``."""
    spec: TrialSpec | None = config.get("trial")
    values = {name: config[name] for name in AXES if name in config}
    candidate = asdict(spec.candidate) if spec else config
    if spec:
        values["method"] = spec.model.method
    # Where all weights are trained, LoRA has no values.
    tuned = {name: candidate.get(name) for name in TUNED}
    return values | {name: value for name, value in tuned.items() if value is not None}


def extract_metrics(result: dict[str, Any]) -> dict[str, float]:
    """Return the finite metrics of a result, and its epoch as ``training_iteration``."""
    metrics = {
        name: float(result[name])
        for name in METRICS
        if isinstance(result.get(name), int | float) and math.isfinite(result[name])
    }
    return metrics | {"training_iteration": result.get("epoch", 0)}


class Tracker(SessionCallback):
    """Passes metrics and hyperparameters, and nothing else, to one of Ray's callbacks.

    A tracker that fails is reported once and then ignored: the run does not depend on it.
    """

    def __init__(self, name: str, inner: LoggerCallback, folder: Path) -> None:
        self._name = name
        self._inner = inner
        self._folder = folder
        self._views: dict[str, TrialView] = {}
        self._open: set[str] = set()
        self._failed: set[str] = set()
        self._silent = False

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Open the tracker's run of this trial."""
        view = self._view(trial)
        self._try(view.init_local_path)
        self._open.add(trial.trial_id)
        self._try(self._inner.log_trial_start, view)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if result.get("status") in FAILURES:
            self._failed.add(trial.trial_id)
        metrics = extract_metrics(result)
        if len(metrics) > 1:
            self._try(self._inner.log_trial_result, iteration, self._view(trial), metrics)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Close the tracker's run; a trial that ended badly is marked as failed."""
        self._close(trial, trial.trial_id in self._failed)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Close the tracker's run of a trial that lost its worker too often."""
        self._close(trial, True)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Let the tracker flush what it has not sent yet."""
        self._try(self._inner.on_experiment_end, trials)

    def _close(self, trial: Trial, failed: bool) -> None:
        if trial.trial_id in self._open:
            self._open.remove(trial.trial_id)
            self._try(self._inner.log_trial_end, self._view(trial), failed)

    def _view(self, trial: Trial) -> TrialView:
        if trial.trial_id not in self._views:
            self._views[trial.trial_id] = TrialView(trial, self._folder)
        return self._views[trial.trial_id]

    def _try(self, send: Callable[..., Any], *arguments: Any) -> None:
        if self._silent:
            return
        try:
            with hide_variable(WANDB_KEY):
                send(*arguments)
        except Exception as error:  # servers fail in many ways, and none may end the run
            self._silent = True
            logger.warning("trackers.%s stopped: %s; the run continues", self._name, _reason(error))


@contextmanager
def hide_variable(name: str) -> Iterator[None]:
    """Remove an environment variable inside the block.

    Ray's callback copies WANDB_API_KEY into the ``runtime_env`` of its actors, which Ray's
    dashboard and logs show. The actors run on this machine and find the key without that: in the
    environment that Ray was started with, or where ``wandb login`` stored it.
    """
    value = os.environ.pop(name, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[name] = value


def build_trackers(config: TrackersConfig, folder: Path) -> list[SessionCallback]:
    """Return a callback for every enabled tracker; their files go below ``folder``.

    Raises ConfigError if a package is missing or a tracker cannot be reached.
    """
    check_tracker_packages(config)
    builders: dict[str, Callable[[], LoggerCallback]] = {}
    if config.tensorboard:
        builders["tensorboard"] = _build_tensorboard
    if config.mlflow:
        mlflow = config.mlflow
        builders["mlflow"] = lambda: _build_mlflow(mlflow, folder)
    if config.wandb:
        wandb = config.wandb
        builders["wandb"] = lambda: _build_wandb(wandb, folder)
    return [_start(name, build, folder) for name, build in builders.items()]


def _start(name: str, build: Callable[[], LoggerCallback], folder: Path) -> Tracker:
    try:
        inner = build()
        inner.setup()
    except Exception as error:  # each package has its own exceptions
        raise ConfigError(
            f"trackers.{name}: cannot be started ({_reason(error)}); fix its settings, or set "
            f"trackers.{name}=false"
        ) from error
    return Tracker(name, inner, folder / name)


def _build_tensorboard() -> LoggerCallback:
    from ray.tune.logger import TBXLoggerCallback

    return TBXLoggerCallback()


def _build_mlflow(config: MlflowConfig, folder: Path) -> LoggerCallback:
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    for name, value in MLFLOW_PATIENCE.items():
        os.environ.setdefault(name, value)
    given = config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not given:
        (folder / "mlflow").mkdir(parents=True, exist_ok=True)
    return MLflowLoggerCallback(
        tracking_uri=given or f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}",
        experiment_name=config.experiment,
        tags={"sweep": folder.name},
    )


def _build_wandb(config: WandbConfig, folder: Path) -> LoggerCallback:
    from ray.air.integrations.wandb import WandbLoggerCallback

    # A resumed trial continues in the same W&B run.
    options = {"entity": config.entity} if config.entity else {}
    return WandbLoggerCallback(project=config.project, group=folder.name, resume="allow", **options)


def _reason(error: Exception) -> str:
    # A server's address from the environment may contain a password.
    return re.sub(r"//[^/@\s]*@", "//", first_line(error))
