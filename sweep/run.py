"""The command line: plan a sweep, run it, resume it, and write its report."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweep.config import Config, check_name, load_config
from sweep.data import load_corpus
from sweep.errors import ConfigError, SweepError
from sweep.journal import JOURNAL_NAME, Journal, read_events
from sweep.plan import Plan, build_plan, list_plan, plan_to_dict
from sweep.revisions import resolve_revision
from sweep.runfolder import CONFIG_NAME, open_run_folder, save_config
from sweep.subsets import Subsets
from sweep.tables import RunRecord, choose_best, sort_events

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
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change one key, e.g. train.batch_size=8 or grid.models.0.path=/models/x; repeatable",
    )
    add("--dry-run", action="store_true", help="print the plan and train nothing")
    add("--json", action="store_true", help="with --dry-run: print the plan as one JSON object")
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
        return _run(options)
    except SweepError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    if options.json and not options.dry_run:
        raise ConfigError("--json goes with --dry-run; add it")
    config = _read_config(options)
    subsets = build_subsets(config)
    revisions = {model.name: resolve_revision(model) for model in config.grid.models}
    plan = build_plan(config, subsets, revisions)
    folder = options.out / config.name
    if options.dry_run:
        _print_plan(plan, _find_done(folder), options.json)
        return 0
    return _train(config, plan, subsets, options)


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


def build_subsets(config: Config) -> Subsets:
    """Load the corpus and return the subsets that it can give."""
    data = config.data
    return Subsets(
        load_corpus(data), data.exclude_labels, data.label_order, data.max_eval_per_label
    )


def _find_done(folder: Path) -> frozenset[str]:
    if not (folder / JOURNAL_NAME).is_file():
        return frozenset()
    return sort_events(read_events(folder)).done()


def _print_plan(plan: Plan, done: frozenset[str], as_json: bool) -> None:
    print(json.dumps(plan_to_dict(plan, done)) if as_json else list_plan(plan, done))


def _train(config: Config, plan: Plan, subsets: Subsets, options: argparse.Namespace) -> int:
    folder = open_run_folder(options.out, config.name, options.resume)
    with Journal(folder) as journal:
        save_config(folder, config)
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        # These import Ray and are slow: planning must not wait for them.
        from rich.console import Console

        from sweep.driver import run_plan

        console = Console()
        console.print(f"run folder: {folder}", highlight=False, soft_wrap=True)
        record = run_plan(config, plan, subsets, folder, journal, options.address, console)
    return _close(plan, record, folder, _resume_command(options, config))


def _resume_command(options: argparse.Namespace, config: Config) -> str:
    out = "" if options.out == Path("runs") else f" --out {options.out}"
    return f"python -m sweep.run --name {config.name}{out} --resume"


def _close(plan: Plan, record: RunRecord, folder: Path, resume: str) -> int:
    """Write the report, say how the run ended, and return the exit code."""
    from analysis.report import write_report

    unfinished = [spec for spec in plan.trials if spec.trial_id not in record.done()]
    best: dict[str, Any] = choose_best(record)
    missing = [cell for cell in plan.cells if cell.cell_id not in best]
    report = write_report(folder)
    if unfinished:
        print(f"interrupted: {len(unfinished)} trials are left; go on with: {resume}")
    elif missing:
        print(f"{len(missing)} of {len(plan.cells)} cells have no result; the report says why")
    print(report)
    if unfinished:
        return 130
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
