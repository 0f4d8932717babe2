"""Baselines on the features of a model: their entries in the configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.config import Config, FeaturesConfig, dump_config, load_config
from sweep.errors import ConfigError

Load = Callable[..., Config]
USUAL = ["majority", "tf-idf"]


@pytest.fixture
def load(write_config: Callable[..., Path]) -> Load:
    """Return a function that loads a configuration with the given ``baselines``."""
    return lambda *baselines: load_config(write_config(baselines=list(baselines)))


def test_default_is_as_before(write_config: Callable[..., Path]) -> None:
    config = load_config(write_config())
    assert config.baselines == config.baseline_names == USUAL


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("models/all-MiniLM-L6-v2/", "features-all-MiniLM-L6-v2"),
        ("BAAI/bge-small-en-v1.5", "features-bge-small-en-v1.5"),
        ("tiny:llama", "features-tiny-llama"),
        ("models/my model..v2", "features-my-model-v2"),
        ("..", "features"),
        ("x" * 120, "features-" + "x" * 91),
    ],
)
def test_name_comes_from_the_last_part_of_the_path(load: Load, path: str, name: str) -> None:
    assert load({"features": path}).baseline_names == [name]


def test_entry_reads_back_the_same(load: Load, tmp_path: Path) -> None:
    config = load("tf-idf", {"features": "a/b", "pooling": "cls", "revision": "v2"})
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config


def test_model_has_the_keys_of_the_entry(load: Load) -> None:
    ((index, entry),) = load("tf-idf", {"features": "a/b", "allow_pickle": True}).list_features()
    assert index == 1
    assert (entry.model.name, entry.model.path) == ("features-b", "a/b")
    assert entry.model.allow_pickle and not entry.model.trust_remote_code


@pytest.mark.parametrize(
    ("baselines", "sentence"),
    [
        (
            ["svm"],
            "baselines.0: 'svm' is not a baseline; use majority, tf-idf or {features: MODEL}",
        ),
        ([*USUAL, {"features": "x", "pool": "cls"}], "baselines.2.pool .*; did you mean 'pooling'"),
        ([{"features": "x", "pooling": "max"}], "baselines.0.pooling: should be 'auto', .*'max'"),
        ([{"name": "x"}], "baselines.0.features is missing; add it"),
        ([{"features": ""}], "baselines.0.features: is empty"),
        (
            [{"features": "x"}, {"features": "y/x"}],
            "baselines.1.name: features-x is the name of an",
        ),
        (
            [{"features": "x", "name": "tiny-llama"}],
            "baselines.0.name: tiny-llama is the name of a",
        ),
        ([{"features": "x", "name": "tf-idf"}], "baselines.0.name: tf-idf is the name of another"),
        (
            [{"features": "x"}, {"features": "x", "name": "y"}],
            "baselines.1: has the features, revi",
        ),
        ([{"features": "x", "name": "a/b"}], "baselines.0.name: 'a/b' is not a usable name"),
        ([{"features": "x"}] * 2, "baselines: a value is listed twice; list it once"),
    ],
)
def test_bad_entry_is_refused_with_its_key(load: Load, baselines: list[Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load(*baselines)


def test_one_model_may_be_pooled_in_two_ways(load: Load) -> None:
    entries = [{"features": "x"}, {"features": "x", "name": "x-mean", "pooling": "mean"}]
    assert load(*entries).baseline_names == ["features-x", "x-mean"]


def test_override_changes_a_key_of_an_entry(write_config: Callable[..., Path]) -> None:
    path = write_config(baselines=[{"features": "x"}])
    entry = load_config(path, ["baselines.0.pooling=mean"]).baselines[0]
    assert isinstance(entry, FeaturesConfig)
    assert entry.pooling == "mean"
