"""Training steps of a trial alone, with compiled blocks (``train.compile``) and without."""

import time
from dataclasses import replace

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.engines import Step, build_solo, release, step_solo
from benchmarks.gpu.findings import Findings
from benchmarks.gpu.setting import Setting, build_recipe, build_trials
from benchmarks.gpu.speed import time_each
from sweep.models.flat.compiled import count_graphs

# How often each of the two takes its steps, in turn.
TURNS = 3
# The tiny model with two blocks, of which the first is compiled.
SMALL = "tiny-gemma3"
RANKS, LABELS = (8,), (4,)


def measure_compiled(setting: Setting, findings: Findings) -> None:
    """Time each model; on a CPU, a tiny one."""
    time_each(setting, findings, setting.timed if setting.on_gpu else (SMALL,), _measure_model)


def _measure_model(setting: Setting, findings: Findings, name: str) -> None:
    amounts, recipe = setting.amounts, replace(build_recipe("auto", 8), compile=True)
    batches = 2 * (amounts.warm_up + 1 + TURNS * amounts.steps)
    (spec,) = build_trials(
        setting, setting.find_model(name), 1, recipe, recipe.batch_size * batches,
        ranks=RANKS, labels=LABELS,
    )  # fmt: skip
    engine = build_solo(setting)
    start = time.perf_counter()
    said = engine.start(spec, setting.build_folder()).get("compiled") or ""
    setting.wait()
    started = time.perf_counter() - start
    trial, step = engine._trial, step_solo(engine, spec)
    compiled = trial.compiled
    findings.check(f"{name}: compiled blocks agree", "does not agree" not in said, said=said)
    if compiled is None:
        findings.note(f"{name}: blocks are not compiled, {said}")
        release(engine)
        return
    passes = {"uncompiled": None, "compiled": compiled}
    seconds, tokens, kernels = dict.fromkeys(passes, 0.0), dict.fromkeys(passes, 0), {}
    for kind, trial.compiled in passes.items():
        for _ in range(amounts.warm_up):
            step()
        kernels[kind] = _count_kernels(setting, step)
    for _ in range(TURNS):
        # In turn, so that other load on the machine slows both.
        for kind, trial.compiled in passes.items():
            setting.wait()
            begin = time.perf_counter()
            tokens[kind] += sum(step() for _ in range(amounts.steps))
            setting.wait()
            seconds[kind] += time.perf_counter() - begin
    speeds = {kind: tokens[kind] / seconds[kind] for kind in passes}
    for kind in passes:
        findings.add(
            "compiled blocks, a trial alone",
            model=name,
            blocks=kind,
            **{"tokens/s": speeds[kind], "times": speeds[kind] / speeds["uncompiled"]},
            **{"kernels a step": kernels[kind], "seconds to start": started},
            graphs=count_graphs(),
            said=said,
        )
    release(engine)


def _count_kernels(setting: Setting, step: Step) -> int | None:
    """Return how many kernels and copies a step launches on a GPU; None without one."""
    if not setting.on_gpu:
        step()
        return None
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        step()
        setting.wait()
    kinds = [event.device_type for event in recorded.events()]
    return sum(kind == torch.autograd.DeviceType.CUDA for kind in kinds)
