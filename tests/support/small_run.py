"""A small run folder, as a sweep leaves it, created without Ray."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
import yaml

from sweep.config import load_config
from sweep.data import Corpus, Subsets, build_subsets
from sweep.models.sources import resolve_revision
from sweep.plan import Capacity, TrialSpec, build_plan
from sweep.storage.checkpoints import keep_newest
from sweep.storage.journal import Journal
from sweep.storage.run_folder import save_config
from sweep.storage.tables import write_tables
from sweep.training.packed.engine import PackedEngine
from sweep.training.solo import SoloEngine

TINY_LLAMA = [{"name": "tiny-llama", "path": "tiny:llama"}]


def write_data(folder: Path, corpus: Corpus, names: dict[str, str] | None = None) -> Path:
    """Write ``corpus`` as JSON lines, its labels renamed."""
    folder.mkdir()
    for split, rows in corpus.splits.items():
        lines = [
            json.dumps({"text": row.text, "label": (names or {}).get(row.labels[0], row.labels[0])})
            for row in rows
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


class PackOfOne(PackedEngine):
    """The packed engine with the interface of the solo one, for one trial at a time."""

    def __init__(self, subsets: Subsets, models_folder: Path) -> None:
        super().__init__(subsets, models_folder, defaultdict(lambda: Capacity(1, 8, 4)))

    def run_epoch(self) -> dict[str, Any]:
        (trial_id,) = self.trials
        self.begin_epoch(trial_id)
        outcomes: dict[str, Any] = {}
        while not outcomes:
            outcomes = self.advance()
        return outcomes[trial_id]

    def close(self, trial_id: str | None = None) -> None:
        for each in self.trials if trial_id is None else [trial_id]:
            super().close(each)


def build_run(
    root: Path,
    data: Path,
    models: list[dict[str, str]],
    engine_class: type[SoloEngine] | type[PackOfOne] = SoloEngine,
    **train: Any,
) -> Path:
    """Run every trial without Ray; return the run folder, as a sweep leaves it."""
    run = root / "run"
    run.mkdir()
    tree = {
        "name": "small",
        "data": {"source": "files", "path": str(data)},
        "grid": {"models": models, "n_labels": [4], "n_samples": [32]},
        "tune": {"candidates": 1, "lora_rank": 4, "learning_rate": 5e-3},
        "asha": {"max_epochs": 2},
        "train": {"batch_size": 8, "max_length": 24, "dtype": "float32", **train},
    }
    (root / "small.yaml").write_text(yaml.safe_dump(tree))
    config = load_config(root / "small.yaml")
    save_config(run, config)
    subsets = build_subsets(config)
    revisions = {model.name: resolve_revision(model) for model in config.grid.models}
    plan = build_plan(config, subsets, revisions)
    engine = engine_class(subsets, run / "models")
    with Journal(run) as journal:
        journal.append("opened", versions={"torch": torch.__version__}, git_commit=None)
        test = subsets.evaluation("test", 4)
        journal.append("test_set", labels=test.labels, items=test.items, truth=test.classes)
        for spec in plan.trials:
            journal.append("planned", trial=spec)
            journal.append("ended", trial_id=spec.trial_id, **train_trial(engine, spec, run))
    write_tables(run)
    return run


def train_trial(engine: SoloEngine | PackOfOne, spec: TrialSpec, run: Path) -> dict[str, Any]:
    """Train a trial to the end; return the fields of its last event."""
    checkpoints = run / "checkpoints" / spec.trial_id
    facts = engine.start(spec, checkpoints)
    metrics: dict[str, Any] = {"done": False}
    while not metrics["done"]:
        metrics = engine.run_epoch()
    engine.close()
    keep_newest(checkpoints, 1)
    names = ("status", "error", "test_accuracy", "test_macro_f1", "predictions")
    return facts | metrics["totals"] | {name: metrics[name] for name in names}


def cell_of(run: Path, family: str) -> str:
    """Return the id of the family's only cell."""
    rows = pq.read_table(run / "results.parquet").to_pylist()
    return next(row["cell_id"] for row in rows if row["model"] == f"tiny-{family}")


def read_test_texts(run: Path) -> list[str]:
    """Return the run's test texts, in the order of its predictions."""
    return list(subsets_of(run).evaluation("test", 4).texts)


def subsets_of(run: Path) -> Subsets:
    """Return the subsets of the run's data."""
    return build_subsets(load_config(run / "config.yaml"))


def predictions_of(run: Path, family: str) -> list[str]:
    """Return the labels that the family gave the test texts."""
    rows = pq.read_table(run / "predictions.parquet").to_pylist()
    return [row["predicted"] for row in rows if row["model"] == f"tiny-{family}"]
