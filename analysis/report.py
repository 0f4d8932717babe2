"""The command line of the report: a run folder in, one offline HTML file or images out."""

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from analysis.load import load_run
from analysis.page.html import build_page
from analysis.page.images import write_charts
from sweep.cli.options import OptionParser, read_path
from sweep.cli.outcome import run_command
from sweep.cli.program import name_program
from sweep.errors import ConfigError, RunFolderError, explain_cause
from sweep.startup.namesake import refuse_namesake
from sweep.storage.atomic import replace_file
from sweep.storage.journal import JOURNAL_NAME

REPORT_NAME = "report.html"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a report, or charts; return the exit code: 0, 2 if input or output is wrong, 130
    interrupted."""

    def work() -> int:
        refuse_namesake()
        return _write(parse_arguments(arguments))

    return run_command(work, "interrupted")


def _write(options: argparse.Namespace) -> int:
    try:
        if options.charts:
            for image in write_charts(options.run, options.charts):
                print(image)
            return 0
        path = write_report(options.run, options.out)
    except OSError as error:
        raise RunFolderError(_explain(error, options)) from None
    if options.open:
        webbrowser.open(path.as_uri())
    print(path)
    return 0


def _explain(error: OSError, options: argparse.Namespace) -> str:
    reason = explain_cause(error)
    if error.filename and Path(error.filename).name == JOURNAL_NAME:
        return f"{error.filename}: cannot be read ({reason}); ask its owner for access"
    path = options.charts or options.out or options.run / REPORT_NAME
    other = "--charts" if options.charts else "--out"
    return f"{path}: cannot be written ({reason}); choose another {other}"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = OptionParser(
        name_program("analysis.report"),
        "Write a run's report: one HTML file that needs no network.",
    )
    parser.add_argument("run", type=read_path, metavar="RUN", help="a run folder: runs/quickstart")
    parser.add_argument(
        "--out", type=read_path, metavar="FILE", help=f"where to write (default: RUN/{REPORT_NAME})"
    )
    parser.add_argument(
        "--charts",
        type=read_path,
        metavar="DIR",
        help="write each chart as PNG and SVG into DIR instead",
    )
    parser.add_argument("--open", action="store_true", help="open the report in a browser")
    options = parser.parse_args(arguments)
    if options.charts and (options.out or options.open):
        other = "--out" if options.out else "--open"
        raise ConfigError(
            f"{other} has no effect with --charts, which writes no page; leave it out"
        )
    return options


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of the run in ``folder`` and return its absolute path.

    Raises RunFolderError if ``folder`` is not a run, OSError if ``out`` cannot be written.
    """
    page = build_page(load_run(folder))
    path = (out or folder / REPORT_NAME).resolve()
    with replace_file(path) as file:
        file.write(page.encode())
    return path


if __name__ == "__main__":
    sys.exit(main())
