"""The sweep that the clusters run, and its table on one machine to compare with."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from namespaces import REPO

# Long enough for a machine to come in place of one that was taken, and to have work left.
EPOCHS, TRIALS = 16, 10

# All rungs are passed by all: which trial arrives first differs between machines.
TREE: dict[str, Any] = {
    "name": "cluster",
    "data": {"source": "synthetic", "max_eval_per_label": 24},
    "grid": {
        "models": [{"name": f"tiny-{f}", "path": f"tiny:{f}"} for f in ("qwen2", "gpt2")],
        "n_labels": [4],
        "n_samples": [1600],
    },
    "tune": {
        "candidates": TRIALS // 2,
        "lora_rank": [4, 8],
        "learning_rate": {"loguniform": [1e-3, 1e-2]},
    },
    "serving": {"measure": False},
    "asha": {"max_epochs": EPOCHS, "grace_epochs": EPOCHS},
    "train": {"batch_size": 8, "max_length": 32, "dtype": "float32", "patience": None},
}
TIMES_AND_PLACES = {
    "started_at", "ended_at", "train_seconds", "eval_seconds", "wall_seconds", "load_seconds",
    "peak_memory_bytes", "host", "resumed_epoch", "base_loads", "gpus", "node_type", "market",
    "git_commit",  # no .git travels to a cluster
}  # fmt: skip


def write_sweep(folder: Path, **changes: Any) -> Path:
    """Write the configuration into ``folder``; return its path."""
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(TREE | changes))
    return path


def run_alone(folder: Path, config: Path) -> Path:
    """Run the sweep on this machine only; return the run folder."""
    command = [sys.executable, "-m", "sweep.run", str(config), "--out", str(folder)]
    quiet = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run(
        command, cwd=REPO, env=quiet, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "cluster"


def read_journal(run: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a journal, also while it grows."""
    path = run / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def trials_per_host(run: Path) -> dict[str, int]:
    """Return how many trials ended on each host."""
    ended = [event for event in read_journal(run) if event["event"] == "ended"]
    return dict(Counter(event.get("host", "?") for event in ended))


def comparable(run: Path) -> list[dict[str, Any]]:
    """Return the rows of the table without times and places, in a fixed order."""
    rows = pq.read_table(run / "results.parquet").to_pylist()
    kept = [{k: v for k, v in row.items() if k not in TIMES_AND_PLACES} for row in rows]
    return sorted(
        kept, key=lambda row: str(row["trial_id"]) + str(row["model"]) + str(row["cell_id"])
    )
