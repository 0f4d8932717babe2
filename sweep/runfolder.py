"""The folder of a run: created, opened again, and locked."""

from pathlib import Path

from sweep.config import Config, dump_config
from sweep.errors import RunFolderError
from sweep.journal import JOURNAL_NAME

CONFIG_NAME = "config.yaml"


def open_run_folder(out: Path, name: str, resume: bool) -> Path:
    """Return ``out/name`` as an absolute path, made if it is new.

    Raises RunFolderError when a new run meets a folder that is not empty, or a resumed one finds
    neither journal nor configuration (the first that a run writes).
    """
    folder = (out / name).absolute()
    if resume:
        if not any((folder / name).is_file() for name in (JOURNAL_NAME, CONFIG_NAME)):
            raise RunFolderError(
                f"{folder}: there is no run to resume here; leave out --resume to start one"
            )
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunFolderError(
            f"{folder}: is not empty; add --resume to go on with it, or choose another --name"
        )
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
