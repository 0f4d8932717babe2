"""Whatever is in a configuration: it loads completely, or one sentence says why not."""

import copy
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import yaml
from cases import REACHED, cases, check_sentence
from hypothesis import strategies as st
from strategies import KEYS, dotted, numbers, plain_texts, texts, trees, values, yaml_parts

from sweep.config import Config, check_name, dump_config, load_config
from sweep.config.types import derive_name
from sweep.errors import ConfigError
from sweep.plan import Plan, build_plan, draw_candidates
from sweep.storage.event_reader import parse_event

SMALL: dict[str, Any] = {
    "name": "small",
    "data": {"source": "synthetic", "splits": {"train": "train"}, "exclude_labels": ["neutral"]},
    "baselines": [{"features": "tiny:gpt2"}],
    "grid": {
        "models": [{"name": "tiny", "path": "tiny:llama"}],
        "n_labels": [2, 4],
        "n_samples": [16, 32],
        "seeds": [0],
    },
    "tune": {"candidates": 2, "lora_rank": [2, 4], "learning_rate": {"loguniform": [1e-4, 1e-2]}},
    "asha": {"max_epochs": 3, "grace_epochs": 1, "reduction_factor": 2},
    "train": {"batch_size": 8},
    "trackers": {"mlflow": {"experiment": "x"}, "wandb": {"project": "x"}},
}
NODES = (SMALL, SMALL["grid"], SMALL["grid"]["models"][0], SMALL["tune"], SMALL["data"])


class Facts:
    """Data that can fill every cell."""

    def labels_for(self, n_labels: int) -> tuple[str, ...]:
        return tuple(f"label {i}" for i in range(n_labels))

    def fingerprint(self, n_labels: int, n_samples: int, seed: int) -> str:
        return f"{n_labels} {n_samples} {seed}"


def put(tree: Any, path: tuple[str | int, ...], value: Any) -> None:
    """Set ``path`` in ``tree`` if its parents exist."""
    *parents, last = path
    for part in parents:
        if isinstance(part, int):
            tree = tree[part] if isinstance(tree, list) and tree else None
        elif isinstance(tree, dict):
            tree = tree.setdefault(part, {})
    if isinstance(tree, dict):
        tree[last] = value


