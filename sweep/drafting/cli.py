"""The command line that drafts a study."""

import argparse
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sweep.cli.options import OptionParser, read_path
from sweep.cli.outcome import run_command
from sweep.cli.program import name_program
from sweep.drafting.study_file import Request, draft_study
from sweep.startup.home import settle_home

DESCRIPTION = """\
Look at DATA and at this machine, and write a commented configuration of a study that fits the
budget: labels, sample sizes, models, what is tuned. DATA is a file, a folder, a ZIP archive or a
pattern."""

EPILOG = """\
examples:
  sweep init reviews.csv
  sweep init data/ --budget 8h --out tickets.yaml
  sweep init posts.tsv --text-column title --text-column body --label-column topic
  sweep init reviews.csv --model models/minilm --model Qwen/Qwen2.5-0.5B

exit codes: 0 the file is written; 2 wrong input, or a budget that is too short; 130 interrupted"""


def build_parser() -> OptionParser:
    parser = OptionParser(name_program("sweep.drafting"), DESCRIPTION, EPILOG)
    add = parser.add_argument
    add("data", metavar="DATA", help="the texts and their labels")
    add("--budget", default="1h", metavar="TIME", help="e.g. 30m, 1h, 1.5h or 2d (1h)")
    add(
        "--out",
        type=read_path,
        default=Path("study.yaml"),
        metavar="YAML",
        help="a new file (study.yaml)",
    )
    add(
        "--model",
        action="append",
        default=[],
        metavar="MODEL",
        dest="models",
        help="a folder or OWNER/NAME on the Hub, instead of well-known small models; repeatable",
    )
    add(
        "--text-column",
        action="append",
        metavar="NAME",
        help="the column with the texts; again for each to be joined (found by name or content)",
    )
    add("--label-column", metavar="NAME", help="the column with the labels (likewise)")
    add(
        "--set",
        action="append",
        default=[],
        metavar="data.KEY=VALUE",
        dest="overrides",
        help="how to read the data, e.g. data.delimiter=tab or data.exclude_labels=[other]",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return run_command(
        lambda: _draft(build_parser().parse_args(arguments)), "interrupted: nothing is written"
    )


def _draft(options: argparse.Namespace) -> int:
    settle_home(options.out.parent)
    request = Request(
        data=options.data,
        budget=options.budget,
        out=options.out,
        models=options.models,
        text_columns=options.text_column or [],
        label_column=options.label_column,
        overrides=options.overrides,
    )
    draft_study(request, partial(print, flush=True))
    name = shlex.quote(str(options.out))
    print(f"written: {options.out}\nnext: sweep plan {name}, then: sweep run {name}")
    return 0
