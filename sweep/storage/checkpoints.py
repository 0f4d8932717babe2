"""The checkpoints of a run: in its folder, or at the URI given by the configuration."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from sweep.storage.folders import Storage, open_storage
from sweep.storage.manifest import MANIFEST

CHECKPOINTS_NAME = "checkpoints"
# The newest and, in case it is damaged, the one before.
KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class CheckpointStore:
    """Where trials save their checkpoints and find them again, from any machine.

    An engine writes to a local folder. With ``storage`` that folder is scratch: ``fetch`` downloads
    the checkpoint to continue from, ``push`` uploads a new one. Without, it lies in the run folder,
    which every machine sees, and nothing is copied. All methods raise StorageError if the storage
    does not answer.
    """

    run_folder: Path
    storage: Storage | None = None

    def fetch(self, trial_id: str, scratch: Path, up_to: int | None = None) -> Path:
        """Return the local folder of the trial's checkpoints, holding the newest complete one that
        is not past the epoch ``up_to``."""
        if self.storage is None:
            return self._local_folder(trial_id)
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
        """Upload the checkpoint of ``epoch`` from ``local``, if there is one, and keep the trial's
        ``count`` newest."""
        written = name_checkpoint(local, epoch)
        if self.storage is not None and (written / MANIFEST).is_file():
            self.storage.write_folder(f"{self._stored_folder(trial_id)}/{written.name}", written)
            self.keep_newest(trial_id, count)

    def drop_newer(self, trial_id: str, epoch: int) -> None:
        """Delete the checkpoints past ``epoch`` from the storage: the journal does not know them,
        and they would count as newer than what is written next."""
        limit = name_checkpoint(Path(), epoch).name
        for name in self._names(trial_id):
            if self.storage is not None and name.rpartition("/")[2] > limit:
                self.storage.delete_folder(name)

    def keep_newest(self, trial_id: str, count: int) -> None:
        """Delete all but the ``count`` newest checkpoints of a trial."""
        if self.storage is None:
            keep_newest(self._local_folder(trial_id), count)
            return
        for name in self._names(trial_id)[count:]:
            self.storage.delete_folder(name)
        if count == 0:
            self.storage.delete_folder(self._stored_folder(trial_id))

    def _names(self, trial_id: str) -> list[str]:
        """Return the trial's complete checkpoints in the storage, newest first."""
        found = self.storage.list_folders(self._stored_folder(trial_id)) if self.storage else []
        return [name for name in reversed(found) if "/epoch-" in name]

    def _local_folder(self, trial_id: str) -> Path:
        return self.run_folder / CHECKPOINTS_NAME / trial_id

    def _stored_folder(self, trial_id: str) -> str:
        return f"{self.run_folder.name}/{trial_id}"


def open_store(run_folder: Path, uri: str | None) -> CheckpointStore:
    """Return the checkpoints of the run in ``run_folder``: there or, below the run's name, at
    ``uri``; raise StorageError if ``uri`` is not a storage location."""
    return CheckpointStore(run_folder, open_storage(uri) if uri else None)


def list_checkpoints(folder: Path) -> list[Path]:
    """Return a trial's checkpoint folders, newest epoch first."""
    return sorted(folder.glob("epoch-*"), reverse=True)


def name_checkpoint(folder: Path, epoch: int) -> Path:
    """Return where a trial keeps the checkpoint of ``epoch``."""
    return folder / f"epoch-{epoch:04d}"


def keep_newest(folder: Path, count: int) -> None:
    """Delete all but the ``count`` newest checkpoints of a trial."""
    for old in list_checkpoints(folder)[count:]:
        # The manifest goes first: a half-deleted folder must not count.
        (old / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)
