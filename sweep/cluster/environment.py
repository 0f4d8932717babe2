"""What a run takes from its environment: variables for the workers, and optional packages."""

import os
import re
from importlib.metadata import version
from importlib.util import find_spec

from sweep.config import TrackersConfig, holds_password
from sweep.errors import ClusterError, ConfigError
from sweep.startup.home import list_own_variables

# Ray had no authentication before 2.52 (CVE-2023-48022); up to 2.53, a web page could delete jobs
# through its dashboard (CVE-2026-27482).
OLDEST_RAY = (2, 54)

# What workers are passed: paths, URLs and switches, never a secret.
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

TRACKER_PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}


def worker_environment() -> dict[str, str]:
    """Return the Hub's paths and switches that are set here, for Ray's ``runtime_env``.

    Workers on this machine inherit the entire environment of the process that starts Ray; those of
    a running cluster have their node's environment instead, and are passed these variables.

    HF_TOKEN is never among them. Ray shows a ``runtime_env`` in its job list, its dashboard and
    its logs, readable by everyone on the cluster, so each node needs a token of its own: export
    HF_TOKEN before ``ray start`` there, or run ``hf auth login`` once (it writes below HF_HOME,
    which may be a shared folder). For the same reason, an HF_ENDPOINT that contains a password is
    left out.
    """
    names = [name for name in WORKER_VARIABLES if name not in list_own_variables()]
    found = {name: os.environ[name] for name in names if os.environ.get(name)}
    return {name: value for name, value in found.items() if not holds_password(value)}


def check_tracker_packages(config: TrackersConfig) -> None:
    """Raise ConfigError naming the extra to install if an enabled tracker's package is missing."""
    for name, package in TRACKER_PACKAGES.items():
        if getattr(config, name) and find_spec(package) is None:
            raise ConfigError(
                f"trackers.{name} needs the package {package}, which is not installed; run "
                f'pip install "textsweep[{name}]", or set trackers.{name}=false'
            )


def check_ray() -> None:
    """Raise ClusterError if the installed Ray has security holes that a later release fixed."""
    found = version("ray")
    if tuple(map(int, re.findall(r"\d+", found)[:2])) < OLDEST_RAY:
        oldest = ".".join(map(str, OLDEST_RAY))
        raise ClusterError(
            f"Ray {found} is installed, which lets others run or delete jobs (CVE-2023-48022, "
            f"CVE-2026-27482); "
            f'the oldest safe version is {oldest}: run pip install --upgrade "ray[tune]"'
        )
