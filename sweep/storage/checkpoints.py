"""The checkpoints of a run: in its folder, or at the URI that the configuration names."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from sweep.storage.folders import MANIFEST, Storage, open_storage

CHECKPOINTS_NAME = "checkpoints"


@dataclass(frozen=True)
class CheckpointStore:
    """Where trials leave their checkpoints and find them again, from any machine.

    An engine writes to a local folder. With ``storage`` that folder is scratch: ``fetch`` brings
    what a trial goes on from, ``push`` keeps what it has written. Without, it is the run folder's
    own, which every machine sees, and nothing is copied. All raise StorageError if the storage
    does not answer.
    """

    run_folder: Path
    storage: Storage | None = None

    def fetch(self, trial_id: str, scratch: Path, up_to: int | None = None) -> Path:
        """Return the local folder of the trial's checkpoints, the newest whole one in it that is
        not past the epoch ``up_to``."""
        if self.storage is None:
            return self.run_folder / CHECKPOINTS_NAME / trial_id
        target = scratch / CHECKPOINTS_NAME
        shutil.rmtree(target, ignore_errors=True)  # another trial's
        target.mkdir()
        for name in self._names(trial_id):
            local = target / name.rpartition("/")[2]
            if up_to is not None and local > name_checkpoint(target, up_to):
                continue
            if self.storage.read_folder(name, local):
                break
        return target

    def push(self, trial_id: str, local: Path, epoch: int, count: int) -> None:
        """Keep the checkpoint of ``epoch`` that lies in ``local``, if there is one, and of all the
        trial's the newest ``count``."""
        written = name_checkpoint(local, epoch)
        if self.storage is not None and (written / MANIFEST).is_file():
            self.storage.write_folder(f"{self._place(trial_id)}/{written.name}", written)
            self.keep_newest(trial_id, count)

    def drop_newer(self, trial_id: str, epoch: int) -> None:
        """Delete from the storage what is past ``epoch``: the run's journal does not know it, and
        it would pass for newer than what is written next."""
        limit = name_checkpoint(Path(), epoch).name
        for name in self._names(trial_id):
            if self.storage is not None and name.rpartition("/")[2] > limit:
                self.storage.delete_folder(name)

    def keep_newest(self, trial_id: str, count: int) -> None:
        """Delete all but the ``count`` newest checkpoints of a trial."""
        if self.storage is None:
            keep_newest(self.run_folder / CHECKPOINTS_NAME / trial_id, count)
            return
        for name in self._names(trial_id)[count:]:
            self.storage.delete_folder(name)
        if count == 0:
            self.storage.delete_folder(self._place(trial_id))

    def _names(self, trial_id: str) -> list[str]:
        """Return the trial's whole checkpoints in the storage, newest first."""
        found = self.storage.list_folders(self._place(trial_id)) if self.storage else []
        return [name for name in reversed(found) if "/epoch-" in name]

    def _place(self, trial_id: str) -> str:
        return f"{self.run_folder.name}/{trial_id}"


def open_store(run_folder: Path, uri: str | None) -> CheckpointStore:
    """Return the checkpoints of the run in ``run_folder``: there or, below the run's name, at
    ``uri``; raise StorageError if that can be no storage."""
    return CheckpointStore(run_folder, open_storage(uri) if uri else None)


KEPT_CHECKPOINTS = 2
"""The newest and, should it be damaged, the one before."""


def list_checkpoints(folder: Path) -> list[Path]:
    """Return a trial's checkpoint folders, newest epoch first."""
    return sorted(folder.glob("epoch-*"), reverse=True)


def name_checkpoint(folder: Path, epoch: int) -> Path:
    """Return where a trial keeps the checkpoint of ``epoch``."""
    return folder / f"epoch-{epoch:04d}"


def keep_newest(folder: Path, count: int) -> None:
    """Delete all but the ``count`` newest checkpoints of a trial."""
    for old in list_checkpoints(folder)[count:]:
        # The manifest goes first: a folder that is half deleted must not count.
        (old / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)
