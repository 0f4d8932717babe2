"""The command line: plan a sweep, run it, resume it, and write its report."""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from sweep.cli.run_options import (
    build_parser,
    check_option_name,
    check_options,
    format_resume_command,
)
from sweep.cluster.autoscaler import expect_machine, read_cluster_spec
from sweep.cluster.environment import check_ray, check_tracker_packages
from sweep.cluster.hardware import inspect_machine
from sweep.config import DEFAULT_CONFIG, Config, find_config, load_config
from sweep.data import Subsets
from sweep.display.plan import format_outline, format_plan, outline_to_dict, plan_to_dict
from sweep.display.reporting import load_report
from sweep.errors import ConfigError, Finding, RunBusyError, RunFolderError, SweepError
from sweep.plan import Plan, build_plan, draw_candidates, extend_plan
from sweep.preflight.features import build_features
from sweep.preflight.inputs import ResolvedInputs, resolve_inputs
from sweep.preflight.paths import make_absolute
from sweep.preflight.preflight import (
    Preflight,
    check_plan,
    format_data,
    format_preflight,
    format_warnings,
)
from sweep.preflight.setup import RunSetup, Target
from sweep.repeats import Repeat, RepeatSchedule, summarize_repeats
from sweep.signals import term_as_interrupt
from sweep.startup.home import settle_home
from sweep.startup.namesake import refuse_namesake
from sweep.startup.streams import steady_streams
from sweep.storage.failed_baselines import summarize_failures
from sweep.storage.journal import JOURNAL_NAME, Journal, is_held, read_events
from sweep.storage.orphans import describe_orphaned_trials
from sweep.storage.record import RunRecord, choose_planned, replay
from sweep.storage.run_folder import (
    CONFIG_NAME,
    check_run,
    find_obstacle,
    holds_run,
    open_run_folder,
    save_config,
)

# The exit code of a run that was interrupted, as a shell gives it for Ctrl-C.
INTERRUPTED = 130
# Seconds between two checks whether another driver has ended.
BUSY_POLL_SECONDS = 2.0


def main(arguments: Sequence[str] | None = None, command: str = "run") -> int:
    """Run the command line of ``run``, ``plan`` or ``attach``; return its exit code."""
    steady_streams()
    try:
        refuse_namesake()
        options = build_parser(command).parse_args(arguments)
        with term_as_interrupt():
            return _run_in_turn(options)
    except SweepError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _run_in_turn(options: argparse.Namespace) -> int:
    """Run what ``options`` say; if another driver has the run, do what ``--busy`` says."""
    check_options(options)
    settle_home(options.out)
    if options.attach:
        return _attach(options)
    starts = options.auto_resume
    while True:
        if starts and options.name:
            options.resume = holds_run(options.out / check_option_name(options.name))
        config = make_absolute(_read_config(options))
        folder = options.out / config.name
        if starts:
            options.resume = holds_run(folder)
        try:
            return _run(options, config)
        except RunBusyError as error:
            if options.busy == "refuse":
                raise
            if options.busy == "leave":
                print(f"{folder}: another sweep is running in this folder, and goes on alone")
                return 0
            _wait_for_driver(folder, error)
        except RunFolderError:
            # Another driver may have created the run in the meantime.
            if not starts or options.resume or not holds_run(folder):
                raise


def _wait_for_driver(folder: Path, error: RunBusyError) -> None:
    print(f"{str(error).partition(';')[0]}: waiting for it to end", flush=True)
    while is_held(folder) and (folder / JOURNAL_NAME).exists():
        time.sleep(BUSY_POLL_SECONDS)


