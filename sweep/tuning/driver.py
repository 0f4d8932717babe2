"""Runs a plan on a Ray cluster with Ray Tune."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ray import tune
from rich.console import Console

from sweep.cli.program import format_own_command
from sweep.cluster.autoscaler import read_cluster_spec
from sweep.cluster.nodes import check_storage
from sweep.cluster.ray_internals import memory_losses_as_lost_workers
from sweep.cluster.session import LOCAL, choose_address, connect, disconnect
from sweep.config import Config
from sweep.errors import ConfigError, StorageError
from sweep.models.sources import COMMIT
from sweep.plan import Plan, extend_plan
from sweep.preflight.setup import RunSetup
from sweep.repeats import Repeat, RepeatSchedule
from sweep.signals import restored_interrupts, treat_term_as_interrupt
from sweep.storage.checkpoints import CheckpointStore, open_store
from sweep.storage.journal import Content, Journal, read_events
from sweep.storage.prices import list_prices
from sweep.storage.record import RunRecord, replay
from sweep.storage.tables import remove_unfinished
from sweep.tuning.baselines import BaselineTasks
from sweep.tuning.callbacks import ProgressDisplay, SessionCallback, SlimTrials
from sweep.tuning.recorder import Recorder
from sweep.tuning.repeats import RepeatFeed
from sweep.tuning.resume import reopen_failed, reopen_replaced, replay_results
from sweep.tuning.scheduler import CellASHA
from sweep.tuning.search import PlanSearch, build_param_space
from sweep.tuning.serving import measure_uses
from sweep.tuning.trackers import build_trackers
from sweep.tuning.uses import list_missing, list_uses
from sweep.workers.factory import Allocation, build_trainable, choose_allocation, end_hosts

# Tune's own state, deleted at the end of a run.
SCRATCH_NAME = "tune"
PACKAGES = ("ray", "torch", "transformers", "peft", "datasets", "evaluate", "scikit-learn")


def run_plan(
    setup: RunSetup,
    journal: Journal,
    address: str | None,
    console: Console,
    retry_failed: bool = False,
) -> RunRecord:
    """Run every trial of the plan without a result in the journal; return the complete record.

    ``retry_failed`` also runs the plan's failed trials again. Raises StorageError if the disk is
    full, ClusterError if no cluster is available.
    """
    config, plan, folder = setup.config, setup.plan, setup.folder
    trackers = build_trackers(config.trackers, folder)
    remove_unfinished(folder)
    record = replay(read_events(folder))
    scheduler = CellASHA(
        config.asha.max_epochs, config.asha.grace_epochs, config.asha.reduction_factor
    )

    def notify(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    limit = 60 * config.resources.max_epoch_minutes
    store = _open_store(config, folder)
    recorder = Recorder(journal, record, scheduler, notify, limit, store)
    _write_start(setup, recorder)
    if retry_failed:
        reopen_failed(plan, recorder, config.baseline_names)
    schedule = RepeatSchedule(config, plan, setup.subsets, record)
    recorder.write_many(_find_changes(plan, schedule.known, record))
    entire = extend_plan(plan, [spec for spec, _ in schedule.known])
    reopen_replaced(entire, recorder, config.baseline_names)
    replay_results(plan, record, scheduler)
    display = ProgressDisplay(entire, recorder.record, recorder.running, console)
    baselines = BaselineTasks(
        config.baseline_names, entire, setup.subsets, recorder, config.resources, notify
    )
    repeats = RepeatFeed(schedule, recorder, baselines, display.extend)
    # Also plans what is due.
    waiting = repeats.refill() or _count_left(record) > 0
    unserved = list_missing(list_uses(config, plan, record), record, retry_failed)
    allocation: Allocation | None = None
    try:
        try:
            if waiting or baselines.missing or unserved:
                connect(address, folder, console)
                treat_term_as_interrupt()
                check_storage(folder, config.storage.checkpoints)
                spec = None if choose_address(address) == LOCAL else read_cluster_spec()
                allocation = choose_allocation(setup, spec, notify)
                baselines.start()
                display.start()
            if schedule.waits_for_baselines and not waiting:
                # Nothing trains until they say what to repeat.
                baselines.finish()
                waiting = repeats.refill()
            if waiting and allocation:
                callbacks = [display, baselines, *trackers]
                trainable = build_trainable(setup, allocation)
                _fit(setup, trainable, allocation, scheduler, recorder, repeats, callbacks)
            baselines.finish()
        finally:
            display.stop()
        if allocation and not _count_left(record):
            end_hosts()
            uses, on_gpu = list_uses(config, plan, record), "GPU" in allocation.resources
            measure_uses(uses, setup, recorder, on_gpu, notify, retry_failed)
    finally:
        try:
            recorder.write("closed", trials_left=_count_left(record))
            recorder.write_tables()
        finally:
            baselines.cancel()
            disconnect()
    return record


def _count_left(record: RunRecord) -> int:
    """Return how many planned trials have no result, repeats included."""
    return len(record.planned().keys() - record.done())


def _open_store(config: Config, folder: Path) -> CheckpointStore:
    try:
        return open_store(folder, config.storage.checkpoints)
    except StorageError as error:
        raise ConfigError(f"storage.checkpoints: {error}") from error


def _write_start(setup: RunSetup, recorder: Recorder) -> None:
    """Record this session, and the trials and test sets that the journal does not know yet."""
    recorder.write(
        "opened",
        host=platform.node(),
        pid=os.getpid(),
        command=format_own_command(),
        versions={name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        git_commit=_read_commit(),
        predicted=setup.forecast,
        pace=setup.pace,
        data=setup.account,
        baselines=setup.config.baseline_names,
        prices=list_prices(setup.config.cost),
        smallest=setup.config.verdict.smallest,
        repeat_seeds=str(setup.config.repeat.seeds),
    )
    recorder.write_many([*_find_new_sets(setup, recorder), *_find_new_trials(setup.plan, recorder)])


def _find_new_trials(plan: Plan, recorder: Recorder) -> Iterator[Content]:
    """Yield the events of the plan's trials that are new or have a new name or path."""
    for spec in plan.trials:
        known = recorder.record.trials.get(spec.trial_id)
        if known is None or known.spec != spec or known.repeat_of:
            yield "planned", {"trial": spec}


