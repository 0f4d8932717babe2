"""The parts, in the order of their worth, and the process that each runs in."""

import multiprocessing
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.context import ForkProcess
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from benchmarks.gpu.compiled import measure_compiled
from benchmarks.gpu.findings import Findings, read_findings
from benchmarks.gpu.kernels import measure_kernels
from benchmarks.gpu.machine import describe_machine
from benchmarks.gpu.overheads import measure_checkpoints, measure_starts
from benchmarks.gpu.recipe import compare_recipes
from benchmarks.gpu.same import check_same
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.small_sweep import run_sweeps
from benchmarks.gpu.speed import measure_speed
from benchmarks.gpu.waits import count_waits
from sweep.errors import format_error

# Each part has a process of its own, which a broken GPU context or a crash ends, not the others. It
# is forked, so that the libraries are imported once; CUDA must not have started before.
FORK = multiprocessing.get_context("fork")
# Seconds before the end of its time when a part begins nothing further.
RESERVE = 20.0
# A part may take so many times what it should.
PATIENCE = 2.0


@dataclass(frozen=True)
class Part:
    """``seconds`` is what it should take, by type of device: a large GPU, or two CPU cores with
    tiny models. It is not started if less time is left."""

    name: str
    run: Callable[[Setting, Findings], None]
    seconds: dict[str, float]


def _part(name: str, run: Callable[[Setting, Findings], None], gpu: float, cpu: float) -> Part:
    return Part(name, run, {"cuda": gpu, "cpu": cpu})


PARTS = (
    _part("machine", describe_machine, 10, 5),
    _part("same", check_same, 75, 40),
    _part("waits", count_waits, 20, 10),
    _part("speed", measure_speed, 150, 20),
    _part("starts", measure_starts, 40, 10),
    _part("checkpoints", measure_checkpoints, 40, 10),
    _part("stock", compare_recipes, 60, 20),
    _part("compiled", measure_compiled, 90, 75),
    _part("kernels", measure_kernels, 15, 10),
    _part("ray", run_sweeps, 60, 70),
)
NAMES = tuple(part.name for part in PARTS)


def has_gpu() -> bool:
    """Return whether there is a GPU; asked in another process, because asking starts CUDA."""
    process = FORK.Process(target=lambda: sys.exit(not torch.cuda.is_available()))
    process.start()
    process.join()
    return process.exitcode == 0


def run_parts(parts: Sequence[Part], setting: Setting, out: Path) -> list[Findings]:
    """Run ``parts``, each if there is time for it until ``setting.stop``; return what they found,
    which is in files ``PART.json`` in ``out`` too."""
    return [_run_part(part, setting, Findings(part.name, out / f"{part.name}.json"))
            for part in parts]  # fmt: skip


def _run_part(part: Part, setting: Setting, findings: Findings) -> Findings:
    findings.path.unlink(missing_ok=True)
    wanted = part.seconds[setting.device.type]
    if setting.left < wanted:
        findings.skipped = f"skipped: it needs {wanted:.0f} s, {max(0, setting.left):.0f} are left"
        findings.note(findings.skipped)
        return findings
    print(f"{part.name}: about {wanted:.0f} s", flush=True)
    longest = PATIENCE * wanted + RESERVE
    most = min(setting.left, longest)
    start = time.time()
    own = replace(setting, stop=start + most - RESERVE)
    process = FORK.Process(target=_work, args=(part, own, findings))
    process.start()
    process.join(most)
    ended = not process.is_alive()
    _end(process)
    findings = read_findings(part.name, findings.path)
    findings.seconds = time.time() - start
    if not ended and most < longest:
        findings.cut = f"ended after {most:.0f} s, with the time of all parts"
    elif not ended:
        findings.error = f"it hangs, or is much too slow: it was ended after {most:.0f} s"
    elif process.exitcode != 0:
        findings.error = findings.error or f"its process ended with {process.exitcode}"
    findings.write()
    return findings


def _work(part: Part, setting: Setting, findings: Findings) -> None:
    warnings.simplefilter("ignore", FutureWarning)
    disable_progress_bar()
    if not setting.on_gpu:
        torch.set_num_threads(1)  # as a trial has
    try:
        part.run(setting, findings)
    except Exception as error:
        traceback.print_exc()
        findings.error = format_error(error)
    findings.write()


def _end(process: ForkProcess) -> None:
    if process.is_alive():
        process.terminate()
        process.join(5)
    if process.is_alive():
        process.kill()
    process.join()
