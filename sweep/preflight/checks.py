"""Checks a sweep against the limits of a machine: trials at a time, memory, disk, GPUs."""

import math
import shutil
from pathlib import Path

from sweep.cluster.allocation import Arrangement, count_slots, trial_gpus
from sweep.cluster.hardware import Machine
from sweep.config import ResourcesConfig
from sweep.errors import Finding, format_bytes
from sweep.models.memory import ACTOR_BYTES
from sweep.storage.forecast import PackBytes

# The memory estimate may be off by this factor; only beyond it is a run refused.
UNCERTAINTY = 1.25
# What helps where a worker's own memory is short, which no batch is in.
SMALLER = "use a smaller model or a machine with more memory"


def check_resources(resources: ResourcesConfig, machine: Machine) -> list[Finding]:
    """Return an error if one trial asks for more GPUs or CPUs than ``machine`` has."""
    asked = {
        "gpus_per_trial": (resources.gpus_per_trial, len(machine.gpus), "GPUs", "set it to auto"),
        "cpus_per_trial": (resources.cpus_per_trial, machine.cpus, "CPUs", "lower it"),
    }
    return [
        Finding(
            "error",
            f"resources.{name}",
            f"resources.{name}: {wanted:g} requested, but this machine has {have} {what}; {remedy}",
        )
        for name, (wanted, have, what, remedy) in asked.items()
        if wanted != "auto" and wanted > have
    ]


