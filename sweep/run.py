"""The command line: plan a sweep, run it, resume it, and write its report."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sweep.config import Config, check_name, load_config
from sweep.environment import check_ray, check_tracker_packages
from sweep.errors import ConfigError, SweepError
from sweep.failed_baselines import summarize_failures
from sweep.findings import Finding
from sweep.home import settle_home
from sweep.interrupts import one_way_to_stop
from sweep.journal import JOURNAL_NAME, Journal, read_events
from sweep.launched import expect_machine, read_launched
from sweep.machine import inspect_machine
from sweep.outline import list_outline, outline_to_dict
from sweep.plan import Plan, build_plan, draw_candidates, list_plan, plan_to_dict
from sweep.preflight import Preflight, check_plan, show_preflight, show_warnings
from sweep.reach import KnownSubsets, Reached, reach_inputs
from sweep.record import RunRecord, choose_best, sort_events
from sweep.reporting import load_report
from sweep.runfolder import CONFIG_NAME, open_run_folder, save_config
from sweep.subsets import Subsets

DEFAULT_CONFIG = Path(__file__).resolve().parent.parent / "sweep_configs" / "quickstart.yaml"

DESCRIPTION = """\
Fine-tune every model of a grid on balanced subsets of a corpus, tune rank and learning rate in
each cell, and report which model to choose."""

EPILOG = """\
examples:
  python -m sweep.run                                   the quickstart: 48 cells, no download
  python -m sweep.run sweep_configs/goemotions.yaml --dry-run
  python -m sweep.run my.yaml --set train.batch_size=8 --set grid.n_labels=[2,4]
  python -m sweep.run --name quickstart --resume        go on after an interruption
  python -m sweep.run --attach runs/quickstart          watch it from another terminal

exit codes: 0 every cell has a result; 1 some cell has none; 2 wrong input; 130 interrupted"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m sweep.run``."""
    parser = argparse.ArgumentParser(
        prog="python -m sweep.run",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "config",
        nargs="?",
        type=Path,
        metavar="CONFIG",
        help="YAML file; left out: sweep_configs/quickstart.yaml, or the run's own with --resume",
    )
    add("--name", help="name of the run; left out: the configuration's")
    add(
        "--out",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="folder of run folders (default: runs); the run's is DIR/NAME",
    )
    add("--resume", action="store_true", help="go on with DIR/NAME; only what is missing runs")
    add(
        "--retry-failed",
        action="store_true",
        help="with --resume: run trials and baselines anew whose status is failed or oom",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change one key, e.g. train.batch_size=8 or grid.models.0.path=/models/x; repeatable",
    )
    add("--dry-run", action="store_true", help="print the plan and the preflight, train nothing")
    add("--json", action="store_true", help="with --dry-run: print one JSON object")
    add(
        "--attach",
        type=Path,
        metavar="RUN",
        help="show the progress of the sweep that runs in this run folder, e.g. runs/quickstart",
    )
    add(
        "--address",
        metavar="ADDR",
        help="a running Ray cluster, e.g. auto; left out: one on this machine",
    )
    return parser  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    options = build_parser().parse_args(arguments)
    try:
        with one_way_to_stop():
            return _run(options)
    except SweepError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    settle_home(options.out)
    if options.attach:
        return _attach(options)
    if options.json and not options.dry_run:
        raise ConfigError("--json goes with --dry-run; add it")
    if options.retry_failed and not options.resume:
        raise ConfigError("--retry-failed goes with --resume; add it")
    config = _read_config(options)
    check_ray()
    check_tracker_packages(config.trackers)
    reached = reach_inputs(config)
    plan = _build_plan(config, reached)
    folder = options.out / config.name
    done = _find_done(folder)
    # Where another machine trains, this one's processors and memory say nothing.
    remote = (options.address or os.environ.get("RAY_ADDRESS") or "local") != "local"
    machine = None if remote else inspect_machine()
    launched = read_launched() if remote else None
    expected = expect_machine(launched) if launched else None
    preflight = check_plan(config, reached, plan, done, folder, machine, expected)
    if options.dry_run:
        _print_plan(config, plan, preflight, done, options.json)
        return 2 if preflight.errors() else 0
    if plan is None or reached.subsets is None or preflight.errors():
        raise SweepError(_choose_error(preflight.errors(), reached).sentence)
    return _train(config, plan, reached.subsets, preflight, options)


