"""The commands that are printed for later, in the spelling that the user started this one with:
``sweep run`` or ``python -m sweep.run``."""

import os
import shlex
import shutil
import sys
from pathlib import Path

# The console script, and its name for ``python -m``.
SCRIPT, MODULE = "sweep", "sweep"
# Each program's module, and its subcommand of ``sweep``.
SUBCOMMANDS = {
    "sweep.drafting": "init",
    "sweep.run": "run",
    "sweep.export": "export",
    "sweep.prediction": "predict",
    "analysis.report": "report",
}

_MAIN = Path(__file__).resolve().parent.parent / "__main__.py"


def name_program(module: str, subcommand: str | None = None) -> str:
    """Return what usage and help call the program ``module``."""
    if _is_script() or _is_main():
        start = SCRIPT if _is_script() else f"python -m {MODULE}"
        return f"{start} {subcommand or SUBCOMMANDS[module]}"
    return f"python -m {module}"


def spell_program(module: str) -> list[str]:
    """Return the words that start ``module`` from a shell in this process's folder."""
    if _is_script():
        return [_find_script(), SUBCOMMANDS[module]]
    if _is_main():
        return [_find_python(), "-m", MODULE, SUBCOMMANDS[module]]
    return [_find_python(), "-m", module]


def format_command(module: str, *arguments: str) -> str:
    """Return a command that starts ``module``, quoted for a shell."""
    return shlex.join([*spell_program(module), *arguments])


def format_own_command() -> str:
    """Return the command that started this sweep, quoted for a shell."""
    if _is_script():
        return shlex.join([SCRIPT, *sys.argv[1:]])
    return shlex.join(["python", "-m", MODULE if _is_main() else "sweep.run", *sys.argv[1:]])


def _is_script() -> bool:
    return Path(sys.argv[0]).name == SCRIPT


def _is_main() -> bool:
    return Path(sys.argv[0]).name == _MAIN.name and Path(sys.argv[0]).resolve() == _MAIN


def _find_script() -> str:
    """Return the shortest name by which the shell finds this console script."""
    script = Path(sys.argv[0]).absolute()
    found = shutil.which(SCRIPT)
    return SCRIPT if found and Path(found).absolute() == script else _shorten(str(script))


def _find_python() -> str:
    """Return the shortest name by which the shell finds this interpreter."""
    for name in ("python", "python3"):
        found = shutil.which(name)
        # Links are not resolved: a virtual environment is recognized by its link.
        if found and Path(found).absolute() == Path(sys.executable).absolute():
            return name
    return _shorten(sys.executable)


def _shorten(path: str) -> str:
    here = os.path.relpath(path)
    return here if not here.startswith("..") else path
