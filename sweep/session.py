"""Connects to a Ray cluster: a running one, or one started on this machine."""

import logging
import os
from pathlib import Path

import ray
from rich.console import Console

from sweep.environment import worker_environment
from sweep.errors import ClusterError

LOG_NAME = "ray.log"

TUNE_SETTINGS = {
    # The journal is the run's state: Tune's own loggers and snapshots would only double it.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    # A failed trial reports no metric, and must not end the run.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def connect(address: str | None, folder: Path, console: Console) -> None:
    """Join the Ray cluster at ``address``, or start one on this machine; its talk goes to a file
    in the run folder. Raises ClusterError if that fails."""
    os.environ.update({key: os.environ.get(key, value) for key, value in TUNE_SETTINGS.items()})
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        ray.init(
            address=where,
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if where == "local" else None,
            # A local cluster's workers inherit everything; another one's get what is no secret.
            runtime_env=None if where == "local" else {"env_vars": worker_environment()},
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"--address {where}: no Ray cluster answers "
            f"({(str(error).splitlines() or ['no reason given'])[0][:200]}); start one with "
            "'ray start --head', or leave --address out"
        ) from error
    _divert_log(folder / LOG_NAME)
    resources = ray.cluster_resources()
    gpus = resources.get("GPU", 0)
    console.print(
        f"Ray cluster: {len(ray.nodes())} node(s), {resources.get('CPU', 0):g} CPUs, {gpus:g} GPUs",
        highlight=False,
    )


def _divert_log(path: Path) -> None:
    """Send what Ray's Python loggers say to ``path`` instead of the terminal."""
    logger = logging.getLogger("ray")
    logger.handlers[:] = [logging.FileHandler(path)]
    logger.setLevel(logging.INFO)
    logger.propagate = False
