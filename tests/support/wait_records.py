"""Waits for a GPU: where they are noted, and which memory is pinned so that there are none."""

import sys
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import torch

SUPPORT = f"{Path(__file__).parent}/"
# Where the lines that wait are looked for: ours, then those of libraries, but not of what passes
# every call on.
OURS = ("/sweep/", "/benchmarks/", "/tests/")
LIBRARIES = ("transformers/", "peft/", "torch/")
INNER = (
    "torch/_dynamo/",
    "torch/_compile.py",
    "torch/overrides.py",
    "torch/_ops.py",
    "torch/utils/_",
    "torch/_tensor",
)


class Wait(NamedTuple):
    """One wait: what for, and the lines of code: a library's if that asked, and ours."""

    reason: str
    place: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.place}"


class Recorder:
    """The waits so far, and the memory of the CPU that is said to be pinned."""

    def __init__(self) -> None:
        self.waits: list[Wait] = []
        self._pinned: weakref.WeakSet[Any] = weakref.WeakSet()

    def note(self, reason: str) -> None:
        self.waits.append(Wait(reason, _find_place()))

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        self._pinned.add(tensor.untyped_storage())
        return tensor

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage() in self._pinned

    def note_upload(self, source: torch.Tensor, non_blocking: bool) -> None:
        if not non_blocking:
            self.note("copy to the GPU")
        elif not self.is_pinned(source):
            self.note("copy to the GPU from memory that is not pinned")

    def note_download(self, target: torch.Tensor | None, non_blocking: bool) -> None:
        if not non_blocking:
            self.note("copy from the GPU")
        elif target is not None and not self.is_pinned(target):
            self.note("copy from the GPU to memory that is not pinned")


def _find_place() -> str:
    """Return the innermost line of ours that is running after that of a library, if one asked."""
    frame: Any = sys._getframe(1)
    library = ""
    while frame is not None:
        name, line = frame.f_code.co_filename, frame.f_lineno
        inner = name.rpartition("/site-packages/")[2]
        if name != inner:
            if not library and inner.startswith(LIBRARIES) and not inner.startswith(INNER):
                library = f"{inner}:{line} from "
        elif not name.startswith(SUPPORT):
            root = next((root for root in OURS if root in name), None)
            if root is not None:
                return f"{library}{root.strip('/')}/{name.rpartition(root)[2]}:{line}"
        frame = frame.f_back
    return library or "unknown"
