"""The metadata at the top of a model card, as the Hugging Face Hub reads them.

The keys are those of https://github.com/huggingface/hub-docs/blob/main/modelcard.md: what is not
known is left out.
"""

from dataclasses import dataclass
from typing import Any

import yaml

from sweep.config import DataConfig
from sweep.errors import format_line
from sweep.export.origins import Origins, find_dataset
from sweep.export.winner import Winner, has_hub_base
from sweep.models.sources import COMMIT
from sweep.verdicts.intervals import wilson_interval

TASK = "text-classification"
METRICS = ("accuracy", "f1")


@dataclass(frozen=True)
class Shape:
    """What kind of folder it is: its name, and whether the weights are merged."""

    name: str
    merged: bool


def build_metadata(winner: Winner, data: DataConfig, shape: Shape, origins: Origins) -> str:
    """Return the metadata as YAML between two lines of dashes, ASCII only."""
    spec, dataset = winner.spec, find_dataset(data)
    tree: dict[str, Any] = {
        **({"language": list(origins.languages)} if origins.languages else {}),
        **origins.license,
        "library_name": "transformers" if shape.merged else "peft",
        "pipeline_tag": TASK,
        "tags": [TASK, *(["lora"] if spec.candidate.lora else []), "sweep"],
    }
    if has_hub_base(spec):
        tree |= {"base_model": spec.model.path}
        tree |= {"base_model_relation": "finetune" if shape.merged else "adapter"}
    if dataset:
        tree["datasets"] = [dataset]
    tree["metrics"] = list(METRICS)
    results = [_describe_result(winner, data)]
    tree["model-index"] = [{"name": format_line(shape.name), "results": results}]
    return f"---\n{yaml.safe_dump(tree, sort_keys=False)}---\n"


def find_interval(winner: Winner) -> tuple[float, float]:
    """Return the 95 % Wilson interval of the test accuracy."""
    accuracy, n_test = winner.ended["test_accuracy"], winner.ended["n_test"]
    assert accuracy is not None and n_test is not None  # the trial has finished
    low, high = wilson_interval(accuracy, n_test)
    return float(low), float(high)


def _describe_result(winner: Winner, data: DataConfig) -> dict[str, Any]:
    low, high = find_interval(winner)
    accuracy, macro_f1 = winner.ended["test_accuracy"], winner.ended["test_macro_f1"]
    assert accuracy is not None and macro_f1 is not None  # the trial has finished
    right = {
        "type": "accuracy",
        "value": round(accuracy, 4),
        # An interval has no key of its own: ``args`` are those of the metric's computation.
        "name": f"Test accuracy (95 % Wilson interval {low:.4f} to {high:.4f})",
    }
    f1 = {
        "type": "f1",
        "value": round(macro_f1, 4),
        "name": "Test macro-F1",
        "args": {"average": "macro"},
    }
    return {
        "task": {"type": TASK, "name": "Text classification"},
        "dataset": _describe_test_set(winner, data),
        "metrics": [right, f1],
    }


def _describe_test_set(winner: Winner, data: DataConfig) -> dict[str, str]:
    dataset = find_dataset(data)
    name = dataset or ("synthetic corpus" if data.source == "synthetic" else "local files")
    count, labels = winner.ended["n_test"], winner.spec.cell.n_labels
    found = {
        # The Hub wants an id of every dataset; with a hyphen for a space it is none of the Hub's.
        "type": name.replace(" ", "-"),
        "name": f"{name}: {count} test texts, balanced over {labels} labels",
    }
    split = (data.splits or {}).get("test")
    if dataset:
        found |= {"config": format_line(data.config)} if data.config else {}
        found |= {"split": format_line(split)} if split else {}
        commit = data.revision and COMMIT.fullmatch(data.revision)
        found |= {"revision": data.revision} if data.revision and commit else {}
    return found
