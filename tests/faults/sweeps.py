"""The sweeps that are killed: small enough to end in half a minute, real in every other way."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MAX_EPOCHS = 6


@dataclass(frozen=True)
class Mode:
    """A way to run the sweep whose table does not depend on time."""

    name: str
    cpus: int
    """Trials at once: each takes one CPU of the cluster."""
    grace_epochs: int
    """ASHA's stops follow from the order of arrival: one worker keeps it, two must not need it."""
    engine: str = "solo"
    families: tuple[str, ...] = ("qwen2", "gpt2")


MODES = (
    Mode("one-worker", cpus=1, grace_epochs=1),
    Mode("two-workers", cpus=2, grace_epochs=MAX_EPOCHS),
)
# GPT-2's own dropout depends on who shares a pack, so it has no place here.
WRITER_MODES = tuple(
    Mode(f"{engine}-writer", 1, MAX_EPOCHS, engine, families=("llama",))
    for engine in ("solo", "packed")
)


def write_config(mode: Mode, folder: Path) -> Path:
    """Write the configuration of ``mode`` into ``folder``; return its path."""
    tree: dict[str, Any] = {
        "name": mode.name,
        "data": {"source": "synthetic", "max_eval_per_label": 12},
        "grid": {
            "models": [{"name": f"tiny-{f}", "path": f"tiny:{f}"} for f in mode.families],
            "n_labels": [2, 4],
            "n_samples": [160],
        },
        "tune": {
            "candidates": 4,
            "lora_rank": [4, 8],
            "lora_dropout": 0.1,
            "learning_rate": {"loguniform": [1e-3, 1e-2]},
        },
        "serving": {"measure": False},
        "asha": {
            "max_epochs": MAX_EPOCHS,
            "grace_epochs": mode.grace_epochs,
            "reduction_factor": 2,
        },
        # The dtype that suits a CPU is measured, so on a busy machine it differs from run to run.
        "train": {"batch_size": 16, "max_length": 32, "dtype": "float32"},
        # Workers are killed at random: none may be killed too often to be started again.
        "resources": {"max_retries": 20, "engine": mode.engine},
    }
    path = folder / f"{mode.name}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def build_environment(mode: Mode, scratch: Path) -> dict[str, str]:
    """Return the variables of a session: a Ray of its own, below ``scratch``, of so many CPUs."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    own = {
        "RAY_TMPDIR": str(scratch),
        "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": mode.cpus}),
        "HF_HUB_OFFLINE": "1",
    }
    return inherited | own
