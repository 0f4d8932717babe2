"""The options of ``python -m sweep.run``: what they are, which go together, and the command that
goes on with a run."""

import argparse
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from sweep.cli.options import OptionParser, read_path
from sweep.config import check_name
from sweep.errors import ConfigError

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


ADDRESS = re.compile(
    r"auto|local|ray://.+|(\[[0-9A-Fa-f:.%]+\]|[^\s:/@\[\]]+):(?P<port>[0-9]{1,5})"
)


def build_parser() -> OptionParser:
    """Return the parser of ``python -m sweep.run``."""
    parser = OptionParser("python -m sweep.run", DESCRIPTION, EPILOG)
    add = parser.add_argument
    add(
        "config",
        nargs="?",
        type=read_path,
        metavar="CONFIG",
        help="YAML file; left out: sweep_configs/quickstart.yaml, or the run's own with --resume",
    )
    add("--name", help="name of the run; left out: the configuration's")
    add(
        "--out",
        type=read_path,
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
        type=read_path,
        metavar="RUN",
        help="show the progress of the sweep that runs in this run folder, e.g. runs/quickstart",
    )
    add(
        "--address",
        metavar="ADDR",
        help="a running Ray cluster, e.g. auto; left out: one on this machine",
    )
    return parser  # fmt: skip


def check_options(options: argparse.Namespace) -> None:
    """Raise ConfigError where options contradict one another or one would have no effect."""
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
        _check_address(options.address)
    if options.json and not options.dry_run:
        raise ConfigError("--json goes with --dry-run; add it")
    if options.retry_failed and not options.resume:
        raise ConfigError("--retry-failed goes with --resume; add it")


def _check_address(address: str | None) -> None:
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
            f"--attach goes alone: it watches a sweep and starts none; leave out {others[0]}"
        )


OPTION_NAMES = {"config": "CONFIG", "overrides": "--set"}


def format_resume_command(name: str, out: Path, address: str | None) -> str:
    """Return the command that goes on with the run ``out/name``, to be pasted into a shell in the
    folder that this process was started in."""
    words = [_find_python(), "-m", "sweep.run", "--name", name]
    if out != Path("runs"):
        words += ["--out", str(out)]
    if address:
        words += ["--address", address]
    return shlex.join([*words, "--resume"])


def _find_python() -> str:
    """Return the shortest name of this interpreter that the shell finds it by."""
    for name in ("python", "python3"):
        found = shutil.which(name)
        # Not the file behind a link: a virtual environment is known by the link.
        if found and Path(found).absolute() == Path(sys.executable).absolute():
            return name
    here = os.path.relpath(sys.executable)
    return here if not here.startswith("..") else sys.executable


def check_option_name(name: str) -> str:
    """Return ``name`` if it can be a run's; else raise ConfigError."""
    try:
        return check_name(name)
    except ValueError as error:
        raise ConfigError(f"--name: {error}") from None
