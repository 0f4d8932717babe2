"""Checks that import a large library run in a process of their own, which may crash or hang."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from sweep.doctor.packages import format_pip
from sweep.errors import Finding, shorten

# An import takes ten seconds, and several times as long from a cold disk or on a busy machine.
MOST_SECONDS = 120.0
PACKAGES = {"torch": ("torch", "transformers", "peft"), "ray": ("ray[tune]",)}
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}


def ask(library: str, arguments: Sequence[str] = ()) -> list[Finding]:
    """Return the findings of ``sweep.doctor.<library>_check``, or that it failed."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | QUIET | {"PYTHONPATH": os.pathsep.join(paths)}
    try:
        done = subprocess.run(
            # -P: files in the user's folder must not shadow the libraries.
            [sys.executable, "-P", "-m", f"sweep.doctor.{library}_check", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=MOST_SECONDS,
            check=False,
        )
        if done.returncode == 0:
            # Libraries may print too; the findings are the last line.
            return [Finding(**each) for each in json.loads(done.stdout.splitlines()[-1])]
        reason = _explain_end(done)
    except subprocess.TimeoutExpired:
        reason = f"it does not end within {MOST_SECONDS:g} s"
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = shorten(error, 200)
    again = format_pip("install", "--force-reinstall", *PACKAGES[library])
    sentence = f"cannot be imported or used ({reason}); to install the packages again, run {again}"
    return [Finding("error", library, sentence)]


def tell(findings: Iterable[Finding]) -> None:
    """Print ``findings`` for ``ask`` on one line."""
    print(json.dumps([asdict(each) for each in findings]))


def _explain_end(done: "subprocess.CompletedProcess[str]") -> str:
    if done.returncode < 0:
        return f"ended by {signal.Signals(-done.returncode).name}"
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return shorten(lines[-1], 200)
