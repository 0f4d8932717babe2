"""The options of ``sweep run`` (``python -m sweep.run``), ``sweep plan`` and ``sweep attach``: what
they are, which go together, and the command that resumes a run."""

import argparse
import os
import re
from pathlib import Path

from sweep.cli.options import OptionParser, read_path
from sweep.cli.program import format_command, name_program
from sweep.config import DEFAULT_CONFIG, check_name
from sweep.errors import ConfigError

DESCRIPTIONS = {
    "run": """\
Fine-tune every model of a grid on balanced subsets of a corpus, tune rank and learning rate in
each cell, and report which model to choose.""",
    "plan": """\
Print the cells, candidates and trials of a study, and what can be known before training: data and
models, memory, disk, time. Nothing is trained. The same as ``run --dry-run``.""",
    "attach": """\
Show the progress of a sweep that runs in another terminal. Ctrl-C here leaves the sweep alone.""",
}

EPILOG = """\
examples:
  {0}                                   the quickstart: 48 cells, no download
  {0} goemotions --dry-run              a study that comes with this package
  {0} my.yaml --set train.batch_size=8 --set grid.n_labels=[2,4]
  {0} --name quickstart --resume        resume after an interruption
  {0} --attach runs/quickstart          watch it from another terminal

exit codes: 0 every cell has a result; 1 some cell has none; 2 wrong input; 130 interrupted"""

ATTACH_HELP = "show the progress of the sweep running in this run folder, e.g. runs/quickstart"

# What happens if another driver has the run.
BUSY = ("refuse", "wait", "leave")

ADDRESS = re.compile(
    r"auto|local|ray://.+|(\[[0-9A-Fa-f:.%]+\]|[^\s:/@\[\]]+):(?P<port>[0-9]{1,5})"
)


def build_parser(command: str = "run") -> OptionParser:
    """Return the parser of ``run``, ``plan`` or ``attach``; all give the same attributes."""
    program = name_program("sweep.run", command)
    epilog = EPILOG.format(program) if command == "run" else None
    parser = OptionParser(program, DESCRIPTIONS[command], epilog)
    if command == "attach":
        parser.add_argument("attach", type=read_path, metavar="RUN", help=ATTACH_HELP)
        others = vars(build_parser().parse_args([])) | {"attach": None}
        parser.set_defaults(**{name: value for name, value in others.items() if name != "attach"})
        return parser
    _add_study(parser)
    if command == "plan":
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.set_defaults(dry_run=True, attach=None)
        return parser
    add = parser.add_argument
    add("--dry-run", action="store_true", help="print the plan and the preflight without training")
    add("--json", action="store_true", help="with --dry-run: print one JSON object")
    add("--attach", type=read_path, metavar="RUN", help=ATTACH_HELP)
    return parser


def _add_study(parser: OptionParser) -> None:
    """Add the options that name a study and its run."""
    add = parser.add_argument
    add(
        "config",
        nargs="?",
        type=read_path,
        metavar="CONFIG",
        help="YAML file, or the name of one that comes with this package (default: "
        f"{DEFAULT_CONFIG.stem}, or the run's own with --resume)",
    )
    add("--name", help="name of the run (default: the configuration's)")
    add(
        "--out",
        type=read_path,
        default=Path("runs"),
        metavar="DIR",
        help="folder for run folders (default: runs); this run's is DIR/NAME",
    )
    add("--resume", action="store_true", help="continue DIR/NAME; only what is missing runs")
    add(
        "--auto-resume",
        action="store_true",
        help="start the run or, if it exists, continue it: the same command any number of times; "
        "refused if DIR/NAME holds trials of another study or other data",
    )
    add(
        "--busy",
        choices=BUSY,
        default=BUSY[0],
        help="if another sweep is running in DIR/NAME: end with an error (refuse, the default), "
        "wait for it and then continue the run, or leave it alone with exit code 0",
    )
    add(
        "--retry-failed",
        action="store_true",
        help="when a run is continued: rerun trials and baselines whose status is failed or oom",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change one key, e.g. train.batch_size=8 or grid.models.0.path=/models/x; repeatable",
    )
    add(
        "--address",
        metavar="ADDR",
        help="a running Ray cluster, e.g. auto (default: start one on this machine)",
    )


def check_options(options: argparse.Namespace) -> None:
    """Raise ConfigError if options contradict each other, or one would have no effect."""
    for flag, value in (
        ("--name", options.name),
        ("--address", options.address),
        ("--attach", options.attach and str(options.attach)),
    ):
        if value is not None and not value.strip():
            raise ConfigError(f"{flag} is empty; give a value, or leave it out")
    if options.attach:
        _check_attach(options)
    else:
        check_address(options.address)
    if options.json and not options.dry_run:
        raise ConfigError("--json requires --dry-run; add it")
    if options.retry_failed and not (options.resume or options.auto_resume):
        raise ConfigError("--retry-failed requires --resume; add it")
    if options.resume and options.auto_resume:
        raise ConfigError(
            "--resume and --auto-resume exclude each other: the first needs a run, the second "
            "starts one if there is none; keep one"
        )
    if options.busy != BUSY[0] and options.dry_run:
        raise ConfigError("--busy has no effect on a dry run; leave it out")


def check_address(address: str | None) -> None:
    """Raise ConfigError if ``address``, or else RAY_ADDRESS, cannot be a cluster's address."""
    value = address or os.environ.get("RAY_ADDRESS") or "local"
    match = ADDRESS.fullmatch(value)
    if match and not (match["port"] and int(match["port"]) > 65_535):
        return
    given = f"--address {value}" if address else f"RAY_ADDRESS={value}"
    other = "leave --address out" if address else "unset RAY_ADDRESS"
    raise ConfigError(
        f"{given}: is not the address of a Ray cluster; write HOST:PORT, such as 10.0.0.1:6379, "
        f"or auto, or {other}"
    )


def _check_attach(options: argparse.Namespace) -> None:
    defaults = vars(build_parser().parse_args([]))
    given = [name for name, value in vars(options).items() if value != defaults[name]]
    others = [OPTION_NAMES.get(name, f"--{name.replace('_', '-')}") for name in given]
    others.remove("--attach")
    if others:
        raise ConfigError(
            f"--attach only watches a sweep, so it takes no other options; leave out {others[0]}"
        )


OPTION_NAMES = {"config": "CONFIG", "overrides": "--set"}


def format_resume_command(name: str, out: Path, address: str | None) -> str:
    """Return the command that resumes the run ``out/name``, ready to paste into a shell in the
    folder that this process was started in."""
    words = ["--name", name]
    if out != Path("runs"):
        words += ["--out", str(out)]
    if address:
        words += ["--address", address]
    return format_command("sweep.run", *words, "--resume")


def check_option_name(name: str) -> str:
    try:
        return check_name(name)
    except ValueError as error:
        raise ConfigError(f"--name: {error}") from None
