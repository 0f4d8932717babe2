"""Runs a plan on a Ray cluster with Ray Tune."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ray import tune
from rich.console import Console

from sweep.cluster.autoscaler import read_launched
from sweep.cluster.nodes import check_storage
from sweep.cluster.session import LOCAL, choose_address, connect, disconnect
from sweep.config import Config
from sweep.data import Subsets
from sweep.errors import ConfigError, StorageError
from sweep.models.sources import COMMIT
from sweep.plan import Plan, TrialSpec
from sweep.signals import treat_term_as_interrupt
from sweep.storage.account import DataAccount
from sweep.storage.checkpoints import CheckpointStore, open_store
from sweep.storage.journal import Journal, read_events
from sweep.storage.record import RunRecord, sort_events
from sweep.storage.tables import remove_unfinished
from sweep.tuning.baselines import BaselineTasks
from sweep.tuning.callbacks import ProgressDisplay, SessionCallback, SlimTrials
from sweep.tuning.ray_internals import memory_losses_as_lost_workers
from sweep.tuning.recorder import Recorder
from sweep.tuning.resume import _reopen_failed, replay_results
from sweep.tuning.scheduler import CellASHA
from sweep.tuning.search import PlanSearch, build_param_space
from sweep.tuning.trackers import build_trackers
from sweep.workers.factory import build_trainable, choose_workers

PACKAGES = ("ray", "torch", "transformers", "peft", "datasets", "evaluate", "scikit-learn")


def run_plan(
    config: Config,
    plan: Plan,
    subsets: Subsets,
    folder: Path,
    journal: Journal,
    address: str | None,
    console: Console,
    predicted: dict[str, Any] | None = None,
    retry_failed: bool = False,
    pace: dict[str, Any] | None = None,
    account: DataAccount | None = None,
) -> RunRecord:
    """Run every trial of ``plan`` that the journal has no result for; return the whole record.

    ``predicted`` holds the preflight's ``seconds`` (low, likely, high) and ``memory_bytes`` by
    model: the journal keeps it, and the share of a GPU that a trial gets follows from it. ``pace``
    is what the time left is told from before anything is measured (``Preflight.pace``).
    ``retry_failed`` runs the plan's failed trials anew; ``account``, which the journal keeps, is
    what became of the data. Raises StorageError when the disk takes no more, ClusterError when no
    cluster can be had.
    """
    trackers = build_trackers(config.trackers, folder)
    remove_unfinished(folder)
    record = sort_events(read_events(folder))
    scheduler = CellASHA(
        config.asha.max_epochs, config.asha.grace_epochs, config.asha.reduction_factor
    )

    def tell(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    limit = 60 * config.resources.max_epoch_minutes
    store = _open_store(config, folder)
    recorder = Recorder(journal, record, scheduler, folder, tell, limit, store)
    _write_plan(plan, subsets, recorder, predicted, pace, account, config.baselines)
    if retry_failed:
        _reopen_failed(plan, recorder, config.baselines)
    replay_results(plan, record, scheduler)
    display = ProgressDisplay(plan, recorder.record, recorder.running, console)
    baselines = BaselineTasks(config.baselines, plan, subsets, recorder, config.resources, tell)
    waiting = any(spec.trial_id not in record.done() for spec in plan.trials)
    try:
        if waiting or baselines.missing:
            connect(address, folder, console)
            treat_term_as_interrupt()
            check_storage(folder, config.storage.checkpoints)
            launched = None if choose_address(address) == LOCAL else read_launched()
            workers = choose_workers(config, launched, predicted, tell)
            baselines.start()
            display.start()
        if waiting:
            callbacks = [display, baselines, *trackers]
            trainable = build_trainable(config, workers, subsets, folder)
            _fit(config, plan, trainable, folder, workers.resources, scheduler, recorder, callbacks)
        baselines.finish()
    finally:
        display.stop()
        left = sum(spec.trial_id not in record.done() for spec in plan.trials)
        try:
            recorder.write("closed", trials_left=left)
            recorder.write_tables()
        finally:
            baselines.cancel()
            disconnect()
    return record


def _open_store(config: Config, folder: Path) -> CheckpointStore:
    try:
        return open_store(folder, config.storage.checkpoints)
    except StorageError as error:
        raise ConfigError(f"storage.checkpoints: {error}") from error


def _write_plan(
    plan: Plan,
    subsets: Subsets,
    recorder: Recorder,
    predicted: dict[str, Any] | None,
    pace: dict[str, Any] | None,
    account: DataAccount | None,
    baselines: Sequence[str],
) -> None:
    """Note this session, and the trials and test sets that the journal does not know yet."""
    recorder.write(
        "opened",
        host=platform.node(),
        pid=os.getpid(),
        command=shlex.join(["python", "-m", "sweep.run", *sys.argv[1:]]),
        versions={name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        git_commit=_read_commit(),
        predicted=predicted,
        pace=pace,
        data=account.to_dict() if account else None,
        baselines=list(baselines),
    )
    recorder.write_many([*_list_test_sets(plan, subsets, recorder), *_list_plan(plan, recorder)])


def _list_plan(plan: Plan, recorder: Recorder) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the events that bring the journal's plan to ``plan``: new trials, those with another
    name or path, and the whole plan where it is not all that the journal knows."""
    known = recorder.record
    for spec in plan.trials:
        record = known.trials.get(spec.trial_id)
        if record is None or TrialSpec.from_dict(record.spec) != spec:
            yield "planned", {"trial": spec.to_dict()}
    ids = {spec.trial_id: None for spec in plan.trials}
    if (known.plan or ids.keys() | known.trials.keys()) != ids.keys():
        yield "replanned", {"trials": list(ids)}


