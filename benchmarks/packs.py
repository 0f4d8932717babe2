"""Times training steps of packs of several sizes and of the solo engine, alternating in one
process, and prints tokens per second; text lengths differ from trial to trial, as in a sweep."""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch

from benchmarks.tasks import Task, add_inputs, build_task, choose_models
from sweep.models.device import name_device
from sweep.plan import Capacity, TrialSpec
from sweep.training.packed.engine import PackedEngine
from sweep.training.solo import SoloEngine

RANKS = {"rank 8": [8], "ranks 4 to 32": [4, 8, 16, 32]}
# Trains a step of every trial; returns its tokens, without padding.
Step = Callable[[], int]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packs", description=__doc__)
    add_inputs(parser)
    add = parser.add_argument
    add("--samples", type=int, default=1600)
    add("--sizes", default="1,2,4,8,16", help="trials in a pack (default: 1,2,4,8,16)")
    add("--steps", type=int, default=10, help="of each size in each round (default: 10)")
    add("--rounds", type=int, default=3)
    add("--threads", type=int, default=1, help="CPU threads (default: 1, as a host has)")
    return parser


def main() -> None:
    options = build_parser().parse_args()
    torch.set_num_threads(options.threads)
    sizes = [int(size) for size in options.sizes.split(",")]
    print(
        f"{name_device(torch.device(options.device))}; training tokens per second, and relative to "
        "solo"
    )
    print(f"| model | ranks | solo | {' | '.join(f'{size} trials' for size in sizes)} |")
    print("|---|---|---|" + "---|" * len(sizes), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number, model in enumerate(choose_models(options, folder)):
            for kind, ranks in RANKS.items():
                work = folder / f"{number}-{len(ranks)}"
                work.mkdir()
                task = _build_task(options, work, model, ranks, max(sizes))
                rates = _time_sizes(options, task, work, sizes)
                shown = [f"{rate:,.0f} ({rate / rates[0]:.2f})" for rate in rates.values()]
                print(f"| {model['name']} | {kind} | {' | '.join(shown)} |", flush=True)


def _build_task(
    options: argparse.Namespace, folder: Path, model: dict[str, str], ranks: list[int], count: int
) -> Task:
    changes = {
        "n_labels": 4,
        "n_samples": options.samples,
        "candidates": count,
        "epochs": 1,
        "batch_size": options.batch_size,
        "device": options.device,
        "lora_rank": ranks,
        "learning_rate": [2e-4, 1e-3],
    }
    return build_task(folder, [model], options.data, changes)


def _time_sizes(
    options: argparse.Namespace, task: Task, folder: Path, sizes: list[int]
) -> dict[int, float]:
    """Return tokens per second, the median of the rounds, by size; 0 means solo."""
    # Each trial has its own seed, and so its own order of texts.
    specs = [
        replace(spec, cell=replace(spec.cell, seed=number))
        for number, spec in enumerate(task.plan.trials)
    ]
    steps = {0: _start_solo(task, specs[0], folder)}
    steps |= {size: _start_pack(task, specs[:size], folder) for size in sizes}
    rates: dict[int, list[float]] = {size: [] for size in steps}
    for number in range(options.rounds + 1):
        for size, step in steps.items():
            _wait(options.device)
            start = time.perf_counter()
            tokens = sum(step() for _ in range(options.steps if number else 2))
            _wait(options.device)
            if number:  # the first round warms up
                rates[size].append(tokens / (time.perf_counter() - start))
    return {size: statistics.median(found) for size, found in rates.items()}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _start_solo(task: Task, spec: TrialSpec, folder: Path) -> Step:
    engine = SoloEngine(task.subsets, folder / "models")
    engine.start(spec, folder / "solo")
    trial = engine._trial
    trial.progress.epoch = 1
    trial.model.train()
    batches = trial.order_epoch()
    taken = 0

    def step() -> int:
        nonlocal taken
        batch = batches[taken % len(batches)]
        taken += 1
        trial._step(batch)
        return sum(trial.training.lengths[index] for index in batch)

    return step


def _start_pack(task: Task, specs: list[TrialSpec], folder: Path) -> Step:
    capacities = Capacity.by_model(specs, len(specs))
    engine = PackedEngine(task.subsets, folder / "models", capacities)
    for spec in specs:
        engine.start(spec, folder / f"pack{len(specs)}" / spec.trial_id)
        engine.begin_epoch(spec.trial_id)
    trainer = engine._trainer
    if trainer is None:
        raise RuntimeError("no trial has been started")
    trials = list(trainer.trials.values())

    def step() -> int:
        for trial in trials:
            if trial.position + 1 >= len(trial.batches):
                trial.position = 0  # repeat the epoch: nothing is scored here
        # Counted on this side: a value from the device would be waited for.
        tokens = sum(
            trial.training.lengths[index]
            for trial in trials
            for part in trial.parts
            for index in part.indices
        )
        trainer._train(trials)
        return tokens

    return step


if __name__ == "__main__":
    main()
