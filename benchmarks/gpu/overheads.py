"""What trials cost beside their steps: starting one, and writing its checkpoints."""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.engines import (
    build_packed,
    build_solo,
    join,
    release,
    watch_passes,
)
from benchmarks.gpu.findings import Findings
from benchmarks.gpu.setting import Setting, build_recipe, build_trials
from benchmarks.gpu.speed import LABELS, build_timed
from sweep.plan import TrialSpec
from sweep.storage.checkpoints import list_checkpoints
from sweep.training.packed.engine import PackedEngine

TRIALS = 4
RANK, SAMPLES = 32, 64


def measure_starts(setting: Setting, findings: Findings) -> None:
    """Time the starts of trials: the first, which loads the base model, and further ones."""
    for name in setting.timed:
        if setting.left < 0:
            findings.note(f"{name}: no time")
            return
        specs = build_timed(setting, name, TRIALS)
        with findings.attempt(f"{name} solo"):
            _start_solo(setting, findings, specs)
        with findings.attempt(f"{name} packed"):
            _start_packed(setting, findings, specs)


def _start_solo(setting: Setting, findings: Findings, specs: Sequence[TrialSpec]) -> None:
    engine, folder = build_solo(setting), setting.build_folder()
    for number, spec in enumerate(specs, start=1):
        start = time.perf_counter()
        engine.start(spec, folder / spec.trial_id)
        setting.wait()
        _add_start(findings, spec, "solo", number, time.perf_counter() - start)
        engine.close()
    release(engine)


def _start_packed(setting: Setting, findings: Findings, specs: Sequence[TrialSpec]) -> None:
    """Time starts beside trials in training, and by how much the first step after a start takes
    longer than an ordinary one."""
    engine, folder = build_packed(setting, specs), setting.build_folder()
    for number, spec in enumerate(specs, start=1):
        start = time.perf_counter()
        loaded = engine.load(spec)
        setting.wait()
        ready = time.perf_counter()
        # What any thread may do; here this one does it, to time it.
        prepared = engine.prepare(loaded, spec, folder / spec.trial_id)
        setting.wait()
        done = time.perf_counter()
        if prepared is None:
            raise RuntimeError("the pack has no slot left")
        engine.admit(prepared)
        engine.begin_epoch(spec.trial_id)
        setting.wait()
        own = time.perf_counter() - done + ready - start
        steps = [_time_advance(setting, engine) for _ in range(5)]
        extra = max(0.0, steps[0] - statistics.median(steps[1:]))
        _add_start(findings, spec, "packed", number, own, done - ready, extra)
    release(engine)


def _add_start(
    findings: Findings,
    spec: TrialSpec,
    engine: str,
    number: int,
    own: float,
    elsewhere: float | None = None,
    extra: float | None = None,
) -> None:
    findings.add(
        "starts",
        model=spec.model.name,
        engine=engine,
        trial=number,
        rank=spec.candidate.lora_rank,
        **{"seconds of the training thread": own, "of another thread": elsewhere},
        **{"its first step, more than others": extra},
    )


def _time_advance(setting: Setting, engine: PackedEngine) -> float:
    start = time.perf_counter()
    for outcome in engine.advance().values():
        if isinstance(outcome, Exception):
            raise outcome
    setting.wait()
    return time.perf_counter() - start


def measure_checkpoints(setting: Setting, findings: Findings) -> None:
    """Time the checkpoint of an epoch, at the highest rank."""
    for name in setting.timed:
        if setting.left < 0:
            findings.note(f"{name}: no time")
            return
        ref = setting.find_model(name)
        specs = build_trials(
            setting, ref, TRIALS, build_recipe("auto", 8), SAMPLES, ranks=(RANK,), labels=(LABELS,)
        )
        with findings.attempt(f"{name} solo"):
            _save_solo(setting, findings, specs[0])
        with findings.attempt(f"{name} packed"):
            _save_packed(setting, findings, specs)


def _save_solo(setting: Setting, findings: Findings, spec: TrialSpec) -> None:
    engine, folder = build_solo(setting), setting.build_folder()
    engine.start(spec, folder)
    engine.run_epoch()
    setting.wait()
    start = time.perf_counter()
    result = engine.run_epoch()
    seconds = time.perf_counter() - start
    saving = seconds - result["train_seconds"] - result["eval_seconds"]
    _add_checkpoint(findings, spec, "solo", saving, saving, folder)
    release(engine)


def _save_packed(setting: Setting, findings: Findings, specs: Sequence[TrialSpec]) -> None:
    """Train an epoch of equal trials; what their last turn takes more than the turns before is
    checkpoints, as is all that comes after it."""
    engine, folder = build_packed(setting, specs), setting.build_folder()
    for spec in specs:
        join(engine, spec, folder)
    passed, turns, after = 0, [0.0], 0.0

    def see(tokens: int) -> None:
        nonlocal passed
        passed += 1

    with watch_passes(engine, specs[0], see):
        while engine.busy:
            before = passed
            seconds = _time_advance(setting, engine)
            if passed > before:
                turns.append(seconds)
            else:
                after += seconds
    own = max(0.0, turns[-1] - statistics.median(turns[-6:-1]))
    count = len(specs)
    _add_checkpoint(
        findings, specs[0], f"pack of {count}", own / count, (own + after) / count,
        folder / specs[0].trial_id,
    )  # fmt: skip
    release(engine)


def _add_checkpoint(
    findings: Findings, spec: TrialSpec, engine: str, own: float, total: float, folder: Path
) -> None:
    (newest, *_) = list_checkpoints(folder)
    size = sum(file.stat().st_size for file in newest.iterdir())
    findings.add(
        "checkpoints, a trial's",
        model=spec.model.name,
        engine=engine,
        rank=spec.candidate.lora_rank,
        **{"seconds of the training thread": own, "seconds until it is written": total},
        **{"MB": size / 1e6, "MB/s": size / 1e6 / max(total, 1e-9)},
    )
    findings.check(
        f"{spec.model.name}, {engine}: a checkpoint is there", size > 0, megabytes=size / 1e6
    )
