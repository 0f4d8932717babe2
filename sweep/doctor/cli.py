"""The command ``sweep doctor``: what is fine here, what is not, and what to do about it."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from sweep import __version__
from sweep.cli.options import OptionParser, read_path
from sweep.cli.run_options import check_address
from sweep.doctor.children import ask
from sweep.doctor.hub import check_hub
from sweep.doctor.machine import check_machine
from sweep.doctor.packages import check_packages, check_ray_version
from sweep.errors import Finding, SweepError, format_error, format_line
from sweep.startup.home import settle_home
from sweep.startup.namesake import DISTRIBUTION
from sweep.startup.streams import steady_streams

DESCRIPTION = """\
Check what a run needs: Python, packages, torch and its devices, Ray, memory, disk, the Hugging
Face Hub. One line for each, with a remedy where something is wrong. Nothing is changed."""

EPILOG = "exit codes: 0 nothing is wrong (there may be warnings); 1 something is; 2 wrong input"

WORDS = {"note": "ok", "warning": "warning", "error": "error"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    steady_streams()
    try:
        options = _build_parser().parse_args(arguments)
        check_address(options.address)
        findings = examine(options.out, options.address)
    except SweepError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
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


def examine(out: Path, address: str | None) -> list[Finding]:
    """Return the findings of all checks, in a fixed order; run folders will be in ``out``."""
    findings = _attempt("disk", partial(_settle, out))
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("machine", partial(check_machine, out)),
        ("packages", check_packages),
        ("torch", partial(ask, "torch")),
        ("ray", check_ray_version),
        ("ray", partial(ask, "ray", [address] if address else [])),
        ("report", _check_report),
        ("hub", check_hub),
    ]
    with ThreadPoolExecutor(len(checks)) as pool:
        parts = pool.map(lambda check: _attempt(*check), checks)
        return [*findings, *(finding for part in parts for finding in part)]


def _settle(out: Path) -> list[Finding]:
    settle_home(out)
    return []


def _check_report() -> list[Finding]:
    """Return an error if the packages that a report needs cannot be imported."""
    from sweep.display.reporting import load_report

    load_report()
    return []


def _attempt(key: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return what ``check`` finds; an error of its own is a finding too."""
    try:
        return list(check())
    except SweepError as error:
        return [Finding("error", key, str(error))]
    except Exception as error:  # whatever a broken package raises
        sentence = f"cannot be checked ({format_error(error)}); install {DISTRIBUTION} again"
        return [Finding("error", key, sentence)]


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
