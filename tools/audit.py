"""Looks for known vulnerabilities in the installed packages.

Asks pip-audit, whose database is on the network. If that cannot be reached it says so, and only
checks the minimum versions below.
"""

import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from packaging.version import Version

# The oldest release of a package without known vulnerabilities, and which ones it fixes.
FLOORS = {
    "ray": ("2.54.0", "jobs run or deleted by others: CVE-2023-48022, CVE-2026-27482"),
    "torch": ("2.10.0", "code run by weights_only pickles: CVE-2025-32434, CVE-2026-24747"),
    "pyarrow": ("23.0.1", "code or crashes from data files: CVE-2023-47248, CVE-2026-25087"),
    "jinja2": ("3.1.6", "a way out of the template sandbox: CVE-2025-27516"),
    "pyyaml": ("5.4", "code run by the full loader: CVE-2020-14343"),
}

OFFLINE = (
    "offline: the vulnerability database could not be reached, so nothing newer than the list in "
    "tools/audit.py is known; run this again with a network connection"
)


def check_floors(installed: Callable[[str], str] = version) -> list[str]:
    """Return a sentence for each package that is older than its floor."""
    found = {name: installed(name) for name in FLOORS}
    return [
        f"{name} {found[name]}: has known vulnerabilities ({reason}); install {floor} or newer"
        for name, (floor, reason) in FLOORS.items()
        if Version(found[name]) < Version(floor)
    ]


def ask_database(command: str) -> dict[str, Any]:
    """Return pip-audit's JSON output; empty if it is not installed or fails."""
    folder = sysconfig.get_paths()["purelib"]
    words = [command, "--path", folder, "--format", "json", "--progress-spinner", "off"]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
        return dict(json.loads(answer.stdout))
    except (OSError, ValueError):
        return {}


def read_answer(answer: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return a sentence per vulnerability, and the packages that the database does not know."""
    holes, unknown = [], []
    for package in answer.get("dependencies", []):
        if "skip_reason" in package:
            unknown.append(package["name"])
        for hole in package.get("vulns", []):
            fixed = ", ".join(hole["fix_versions"]) or "no release yet"
            holes.append(f"{package['name']} {package['version']}: {hole['id']}; fixed in {fixed}")
    return holes, unknown


def main(command: str) -> int:
    answer = ask_database(command)
    holes, unknown = read_answer(answer)
    holes = check_floors() + holes
    for line in holes:
        print(line)
    audited = len(answer.get("dependencies", [])) - len(unknown)
    if not audited:
        print(OFFLINE)
        print(f"{len(FLOORS)} packages checked against the list, {len(holes)} problems")
    else:
        print(f"{audited} packages audited, {len(holes)} problems; not known to the database: "
              f"{', '.join(unknown) or 'none'}")  # fmt: skip
    return 1 if holes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