def _list_test_sets(
    plan: Plan, subsets: Subsets, recorder: Recorder
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the test sets that the journal does not hold; tell the recorder which are in use."""
    for labels, n_labels in {cell.labels: cell.n_labels for cell in plan.cells}.items():
        test = subsets.evaluation("test", n_labels)
        fingerprint = recorder.test_sets[labels] = test.fingerprint()
        if fingerprint not in recorder.record.test_sets:
            content = {"labels": test.labels, "items": test.items, "truth": test.classes}
            yield "test_set", {"fingerprint": fingerprint, **content}


def _read_commit() -> str | None:
    """Return the commit of the working copy this package lies in; outside one, what SWEEP_COMMIT
    says (a copy on a cluster has no .git), or None."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        told = os.environ.get("SWEEP_COMMIT", "")
        return told if COMMIT.fullmatch(told) else None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def _fit(
    config: Config,
    plan: Plan,
    trainable: Any,
    folder: Path,
    resources: dict[str, float],
    scheduler: CellASHA,
    recorder: Recorder,
    callbacks: Sequence[SessionCallback],
) -> None:
    scratch = folder / "tune"
    tuner = tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory([resources])),
        param_space=build_param_space(config, plan),
        tune_config=tune.TuneConfig(
            search_alg=PlanSearch(plan, recorder.record),
            scheduler=scheduler,
            reuse_actors=True,
            trial_name_creator=_name_trial,
            trial_dirname_creator=_name_trial,
        ),
        run_config=tune.RunConfig(
            name="scratch",
            storage_path=str(scratch),
            callbacks=[recorder, *callbacks, SlimTrials()],
            # The engine writes its own checkpoints, without pickles.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=config.resources.max_retries),
            verbose=0,
        ),
    )
    try:
        with memory_losses_as_lost_workers():
            tuner.fit()
    except Exception:
        # Whatever Tune makes of what a callback raises: the recorder knows why it did.
        if recorder.halt:
            raise recorder.halt from None
        raise
    finally:
        # Tune's own state: pickles that nothing reads, since the journal is the run's state.
        shutil.rmtree(scratch, ignore_errors=True)


def _name_trial(trial: Any) -> str:
    return "-".join(
        str(trial.config[key]) for key in ("model", "n_labels", "n_samples", "seed", "candidate")
    )
