"""The folder of a run: its files, and how it is created and opened again."""

from pathlib import Path

from sweep.config import Config, dump_config
from sweep.errors import RunFolderError
from sweep.startup.home import is_writable
from sweep.storage.atomic import replace_file
from sweep.storage.journal import JOURNAL_NAME

CONFIG_NAME = "config.yaml"
# Weights of the tiny models, written once for all trials.
MODELS_NAME = "models"


def holds_run(folder: Path) -> bool:
    """Return whether ``folder`` has the journal or the configuration of a run."""
    return any((folder / name).is_file() for name in (JOURNAL_NAME, CONFIG_NAME))


def check_run(folder: Path) -> None:
    """Raise RunFolderError if there is no run in ``folder``."""
    if not holds_run(folder):
        raise RunFolderError(
            f"{folder.absolute()}: there is no run to resume here; check --name and --out, or "
            "omit --resume to start one"
        )


def find_obstacle(folder: Path) -> str:
    """Return what prevents a new run in ``folder``, with the remedy; empty if nothing does."""
    if folder.is_dir():
        none = "" if holds_run(folder) else " (there is none here)"
        taken = f"is not empty; add --resume to continue a run{none}, or choose another --name"
        return taken if any(folder.iterdir()) else ""
    if folder.exists() or folder.is_symlink():
        return "is a file; choose another --name"
    parent = next(path for path in folder.absolute().parents if path.exists())
    if not parent.is_dir():
        return f"cannot be created ({parent} is a file); choose another --out"
    if not is_writable(parent):
        return f"cannot be created ({parent} cannot be written); choose another --out"
    return ""


def open_run_folder(out: Path, name: str, resume: bool) -> Path:
    """Return ``out/name`` as an absolute path, created if it is new.

    Raises RunFolderError if a new run's folder is not empty, or a resumed one's has neither a
    journal nor a configuration (the first file that a run writes).
    """
    folder = (out / name).absolute()
    if resume:
        check_run(folder)
        return folder
    obstacle = find_obstacle(folder)
    if obstacle:
        raise RunFolderError(f"{folder}: {obstacle}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"{folder}: cannot be created ({error.strerror}); choose another --out"
        ) from None
    return folder


def save_config(folder: Path, config: Config) -> None:
    """Write the configuration, with all defaults, into the run folder."""
    with replace_file(folder / CONFIG_NAME) as file:
        file.write(dump_config(config).encode())


def explain_unshared_folder(folder: Path, hosts: list[str]) -> str:
    """Return the sentence about nodes that do not see the run folder."""
    return (
        f"--out: the run folder {folder} is not visible from {', '.join(sorted(hosts))}; choose an "
        "--out on storage that every node of the cluster mounts at the same path, or set "
        "storage.checkpoints"
    )
