"""The same trials by the stock recipe, by the solo engine and in a pack, side by side."""

import statistics
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from benchmarks.gpu.engines import Curve, run_packed, run_solo
from benchmarks.gpu.findings import Findings
from benchmarks.gpu.setting import Setting
from benchmarks.stock import train
from benchmarks.tasks import Task, build_task
from sweep.plan import TrialSpec

# Seconds that only a process of its own spends; here the libraries are there already.
NOT_COUNTED = "imports"


def compare_recipes(setting: Setting, findings: Findings) -> None:
    """Run the trials of a small grid three times. No Ray: what is compared is the training."""
    # One model: the first of real width where there is a GPU.
    task = _build_task(setting, setting.timed[0])
    specs = task.plan.trials
    stock: float | None = None
    with findings.attempt("the stock recipe"):
        stock = _run_stock(findings, task)
    with findings.attempt("the solo engine"):
        start = time.perf_counter()
        curves = run_solo(setting, specs)
        _add_curves(findings, "solo", specs, time.perf_counter() - start, stock, curves)
    with findings.attempt("the packed engine"):
        start = time.perf_counter()
        curves, failures = run_packed(setting, specs)
        taken = time.perf_counter() - start
        for error in failures.values():
            raise error
        _add_curves(findings, f"pack of {len(specs)}", specs, taken, stock, curves)


def _run_stock(findings: Findings, task: Task) -> float:
    """Return the seconds of all trials by the stock recipe."""
    rows = [_train_stock(task, trial) for trial in task.work["trials"]]
    seconds = sum(sum(row["parts"].values()) - row["parts"][NOT_COUNTED] for row in rows)
    validation, test = ([row[f"{name}_accuracy"] for row in rows] for name in ("val", "test"))
    _add_row(findings, "stock", task.plan.trials, seconds, seconds, validation, test)
    return float(seconds)


def _build_task(setting: Setting, name: str) -> Task:
    ref = setting.find_model(name)
    tiny = ref.path.startswith("tiny:")
    changes: dict[str, Any] = {
        "n_labels": 4,
        "n_samples": 400 if setting.on_gpu else 64,
        "candidates": 4 if setting.on_gpu else 2,
        "epochs": 2,
        "batch_size": 16,
        "device": setting.device.type,
        "lora_rank": [8, 16],
        "learning_rate": [2e-3, 8e-3] if tiny else [2e-4, 1e-3],
    }
    model = {"name": ref.name, "path": ref.path}
    return build_task(setting.build_folder(), [model], setting.data, changes)


def _train_stock(task: Task, trial: dict[str, Any]) -> dict[str, Any]:
    """Return scores and seconds by part of a trial."""
    sent: dict[str, Any] = {}

    def keep(metrics: dict[str, Any], checkpoint: object = None) -> None:
        sent.update(metrics)

    with redirect_stdout(StringIO()):  # the Trainer prints every evaluation
        train({"work": task.work | {"cpus": 1}, "trial": trial}, keep)
    return sent


def _add_curves(
    findings: Findings,
    engine: str,
    specs: Sequence[TrialSpec],
    seconds: float,
    stock: float | None,
    curves: dict[str, Curve],
) -> None:
    last = [curves[spec.trial_id][-1] for spec in specs]
    statuses = {str(result.get("status")) for result in last}
    findings.check(f"{engine}: all trials finish", statuses == {"finished"}, n=len(last))
    best = [result["totals"]["val_accuracy"] or 0.0 for result in last]
    tests = [result["test_accuracy"] for result in last]
    _add_row(findings, engine, specs, seconds, stock, best, tests)


def _add_row(
    findings: Findings,
    engine: str,
    specs: Sequence[TrialSpec],
    seconds: float,
    stock: float | None,
    validation: Sequence[float],
    test: Sequence[float],
) -> None:
    findings.add(
        f"{len(specs)} trials of {specs[0].model.name}, {specs[0].cell.n_samples} texts",
        engine=engine,
        seconds=seconds,
        **{
            "stock / it": stock and stock / seconds,
            "validation accuracy": statistics.mean(validation),
        },
        **{"test accuracy": statistics.mean(test)},
    )
