"""What a run takes from its surroundings: variables for the workers, and optional packages."""

import os
import re
from importlib.metadata import version
from importlib.util import find_spec

from sweep.config import TrackersConfig, holds_password
from sweep.errors import ClusterError, ConfigError
from sweep.startup.home import list_own_settings

OLDEST_RAY = (2, 54)
"""Before 2.52 Ray had no authentication (CVE-2023-48022); up to 2.53 a web page could delete jobs
through its dashboard (CVE-2026-27482)."""

WORKER_VARIABLES = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_DATASETS_CACHE",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_HUB_DISABLE_TELEMETRY",
    "TRANSFORMERS_VERBOSITY",
)
"""What workers are told: places and switches, no secret among them."""

TRACKER_PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}


def worker_environment() -> dict[str, str]:
    """Return the Hub's places and switches that are set here, for Ray's ``runtime_env``.

    Workers on this machine inherit the whole environment of the process that starts Ray; those
    of a cluster that is already running have their node's instead, and are told these.

    HF_TOKEN is never among them. Ray shows a ``runtime_env`` in its job list, its dashboard and
    its logs, readable by everyone on the cluster, so each node has to bring its own token: export
    HF_TOKEN before ``ray start`` there, or run ``hf auth login`` once (below HF_HOME, which may
    be a shared folder). For the same reason an HF_ENDPOINT with a password in it is left out.
    """
    names = [name for name in WORKER_VARIABLES if name not in list_own_settings()]
    found = {name: os.environ[name] for name in names if os.environ.get(name)}
    return {name: value for name, value in found.items() if not holds_password(value)}


def check_tracker_packages(config: TrackersConfig) -> None:
    """Raise ConfigError naming the extra to install when a tracker that is on has no package."""
    for name, package in TRACKER_PACKAGES.items():
        if getattr(config, name) and find_spec(package) is None:
            raise ConfigError(
                f"trackers.{name} needs the package {package}, which is not installed; run "
                f'pip install "sweep[{name}]", or set trackers.{name}=false'
            )


def check_ray() -> None:
    """Raise ClusterError if the installed Ray has holes that are known and mended."""
    found = version("ray")
    if tuple(map(int, re.findall(r"\d+", found)[:2])) < OLDEST_RAY:
        oldest = ".".join(map(str, OLDEST_RAY))
        raise ClusterError(
            f"Ray {found} is installed, which lets others run or delete jobs (see SECURITY.md); "
            f'{oldest} is the oldest that is safe: run pip install --upgrade "ray[tune]"'
        )
