"""Times the stock recipe and this project's engines on the same trials, and prints a table."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.floor import count_operations, measure_matmul
from benchmarks.tasks import Task, add_inputs, build_task, choose_models
from sweep.models.base import load_base, materialize
from sweep.storage.tables import RESULTS_NAME

# The workers' time outside trials: startup of Ray and processes, the driver's work, idling.
WAITING = "start and waiting"
PARTS = (
    "imports", "model load", "tokenizing", "training", "evaluation", "checkpoint", "report",
    WAITING,
)  # fmt: skip
ENGINES = {
    "lora": ("stock", "stock x2", "solo", "packed"),
    "full": ("stock", "stock x2", "plain", "solo"),
}


@dataclass(frozen=True)
class Timing:
    """One engine's run of the task."""

    engine: str
    # From the start of the command to its end.
    seconds: float
    val_accuracy: list[float]
    test_accuracy: list[float]
    # Seconds of all trials together, by part.
    parts: dict[str, float]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add_inputs(parser)
    add = parser.add_argument
    add("--labels", type=int, default=4)
    add("--samples", type=int, default=800)
    add("--epochs", type=int, default=2)
    add("--candidates", type=int, default=4)
    add("--rounds", type=int, default=3, help="runs of each engine, alternating (default: 3)")
    add("--engines", help=f"default: {','.join(ENGINES['lora'])}")
    add("--out", type=Path, help="write every run as a row of this Parquet file")
    return parser


def main() -> None:
    options = build_parser().parse_args()
    engines = (options.engines or ",".join(ENGINES[options.method])).split(",")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        task = build_task(folder, choose_models(options, folder), options.data, _changes(options))
        print(f"{len(task.plan.trials)} trials of {options.epochs} epochs", flush=True)
        timings = []
        for number in range(options.rounds):
            for engine in engines:
                timing = _time(engine, task, folder / f"{number}-{engine.replace(' ', '-')}")
                print(f"  round {number + 1}: {engine} {timing.seconds:.1f} s", flush=True)
                timings.append(timing)
        floor = _find_floor(task, torch.device(options.device), folder)
    print(format_table(timings, engines, floor))
    if options.out:
        write_rows(timings, floor, options)


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    tiny, full = not (options.model or options.random), options.method == "full"
    return {
        "n_labels": options.labels,
        "n_samples": options.samples,
        "candidates": options.candidates,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "device": options.device,
        "lora_rank": None if full else [4, 8, 16] if tiny else [8, 16],
        "learning_rate": [5e-5, 2e-4] if full else [2e-3, 8e-3] if tiny else [2e-4, 1e-3],
    }


def _time(engine: str, task: Task, folder: Path) -> Timing:
    folder.mkdir()
    if engine.startswith("stock"):
        return _time_stock(engine, task, folder)
    if engine == "plain":
        return _time_plain(engine, task, folder)
    words = [
        "sweep.run",
        str(task.path),
        "--out",
        str(folder),
        "--set",
        f"resources.engine={engine}",
    ]
    seconds = _run(words)
    val, test, parts = _read_own(folder / "benchmark")
    if engine == "packed":
        # Trials of a pack overlap: apart from its share of each step, a trial waits for the others.
        parts["checkpoint"] = 0.0
    workers = 1 if task.work["device"] == "cuda" else os.cpu_count() or 1
    parts[WAITING] = workers * seconds - sum(parts.values())
    return Timing(engine, seconds, val, test, parts)


