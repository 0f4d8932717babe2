"""A real sweep on the device, under Ray: every cell has results, and they name the device."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from benchmarks.gpu.findings import Findings
from benchmarks.gpu.setting import Setting
from sweep.models.device import name_device
from sweep.storage.tables import RESULTS_NAME

NAME, ENGINES, LABELS = "small", ("packed", "solo"), (2, 4)
# Seconds that a sweep has after it was asked to stop.
GRACE = 15
# Seconds that a sweep takes at least.
SHORTEST = 40.0


def run_sweeps(setting: Setting, findings: Findings) -> None:
    """Run the same sweep with each engine."""
    for engine in ENGINES:
        if setting.left < SHORTEST:
            findings.note(f"no time for a sweep with the {engine} engine")
            return
        folder = setting.build_folder()
        path = folder / "sweep.yaml"
        path.write_text(yaml.safe_dump(_build_config(setting, engine)))
        code, log = _run([str(path), "--out", str(folder)], setting.left)
        if code is None:
            findings.note(f"{engine}: no time to end the sweep: {log[-500:]}")
            return
        findings.check(f"{engine}: the sweep ends well", code == 0, exit_code=code)
        if code != 0:
            findings.note(f"{engine}: {log[-2000:]}")
            continue
        rows = pq.read_table(folder / NAME / RESULTS_NAME).to_pylist()
        _check_rows(setting, findings, engine, [row for row in rows if row["device"]])


def _build_config(setting: Setting, engine: str) -> dict[str, Any]:
    family = setting.find_model(setting.families[0])
    return {
        "name": NAME,
        "data": {"source": "synthetic"},
        "grid": {
            "models": [{"name": family.name, "path": family.path}],
            "n_labels": list(LABELS),
            "n_samples": [64],
        },
        "tune": {"candidates": 2, "lora_rank": [4, 8], "learning_rate": 5e-3},
        "serving": {"measure": False},
        "asha": {"max_epochs": 2, "grace_epochs": 2},
        "resources": {"engine": engine},
        "baselines": [],
    }


def _run(words: list[str], seconds: float) -> tuple[int | None, str]:
    """Run a sweep; return its exit code and output. One that takes longer than ``seconds`` is
    asked to stop, so that Ray stops too, and has no code."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sweep.run", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        log, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            log, _ = process.communicate(timeout=GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            log, _ = process.communicate()
        return None, log
    return process.returncode, log


def _check_rows(
    setting: Setting, findings: Findings, engine: str, rows: list[dict[str, Any]]
) -> None:
    finished = {row["n_labels"] for row in rows if row["test_accuracy"] is not None}
    devices = sorted({row["device"] for row in rows})
    # The number of threads may differ in a worker.
    expected = name_device(setting.device).partition(" (")[0]
    named = bool(devices) and all(device.startswith(expected) for device in devices)
    findings.check(f"{engine}: every cell has results", finished == set(LABELS), trials=len(rows))
    findings.check(f"{engine}: the results name the device", named, devices=", ".join(devices))
    for row in rows:
        findings.add(
            "trials",
            engine=engine,
            **{name: row[name] for name in ("n_labels", "lora_rank", "status", "val_accuracy")},
            **{name: row[name] for name in ("test_accuracy", "load_seconds", "wall_seconds")},
        )
