"""The command ``sweep configs``: lists the studies that come with the package, and copies one."""

import argparse
import difflib
from collections.abc import Sequence
from pathlib import Path

from sweep.cli.options import OptionParser, read_path
from sweep.cli.outcome import run_command
from sweep.config import copy_shipped, describe_shipped, list_shipped
from sweep.errors import ConfigError, format_choices, format_value

DESCRIPTION = """\
List the studies that come with this package, or copy one to start from. `sweep run NAME` runs one
as it is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0, 2 if the input is wrong, 130 interrupted."""
    return run_command(lambda: _list_or_copy(_build_parser().parse_args(arguments)), "interrupted")


def _list_or_copy(options: argparse.Namespace) -> int:
    if options.name is None:
        if options.out:
            raise ConfigError("--out needs a NAME too: the study to copy")
        print("\n".join(_list_lines()))
        return 0
    path = _find(options.name)
    target = options.out or Path(path.name)
    copy_shipped(path, target)
    print(target)
    return 0


def _build_parser() -> OptionParser:
    parser = OptionParser("sweep configs", DESCRIPTION)
    parser.add_argument("name", nargs="?", metavar="NAME", help="the study to copy")
    parser.add_argument(
        "--out", type=read_path, metavar="FILE", help="a new file (default: NAME.yaml)"
    )
    return parser


def _list_lines() -> list[str]:
    shipped = list_shipped()
    width = max(map(len, shipped))
    return [f"{name:{width}}  {describe_shipped(path)}" for name, path in shipped.items()]


def _find(name: str) -> Path:
    shipped = list_shipped()
    path = shipped.get(name.removesuffix(".yaml"))
    if path is None:
        near = difflib.get_close_matches(name, shipped, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {format_choices(shipped)}"
        raise ConfigError(f"{format_value(name)} is no study of this package; {hint}")
    return path
