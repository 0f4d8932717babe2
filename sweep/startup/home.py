"""Writable folders for libraries that need some, for a user without a home, or whose home or
temporary folder is not writable, as in a container that gives its user a random id."""

import os
import pwd
import tempfile
from pathlib import Path

from sweep.errors import ConfigError

# What Docker sets for a user unknown to the image.
NO_HOME = "/"
USER_VARIABLES = ("LOGNAME", "USER", "LNAME", "USERNAME")

_notes: dict[str, str] = {}


def settle_home(out: Path) -> None:
    """Set HOME, USER, TMPDIR and HF_HOME where the current values or the defaults cannot be used.

    Downloads from the Hub then go below ``out``. Call this before importing the libraries, which
    read these variables only once. Raises ConfigError if there is no writable temporary folder.
    """
    _notes.clear()
    settle_user()
    _settle_temporary_folder()
    _settle_hub_cache(out.absolute() / ".cache" / "huggingface")


def list_home_notes() -> list[str]:
    """Return sentences about the folders that ``settle_home`` chose for the Hub."""
    return list(_notes.values())


def list_own_variables() -> frozenset[str]:
    """Return the names of the Hub's variables that ``settle_home`` set. They are right for this
    machine, but not for the nodes of a cluster that is already running."""
    return frozenset(_notes)


def settle_user() -> None:
    """Give a user unknown to the system a name and a home: Ray and altair need a home on import."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("HOME", NO_HOME)
        if not any(os.environ.get(name) for name in USER_VARIABLES):
            os.environ["USER"] = f"uid{os.getuid()}"


def _settle_temporary_folder() -> None:
    # As in Ray; Python itself would try other folders too.
    wanted = os.environ.get("TMPDIR") or "/tmp"
    if not is_writable(Path(wanted)) or not Path(wanted).is_dir():
        try:
            os.environ["TMPDIR"] = tempfile.gettempdir()
        except FileNotFoundError:
            raise ConfigError(
                f"the temporary folder {wanted} is not writable; set TMPDIR to one that is"
            ) from None


def _settle_hub_cache(instead: Path) -> None:
    configured = os.environ.get("HF_HOME")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = Path(configured).expanduser() if configured else Path(cache).expanduser() / "huggingface"
    if is_writable(home):
        return
    if configured or home.is_dir():
        # The cache can still be read. Only code that comes with a model is copied before it runs.
        os.environ.setdefault("HF_MODULES_CACHE", str(instead / "modules"))
        return
    os.environ["HF_HOME"] = str(instead)
    _notes["HF_HOME"] = (
        f"{home} cannot be created: downloads from the Hugging Face Hub are kept in {instead}; set "
        "HF_HOME to keep them elsewhere"
    )


def is_writable(folder: Path) -> bool:
    """Return whether ``folder`` is a writable folder, or can be created as one."""
    while not folder.exists():
        folder = folder.parent
    effective = os.access in os.supports_effective_ids
    # For the effective user, as when files are opened: capabilities count.
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK, effective_ids=effective)
