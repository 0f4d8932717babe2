"""Connects to a Ray cluster: a running one, or one started on this machine, closed to others."""

import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.job_config import JobConfig
from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE
from rich.console import Console

from sweep.cluster.environment import check_ray, worker_environment
from sweep.cluster.ray_internals import (
    ask_head,
    find_default_folder,
    find_head,
    loopback_only,
    require_token,
    reread_authentication,
    set_search_path,
)
from sweep.errors import ClusterError, first_line
from sweep.signals import delay_interrupts
from sweep.startup.home import is_writable
from sweep.startup.search_path import list_worker_folders

LOG_NAME = "ray.log"
LOCAL, CLIENT = "local", "ray://"
ANSWER_SECONDS = 10.0

# Longest path of a Unix socket (103 bytes on macOS), and the length of Ray's own part of it:
# /session_2026-11-26_16-08-30_123456_1234567/sockets/plasma_store
SOCKET_PATH, SESSION_PATH = 103, 66
SHORT_FOLDER = "/tmp/ray"

AUTH_MODE, AUTH_TOKEN, AUTH_TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"

CLOUD_KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
)

TUNE_SETTINGS = {
    # The journal is the run's state: Tune's own loggers and snapshots would only duplicate it.
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
    """Join the Ray cluster at ``address``, or start one on this machine; Ray's log goes to a file
    in the run folder. Raises ClusterError if that fails.

    A cluster started here listens only on the loopback interface, has no dashboard, and requires a
    token from every client (see ``closed_cluster``).
    """
    check_ray()
    # Tune would copy these into every trial's runtime_env, which Ray's logs and dashboard show.
    ENV_VARS_TO_PROPAGATE.difference_update(CLOUD_KEYS)
    os.environ.update({key: os.environ.get(key, value) for key, value in TUNE_SETTINGS.items()})
    where = choose_address(address)
    try:
        if where == LOCAL:
            _start_cluster(console)
        else:
            _join_cluster(where, _name_source(address, where)[0])
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(_explain_silence(address, where, first_line(error))) from error
    _divert_log(folder / LOG_NAME)
    resources = ray.cluster_resources()
    gpus = resources.get("GPU", 0)
    console.print(
        f"Ray cluster: {len(ray.nodes())} node(s), {resources.get('CPU', 0):g} CPUs, {gpus:g} GPUs",
        highlight=False,
    )


def check_cluster(address: str | None) -> None:
    """Raise ClusterError now if ``connect`` would later find no cluster to join."""
    where = choose_address(address)
    if where == LOCAL or where.startswith(CLIENT):
        return
    try:
        # The token is checked later: it does not matter if the cluster is not there.
        _reach_head(where)
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(_explain_silence(address, where, first_line(error))) from error


def choose_address(address: str | None) -> str:
    """Return the cluster to use: ``--address``, else RAY_ADDRESS, else a new local one."""
    return address or os.environ.get("RAY_ADDRESS") or LOCAL


def _explain_silence(address: str | None, where: str, reason: str) -> str:
    if where == LOCAL:
        return (
            f"Ray cannot start on this machine ({reason}); check that memory, disk space and the "
            "limits in 'ulimit -a' are not exhausted, or name a running cluster with --address"
        )
    given, remedy = _name_source(address, where)
    check = "check that the address is right and the cluster is up"
    if where == "auto":
        check = "start one with 'ray start --head'"
    elif where.startswith(CLIENT):
        check = "run this on a machine of the cluster with --address auto"
    return f"{given}: no Ray cluster answers ({reason}); {check}, or {remedy}"


def _name_source(address: str | None, where: str) -> tuple[str, str]:
    """Return what named the cluster, and how to start a local one instead."""
    if not address:
        return f"RAY_ADDRESS={where}", "unset RAY_ADDRESS"
    if os.environ.get("RAY_ADDRESS"):
        return f"--address {where}", "omit --address and unset RAY_ADDRESS"
    return f"--address {where}", "omit --address"


def disconnect() -> None:
    """Leave the cluster, or shut down the one started here, and forget its token.

    Ctrl-C is held back for this second or two: interrupted in the middle of its shutdown, Ray ends
    this process with an exit code of its own.
    """
    with delay_interrupts():
        ray.shutdown()
        reread_authentication()


def _start_cluster(console: Console) -> None:
    if os.environ.get(AUTH_MODE, "token").lower() == "disabled":
        console.print(
            f"note: {AUTH_MODE} is disabled, so every user of this machine can run code in this "
            "Ray cluster as you; unset it to require a token",
            highlight=False,
            soft_wrap=True,
        )
    default = find_default_folder()
    reason = find_folder_fault(default)
    if reason:
        console.print(
            f"note: the temporary folder {default} {reason}, so Ray's files go to {SHORT_FOLDER}; "
            "set RAY_TMPDIR to choose another one",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
    with closed_cluster():
        # The workers inherit the entire environment: no runtime_env is needed.
        ray.init(
            address=LOCAL,
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False,
            _temp_dir=SHORT_FOLDER if reason else None,
            job_config=build_job_config(joined=False),
        )


def find_folder_fault(folder: Path) -> str:
    """Return why Ray cannot keep its session in ``folder``; empty if it can."""
    if len(str(folder)) + SESSION_PATH > SOCKET_PATH:
        return "has a path too long for Ray's sockets"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"cannot be created ({error.strerror})"
    return "" if is_writable(folder) else "cannot be written"


def _join_cluster(address: str, given: str) -> None:
    with _authentication(given):
        _check_answer(address)
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": worker_environment()},
            job_config=build_job_config(joined=True),
        )


@contextmanager
def _authentication(given: str) -> Iterator[None]:
    """Authenticate with the current environment to the cluster that ``given`` names; raise
    ClusterError if it requires a token that is not there."""
    try:
        with _kept_variables(AUTH_MODE):
            reread_authentication()
            yield
    except ray.exceptions.AuthenticationError as error:
        raise ClusterError(
            f"{given}: the Ray cluster requires a token, and none or the wrong one is set; "
            f"set {AUTH_MODE}=token and {AUTH_TOKEN_PATH} to a file with the cluster's token"
        ) from error


def build_job_config(joined: bool) -> JobConfig:
    """Return the job's settings, with the workers' module search path: without the current folder,
    which Ray would put first."""
    job = JobConfig()
    folders = list_worker_folders(joined)
    if folders is not None:
        set_search_path(job, folders)
    return job


def _check_answer(address: str) -> None:
    """Raise OSError or AuthenticationError at once if ``ray.init`` would retry for a minute, or
    crash for lack of a token."""
    require_token()
    head = _reach_head(address)
    if head:
        ask_head(head)


def _reach_head(address: str) -> str | None:
    """Return the HOST:PORT of the cluster's head after checking that something listens there; None
    if only Ray can resolve ``address``. Raises OSError."""
    head = find_head(address)
    if head:
        host, _, port = head.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    return head


@contextmanager
def closed_cluster() -> Iterator[None]:
    """Close the cluster that ``ray.init`` starts inside the block to others: it listens on the
    loopback interface only, and requires a token.

    A token that the user has set (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH) is used; otherwise one is
    generated for this cluster alone. Ray's processes inherit it, and it is never written to disk:
    Ray itself would write one file for all future clusters, readable by others. This process keeps
    it in memory only, so that nothing it starts later finds it in the environment.
    """
    with loopback_only(), _kept_variables(AUTH_MODE, AUTH_TOKEN):
        os.environ.setdefault(AUTH_MODE, "token")
        if not os.environ.get(AUTH_TOKEN) and not os.environ.get(AUTH_TOKEN_PATH):
            os.environ[AUTH_TOKEN] = secrets.token_hex(32)
        reread_authentication()
        yield


@contextmanager
def _kept_variables(*names: str) -> Iterator[None]:
    """Restore the environment variables' values after the block."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _divert_log(path: Path) -> None:
    """Send the output of Ray's Python loggers to ``path`` instead of the terminal."""
    logger = logging.getLogger("ray")
    logger.handlers[:] = [logging.FileHandler(path)]
    logger.setLevel(logging.INFO)
    logger.propagate = False
