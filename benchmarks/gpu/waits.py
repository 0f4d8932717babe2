"""Where training steps wait for the GPU, by PyTorch's own debug mode: each wait stops the thread
that should launch the next kernels."""

import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.engines import (
    build_packed,
    build_solo,
    join,
    release,
    step_packed,
    step_solo,
)
from benchmarks.gpu.findings import Findings
from benchmarks.gpu.setting import Setting, build_recipe, build_trials
from sweep.plan import TrialSpec

# Of PyTorch's warning, see `torch.cuda.set_sync_debug_mode`.
WAIT = "synchronizing CUDA operation"
WARM_UP, STEPS, TRIALS = 3, 4, 4
ROOT = Path(__file__).parents[2]


def count_waits(setting: Setting, findings: Findings) -> None:
    """Count the waits of training steps and of epochs, alone and in a pack."""
    if not setting.on_gpu:
        findings.note("no GPU: the CPU computes in the thread that asks, so nothing waits")
    recipe, samples = build_recipe("auto", 2), 16 * (WARM_UP + STEPS + 2)
    for family in setting.families if setting.on_gpu else setting.families[:1]:
        if setting.left < 0:
            findings.note(f"no time for {family} and what follows it")
            return
        ref = setting.find_model(family)
        specs = build_trials(setting, ref, TRIALS, recipe, samples, ranks=(4, 8))
        with findings.attempt(f"{family} solo"):
            _count_solo(setting, findings, specs[0])
        with findings.attempt(f"{family} packed"):
            _count_packed(setting, findings, specs)


def _count_solo(setting: Setting, findings: Findings, spec: TrialSpec) -> None:
    engine, folder = build_solo(setting), setting.build_folder()
    engine.start(spec, folder / "epochs")
    engine.run_epoch()
    name = f"{spec.model.name} solo"
    _note_waits(setting, findings, f"{name}, an epoch", engine.run_epoch, 1)
    engine.close()
    engine.start(spec, folder / "steps")
    _watch_steps(setting, findings, f"{name}, a step", step_solo(engine, spec))
    release(engine)


def _count_packed(setting: Setting, findings: Findings, specs: Sequence[TrialSpec]) -> None:
    engine, folder = build_packed(setting, specs), setting.build_folder()
    for spec in specs:
        join(engine, spec, folder)
    name = f"{specs[0].model.name} pack of {TRIALS}"
    _watch_steps(setting, findings, f"{name}, a step", step_packed(engine, specs))

    def finish() -> None:
        while engine.busy:
            engine.advance()

    _note_waits(setting, findings, f"{name}, the rest of an epoch", finish, 1)
    release(engine)


def _watch_steps(
    setting: Setting, findings: Findings, name: str, step: Callable[[], object]
) -> None:
    for _ in range(WARM_UP):
        step()

    def steps() -> None:
        for _ in range(STEPS):
            step()

    _note_waits(setting, findings, name, steps, STEPS)


def _note_waits(
    setting: Setting, findings: Findings, name: str, run: Callable[[], object], count: int
) -> None:
    """Add the waits during ``run``, divided by ``count``, in all and by line."""
    setting.wait()
    with record_waits(setting.on_gpu) as waits:
        run()
    if not setting.on_gpu:
        return
    findings.add("waits", what=name, waits=sum(waits.values()) / count)
    for line, number in waits.most_common():
        findings.add("lines that wait", what=name, waits=number / count, line=line)


@contextmanager
def record_waits(on_gpu: bool = True) -> Iterator[Counter[str]]:
    """Count the waits in the block by the line of this project that leads to them."""
    waits: Counter[str] = Counter()

    def show(message: Warning | str, *place: Any, **more: Any) -> None:
        if WAIT in str(message):
            waits[_find_line()] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        if on_gpu:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            if on_gpu:
                torch.cuda.set_sync_debug_mode("default")


def _find_line() -> str:
    """Return where the project's code is that runs now, and the line of a library below it."""
    # The last frames are this function, the one that records, and Python's module of warnings.
    stack = traceback.extract_stack()[:-2]
    frames = [frame for frame in stack if frame.filename != warnings.__file__]
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(ROOT / "sweep")]
    places = [own[-1]] if own else []
    if frames and frames[-1] not in places:
        places.append(frames[-1])
    return " > ".join(f"{_shorten(frame.filename)}:{frame.lineno}" for frame in places)


def _shorten(name: str) -> str:
    path = Path(name)
    if path.is_relative_to(ROOT / "sweep"):
        return str(path.relative_to(ROOT))
    return "/".join(path.parts[-2:])