def load(text: str | bytes, overrides: list[str] | None = None) -> Config | None:
    """Return the configuration, complete and ready to plan; None if it is refused."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "given.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "replace"))
        try:
            config = load_config(path, overrides or [])
        except ConfigError as error:
            assert "given.yaml" in check_sentence(error) or "--set" in str(error)
            return None
        check_round_trip(config, path)
    return config


def check_round_trip(config: Config, path: Path) -> None:
    path.write_text(dump_config(config), encoding="utf-8")
    again = load_config(path)
    assert again == config
    assert dump_config(again) == dump_config(config)


def plan(config: Config) -> Plan | None:
    for model in config.grid.models:
        try:
            candidates = draw_candidates(config, model)
        except ConfigError as error:
            assert "candidates" in check_sentence(error)
            return None
        assert len(candidates) == (model.overrides.candidates or config.tune.candidates)
    if max(config.grid.n_labels) > 10**4:
        return None
    return build_plan(config, Facts(), {model.name: model.path for model in config.grid.models})


def check_plan(config: Config) -> None:
    """Check that the plan, if any, is complete, deterministic, and has only finite numbers."""
    first = plan(config)
    if first is None:
        return
    trials = [trial.trial_id for trial in first.trials]
    expected = sum(len(first.candidates[cell.model]) for cell in first.cells)
    assert len(set(trials)) == len(trials) == expected
    assert len({cell.cell_id for cell in first.cells}) == len(first.cells)
    again = plan(config)
    assert again == first
    REACHED["plans"] += 1
    for each in {candidate for own in first.candidates.values() for candidate in own}:
        lora = each.lora
        assert lora is None or (lora.rank >= 1 and 0 <= lora.dropout < 1)
        assert each.learning_rate > 0
        values = (each.learning_rate, each.weight_decay, lora.alpha if lora else 0.0)
        assert all(map(math.isfinite, values))
    # What the journal will hold has to be readable again.
    for trial in first.trials:
        planned = {"event": "planned", "time": 1.0, "trial": trial.to_dict()}
        assert parse_event(json.dumps(planned).encode())["trial"] == trial


def check_text(text: str | bytes, overrides: list[str] | None = None) -> None:
    config = load(text, overrides)
    if config:
        check_plan(config)


fitting = st.one_of(
    st.integers(1, 12), st.floats(0.01, 0.9), st.lists(st.integers(2, 8), min_size=1, max_size=3),
    st.lists(plain_texts, max_size=3), plain_texts, st.booleans(), st.none(),
)  # fmt: skip
changes = st.lists(
    st.tuples(st.sampled_from(KEYS), trees | fitting | fitting), min_size=1, max_size=2
)


@cases(250, changes=changes)
def test_any_value_at_any_key(changes: list[tuple[tuple[str | int, ...], Any]]) -> None:
    tree = copy.deepcopy(SMALL)
    for path, value in changes:
        put(tree, path, value)
    check_text(yaml.safe_dump(tree, allow_unicode=True))


@cases(100, where=st.integers(0, len(NODES) - 1), key=texts | numbers, value=trees)
def test_any_unknown_key(where: int, key: Any, value: Any) -> None:
    tree = copy.deepcopy(SMALL)
    nodes = (tree, tree["grid"], tree["grid"]["models"][0], tree["tune"], tree["data"])
    nodes[where][key] = value
    check_text(yaml.safe_dump(tree))


numeric = [path for path in KEYS if path[0] in ("tune", "asha", "train", "resources", "grid")]
some_numbers = numbers | st.integers(1, 12) | st.floats(0.01, 0.9)
bounds = st.lists(some_numbers, min_size=2, max_size=2) | st.lists(some_numbers, max_size=3)
number_trees = st.one_of(
    some_numbers,
    st.lists(some_numbers, max_size=3),
    bounds.map(lambda pair: {"uniform": pair}),
    bounds.map(lambda pair: {"loguniform": pair}),
)


@cases(
    250,
    changes=st.lists(st.tuples(st.sampled_from(numeric), number_trees), min_size=1, max_size=2),
)
def test_any_number_at_any_key(changes: list[tuple[tuple[str | int, ...], Any]]) -> None:
    tree = copy.deepcopy(SMALL)
    for path, value in changes:
        put(tree, path, value)
    check_text(yaml.safe_dump(tree))


@cases(200, tree=trees)
def test_any_tree(tree: Any) -> None:
    check_text(yaml.safe_dump(tree))


@cases(300, parts=st.lists(yaml_parts | texts, max_size=14))
def test_any_yaml_like_text(parts: list[str]) -> None:
    check_text(" ".join(parts))
    check_text("".join(parts))


@cases(400, data=st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    check_text(data)


@cases(150, cut=st.integers(0, 500), data=st.binary(max_size=6), length=st.integers(0, 9))
def test_damaged_configuration(cut: int, data: bytes, length: int) -> None:
    whole = yaml.safe_dump(SMALL).encode()
    check_text(whole[:cut] + data + whole[cut + length :])


@cases(800, overrides=st.lists(st.builds("{}={}".format, dotted, values) | texts, max_size=3))
def test_any_override(overrides: list[str]) -> None:
    check_text(yaml.safe_dump(SMALL), overrides)


@cases(500, name=texts)
def test_any_name(name: str) -> None:
    try:
        assert check_name(name) == name
    except ValueError as error:
        assert "use letters" in str(error)
        return
    with tempfile.TemporaryDirectory() as parent:
        assert (Path(parent) / name).resolve().parent == Path(parent).resolve()


small = st.integers(1, 30)
model_paths = st.text(
    st.characters(codec="utf-8", exclude_characters="~\0"), min_size=1, max_size=9
)
spaces = st.one_of(
    st.lists(st.floats(1e-6, 0.5), min_size=1, max_size=4, unique=True),
    st.tuples(st.floats(1e-6, 0.1), st.floats(0.1, 0.9)).map(lambda b: {"uniform": list(b)}),
    st.tuples(st.floats(1e-6, 0.1), st.floats(0.1, 0.9)).map(lambda b: {"loguniform": list(b)}),
)
complete_trees = st.fixed_dictionaries(
    {
        "grid": st.fixed_dictionaries(
            {
                "models": st.lists(
                    st.fixed_dictionaries(
                        {"name": st.from_regex(r"[a-z0-9](\.?[a-z0-9_-]){0,3}", fullmatch=True),
                         "path": model_paths},
                        optional={"revision": st.text(max_size=5),
                                  "target_modules": st.lists(st.text(max_size=3), min_size=1,
                                                             max_size=2)},
                    ), min_size=1, max_size=3, unique_by=(lambda m: m["name"], lambda m: m["path"]),
                ),
                "n_labels": st.lists(st.sampled_from([2, 3, 4, 6]), min_size=1, unique=True),
                "n_samples": st.lists(small.map(lambda n: 12 * n), min_size=1, max_size=3,
                                      unique=True),
                "seeds": st.lists(st.integers(0, 2**31), min_size=1, max_size=3, unique=True),
            }
        ),
    },
    optional={
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,9}", fullmatch=True),
        "tune": st.fixed_dictionaries({}, optional={
            "candidates": st.integers(1, 3), "lora_rank": st.lists(
                st.integers(1, 64), min_size=3, max_size=5, unique=True),
            "learning_rate": spaces, "lora_dropout": spaces, "weight_decay": spaces,
            "lora_alpha_ratio": spaces, "seed": st.integers(0, 2**31),
        }),
        "data": st.fixed_dictionaries({}, optional={
            "text_column": st.text(max_size=5), "label_separator": st.text(min_size=1, max_size=2),
            "exclude_labels": st.lists(st.text(max_size=4), max_size=3),
            "label_order": st.none() | st.lists(st.text(max_size=4), unique=True, max_size=3),
            "quoted": st.booleans(), "max_eval_per_label": st.none() | small,
        }),
        "baselines": st.lists(st.sampled_from(["majority", "tf-idf"]), unique=True) | st.lists(
            st.fixed_dictionaries({"features": st.text(min_size=1, max_size=9)}),
            max_size=2, unique_by=lambda entry: derive_name(entry["features"]),
        ),
        "trackers": st.fixed_dictionaries({}, optional={
            "tensorboard": st.booleans(), "mlflow": st.booleans(),
            "wandb": st.fixed_dictionaries({"project": st.text(min_size=1, max_size=5)}),
        }),
    },
)  # fmt: skip


@cases(100, tree=complete_trees)
def test_sound_configuration_loads_and_plans(tree: dict[str, Any]) -> None:
    config = load(yaml.safe_dump(tree, allow_unicode=True))
    assert config is not None
    check_plan(config)
