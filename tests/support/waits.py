"""Where a process would wait for a GPU, found out without one.

``pretend_cuda`` makes Python code believe in one CUDA device. Tensors on it are `DeviceTensor`s:
they report ``cuda:0`` and hold their values in a tensor of the CPU, so every operation computes
real numbers, and code takes the branches that it takes on a GPU. What would make the CPU wait is
noted in the list that the context yields, with the lines of code that asked for it::

    with pretend_cuda() as waits:
        engine.start(spec, folder)
        waits.clear()  # loading may wait
        engine.run_epoch()
    assert list(map(str, waits)) == []

Noted are:

* values that are read: ``item``, ``tolist``, ``bool``, ``int``, ``float``, ``equal``;
* results whose shapes depend on values: ``nonzero``, an index that is a mask, ``unique``;
* copies from the CPU, unless they are ``non_blocking`` and from pinned memory: those of ``to``,
  ``copy_``, ``torch.tensor(..., device=...)``, and of lists or tensors of the CPU as indices;
* copies to the CPU that are not ``non_blocking``; into memory that is there already it must be
  pinned, too;
* ``synchronize`` of the device, of a stream or of an event.

Not seen: what a CUDA kernel or the allocator does itself, and a read of memory that a
``non_blocking`` copy has not filled yet, because here it is filled at once. PyTorch's own code
takes the tensors for the CPU's, so its choice of kernels is that of a CPU.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from device_tensors import CUDA, Calls, Operations
from wait_records import Recorder, Wait


class _Stream:
    """A stream or an event of the GPU; all its work is done at once."""

    cuda_stream = 0

    def __init__(self, recorder: Recorder, kind: str) -> None:
        self._recorder = recorder
        self._kind = kind

    def synchronize(self) -> None:
        self._recorder.note(f"synchronize of {self._kind}")

    def query(self) -> bool:
        return True

    def record_event(self, event: Any = None) -> Any:
        return event or _Stream(self._recorder, "an event")

    def record(self, stream: Any = None) -> None: ...

    def wait(self, stream: Any = None) -> None: ...

    def wait_stream(self, other: Any) -> None: ...

    def wait_event(self, event: Any) -> None: ...


@contextmanager
def pretend_cuda() -> Iterator[list[Wait]]:
    """Pretend that there is a GPU, and yield the list of waits for it, which grows.

    Tensors that are made on it can be used only inside.
    """
    recorder = Recorder()
    operations = Operations(recorder)
    with ExitStack() as stack:
        for name, stand_in in _stand_ins(recorder).items():
            stack.enter_context(mock.patch(f"torch.{name}", stand_in))
        stack.enter_context(operations)
        stack.enter_context(Calls(recorder, operations))
        yield recorder.waits


def _stand_ins(recorder: Recorder) -> dict[str, Any]:
    """Return what takes the place of attributes of ``torch``."""
    stream = _Stream(recorder, "a stream")
    autocast, is_enabled = torch.autocast, torch.is_autocast_enabled
    group_tensors = torch._C._group_tensors_by_device_and_dtype

    def cast(device_type: str, *args: Any, **options: Any) -> Any:
        return autocast("cpu" if device_type == "cuda" else device_type, *args, **options)

    def is_autocast(device_type: str = "cuda") -> bool:
        return is_enabled("cpu" if device_type == "cuda" else device_type)

    def group(*args: Any) -> Any:
        grouped = group_tensors(*args)
        return {(CUDA, kind): found for (_, kind), found in grouped.items()}

    return {
        "_C._group_tensors_by_device_and_dtype": group,
        "autocast": cast,
        "is_autocast_enabled": is_autocast,
        "cuda._lazy_init": lambda: None,
        "cuda.is_available": lambda: True,
        "cuda.device_count": lambda: 1,
        "cuda.current_device": lambda: 0,
        "cuda.is_bf16_supported": lambda including_emulation=True: True,
        "cuda.get_device_capability": lambda device=None: (9, 0),
        "cuda.get_device_name": lambda device=None: "a pretended GPU",
        "cuda.mem_get_info": lambda device=None: (2**40, 2**40),
        "cuda.max_memory_allocated": lambda device=None: 0,
        "cuda.memory_allocated": lambda device=None: 0,
        "cuda.reset_peak_memory_stats": lambda device=None: None,
        "cuda.empty_cache": lambda: None,
        "cuda.manual_seed_all": lambda seed: None,
        "cuda.synchronize": lambda device=None: recorder.note("synchronize of the device"),
        # A build for CUDA would ask the driver, which need not be there.
        "cuda.is_current_stream_capturing": lambda: False,
        "cuda.current_stream": lambda device=None: stream,
        "cuda.default_stream": lambda device=None: stream,
        "cuda.stream": lambda stream: ExitStack(),
        "cuda.Stream": lambda *args, **options: _Stream(recorder, "a stream"),
        "cuda.Event": lambda *args, **options: _Stream(recorder, "an event"),
    }