def _attach(options: argparse.Namespace) -> int:
    if options.config or options.resume or options.dry_run or options.overrides:
        raise ConfigError("--attach goes alone: it watches a sweep and starts none; leave it out")
    from rich.console import Console

    from sweep.attach import attach

    return attach(options.attach.expanduser().absolute(), Console())


def _build_plan(config: Config, reached: Reached) -> Plan | None:
    """Return the plan, or None if data or models are missing."""
    draw_candidates(config)
    if reached.subsets is None or len(reached.models) < len(config.grid.models):
        return None
    revisions = {name: found.revision for name, found in reached.models.items()}
    return build_plan(config, KnownSubsets(reached.subsets), revisions)


def _choose_error(errors: list[Finding], reached: Reached) -> Finding:
    return reached.findings[0] if reached.findings else errors[0]


def _read_config(options: argparse.Namespace) -> Config:
    """Return the configuration: the file that is named, or the resumed run's own."""
    path = options.config
    if path is None and options.resume and options.name:
        path = options.out / _check_option_name(options.name) / CONFIG_NAME
    overrides = list(options.overrides)
    if options.name:
        overrides.append(f"name={json.dumps(_check_option_name(options.name))}")
    return load_config(path or DEFAULT_CONFIG, overrides)


def _check_option_name(name: str) -> str:
    try:
        return check_name(name)
    except ValueError as error:
        raise ConfigError(f"--name: {error}") from None


def _find_done(folder: Path) -> frozenset[str]:
    if not (folder / JOURNAL_NAME).is_file():
        return frozenset()
    return sort_events(read_events(folder)).done()


def _print_plan(
    config: Config,
    plan: Plan | None,
    preflight: Preflight,
    done: frozenset[str],
    as_json: bool,
) -> None:
    if as_json:
        tree = plan_to_dict(plan, done) if plan else outline_to_dict(config)
        print(json.dumps(tree | {"preflight": preflight.to_dict()}))
        return
    print(list_plan(plan, done) if plan else list_outline(config))
    print()
    print(show_preflight(preflight))


def _train(
    config: Config,
    plan: Plan,
    subsets: Subsets,
    preflight: Preflight,
    options: argparse.Namespace,
) -> int:
    write_report = load_report()
    folder = open_run_folder(options.out, config.name, options.resume)
    if not options.resume:
        # Before the journal: whenever this process is killed, --resume finds the configuration.
        save_config(folder, config)
    with Journal(folder) as journal:
        if options.resume:
            save_config(folder, config)
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        # These import Ray and are slow: planning must not wait for them.
        from rich.console import Console

        from sweep.driver import run_plan

        console = Console()
        lines = [f"run folder: {folder}", *show_warnings(preflight)]
        if journal.dropped_bytes:
            lines.append(
                f"{journal.path}: the last line was cut short when its driver ended, and is "
                f"left out ({journal.dropped_bytes} bytes); what it told is done again"
            )
        for line in lines:
            console.print(line, highlight=False, soft_wrap=True, markup=False)
        resume = _resume_command(options, config)
        try:
            record = run_plan(
                config,
                plan,
                subsets,
                folder,
                journal,
                options.address,
                console,
                predicted=preflight.predicted(),
                retry_failed=options.retry_failed,
            )
        except KeyboardInterrupt:
            # The second Ctrl-C, or one before the trials began: no report, at once.
            print(f"interrupted: what is done is kept; go on with: {resume}")
            return 130
    return _close(plan, record, folder, resume, write_report)


def _resume_command(options: argparse.Namespace, config: Config) -> str:
    out = "" if options.out == Path("runs") else f" --out {options.out}"
    return f"python -m sweep.run --name {config.name}{out} --resume"


def _close(
    plan: Plan,
    record: RunRecord,
    folder: Path,
    resume: str,
    write_report: Callable[[Path], Path],
) -> int:
    """Write the report, say how the run ended, and return the exit code."""
    unfinished = [spec for spec in plan.trials if spec.trial_id not in record.done()]
    best: dict[str, Any] = choose_best(record)
    missing = [cell for cell in plan.cells if cell.cell_id not in best]
    report = write_report(folder)
    if unfinished:
        print(f"interrupted: {len(unfinished)} trials are left; go on with: {resume}")
    elif missing:
        print(f"{len(missing)} of {len(plan.cells)} cells have no result; the report says why")
    if told := summarize_failures(record, plan, f"{resume} --retry-failed"):
        print(told)
    print(report)
    if unfinished:
        return 130
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
