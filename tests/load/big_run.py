"""Plans of ten thousand trials, and journals of runs over them, with made-up numbers."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweep.config import Config, load_config
from sweep.data import Subset, Subsets
from sweep.plan import Plan, TrialSpec, build_plan
from sweep.preflight.inputs import resolve_inputs
from sweep.storage.journal import Journal
from sweep.storage.run_folder import save_config

EPOCHS = 8
SHAPES = {
    "many-candidates": {"n_labels": [2, 4], "n_samples": [16, 32], "seeds": 1, "candidates": 625},
    "many-cells": {
        "n_labels": [2, 4, 8, 16],
        "n_samples": [16, 32, 64, 96, 112, 128, 160, 192, 208, 224],
        "seeds": 8,
        "candidates": 8,
    },
}
"""Two ways to ten thousand trials: 16 cells of 625 candidates, and 1280 cells of 8."""
CONFIG = """\
name: {name}
data: {{source: synthetic}}
grid:
  models:
    - {{name: tiny-llama, path: "tiny:llama"}}
    - {{name: tiny-gpt2, path: "tiny:gpt2"}}
    - {{name: tiny-qwen2, path: "tiny:qwen2"}}
    - {{name: tiny-gemma3, path: "tiny:gemma3"}}
  n_labels: {n_labels}
  n_samples: {n_samples}
  seeds: {seeds}
tune: {{candidates: {candidates}}}
serving: {{measure: false}}
asha: {{max_epochs: 8, grace_epochs: 1, reduction_factor: 3}}
baselines: []
"""
Content = tuple[str, dict[str, Any]]


def write_config(name: str, folder: Path) -> Path:
    """Write the configuration of a shape into ``folder``; return its path."""
    path = folder / f"{name}.yaml"
    shape = SHAPES[name] | {"seeds": list(range(SHAPES[name]["seeds"]))}  # type: ignore[call-overload]
    path.write_text(CONFIG.format(name=name, **shape))
    return path


def plan_config(path: Path) -> tuple[Config, Plan, Subsets]:
    """Return the configuration at ``path``, its plan and its subsets."""
    config = load_config(path)
    reached = resolve_inputs(config)
    assert reached.subsets is not None
    revisions = {name: found.revision for name, found in reached.models.items()}
    return config, build_plan(config, reached.subsets, revisions), reached.subsets


def write_run(folder: Path, config: Config, plan: Plan, subsets: Subsets, left: int = 0) -> None:
    """Write the journal of a run in which all but the last ``left`` trials have ended."""
    folder.mkdir(parents=True)
    save_config(folder, config)
    draw = random.Random(0)
    tests = {cell.labels: subsets.evaluation("test", cell.n_labels) for cell in plan.cells}
    with Journal(folder) as journal:
        journal.append("opened", host="h", pid=1, versions={"ray": "2"}, git_commit=None)
        journal.append_all([("planned", {"trial": spec}) for spec in plan.trials])
        for test in tests.values():
            content = {"labels": test.labels, "items": test.items, "truth": test.classes}
            journal.append("test_set", fingerprint=test.fingerprint(), **content)
        for spec in plan.trials[: len(plan.trials) - left]:
            journal.append_all(list(_run_trial(spec, tests[spec.cell.labels], draw)))


def _run_trial(spec: TrialSpec, test: Subset, draw: random.Random) -> Iterator[Content]:
    name = {"trial_id": spec.trial_id}
    yield "started", name
    best = 0.0
    for epoch in range(1, EPOCHS + 1):
        value = draw.random()
        best = max(best, value)
        yield "epoch", {**name, **_draw_epoch(epoch, draw), "val_accuracy": value,
                        "best_val_accuracy": best}  # fmt: skip
    yield "ended", {**name, **_draw_end(best, draw), **_draw_test(spec, test, draw)}


def _draw_epoch(epoch: int, draw: random.Random) -> dict[str, Any]:
    names = ("train_loss", "val_loss", "val_macro_f1", "train_seconds", "eval_seconds")
    decision = "continue" if epoch < EPOCHS else "done"
    rung = {"rung": 1.0 if epoch == 1 else None, "cutoff": None}
    return {"epoch": epoch, **{n: draw.random() for n in names}, "decision": decision, **rung}


def _draw_end(best: float, draw: random.Random) -> dict[str, Any]:
    costs = ("load_seconds", "train_seconds", "eval_seconds", "wall_seconds", "val_loss")
    counts = ("train_tokens", "padded_tokens", "trainable_parameters", "total_parameters")
    return {
        "host": "worker-1", "device": "cpu", "dtype": "float32", "status": "finished",
        "error": None, "epochs_run": EPOCHS, "best_epoch": 3, "truncated_texts": 0,
        "val_accuracy": best, "val_macro_f1": best, "peak_memory_bytes": 600_000_000,
        **{name: draw.random() for name in costs}, **dict.fromkeys(counts, 10_000),
    }  # fmt: skip


def _draw_test(spec: TrialSpec, test: Subset, draw: random.Random) -> dict[str, Any]:
    k = spec.cell.n_labels
    predicted = [c if draw.random() < 0.6 else draw.randrange(k) for c in test.classes]
    accuracy = sum(p == c for p, c in zip(predicted, test.classes, strict=True)) / len(test)
    return {
        "n_validation": len(test), "n_test": len(test), "test_accuracy": accuracy,
        "test_macro_f1": accuracy, "predictions": predicted, "test_set": test.fingerprint(),
    }  # fmt: skip
