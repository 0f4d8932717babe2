"""All uses of Ray's private names (2.54 to 2.60): to be reviewed with each new release of Ray."""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants, services
from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
from ray._raylet import AuthenticationTokenLoader, GcsClient  # type: ignore[attr-defined]
from ray._raylet import Config as RayConfig  # type: ignore[attr-defined]
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.job_config import JobConfig
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler


def find_default_folder() -> Path:
    """Return the folder in which Ray keeps its sessions by default."""
    utils = ray._common.utils
    newest = getattr(utils, "get_default_ray_temp_dir", None)
    # The name of Ray 2.54.
    return Path(newest() if newest else utils.get_ray_temp_dir())


def find_head(address: str) -> str | None:
    """Return the HOST:PORT of the cluster's head; None if only Ray can resolve ``address``."""
    head = None if "://" in address else services.canonicalize_bootstrap_address(address)
    return str(head) if head else None


def require_token() -> None:
    """Raise AuthenticationError if the environment requires a token and none is there."""
    ensure_token_if_auth_enabled(create_token_if_missing=False)


def ask_head(head: str) -> None:
    """Connect to the head at ``head`` once; raise AuthenticationError if it requires another token,
    which would crash ``ray.init``."""
    GcsClient(address=head)


def reread_authentication() -> None:
    """Make Ray, which reads mode and token once per process, read the environment again."""
    # In this order: with the mode still on, a thread that ends late would miss the token.
    RayConfig.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def loopback_only() -> Iterator[None]:
    """Keep a cluster that ``ray.init`` starts inside the block on the loopback interface."""
    # Ray's own switch for single-node clusters, set by default on macOS and Windows.
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


class FixedFolders(list[str]):
    """A list that ignores what Ray adds to it."""

    def extend(self, folders: Iterable[str]) -> None:
        """Ignore ``folders``."""


def set_search_path(job: JobConfig, folders: Iterable[str]) -> None:
    """Make the workers of ``job`` look for modules in ``folders`` first, and not in the current
    folder, which ``ray.init`` would add."""
    job._py_driver_sys_path = FixedFolders(folders)


@contextmanager
def memory_losses_as_lost_workers() -> Iterator[None]:
    """Inside the block, make Tune treat a worker that Ray's memory monitor killed as a lost worker.

    Ray raises OutOfMemoryError for one, which is neither of the two errors that Tune's actor
    manager knows (Ray 2.60, ``_actor_task_failed``): Tune would end the entire run with "Caught
    unexpected exception" because of a single trial that is too large.
    """
    original = RayActorManager._actor_task_failed

    def translate(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=f"OutOfMemoryError: {exception}")
        original(manager, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = translate
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = original


def has_worker_coming(controller: Any, trial: Trial) -> bool:
    """Return whether a worker is already starting for this waiting trial."""
    actor = controller._trial_to_actor.get(trial)
    # Until it is scheduled on a node, a worker is a request like any other.
    return actor is not None and actor in controller._actor_manager.live_actors


def withdraw_requests(controller: Any, position: int) -> None:
    """Withdraw Tune's requests for the workers of trials after ``position`` in the plan.

    Tune serves requests in the order in which they were made, and requests a worker for a lost
    trial last: all waiting trials would overtake it, and meet rungs in another order than in a run
    without the loss. In its next step Tune makes the requests again, the first for the trial that
    ``choose_trial_to_run`` returns.
    """
    unserved = set(controller._actor_manager.pending_actors)
    for trial in sorted(controller._staged_trials, key=lambda trial: trial.config["position"]):
        actor = controller._trial_to_actor.get(trial)
        if actor in unserved and trial.config["position"] > position:
            del controller._trial_to_actor[trial], controller._actor_to_trial[actor]
            controller._actor_manager.remove_actor(actor)
            controller._unstage_trial_with_resources(trial)
            controller._pending_trials_list.append(trial)


def find_rung(asha: ASHAScheduler, trial_id: str, epoch: int) -> tuple[float | None, float | None]:
    """Return the rung at which ``asha`` is about to compare the trial, and its cutoff."""
    bracket = asha._brackets[0]
    for milestone, recorded in bracket._rungs:
        if epoch >= milestone and trial_id not in recorded:
            cutoff = bracket.cutoff(recorded)
            return float(milestone), None if cutoff is None else float(cutoff)
    return None, None


def enter_result(asha: ASHAScheduler, trial_id: str, epoch: int, value: float) -> None:
    """Enter a result into the rungs of ``asha`` as if the trial were running."""
    asha._brackets[0].on_result(_Arrival(trial_id), epoch, value)


class _Arrival:
    """The part of a Tune trial that a bracket needs when recorded results are replayed."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


class InterruptWatch:
    """Says whether Tune has taken a Ctrl-C: it then puts back the handler that was there before its
    own. To be made while Tune runs."""

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGINT)

    def was_interrupted(self) -> bool:
        return signal.getsignal(signal.SIGINT) is not self._handler


def forget_result(trial: Trial) -> None:
    """Delete from an ended trial what Tune would keep until the run's end: its full specification,
    its last result, and running averages of every metric."""
    # Tune resolves a copy of the configuration, and keeps the original to restore trials.
    for config in (trial.config, vars(trial).get("_Trial__unresolved_config", {})):
        for name in ("trial", "resume_epoch"):
            config.pop(name, None)
    # Without a last result, Tune would fetch this one for every trial at the end of the run.
    trial._default_result_or_future = None
    trial.run_metadata.last_result = {}
    trial.run_metadata.metric_analysis = {}
    trial.run_metadata.metric_n_steps = {}
