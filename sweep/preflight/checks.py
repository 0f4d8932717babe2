"""Checks a sweep against the limits of a machine: trials at a time, memory, disk, GPUs."""

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
    name: str, memory_bytes: int, resources: ResourcesConfig, machine: Machine
) -> list[Finding]:
    """Return an error or a warning if trials of ``memory_bytes`` may not fit on ``machine``."""
    gpus = trial_gpus(resources, machine, memory_bytes)
    if gpus:
        have = min((gpu.memory_bytes for gpu in machine.gpus), default=0)
        return _check_gpu(name, memory_bytes, have, gpus) if have else []
    slots = count_slots(resources, machine, memory_bytes)
    if memory_bytes > UNCERTAINTY * machine.memory_bytes:
        return [_refuse(name, memory_bytes, machine.memory_bytes, "machine")]
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


def _check_gpu(name: str, memory_bytes: int, have: int, gpus: float) -> list[Finding]:
    if memory_bytes > UNCERTAINTY * have:
        return [_refuse(name, memory_bytes, have, "GPU")]
    if memory_bytes <= have * min(1.0, gpus):
        return []
    return [
        Finding(
            "warning",
            "resources.gpus_per_trial",
            f"a trial of {name} needs about {format_bytes(memory_bytes)}, more than its share of a "
            f"GPU ({format_bytes(have * min(1.0, gpus))}); set resources.gpus_per_trial=auto, or "
            "lower train.max_batch_tokens",
        )
    ]


def check_pack(name: str, pack: PackBytes, sharing: Arrangement, machine: Machine) -> list[Finding]:
    """Return an error or a warning if hosts of ``name`` may not fit on ``machine``."""
    gpu = min((gpu.memory_bytes for gpu in machine.gpus), default=None)
    hosts, what, have = (1, "a GPU", gpu) if gpu else (sharing.devices, "this machine", None)
    have, slots = have or machine.memory_bytes, int(sharing.per_device)
    if pack.total(1) > UNCERTAINTY * have:
        return [_refuse(name, pack.total(1), have, "GPU" if gpu else "machine")]
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
        return [_refuse(name, worker_bytes, have, "machine")]
    count = sharing.devices if packed else sharing.trials
    needed = count * worker_bytes + (sharing.trials * ACTOR_BYTES if packed else 0)
    if needed <= have:
        return []
    key = "resources.slots" if packed else "resources.gpus_per_trial"
    remedy = "lower resources.slots" if packed else "raise resources.gpus_per_trial"
    return [
        Finding(
            "warning",
            key,
            f"beside the GPUs' memory, {sharing.trials} trials of {name} at a time need about "
            f"{format_bytes(needed)} of this machine's {format_bytes(have)}; {remedy}, or use a "
            "smaller model",
        )
    ]


def _refuse(name: str, memory_bytes: int, have: int, what: str) -> Finding:
    return Finding(
        "error",
        "grid.models",
        f"grid.models: a trial of {name} needs about {format_bytes(memory_bytes)}, but this {what} "
        f"has {format_bytes(have)}; use a smaller model, or lower train.max_batch_tokens or "
        "train.max_length",
    )


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
