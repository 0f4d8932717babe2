"""Engines, built here and nowhere else in this package, and what they do: entire trials, or
training steps one by one."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
from transformers import PreTrainedModel

from benchmarks.gpu.setting import Setting
from sweep.models.full_pass import ForwardPass
from sweep.plan import Capacity, TrialSpec
from sweep.storage.events import EpochResult
from sweep.training.batches import order_training
from sweep.training.engine import Engine
from sweep.training.packed.engine import PackedEngine
from sweep.training.solo import SoloEngine

# The epochs of a trial.
Curve = list[EpochResult]
# Trains a batch of every trial; returns their tokens, without padding.
Step = Callable[[], int]
# Advances between a trial's start and the next one's.
STAGGER = 3


def build_solo(setting: Setting) -> SoloEngine:
    return SoloEngine(setting.subsets, setting.models_folder)


def build_packed(setting: Setting, specs: Sequence[TrialSpec]) -> PackedEngine:
    """Return an engine with room for ``specs`` at the same time."""
    capacities = Capacity.by_model(specs, len(specs))
    return PackedEngine(setting.subsets, setting.models_folder, capacities)


def release(engine: Engine) -> None:
    """Drop the engine's trials and base model, and the GPU memory that they took."""
    engine.discard()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def run_solo(setting: Setting, specs: Sequence[TrialSpec]) -> dict[str, Curve]:
    """Return the curves of ``specs``, trained one after another."""
    engine, folder = build_solo(setting), setting.build_folder()
    curves: dict[str, Curve] = {}
    for spec in specs:
        engine.start(spec, folder / spec.trial_id)
        curve: Curve = []
        while not (curve and curve[-1]["done"]):
            curve.append(engine.run_epoch())
        curves[spec.trial_id] = curve
        engine.close()
    release(engine)
    return curves


def run_packed(
    setting: Setting,
    specs: Sequence[TrialSpec],
    prepare: Callable[[PackedEngine], object] = lambda engine: None,
) -> tuple[dict[str, Curve], dict[str, Exception]]:
    """Return the curves of ``specs``, trained in a pack that they join one after another, and why
    others failed. ``prepare`` gets the engine after the first has joined."""
    engine, folder = build_packed(setting, specs), setting.build_folder()
    curves: dict[str, Curve] = {spec.trial_id: [] for spec in specs}
    failures: dict[str, Exception] = {}
    waiting, turns = list(specs), 0
    while waiting or engine.busy:
        if waiting and turns % STAGGER == 0:
            spec = waiting.pop(0)
            join(engine, spec, folder)
            if turns == 0:
                prepare(engine)
        turns += 1
        for trial_id, outcome in engine.advance().items():
            if isinstance(outcome, Exception):
                failures[trial_id] = outcome
                engine.close(trial_id)
            else:
                curves[trial_id].append(outcome)
                (engine.close if outcome["done"] else engine.begin_epoch)(trial_id)
    release(engine)
    return curves, failures


def join(engine: PackedEngine, spec: TrialSpec, folder: Path) -> None:
    engine.start(spec, folder / spec.trial_id)
    engine.begin_epoch(spec.trial_id)


@contextmanager
def watch_passes(engine: Engine, spec: TrialSpec, see: Callable[[int], None]) -> Iterator[None]:
    """Call ``see`` with the tokens, padding included, of every pass through the base model of
    ``spec``, before it begins."""
    base, _ = engine.get_base(spec)
    embeddings = base.model.get_input_embeddings()
    hook = embeddings.register_forward_pre_hook(lambda module, args: see(args[0].numel()))
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def stock_modules() -> Iterator[None]:
    """Have engines loaded in this block pass texts through the modules of transformers and PEFT as
    they are, without fused layers and without shortcuts."""

    def whole(model: PreTrainedModel, trains_base: bool = False) -> ForwardPass:
        return ForwardPass.of_rectangles(
            lambda ids, mask: model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        )

    with (
        patch("sweep.models.device.choose_forward", whole),
        patch("sweep.models.methods.speed_up", lambda model: None),
    ):
        yield


def step_solo(engine: SoloEngine, spec: TrialSpec) -> Step:
    """Return training steps of the trial that ``engine`` has started."""
    trial = engine._trial
    trial.progress.epoch = 1
    trial.model.train()
    batches = iter(trial.order_epoch())

    def step() -> int:
        batch = next(batches)
        trial._step(batch)
        return sum(trial.training.lengths[index] for index in batch)

    return step


def step_packed(engine: PackedEngine, specs: Sequence[TrialSpec]) -> Step:
    """Return training steps of trials that have begun their first epoch at the same time."""
    sizes = zip(*(list_tokens(engine, spec) for spec in specs), strict=True)

    def step() -> int:
        tokens: int = sum(next(sizes))
        for trial_id, outcome in engine.advance().items():
            raise outcome if isinstance(outcome, Exception) else RuntimeError(f"{trial_id} ended")
        return tokens

    return step


def list_tokens(engine: Engine, spec: TrialSpec) -> list[int]:
    """Return the tokens, without padding, of each batch of the first epoch of ``spec``."""
    _, encoder = engine.get_base(spec)
    training = engine.get_cell_data(spec.cell).training
    lengths = encoder.encode(training.texts, training.classes).lengths
    order = order_training(lengths, spec.recipe.batch_size, spec.cell.seed, 1)
    return [sum(lengths[index] for index in batch) for batch in order]


@dataclass
class Timing:
    """What some steps took: seconds, tokens without and with padding, and the most GPU memory that
    PyTorch has held since the engine was built, 0 on a CPU."""

    steps: int
    seconds: float = 0.0
    tokens: int = 0
    passed: int = 0
    reserved_bytes: int = 0


def time_steps(setting: Setting, engine: Engine, spec: TrialSpec, step: Step, count: int) -> Timing:
    """Take ``count`` steps between two waits for the GPU."""
    timing = Timing(count)

    def see(tokens: int) -> None:
        timing.passed += tokens

    with watch_passes(engine, spec, see):
        setting.wait()
        start = time.perf_counter()
        timing.tokens = sum(step() for _ in range(count))
        setting.wait()
        timing.seconds = time.perf_counter() - start
    if setting.on_gpu:
        timing.reserved_bytes = torch.cuda.max_memory_reserved(setting.device)
    return timing
