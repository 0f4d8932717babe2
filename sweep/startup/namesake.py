"""The distribution ``sweep`` on PyPI is another project, which has the import name of this package
too. Installed in one folder, the files of one lie over those of the other."""

import os
import shlex
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from sweep.errors import ConfigError

# This project's name among distributions.
DISTRIBUTION = "textsweep"
NAMESAKE = "sweep"
# How pyproject.toml describes this one.
SUMMARY = "Which language model to fine-tune"


def refuse_namesake() -> None:
    """Raise ConfigError if files of the other project lie among those of this package."""
    try:
        other = distribution(NAMESAKE)
    except PackageNotFoundError:
        return
    # This project, as it was installed before it had a name of its own.
    if (other.metadata["Summary"] or "").startswith(SUMMARY):
        return
    if not _owns(other, Path(__file__).resolve().parents[1] / "__init__.py"):
        return
    pip = shlex.join([sys.executable, "-m", "pip"])
    raise ConfigError(
        f"another project, {NAMESAKE} {other.version} of PyPI, is installed in the folder of this "
        f"one, and files of one lie over the other's; run {pip} uninstall --yes {NAMESAKE} "
        f"{DISTRIBUTION}, and install {DISTRIBUTION} again"
    )


def _owns(other: Distribution, file: Path) -> bool:
    """Return whether ``file`` is listed among the files of ``other``."""
    listed = [each for each in other.files or () if each.parts == (NAMESAKE, "__init__.py")]
    return any(os.path.realpath(str(other.locate_file(each))) == str(file) for each in listed)
