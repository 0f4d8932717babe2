"""The folder of a run: created, opened again, and locked."""

from pathlib import Path

from sweep.config import Config, dump_config
from sweep.errors import RunFolderError
from sweep.startup.home import is_writable
from sweep.storage.atomic import replace_file
from sweep.storage.journal import JOURNAL_NAME

CONFIG_NAME = "config.yaml"


def holds_run(folder: Path) -> bool:
    """Return whether ``folder`` has the journal or the configuration of a run."""
    return any((folder / name).is_file() for name in (JOURNAL_NAME, CONFIG_NAME))


def check_run(folder: Path) -> None:
    """Raise RunFolderError if there is no run in ``folder``."""
    if not holds_run(folder):
        raise RunFolderError(
            f"{folder.absolute()}: there is no run to resume here; check --name and --out, or "
            "leave out --resume to start one"
        )


def find_obstacle(folder: Path) -> str:
    """Return what is in the way of a new run in ``folder``, and the remedy; empty if nothing is."""
    if folder.is_dir():
        none = "" if holds_run(folder) else " (there is none here)"
        taken = f"is not empty; add --resume to go on with a run{none}, or choose another --name"
        return taken if any(folder.iterdir()) else ""
    if folder.exists() or folder.is_symlink():
        return "is a file; choose another --name"
    parent = next(path for path in folder.absolute().parents if path.exists())
    if not parent.is_dir():
        return f"cannot be made ({parent} is a file); choose another --out"
    if not is_writable(parent):
        return f"cannot be made ({parent} cannot be written); choose another --out"
    return ""


def open_run_folder(out: Path, name: str, resume: bool) -> Path:
    """Return ``out/name`` as an absolute path, made if it is new.

    Raises RunFolderError when a new run meets a folder that is not empty, or a resumed one finds
    neither journal nor configuration (the first that a run writes).
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
            f"{folder}: cannot be made ({error.strerror}); choose another --out"
        ) from None
    return folder


def save_config(folder: Path, config: Config) -> None:
    """Write the resolved configuration into the run folder."""
    with replace_file(folder / CONFIG_NAME) as file:
        file.write(dump_config(config).encode())


def explain_blindness(folder: Path, hosts: list[str]) -> str:
    """Return the sentence about nodes that do not see the run folder."""
    return (
        f"--out: the run folder {folder} is not visible from {', '.join(sorted(hosts))}; choose an "
        "--out on storage that every node of the cluster mounts at the same path, or set "
        "storage.checkpoints"
    )
