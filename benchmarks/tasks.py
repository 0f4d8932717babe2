"""The trials that the engines are timed on: a configuration for ours, a list for the stock recipe,
the same texts for both."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers.pytorch_utils import Conv1D

from benchmarks.random_models import SIZES, write_random_model
from sweep.config import Config, load_config
from sweep.data import Subset, Subsets, build_subsets
from sweep.models.base import load_base, materialize
from sweep.models.sources import resolve_revision
from sweep.plan import ModelRef, Plan, TrialSpec, build_plan, scored_at_once

TINY = [{"name": f"tiny-{f}", "path": f"tiny:{f}"} for f in ("qwen2", "llama", "gpt2", "gemma3")]


@dataclass(frozen=True)
class Task:
    """The trials that every engine runs, and their inputs."""

    config: Config
    # The configuration file for our engines.
    path: Path
    plan: Plan
    subsets: Subsets
    # The input of the stock recipe, as JSON.
    work: dict[str, Any]


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose model, corpus, batch size and device."""
    add = parser.add_argument
    add("--model", help="folder of a real model (default: the four tiny families)")
    add("--method", choices=("lora", "full"), default="lora", help="how --model is fine-tuned")
    add("--random", choices=SIZES, help="a model of this size with random weights")
    add("--data", type=Path, help="folder of a corpus (default: the synthetic one)")
    add("--batch-size", type=int, default=16)
    add("--device", choices=("cpu", "cuda"), default="cpu")


def choose_models(options: argparse.Namespace, folder: Path) -> list[dict[str, str]]:
    """Return the models that ``options`` name, as in a configuration; a random one is written below
    ``folder``."""
    if options.random:
        path = write_random_model(options.random, folder / options.random)
        return [{"name": options.random, "path": str(path)}]
    if options.model:
        name = Path(options.model).name
        return [{"name": name, "path": options.model, "method": options.method}]
    return TINY


def build_task(
    folder: Path, models: list[dict[str, str]], data: Path | None, changes: dict[str, Any]
) -> Task:
    """Write the inputs of the trials into ``folder`` and return them.

    ``data`` names a corpus of files, or is None for the synthetic one; ``changes`` holds
    ``n_labels``, ``n_samples``, ``candidates``, ``epochs``, ``batch_size`` and ``device``.
    """
    source = {"source": "files", "path": str(data)} if data else {"source": "synthetic"}
    epochs = changes["epochs"]
    tree = {
        "name": "benchmark",
        "data": source,
        "grid": {
            "models": models,
            "n_labels": [changes["n_labels"]],
            "n_samples": [changes["n_samples"]],
        },
        "tune": {
            "candidates": changes["candidates"],
            **({"lora_rank": changes["lora_rank"]} if changes["lora_rank"] else {}),
            "learning_rate": {"loguniform": changes["learning_rate"]},
        },
        # Every trial trains every epoch, as the stock recipe does.
        "asha": {"max_epochs": epochs, "grace_epochs": epochs},
        "train": {"batch_size": changes["batch_size"], "max_length": 64},
        "baselines": [],
        # The stock recipe does not measure what a model is like in use.
        "serving": {"measure": False},
    }
    path = folder / "benchmark.yaml"
    path.write_text(yaml.safe_dump(tree))
    config = load_config(path)
    subsets = build_subsets(config)
    revisions = {model.name: resolve_revision(model) for model in config.grid.models}
    plan = build_plan(config, subsets, revisions)
    recipe = plan.trials[0].recipe
    bases = {spec.model: _describe_base(spec.model, subsets, folder, changes["device"])
             for spec in plan.trials}  # fmt: skip
    files = _write_texts(plan.trials[0], subsets, folder)
    work = {
        "trials": [_describe(spec, bases[spec.model] | {"files": files}) for spec in plan.trials],
        "epochs": epochs,
        "batch_size": recipe.batch_size,
        "eval_batch_size": scored_at_once(recipe),
        "max_length": recipe.max_length,
        "warmup_ratio": recipe.warmup_ratio,
        "device": changes["device"],
    }
    return Task(config, path, plan, subsets, work)


def _describe_base(ref: ModelRef, subsets: Subsets, folder: Path, device: str) -> dict[str, Any]:
    """Return where the stock recipe finds the model, and the number format that ours uses."""
    source = materialize(ref, folder / "models", subsets.training_texts)
    base = load_base(ref, source, "auto", torch.device(device))
    return {
        "model": source,
        "conv1d": any(isinstance(module, Conv1D) for module in base.model.modules()),
        "dtype": str(base.dtype).removeprefix("torch."),
    }


def _write_texts(spec: TrialSpec, subsets: Subsets, folder: Path) -> dict[str, str]:
    cell = spec.cell
    data = subsets.of_cell(cell.n_labels, cell.n_samples, cell.seed)
    parts = {"train": data.training, "validation": data.validation, "test": data.test}
    return {name: _write_subset(subset, folder / f"{name}.jsonl") for name, subset in parts.items()}


def _write_subset(subset: Subset, path: Path) -> str:
    rows = zip(subset.texts, subset.classes, strict=True)
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def _describe(spec: TrialSpec, base: dict[str, Any]) -> dict[str, Any]:
    candidate = spec.candidate
    return base | {
        "name": f"{spec.model.name}-{candidate.index}",
        "labels": list(spec.cell.labels),
        "lora_rank": candidate.lora_rank,
        "lora_alpha": candidate.lora_alpha,
        "lora_dropout": candidate.lora_dropout,
        "learning_rate": candidate.learning_rate,
        "weight_decay": candidate.weight_decay,
    }
