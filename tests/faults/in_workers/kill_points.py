"""Death inside the writing of a checkpoint: at a point, in an epoch, and once."""

import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

POINT, EPOCH, MARKER = "FAULTS_POINT", "FAULTS_EPOCH", "FAULTS_MARKER"
"""The environment variables that arm a process. MARKER is a file that is created as it dies."""
MODULE = "sweep.training.checkpoint"

BEFORE_FILES = "before any file"
AFTER_FIRST = "after the first tensors"
BEFORE_MANIFEST = "before the manifest"
BEFORE_REPORT = "before the report"
POINTS = (BEFORE_FILES, AFTER_FIRST, BEFORE_MANIFEST, BEFORE_REPORT)


def arm() -> None:
    """Have this process die where the environment says; do nothing if it does not."""
    if POINT in os.environ:
        sys.meta_path.insert(0, _Patcher())


def patch(module: ModuleType, point: str, epoch: int, kill: Callable[[], None]) -> None:
    """Call ``kill`` when a checkpoint of ``epoch`` reaches ``point``, in whichever thread it is
    written; ``module`` is that of checkpoints."""
    write, save_file, replace_file = module.write_checkpoint, module.save_file, module.replace_file

    def reach(reached: str, folder: Path) -> None:
        if reached == point and folder.name == f"epoch-{epoch:04d}":
            kill()

    def save_and_die(tensors: Any, file: Path) -> None:
        if not any(file.parent.iterdir()):
            reach(BEFORE_FILES, file.parent)
        save_file(tensors, file)
        if list(file.parent.iterdir()) == [file]:
            reach(AFTER_FIRST, file.parent)

    def replace_or_die(path: Path) -> Any:
        reach(BEFORE_MANIFEST, path.parent)
        return replace_file(path)

    def write_and_die(folder: Path, *arguments: Any) -> None:
        write(folder, *arguments)
        reach(BEFORE_REPORT, folder)

    module.save_file, module.replace_file = save_and_die, replace_or_die
    module.write_checkpoint = write_and_die


def kill_self() -> None:
    """End this process at once, as a lack of memory does."""
    os.kill(os.getpid(), signal.SIGKILL)


class _Patcher(MetaPathFinder):
    """Finds the module of checkpoints like anybody, and patches it once it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        loader: Any = spec and spec.loader
        load = loader.exec_module

        def load_patched(module: ModuleType) -> None:
            load(module)
            patch(module, os.environ[POINT], int(os.environ[EPOCH]), _kill_sweep)

        loader.exec_module = load_patched
        return spec


def _kill_sweep() -> None:
    """Kill the driver and this worker, unless one has died before."""
    # Ray's processes keep the session that their driver began; never kill another leader's.
    driver = os.getsid(0)
    if b"sweep.run" not in Path(f"/proc/{driver}/cmdline").read_bytes():
        raise RuntimeError(f"process {driver}, which leads this session, is no sweep")
    try:
        os.close(os.open(os.environ[MARKER], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(driver, signal.SIGKILL)
    kill_self()
