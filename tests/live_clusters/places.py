"""Whether the hosts of the cluster test would see this checkout and its Python: each host puts
folders of its own over some places. `make cluster-test` asks first; runs before anything is
installed, so it imports nothing of the project."""

import sys
from pathlib import Path

COVERED = ("/tmp", "/run", "/dev/shm", "/mnt/sweep")
"""What ``namespaces.INIT`` covers at last; Python and its environment are put back only under
/root."""
REMEDY = "clone the repository elsewhere, say to /opt/sweep, and run it there"


def explain_cover(repo: Path, environment: Path, interpreter: Path) -> str:
    """Return the sentence about the first of these paths that a host would not see; empty if it
    sees all."""
    python = "remove .venv, and name another with 'make cluster-test PYTHON=/usr/bin/python3'"
    asked = [
        ("the checkout", repo, ("/root", *COVERED), REMEDY),
        ("the environment", environment, COVERED, REMEDY),
        ("its Python", interpreter, COVERED, python),
    ]
    for what, named, roots, remedy in asked:
        for path in (named, named.resolve()):
            root = next((root for root in roots if path.is_relative_to(root)), None)
            if root:
                return (
                    f"cluster-test: {what} {path} lies below {root}, over which the test's hosts "
                    f"put a folder of their own; {remedy}"
                )
    return ""


def find_places() -> tuple[Path, Path, Path]:
    """Return the checkout, its environment and the Python behind that."""
    repo = Path(__file__).resolve().parents[2]
    environment = repo / ".venv"
    python = environment / "bin" / "python"
    return repo, environment, python.resolve() if python.exists() else Path(sys.base_prefix)


if __name__ == "__main__":
    told = explain_cover(*find_places())
    if told:
        print(told, file=sys.stderr)
        sys.exit(2)
