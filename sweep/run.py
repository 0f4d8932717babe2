"""The command line: plan a sweep, run it, resume it, and write its report."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sweep import api
from sweep.cli.outcome import INTERRUPTED, run_command
from sweep.cli.run_options import (
    build_parser,
    check_option_name,
    check_options,
    format_resume_command,
)
from sweep.config import DEFAULT_CONFIG, Config, find_config, load_config
from sweep.errors import ConfigError, RunBusyError, RunFolderError
from sweep.preflight.paths import make_absolute
from sweep.signals import term_as_interrupt
from sweep.startup.home import settle_home
from sweep.startup.namesake import refuse_namesake
from sweep.storage.journal import JOURNAL_NAME, is_held
from sweep.storage.run_folder import (
    CONFIG_NAME,
    check_run,
    holds_run,
)

# Seconds between two checks whether another driver has ended.
BUSY_POLL_SECONDS = 2.0


def main(arguments: Sequence[str] | None = None, command: str = "run") -> int:
    """Run the command line of ``run``, ``plan`` or ``attach``; return its exit code."""

    def work() -> int:
        refuse_namesake()
        options = build_parser(command).parse_args(arguments)
        with term_as_interrupt():
            return _run_in_turn(options)

    return run_command(work, "interrupted")


def _run_in_turn(options: argparse.Namespace) -> int:
    """Run what ``options`` say; if another driver has the run, do what ``--busy`` says."""
    check_options(options)
    settle_home(options.out)
    if options.attach:
        return api.attach_run(options.attach).exit_code
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
    if options.resume:
        check_run(options.out / config.name)
    planned = api.plan_study(config, options.out, options.address, options.retry_failed)
    if options.dry_run:
        if not options.resume:
            api.note_obstacle(planned)
        print(json.dumps(planned.to_dict()) if options.json else planned.to_text())
        return 2 if planned.errors else 0
    resume = None if options.auto_resume else options.resume
    command = format_resume_command(config.name, options.out, options.address)
    try:
        finished = api.run_study(planned, resume, resume_command=command)
    except KeyboardInterrupt:
        # The second Ctrl-C, or one before the trials began: exit at once, without a report.
        print(f"interrupted: completed work is kept; continue with: {command}")
        return INTERRUPTED
    for line in (*finished.sentences, finished.report):
        print(line)
    return finished.exit_code


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


if __name__ == "__main__":
    sys.exit(main())