def check_memory(
    name: str,
    memory_bytes: int,
    resources: ResourcesConfig,
    machine: Machine,
    checkpointed_bytes: int | None = None,
) -> list[Finding]:
    """Return an error or a warning if trials of ``memory_bytes`` may not fit on ``machine``;
    ``checkpointed_bytes`` is what one takes with gradient checkpointing, if that is off."""
    gpus = trial_gpus(resources, machine, memory_bytes)
    if gpus:
        have = min((gpu.memory_bytes for gpu in machine.gpus), default=0)
        needs = memory_bytes, checkpointed_bytes
        return _check_gpu(name, needs, have, gpus, resources) if have else []
    slots = count_slots(resources, machine, memory_bytes)
    if memory_bytes > UNCERTAINTY * machine.memory_bytes:
        return [_refuse(name, memory_bytes, machine.memory_bytes, "machine", checkpointed_bytes)]
    if memory_bytes * slots <= machine.memory_bytes:
        return []
    fit = max(1, int(machine.memory_bytes // memory_bytes))
    return [
        Finding(
            "warning",
            "resources.cpus_per_trial",
            f"{slots} trials of {name} at a time need about {format_bytes(memory_bytes * slots)} "
            f"of this machine's {format_bytes(machine.memory_bytes)}; set resources.cpus_per_trial="
            f"{machine.cpus / fit:g}, or lower train.batch_size",
        )
    ]


def _check_gpu(
    name: str,
    needs: tuple[int, int | None],
    have: int,
    gpus: float,
    resources: ResourcesConfig,
) -> list[Finding]:
    memory_bytes, checkpointed_bytes = needs
    if memory_bytes > UNCERTAINTY * have:
        return [_refuse(name, memory_bytes, have, "GPU", checkpointed_bytes)]
    share = have * min(1.0, gpus)
    if memory_bytes <= share:
        return []
    # A trial uses one GPU, whatever it reserves.
    shared = gpus < 1 and resources.gpus_per_trial != "auto"
    remedy = "set resources.gpus_per_trial=auto, or " if shared else ""
    part = "its share of a GPU" if gpus < 1 else "a GPU"
    return [
        Finding(
            "warning",
            "resources.gpus_per_trial" if shared else "grid.models",
            f"a trial of {name} needs about {format_bytes(memory_bytes)}, more than {part} "
            f"({format_bytes(share)}); {remedy}{_checkpoint(checkpointed_bytes, share)}lower "
            "train.max_batch_tokens",
        )
    ]


def check_pack(
    name: str,
    pack: PackBytes,
    sharing: Arrangement,
    machine: Machine,
    checkpointed_bytes: int | None = None,
) -> list[Finding]:
    """Return an error or a warning if hosts of ``name`` may not fit on ``machine``;
    ``checkpointed_bytes`` is what one with a single trial takes with gradient checkpointing, if
    that is off."""
    gpu = min((gpu.memory_bytes for gpu in machine.gpus), default=None)
    if gpu == 0:  # unknown
        return []
    hosts, what, have = (1, "a GPU", gpu) if gpu else (sharing.devices, "this machine", None)
    have, slots = have or machine.memory_bytes, int(sharing.per_device)
    if pack.total(1) > UNCERTAINTY * have:
        return [_refuse(name, pack.total(1), have, "GPU" if gpu else "machine", checkpointed_bytes)]
    needed = hosts * pack.total(slots)
    if needed <= have:
        return []
    fit = max(1, pack.count_slots(have / hosts))
    remedy = f"set resources.slots={fit}, or " if fit < slots else ""
    return [
        Finding(
            "warning",
            "resources.slots",
            f"{hosts * slots} trials of {name} at a time need about {format_bytes(needed)} of "
            f"{what}'s {format_bytes(have)}; {remedy}lower train.max_batch_tokens",
        )
    ]


def check_workers(
    name: str, worker_bytes: int, sharing: Arrangement, machine: Machine
) -> list[Finding]:
    """Return an error or a warning if the processes that train on GPUs may need more of the
    machine's own memory than there is."""
    packed, have = sharing.engine == "packed", machine.memory_bytes
    if worker_bytes > UNCERTAINTY * have:
        sentence = (
            f"grid.models: beside a GPU, training {name} needs about {format_bytes(worker_bytes)} "
            f"of memory, but this machine has {format_bytes(have)}; {SMALLER}"
        )
        return [Finding("error", "grid.models", sentence)]
    count = sharing.devices if packed else sharing.trials
    needed = count * worker_bytes + (sharing.trials * ACTOR_BYTES if packed else 0)
    if needed <= have:
        return []
    key, value = "resources.gpus_per_trial", _fit_gpus(worker_bytes, machine)
    if packed:
        key, value = "resources.slots", _fit_slots(worker_bytes, sharing.devices, have)
    remedy = f"set {key}={value:g}, or {SMALLER}" if value else SMALLER
    return [
        Finding(
            "warning",
            key if value else "grid.models",
            f"beside the GPUs' memory, {sharing.trials} trials of {name} at a time need about "
            f"{format_bytes(needed)} of this machine's {format_bytes(have)}; {remedy}",
        )
    ]


def _fit_slots(host_bytes: int, hosts: int, have: int) -> int:
    """Return the slots of each host for whose actors there is memory, 0 if there is none."""
    return max(0, (have - hosts * host_bytes) // (hosts * ACTOR_BYTES))


def _fit_gpus(worker_bytes: int, machine: Machine) -> float:
    """Return the GPUs per trial, or the fraction of one, with which the machine's memory holds all
    workers; 0 if it holds none."""
    gpus, fit = len(machine.gpus), machine.memory_bytes // worker_bytes
    if not fit:
        return 0
    return 10_000 // (fit // gpus) / 10_000 if fit >= gpus else math.ceil(gpus / fit)


def _refuse(
    name: str, memory_bytes: int, have: int, what: str, checkpointed_bytes: int | None
) -> Finding:
    return Finding(
        "error",
        "grid.models",
        f"grid.models: a trial of {name} needs about {format_bytes(memory_bytes)}, but this {what} "
        f"has {format_bytes(have)}; {_checkpoint(checkpointed_bytes, have)}use a smaller model, or "
        "lower train.max_batch_tokens or train.max_length",
    )


def _checkpoint(checkpointed_bytes: int | None, have: float) -> str:
    """Return the beginning of a remedy if gradient checkpointing is one."""
    helps = checkpointed_bytes is not None and checkpointed_bytes <= have
    return "set train.gradient_checkpointing=true, or " if helps else ""


def check_disk(needed: int, folder: Path) -> list[Finding]:
    """Return a warning if the disk of ``folder`` may be too full for the run's checkpoints."""
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), None)
    free = shutil.disk_usage(there).free if there else needed
    if needed <= free:
        return []
    return [
        Finding(
            "warning",
            "--out",
            f"checkpoints may take up to {format_bytes(needed)}, but {there} has "
            f"{format_bytes(free)} free; choose another --out, or lower tune.candidates",
        )
    ]


def check_length(key: str, name: str, max_length: int, positions: int | None) -> list[Finding]:
    """Return an error if texts may have more tokens than the model has positions."""
    if positions is None or max_length <= positions:
        return []
    return [
        Finding(
            "error",
            key,
            f"train.max_length: {max_length} tokens, but {name} has only {positions} positions; "
            f"set train.max_length={positions} or less",
        )
    ]