def _time_stock(engine: str, task: Task, folder: Path) -> Timing:
    at_once = int(engine.partition("x")[2] or 1)
    cores = os.cpu_count() or 1
    gpus = 1 / at_once if task.work["device"] == "cuda" else 0
    # On a CPU, the machine's cores are what a GPU is: all for one trial, or shared.
    cpus = 1 if gpus else max(1, cores // at_once)
    (folder / "work.json").write_text(json.dumps(task.work | {"cpus": cpus, "gpus": gpus}))
    seconds = _run(["benchmarks.stock", str(folder / "work.json"), str(folder / "rows.json")])
    rows = json.loads((folder / "rows.json").read_text())
    parts = {part: sum(row["parts"].get(part, 0.0) for row in rows) for part in PARTS}
    parts[WAITING] = at_once * seconds - sum(parts.values())
    scores = ([row[f"{split}_accuracy"] for row in rows] for split in ("val", "test"))
    return Timing(engine, seconds, *scores, parts)


def _time_plain(engine: str, task: Task, folder: Path) -> Timing:
    (folder / "work.json").write_text(json.dumps(task.work))
    seconds = _run(["benchmarks.plain", str(folder / "work.json"), str(folder / "rows.json")])
    rows = json.loads((folder / "rows.json").read_text())
    parts = {part: sum(row["parts"].get(part, 0.0) for row in rows) for part in PARTS}
    parts[WAITING] = seconds - sum(parts.values())
    scores = ([row[f"{split}_accuracy"] for row in rows] for split in ("val", "test"))
    return Timing(engine, seconds, *scores, parts)


def _run(words: list[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr}{done.stdout}")
    return time.perf_counter() - start


def _read_own(run: Path) -> tuple[list[float], list[float], dict[str, float]]:
    """Return validation and test accuracy of each trial, and the seconds of each part."""
    rows = pq.read_table(run / RESULTS_NAME).to_pylist()
    total = {
        name: sum(row[f"{name}_seconds"] or 0.0 for row in rows)
        for name in ("load", "train", "eval", "wall")
    }
    parts = dict.fromkeys(PARTS, 0.0) | {
        "model load": total["load"],
        "training": total["train"],
        "evaluation": total["eval"],
        # The rest of an epoch is its checkpoint.
        "checkpoint": total["wall"] - total["load"] - total["train"] - total["eval"],
    }
    return (
        [row["val_accuracy"] for row in rows],
        [row["test_accuracy"] for row in rows],
        parts,
    )


def _find_floor(task: Task, device: torch.device, folder: Path) -> float:
    """Return the seconds that the trials' matrix multiplications take at the peak rate."""
    total = 0.0
    rates: dict[tuple[torch.dtype, int], float] = {}
    for ref, trials in groupby(task.plan.trials, key=lambda spec: spec.model):
        source = materialize(ref, folder / "models", task.subsets.training_texts)
        dtype = next(t["dtype"] for t in task.work["trials"] if t["model"] == source)
        base = load_base(ref, source, dtype, device)
        key = base.dtype, base.model.config.get_text_config().hidden_size
        if key not in rates:
            rates[key] = measure_matmul(device, *key)
        for spec in trials:
            cell = spec.cell
            data = task.subsets.of_cell(cell.n_labels, cell.n_samples, cell.seed)
            total += count_operations(base, data, spec) / rates[key]
    return total


def format_table(timings: list[Timing], engines: list[str], floor: float) -> str:
    """Return the table of medians, in Markdown."""
    medians = {
        engine: statistics.median(t.seconds for t in timings if t.engine == engine)
        for engine in engines
    }
    first = medians[engines[0]]
    lines = [
        "| engine | makespan, median (all) | stock / it | validation | test |",
        "|---|---|---|---|---|",
    ]
    for engine in engines:
        own = [t for t in timings if t.engine == engine]
        spread = " ".join(f"{t.seconds:.1f}" for t in own)
        val, test = (
            statistics.mean(score for t in own for score in scores(t))
            for scores in (lambda t: t.val_accuracy, lambda t: t.test_accuracy)
        )
        lines.append(
            f"| {engine} | {medians[engine]:.1f} s ({spread}) | {first / medians[engine]:.2f} "
            f"| {val:.3f} | {test:.3f} |"
        )
    lines += [f"| floor | {floor:.1f} s | {first / floor:.1f} | | |", ""]
    lines += ["Seconds of the trials by part, summed over trials, median run:", ""]
    lines += ["| engine | " + " | ".join(PARTS) + " |", "|---" * (len(PARTS) + 1) + "|"]
    for engine in engines:
        own = sorted((t for t in timings if t.engine == engine), key=lambda t: t.seconds)
        parts = own[len(own) // 2].parts
        lines.append(f"| {engine} | " + " | ".join(f"{parts[p]:.1f}" for p in PARTS) + " |")
    return "\n".join(lines)


def write_rows(timings: list[Timing], floor: float, options: argparse.Namespace) -> None:
    common = {"floor_seconds": floor, "device": options.device, "cores": os.cpu_count()}
    rows = [
        {"engine": t.engine, "seconds": t.seconds, "val_accuracy": t.val_accuracy,
         "test_accuracy": t.test_accuracy, **common, **{f"{p} s": t.parts[p] for p in PARTS}}
        for t in timings
    ]  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), options.out)


if __name__ == "__main__":
    main()
