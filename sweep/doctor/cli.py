"""The command ``sweep doctor``: what is fine here, what is not, and what to do about it."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from sweep import __version__
from sweep.cli.options import OptionParser, read_path
from sweep.cli.outcome import run_command
from sweep.doctor.examination import examine_machine
from sweep.errors import Finding, format_line

DESCRIPTION = """\
Check what a run needs: Python, packages, torch and its devices, Ray, memory, disk, the Hugging
Face Hub. One line for each, with a remedy where something is wrong. Nothing is changed."""

EPILOG = """\
exit codes: 0 nothing is wrong (there may be warnings); 1 something is; 2 wrong input;
130 interrupted"""

WORDS = {"note": "ok", "warning": "warning", "error": "error"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return run_command(lambda: _examine(_build_parser().parse_args(arguments)), "interrupted")


def _examine(options: argparse.Namespace) -> int:
    findings = examine_machine(options.out, options.address)
    wrong = any(finding.level == "error" for finding in findings)
    print(_format_json(findings, wrong) if options.json else "\n".join(map(_format, findings)))
    return 1 if wrong else 0


def _build_parser() -> OptionParser:
    parser = OptionParser("sweep doctor", DESCRIPTION, EPILOG)
    parser.add_argument(
        "--out",
        type=read_path,
        default=Path("runs"),
        metavar="DIR",
        help="where run folders will be (default: runs)",
    )
    parser.add_argument("--address", metavar="ADDR", help="the Ray cluster that a run will join")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _format(finding: Finding) -> str:
    return format_line(f"{WORDS[finding.level]:8}{finding.key}: {finding.sentence}")


def _format_json(findings: Sequence[Finding], wrong: bool) -> str:
    tree = {
        "version": __version__,
        "ok": not wrong,
        "findings": [
            {"key": each.key, "level": WORDS[each.level], "sentence": format_line(each.sentence)}
            for each in findings
        ],
    }
    return json.dumps(tree)
