"""Which GPUs a process sees: those that Ray assigned to it, and no others."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import ray

VARIABLE = "CUDA_VISIBLE_DEVICES"


def show_gpus(ids: Sequence[str]) -> None:
    """Let this process see only the GPUs ``ids``, which may be none; called before CUDA starts.

    Ray itself no longer hides the GPUs of a machine from an actor or a task that asked for none
    (https://github.com/ray-project/ray/issues/54868): it would train on the first one, beside the
    trials that reserved it.
    """
    os.environ[VARIABLE] = ",".join(ids)


def show_assigned_gpus() -> None:
    """Let this actor see only the GPUs that it asked Ray for."""
    show_gpus(ray.get_runtime_context().get_accelerator_ids().get("GPU", []))


@contextmanager
def hidden_gpus() -> Iterator[None]:
    """Hide all GPUs inside the block, in a process that Ray may use for other tasks later."""
    before = os.environ.get(VARIABLE)
    show_gpus([])
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before