def _find_changes(plan: Plan, repeats: Sequence[Repeat], record: RunRecord) -> Iterator[Content]:
    """Yield the events that make the journal's plan consist of ``plan`` and ``repeats``: those of
    repeats that are new or have a new name or path, and the list of planned trials if the journal
    knows others too."""
    for spec, of in repeats:
        known = record.trials[spec.trial_id]
        if known.spec != spec or known.repeat_of != of.trial_id:
            yield "planned", {"trial": spec, "repeat_of": of.trial_id}
    planned = dict.fromkeys(spec.trial_id for spec in plan.trials)
    ids = planned | dict.fromkeys(spec.trial_id for spec, _ in repeats)
    if (record.plan or ids.keys() | record.trials.keys()) != ids.keys():
        yield "replanned", {"trials": list(ids)}


def _find_new_sets(setup: RunSetup, recorder: Recorder) -> Iterator[Content]:
    """Yield the test sets that are not in the journal; tell the recorder which are in use."""
    for labels, n_labels in {cell.labels: cell.n_labels for cell in setup.plan.cells}.items():
        test = setup.subsets.evaluation("test", n_labels)
        fingerprint = recorder.test_sets[labels] = test.fingerprint()
        if fingerprint not in recorder.record.test_sets:
            content = {"labels": test.labels, "items": test.items, "truth": test.classes}
            yield "test_set", {"fingerprint": fingerprint, **content}


def _read_commit() -> str | None:
    """Return the commit of the working copy that contains this package; outside one, the value of
    SWEEP_COMMIT (a copy on a cluster has no .git), or None."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        given = os.environ.get("SWEEP_COMMIT", "")
        return given if COMMIT.fullmatch(given) else None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def _fit(
    setup: RunSetup,
    trainable: Any,
    allocation: Allocation,
    scheduler: CellASHA,
    recorder: Recorder,
    repeats: RepeatFeed,
    callbacks: Sequence[SessionCallback],
) -> None:
    config, plan, scratch = setup.config, setup.plan, setup.folder / SCRATCH_NAME
    search = PlanSearch(plan, recorder.record, repeats)
    tuner = tune.Tuner(
        tune.with_resources(trainable, allocation.of_trial),
        param_space=build_param_space(config, plan, search.specs),
        tune_config=tune.TuneConfig(
            search_alg=search,
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
        with memory_losses_as_lost_workers(), restored_interrupts():
            tuner.fit()
    except Exception:
        # Whatever Tune turned the recorder's exception into: the recorder kept the reason.
        if recorder.halt:
            raise recorder.halt from None
        raise
    finally:
        # Pickles that nothing reads, since the journal is the run's state.
        shutil.rmtree(scratch, ignore_errors=True)


def _name_trial(trial: Any) -> str:
    return "-".join(
        str(trial.config[key]) for key in ("model", "n_labels", "n_samples", "seed", "candidate")
    )
