"""Folders that libraries write to unasked: found for a user who has no home, or whose home or
temporary folder cannot be written, as in a container that gives its user a random number."""

import os
import pwd
import tempfile
from pathlib import Path

from sweep.errors import ConfigError

# As Docker sets it for a user that its image does not know.
NO_HOME = "/"
USER_VARIABLES = ("LOGNAME", "USER", "LNAME", "USERNAME")

_notes: dict[str, str] = {}


def settle_home(out: Path) -> None:
    """Set HOME, USER, TMPDIR and HF_HOME where what they say, or leave open, cannot be used.

    What is fetched from the Hub then goes below ``out``. Has to run before the libraries are
    imported, which read these variables once. Raises ConfigError if no temporary folder can be
    written.
    """
    _notes.clear()
    settle_user()
    _settle_temporary_folder()
    _settle_hub_cache(out.absolute() / ".cache" / "huggingface")


def list_home_notes() -> list[str]:
    """Return what a user of the Hub should know of the folder that ``settle_home`` chose."""
    return list(_notes.values())


def list_own_settings() -> frozenset[str]:
    """Return the variables of the Hub that ``settle_home`` has set: they hold here, not on the
    nodes of a cluster that is already running."""
    return frozenset(_notes)


def settle_user() -> None:
    """Give a user without a name and a home in the system's books both: Ray and altair ask for a
    home as they are imported."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("HOME", NO_HOME)
        if not any(os.environ.get(name) for name in USER_VARIABLES):
            os.environ["USER"] = f"uid{os.getuid()}"


def _settle_temporary_folder() -> None:
    # What Ray takes; Python itself looks further.
    wanted = os.environ.get("TMPDIR") or "/tmp"
    if not can_be_written(Path(wanted)) or not Path(wanted).is_dir():
        try:
            os.environ["TMPDIR"] = tempfile.gettempdir()
        except FileNotFoundError:
            raise ConfigError(
                f"the temporary folder {wanted} cannot be written; set TMPDIR to one that can"
            ) from None


def _settle_hub_cache(instead: Path) -> None:
    told = os.environ.get("HF_HOME")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = Path(told).expanduser() if told else Path(cache).expanduser() / "huggingface"
    if can_be_written(home):
        return
    if told or home.is_dir():
        # What is in this cache is used. Only code that comes with a model is copied before it runs.
        os.environ.setdefault("HF_MODULES_CACHE", str(instead / "modules"))
        return
    os.environ["HF_HOME"] = str(instead)
    _notes["HF_HOME"] = (
        f"{home} cannot be made: what comes from the Hugging Face Hub is kept in {instead}; set "
        "HF_HOME to have it elsewhere"
    )


def can_be_written(folder: Path) -> bool:
    """Return whether ``folder`` is, or can be made, a folder that takes files."""
    while not folder.exists():
        folder = folder.parent
    effective = os.access in os.supports_effective_ids
    # Of the user that files are opened as: capabilities count, as they do then.
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK, effective_ids=effective)
