"""Configuration: what is accepted, what is refused, and the sentence that says why."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.config import dump_config, load_config
from sweep.errors import ConfigError

WriteConfig = Callable[..., Path]
CONFIGS = sorted((Path(__file__).parents[2] / "sweep_configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configuration_loads(path: Path) -> None:
    assert load_config(path).name == path.stem.replace("_", "-")


def test_quickstart_is_the_complete_grid() -> None:
    grid = load_config(CONFIGS[0].parent / "quickstart.yaml").grid
    assert len(grid.models) * len(grid.n_labels) * len(grid.n_samples) == 48


def test_resolved_configuration_reads_back_the_same(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    config = load_config(write_config())
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config


def test_override_changes_one_key(write_config: WriteConfig) -> None:
    path = write_config()
    config = load_config(path, ["train.batch_size=4", "grid.models.0.path=tiny:gpt2"])
    assert config.train.batch_size == 4
    assert config.grid.models[0].path == "tiny:gpt2"


def test_number_that_yaml_reads_as_text_is_a_number(write_config: WriteConfig) -> None:
    config = load_config(write_config(), ["tune.weight_decay=1e-4", "train.max_grad_norm=1e-1"])
    assert config.tune.weight_decay.values == (1e-4,)
    assert config.train.max_grad_norm == 0.1


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.batchsize=3", "train.batchsize is not a known key; did you mean 'batch_size'?"),
        ("grids.n_labels=[2]", "grids is not a known key; did you mean 'grid'?"),
        ("grid.models.0.pth=x", "grid.models.0.pth is not a known key; did you mean 'path'?"),
        ("train.batch_size=fast", "train.batch_size: .*not 'fast'"),
        ("train.batch_size=0", "train.batch_size: .*greater than 0, not 0"),
        ("train.dtype=float8", "train.dtype: .*not 'float8'"),
        ("grid.n_labels=[]", "grid.n_labels: .*is empty; give at least one value"),
        ("grid.n_labels=[1]", "grid.n_labels.0: .*greater than or equal to 2, not 1"),
        ("grid.n_labels=[2,2]", "grid.n_labels: a value is listed twice"),
        ("grid.models=[]", "grid.models: .*is empty; give at least one value"),
        ("grid.models=[{name: ../x, path: a}]", "'../x' is not a usable name"),
        ("grid.models=[{name: a, path: x}, {name: a, path: y}]", "same name 'a'"),
        ("grid.models=[{name: a, path: x}, {name: b, path: x}]", "same path 'x'"),
        ("grid.n_samples=[801]", "801 cannot be balanced over n_labels 2: use 800 or 802"),
        ("tune.lora_rank=[1.5]", "lora_rank takes integers from 1 up"),
        ("tune.lora_rank=[]", "tune.lora_rank: an empty list leaves nothing to try"),
        ("tune.learning_rate=-1", "learning_rate must be above 0"),
        ("tune.candidates=true", "tune.candidates: a number is needed here"),
        ("asha.grace_epochs=9", "grace_epochs 9 is above max_epochs 3"),
        ("data.source=files", "source 'files' needs data.path"),
        ("name=../elsewhere", "'../elsewhere' is not a usable name"),
        ("resources.gpus_per_trial=lots", "resources.gpus_per_trial: .*not 'lots'"),
        ("train.compile=fast", "train.compile: .*not 'fast'"),
        ("train", "write KEY=VALUE"),
        ("grid.models.7.path=x", "'7' is not an index from 0 to 0"),
        ("train.batch_size.x=1", "'train.batch_size.x' is not a key of the configuration"),
    ],
)
def test_bad_value_is_refused_with_file_key_and_remedy(
    write_config: WriteConfig, override: str, sentence: str
) -> None:
    path = write_config()
    with pytest.raises(ConfigError, match=sentence) as caught:
        load_config(path, [override])
    assert "\n" not in str(caught.value)


def test_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere.yaml: cannot be read"):
        load_config(Path("nowhere.yaml"))


@pytest.mark.parametrize(
    "text", ["a: [1", "!!python/object/apply:os.system ['true']", "- 1", "", "\x00", "a: &x [*x]"]
)
def test_what_is_not_a_plain_yaml_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad.yaml"):
        load_config(path)
