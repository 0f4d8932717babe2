"""Training tokens a second, alone and in packs of several sizes, and the memory that they take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.gpu.engines import (
    Step,
    Timing,
    build_packed,
    build_solo,
    join,
    release,
    step_packed,
    step_solo,
    time_steps,
)
from benchmarks.gpu.findings import Findings
from benchmarks.gpu.setting import Setting, build_recipe, build_trials
from sweep.models.base import materialize
from sweep.models.device import is_out_of_memory
from sweep.models.facts import ModelFacts, TrialLoad
from sweep.models.load_check import LoadRequest
from sweep.models.memory import GPU_PROCESS_BYTES, estimate_memory, estimate_pack
from sweep.models.meta_load import answer
from sweep.plan import TrialSpec, scored_at_once
from sweep.training.engine import Engine

# The first trial has the highest rank, so the forecast is of every pack's memory.
RANKS, LABELS = (32, 8, 16, 4), 4


@dataclass(frozen=True)
class Forecast:
    """What the dry run says of the memory of a trial."""

    facts: ModelFacts
    load: TrialLoad

    def needed(self, trials: int) -> int:
        """Return the bytes of a process that trains ``trials`` at a time."""
        if trials == 1:
            return estimate_memory(self.facts, self.load)
        return estimate_pack(self.facts, self.load).total(trials)


def measure_speed(setting: Setting, findings: Findings) -> None:
    """Time each model alone and in packs, from small to large."""
    time_each(setting, findings, setting.timed, _measure_model)


def time_each(
    setting: Setting,
    findings: Findings,
    names: Sequence[str],
    measure: Callable[[Setting, Findings, str], None],
) -> None:
    """Measure the models ``names``, while there is time."""
    for name in names:
        if setting.left < 0:
            findings.note(f"no time for {name}")
            return
        with findings.attempt(f"{name} can be timed"):
            measure(setting, findings, name)


def _measure_model(setting: Setting, findings: Findings, name: str) -> None:
    specs = build_timed(setting, name, max(setting.amounts.packs))
    alone, forecast = _time_solo(setting, findings, specs[0])
    _add_row(findings, name, 1, "solo", alone, alone, forecast)
    for size in setting.amounts.packs:
        obstacle = _find_obstacle(setting, size, forecast)
        timing = None if obstacle else _time_pack(setting, specs[:size])
        if timing is None:
            findings.note(f"{name}: no pack of {size}, {obstacle or 'it is out of memory'}")
            return
        _add_row(findings, name, size, f"pack of {size}", timing, alone, forecast)


def build_timed(setting: Setting, name: str, count: int) -> list[TrialSpec]:
    """Return trials with more batches than are timed, in the number format that a sweep takes."""
    amounts, recipe = setting.amounts, build_recipe("auto", 8)
    samples = recipe.batch_size * (amounts.warm_up + amounts.steps + 2)
    ref = setting.find_model(name)
    return build_trials(setting, ref, count, recipe, samples, ranks=RANKS, labels=(LABELS,))


def _find_obstacle(setting: Setting, size: int, forecast: Forecast | None) -> str:
    if setting.left < 0:
        return "there is no time"
    if not setting.on_gpu or forecast is None:
        return ""
    free, _ = torch.cuda.mem_get_info(setting.device)
    needed = forecast.needed(size)
    short = needed > free + GPU_PROCESS_BYTES
    return f"it needs {needed / 1e9:.0f} GB of {free / 1e9:.0f} GB" if short else ""


def _time_solo(
    setting: Setting, findings: Findings, spec: TrialSpec
) -> tuple[Timing, Forecast | None]:
    engine = build_solo(setting)
    engine.start(spec, setting.build_folder())
    timing, forecast = _time(setting, engine, spec, step_solo(engine, spec)), None
    with findings.attempt(f"{spec.model.name} can be forecast"):
        forecast = forecast_memory(setting, engine, spec)
    release(engine)
    return timing, forecast


def _time_pack(setting: Setting, specs: Sequence[TrialSpec]) -> Timing | None:
    """Return None if the GPU's memory is too small."""
    engine, folder = build_packed(setting, specs), setting.build_folder()
    try:
        for spec in specs:
            join(engine, spec, folder)
        return _time(setting, engine, specs[0], step_packed(engine, specs))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None
    finally:
        release(engine)


def _time(setting: Setting, engine: Engine, spec: TrialSpec, step: Step) -> Timing:
    for _ in range(setting.amounts.warm_up):
        step()
    return time_steps(setting, engine, spec, step, setting.amounts.steps)


def forecast_memory(setting: Setting, engine: Engine, spec: TrialSpec) -> Forecast:
    """Return the forecast of ``spec``, whose base model ``engine`` has loaded."""
    base, encoder = engine.get_base(spec)
    training = engine.get_cell_data(spec.cell).training
    longest = max(encoder.encode(training.texts, training.classes).lengths)
    recipe = spec.recipe
    load = TrialLoad(
        train_tokens=min(recipe.batch_size * longest, recipe.max_batch_tokens),
        eval_tokens=min(scored_at_once(recipe, setting.on_gpu) * longest, recipe.max_batch_tokens),
        rank=spec.candidate.lora_rank or 0,
        n_labels=spec.cell.n_labels,
        longest=longest,
        dtype=str(base.dtype).removeprefix("torch."),  # type: ignore[arg-type]
        on_gpu=setting.on_gpu,
        pass_tokens=recipe.max_batch_tokens,
    )
    folder = materialize(spec.model, setting.models_folder, setting.subsets.training_texts)
    found = answer(LoadRequest("model", spec.model.name, folder, True, True, load=load))
    if found.facts is None:
        raise RuntimeError(f"{spec.model.name} cannot be measured: {found.error}")
    return Forecast(found.facts, load)


def _add_row(
    findings: Findings,
    model: str,
    trials: int,
    engine: str,
    timing: Timing,
    alone: Timing,
    forecast: Forecast | None,
) -> None:
    seconds = timing.seconds / timing.steps
    rate = timing.tokens / timing.seconds
    needed = None if forecast is None else forecast.needed(trials)
    # On a CPU, what a process has taken before hides what a pack takes.
    held = timing.reserved_bytes + GPU_PROCESS_BYTES if timing.reserved_bytes else None
    findings.add(
        "training",
        model=model,
        engine=engine,
        **{"tokens/s": rate, "times solo": rate / (alone.tokens / alone.seconds)},
        **{"ms a step": 1e3 * seconds, "ms a slot-step": 1e3 * seconds / trials},
        padding=1 - timing.tokens / timing.passed if timing.passed else None,
        **{"peak GB": held and held / 1e9, "forecast GB": needed and needed / 1e9},
        **{"forecast / peak": held and needed and needed / held},
    )
