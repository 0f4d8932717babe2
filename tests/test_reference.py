"""The page of every key and the JSON schema say what the loader does."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from sweep.config import Config
from tools.reference import PAGE, SCHEMA, build_schema, list_sections, write_page, write_schema

jsonschema = pytest.importorskip("jsonschema")

CONFIGS = sorted((Path(__file__).parent.parent / "sweep_configs").glob("*.yaml"))
MINIMAL = {
    "grid": {
        "models": [{"name": "a", "path": "tiny:llama"}],
        "n_labels": [2],
        "n_samples": [8],
    }
}
# Keys, and values that both accept or both refuse.
VALUES: dict[str, list[Any]] = {
    "name": ["run-1", "../x", "a..b", "", 3],
    "unknown": [1],
    "baselines": [
        [],
        ["tf-idf"],
        ["tf-idf", "tf-idf"],
        ["bert"],
        "tf-idf",
        None,
        [{}],
        [{"features": "a"}],
        [{"features": "a", "name": None}],
        [{"features": ""}],
        ["tf-idf", {"features": "a", "pooling": "cls"}],
        [{"features": "a", "pool": 1}],
    ],
    "data.path": ["data/goemotions", 3],
    "data.text_column": ["text", ["title", "body"], [], ["a", "a"], None, 3],
    "data.delimiter": ["tab", ";", "\t", "a", "", ";;", '"', None],
    "data.splits": [{"train": "a.csv", "test": None}, {"dev": "a.csv"}, "a.csv"],
    "data.label_order": [["a", "b"], ["a", "a"], None, "a"],
    "data.colums": [["text"]],
    "grid.n_labels": [[2, 4], [1], [2, 2], [], 2],
    "grid.seeds": [[0, 1], [-1], [2**32], []],
    "grid.models": [[], [{"name": "a"}], [{"name": "a", "path": ""}]],
    "tune.lora_rank": [8, [8, 16], 0, 1.5, [8, 8], [], {"uniform": [4, 8]}],
    "tune.learning_rate": [1e-4, "1e-4", [1e-4, 1e-3], {"loguniform": [1e-4, 1e-3]}, 0, "high"],
    "tune.lora_dropout": [0, 0.5, 1, {"uniform": [0, 0.1]}, {"normal": [0, 1]}, {"uniform": [0]}],
    "asha.reduction_factor": [3, 2.5, 1, "3", None],
    "train.batch_size": [16, 16.0, 0, 1.5, True, None],
    "train.max_grad_norm": [1, "1e-4", 0, True],
    "train.dtype": ["auto", "float16", "float8"],
    "train.gradient_checkpointing": ["auto", True, "always"],
    "train.compile": ["auto", False, "always"],
    "train.patience": [3, None, 0],
    "resources.slots": ["auto", 4, 257, "many"],
    "resources.cpus_per_trial": [0.5, 0],
    "storage.checkpoints": ["s3://b/p", "/mnt/x", "~/x", "x", "ftp://b/p", "s3://u:p@b/p", None],
    "trackers.mlflow": [True, False, None, {}, {"experiment": "a"}, {"project": "a"}, "yes"],
    "trackers": [{"tensorboard": True}, {"comet": True}, None],
}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return build_schema()


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> Any:
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def change(key: str, value: Any) -> dict[str, Any]:
    """Return the smallest configuration with one key set."""
    tree: dict[str, Any] = copy.deepcopy(MINIMAL)
    *parents, last = key.split(".")
    node = tree
    for part in parents:
        node = node.setdefault(part, {})
    node[last] = value
    return tree


def is_loaded(tree: dict[str, Any]) -> bool:
    try:
        Config.model_validate(tree)
    except ValidationError:
        return False
    return True


def test_page_is_up_to_date(schema: dict[str, Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == write_page(page, schema), "run make docs"


def test_schema_file_is_up_to_date(schema: dict[str, Any]) -> None:
    assert SCHEMA.read_text(encoding="utf-8") == write_schema(schema), "run make docs"


def test_every_key_has_a_line_that_says_what_it_means(schema: dict[str, Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    keys = [key for _, _, keys in list_sections(schema) for key in keys]
    assert {"name", "data.splits", "grid.models.N.path"} <= {key.name for key in keys}
    for key in keys:
        assert key.meaning.endswith("."), key.name
        assert f"\n| `{key.name}` | {key.kind} | {key.default} | {key.meaning} |\n" in page


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configuration_fits_and_names_the_schema(path: Path, validator: Any) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# yaml-language-server: $schema={SCHEMA.name}\n")
    validator.validate(yaml.safe_load(text))


@pytest.mark.parametrize("key", VALUES)
def test_schema_takes_what_the_loader_takes(key: str, validator: Any) -> None:
    for value in VALUES[key]:
        tree = change(key, value)
        assert validator.is_valid(tree) == is_loaded(tree), value


def test_unknown_key_is_refused_in_every_section(schema: dict[str, Any]) -> None:
    assert schema["additionalProperties"] is False
    assert all(section["additionalProperties"] is False for section in schema["$defs"].values())