def _run(options: argparse.Namespace, config: Config) -> int:
    folder = options.out / config.name
    if options.resume:
        check_run(folder)
    check_ray()
    check_tracker_packages(config.trackers)
    inputs = resolve_inputs(config)
    plan = _build_plan(config, inputs)
    record = _read_record(folder)
    done = _list_done(record, options.retry_failed)
    # If another machine trains, this one's processors and memory do not matter.
    remote = (options.address or os.environ.get("RAY_ADDRESS") or "local") != "local"
    spec = read_cluster_spec() if remote else None
    target = Target(None if remote else inspect_machine(), expect_machine(spec) if spec else None)
    repeats = _list_repeats(config, plan, inputs, record)
    repeated = Counter(of.cell.axes for spec, of in repeats if spec.trial_id in done)
    preflight = check_plan(config, inputs, plan, done, folder, target, repeated)
    obstacle = "" if options.resume else find_obstacle(folder)
    if options.dry_run and obstacle:
        preflight.findings.append(Finding("note", "--name", f"{folder.absolute()}: {obstacle}"))
    expected = [*plan.trials, *(spec for spec, _ in repeats)] if plan else []
    orphans = describe_orphaned_trials(expected, record) if plan else []
    foreign = _describe_foreign(plan, record) if options.auto_resume and plan else []
    if foreign and not options.dry_run:
        raise RunFolderError(
            f"{folder.absolute()}: holds a run of another study, or of data or models that have "
            f"changed since ({foreign[0].partition(';')[0]}); choose another --name, or take the "
            "change over with --resume"
        )
    if options.dry_run:
        _print_plan(config, plan, preflight, done, orphans, options.json)
        return 2 if preflight.errors() else 0
    if plan is None or inputs.subsets is None or preflight.errors():
        raise SweepError(preflight.errors()[0].sentence)
    return _train(config, plan, inputs.subsets, preflight, orphans, options)


def _describe_foreign(plan: Plan, record: RunRecord) -> list[str]:
    """Return lines that name the trials of the record's newest plan that ``plan`` lacks; none if
    there are none. Repeats of trials in ``plan`` are of the same study, wanted or not."""
    ids = {spec.trial_id for spec in plan.trials}
    known = [
        trial.spec
        for trial_id, trial in record.trials.items()
        if not record.is_planned(trial_id) or trial.repeat_of in ids
    ]
    return describe_orphaned_trials([*known, *plan.trials], record)


def _attach(options: argparse.Namespace) -> int:
    from rich.console import Console

    from sweep.display.attach import attach

    return attach(options.attach.absolute(), Console())


def _build_plan(config: Config, inputs: ResolvedInputs) -> Plan | None:
    """Return the plan, or None if data or models are missing."""
    for model in config.grid.models:
        draw_candidates(config, model)
    if inputs.subsets is None or len(inputs.models) < len(config.grid.models):
        return None
    revisions = {name: found.revision for name, found in inputs.models.items()}
    plan = build_plan(config, inputs.subsets, revisions)
    return replace(plan, features=build_features(config, inputs.features))


def _list_repeats(
    config: Config, plan: Plan | None, inputs: ResolvedInputs, record: RunRecord
) -> list[Repeat]:
    """Return the repeats in the record that still belong to the plan."""
    if plan is None or inputs.subsets is None:
        return []
    return RepeatSchedule(config, plan, inputs.subsets, record).known


def _read_config(options: argparse.Namespace) -> Config:
    """Return the configuration: the given file, or the resumed run's own."""
    path = options.config
    if path is None and options.resume and options.name:
        path = options.out / check_option_name(options.name) / CONFIG_NAME
        if not path.exists():
            raise ConfigError(f"{path}: {_explain_absence(path.parent)}")
    overrides = list(options.overrides)
    if options.name:
        overrides.append(f"name={json.dumps(check_option_name(options.name))}")
    return load_config(find_config(path) if path else DEFAULT_CONFIG, overrides)


def _explain_absence(folder: Path) -> str:
    if (folder / JOURNAL_NAME).is_file():
        return "is missing; name the configuration that the run was started with: CONFIG --resume"
    return (
        "cannot be read (there is no run to resume here); check --name and --out, or name the "
        "run's configuration"
    )


