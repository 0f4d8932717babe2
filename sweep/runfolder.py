"""The folder of a run: created, opened again, and locked."""

from pathlib import Path

from sweep.config import Config, dump_config
from sweep.errors import RunFolderError
from sweep.journal import JOURNAL_NAME

CONFIG_NAME = "config.yaml"


TAKEN = "is not empty; add --resume to go on with it, or choose another --name"


def check_run(folder: Path) -> None:
    """Raise RunFolderError if ``folder`` has neither journal nor configuration of a run."""
    if not any((folder / name).is_file() for name in (JOURNAL_NAME, CONFIG_NAME)):
        raise RunFolderError(
            f"{folder.absolute()}: there is no run to resume here; check --name and --out, or "
            "leave out --resume to start one"
        )


def is_taken(folder: Path) -> bool:
    """Return whether something stands where a new run's folder would be made."""
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def open_run_folder(out: Path, name: str, resume: bool) -> Path:
    """Return ``out/name`` as an absolute path, made if it is new.

    Raises RunFolderError when a new run meets a folder that is not empty, or a resumed one finds
    neither journal nor configuration (the first that a run writes).
    """
    folder = (out / name).absolute()
    if resume:
        check_run(folder)
        return folder
    if is_taken(folder):
        raise RunFolderError(f"{folder}: {TAKEN}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"{folder}: cannot be made ({error.strerror}); choose another --out"
        ) from None
    return folder


def save_config(folder: Path, config: Config) -> None:
    """Write the resolved configuration into the run folder."""
    beside = folder / f".{CONFIG_NAME}"
    beside.write_text(dump_config(config), encoding="utf-8")
    beside.replace(folder / CONFIG_NAME)
