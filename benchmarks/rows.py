"""Times a classifier's passes over flat rows against those over rectangles padded to the longest
text: the same batches in turn, in one process, forward and backward as in training, and forward as
in scoring. Optimizer steps are left out."""

import argparse
import math
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
from torch.nn.functional import cross_entropy

from benchmarks.tasks import Task, add_inputs, build_task, choose_models
from sweep.models.device import name_device
from sweep.models.forward_pass import FLAT_PASSES
from sweep.plan import TrialSpec, scored_at_once
from sweep.training.batches import order_scoring
from sweep.training.solo import SoloEngine, SoloTrial


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rows", description=__doc__)
    add_inputs(parser)
    add = parser.add_argument
    add("--samples", type=int, default=800)
    add("--batches", type=int, default=40, help="timed in each round (default: 40)")
    add("--rounds", type=int, default=5)
    add("--dtype", choices=("float32", "bfloat16"), default="float32")
    add("--threads", type=int, default=1)
    return parser


def main() -> None:
    options = build_parser().parse_args()
    torch.set_num_threads(options.threads)
    print(f"{name_device(torch.device(options.device))}; {options.dtype}; milliseconds a batch")
    print("| model | method | pass | padding | rectangles | flat rows | ratio |")
    print("|---|---|---|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number, model in enumerate(choose_models(options, folder)):
            work = folder / str(number)
            work.mkdir()
            for row in _compare(options, work, model):
                print(f"| {model['name']} | {options.method} | {row} |", flush=True)


def _compare(options: argparse.Namespace, folder: Path, model: dict[str, str]) -> list[str]:
    task = _build_task(options, folder, model)
    spec = task.plan.trials[0]
    spec = replace(spec, recipe=replace(spec.recipe, dtype=options.dtype))
    flat = _start(task, spec, folder)
    with patch.dict(FLAT_PASSES, clear=True):
        padded = _start(task, spec, folder)
    if not flat.base.forward.flat or padded.base.forward.flat:
        raise SystemExit(f"{model['name']} has no pass over flat rows to compare")
    flat.progress.epoch = 1
    training = flat.order_epoch()
    scoring = order_scoring(flat.validation.lengths, scored_at_once(spec.recipe))
    trials = {"padded": padded, "flat": flat}
    return [
        _time(trials, training[: options.batches], options.rounds, "training"),
        _time(trials, scoring[: options.batches], options.rounds, "scoring"),
    ]


def _build_task(options: argparse.Namespace, folder: Path, model: dict[str, str]) -> Task:
    changes = {
        "n_labels": 4,
        "n_samples": options.samples,
        "candidates": 1,
        "epochs": 1,
        "batch_size": options.batch_size,
        "device": options.device,
        "lora_rank": [8] if options.method == "lora" else None,
        "learning_rate": [2e-4, 1e-3],
    }
    return build_task(folder, [model], options.data, changes)


def _start(task: Task, spec: TrialSpec, folder: Path) -> SoloTrial:
    engine = SoloEngine(task.subsets, folder / "models")
    engine.start(spec, folder / "trial")
    return engine._trial


def _time(
    trials: Mapping[str, SoloTrial], batches: Sequence[list[int]], rounds: int, kind: str
) -> str:
    """Return a row of the table: the share of padding, mean times and their ratio. Of each batch,
    the fastest of the rounds counts: what else the machine does makes times longer."""
    on_gpu = trials["flat"].base.device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    best = {name: [math.inf] * len(batches) for name in trials}
    for trial in trials.values():
        _pass(trial, batches[0], kind)  # warm-up
    for number in range(rounds):
        counts = dict.fromkeys(trials, 0)
        for place, batch in enumerate(batches):
            # Each goes first in turn.
            for name in sorted(trials, reverse=bool((number + place) % 2)):
                start = clock()
                counts[name] += _pass(trials[name], batch, kind)
                best[name][place] = min(best[name][place], clock() - start)
    padding = 1 - counts["flat"] / counts["padded"]
    slow, fast = (1000 * statistics.fmean(best[name]) for name in ("padded", "flat"))
    return f"{kind} | {padding:.1%} | {slow:.1f} | {fast:.1f} | {slow / fast:.2f}"


def _pass(trial: SoloTrial, batch: list[int], kind: str) -> int:
    """Pass a batch; return its tokens, padding included."""
    training = kind == "training"
    encoded, tokens = trial.training if training else trial.validation, 0
    trial.model.train(training)
    with torch.inference_mode(not training):
        for _, texts, classes in trial.parts(encoded, batch):
            loss = cross_entropy(trial._logits(texts), classes, reduction="sum")
            if training:
                torch.autograd.backward(loss)
            tokens += trial.base.forward.count(texts)
    trial.optimizer.zero_grad(set_to_none=True)
    if trial.base.device.type == "cuda":
        torch.cuda.synchronize()
    return tokens


if __name__ == "__main__":
    main()