def _read_record(folder: Path) -> RunRecord:
    if not (folder / JOURNAL_NAME).is_file():
        return RunRecord()
    return replay(read_events(folder))


def _list_done(record: RunRecord, retry_failed: bool) -> frozenset[str]:
    """Return the trials that need not run: those that ended, except those to be retried."""
    if not retry_failed:
        return record.done()
    return record.done() - {i for i, trial in record.trials.items() if trial.has_failed()}


def _print_plan(
    config: Config,
    plan: Plan | None,
    preflight: Preflight,
    done: frozenset[str],
    orphans: list[str],
    as_json: bool,
) -> None:
    if as_json:
        tree = plan_to_dict(plan, done) if plan else outline_to_dict(config)
        print(json.dumps(tree | {"preflight": preflight.to_dict()}))
        return
    print(format_plan(plan, done) if plan else format_outline(config))
    print()
    if orphans:
        print("\n".join([*orphans, ""]))
    print(format_preflight(preflight))


def _train(
    config: Config,
    plan: Plan,
    subsets: Subsets,
    preflight: Preflight,
    orphans: list[str],
    options: argparse.Namespace,
) -> int:
    write_report = load_report()
    if not options.resume:
        # Slow to import. Checked before the folder is created, so a mistyped address leaves none.
        from sweep.cluster.session import check_cluster

        check_cluster(options.address)
    folder = open_run_folder(options.out, config.name, options.resume)
    forecast, pace = preflight.forecast(), preflight.pace()
    setup = RunSetup(
        config, plan, subsets, folder, forecast, pace, preflight.packable, preflight.data
    )
    if not options.resume:
        # Before the journal: --resume then finds a configuration whenever this process is killed.
        save_config(folder, config)
    with Journal(folder) as journal:
        if options.resume:
            save_config(folder, config)
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        # These import Ray and are slow; planning must not wait for them.
        from rich.console import Console

        from sweep.tuning.driver import run_plan

        console = Console()
        lines = [f"run folder: {folder}", *format_data(preflight), *format_warnings(preflight)]
        lines += orphans
        if journal.dropped_bytes:
            lines.append(
                f"{journal.path}: the last line was cut short when its driver ended, and was "
                f"dropped ({journal.dropped_bytes} bytes); the work it recorded is done again"
            )
        for line in lines:
            console.print(line, highlight=False, soft_wrap=True, markup=False)
        resume = format_resume_command(config.name, options.out, options.address)
        try:
            record = run_plan(setup, journal, options.address, console, options.retry_failed)
        except KeyboardInterrupt:
            # The second Ctrl-C, or one before the trials began: exit at once, without a report.
            print(f"interrupted: completed work is kept; continue with: {resume}")
            return INTERRUPTED
    return _close(setup, record, resume, write_report)


def _close(
    setup: RunSetup, record: RunRecord, resume: str, write_report: Callable[[Path], Path]
) -> int:
    """Write the report, say how the run ended, and return the exit code."""
    plan = setup.plan
    unfinished = record.planned().keys() - record.done()
    best = choose_planned(record)
    missing = [cell for cell in plan.cells if cell.cell_id not in best]
    report = write_report(setup.folder)
    schedule = RepeatSchedule(setup.config, plan, setup.subsets, record)
    # An interrupt may have come before what the last results made due was planned.
    left = len(unfinished) or len(schedule.take_due())
    for sentence in summarize_repeats(schedule, record, resume):
        print(sentence)
    if left:
        trials = "1 trial is" if left == 1 else f"{left} trials are"
        print(f"interrupted: {trials} left; continue with: {resume}")
    elif missing:
        print(f"{len(missing)} of {len(plan.cells)} cells have no result; the report says why")
    entire = extend_plan(plan, [spec for spec, _ in schedule.known])
    if failures := summarize_failures(record, entire, f"{resume} --retry-failed"):
        print(failures)
    print(report)
    if left:
        return INTERRUPTED
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
