"""Values that change nothing are refused or told of."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.config import load_config
from sweep.run import main

WriteConfig = Callable[..., Path]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for split, count in (("train", 40), ("validation", 8), ("test", 8)):
        rows = [f"{split} {i} is {word},{word}\n" for i in range(count) for word in ("good", "bad")]
        (folder / f"{split}.csv").write_text("text,label\n" + "".join(rows))
    (folder / "names.txt").write_text("good\nbad\n")
    return folder


@pytest.mark.parametrize(
    ("overrides", "code", "sentence"),
    [
        (["data.validation_fraction=0.2"], 0, "warning: data.validation_fraction has no effect"),
        (["data.test_fraction=0.2"], 0, "warning: data.test_fraction has no effect since"),
        (
            ["data.split_seed=3"],
            0,
            "warning: data.split_seed has no effect since no split is held out",
        ),
        (["data.label_separator=;"], 0, "data.label_separator has no effect since no training"),
        (["resources.slots=4"], 0, "resources.slots has no effect with engine solo"),
        (["resources.engine=packed", "resources.gpus_per_trial=0"], 0, "gpus_per_trial has no"),
        (["resources.engine=packed", "train.compile=true"], 0, "compile has no effect with engine"),
        (["train.patience=9"], 0, "train.patience has no effect with asha.max_epochs=3"),
        (["data.max_eval_per_label=9"], 0, "no effect since balancing leaves at most 8"),
        (["data.encoding=cp1252"], 0, "data.encoding has no effect since every text file is"),
        (["data.labels_file=names.txt"], 0, "data.labels_file has no effect since the labels are"),
        (["resources.engine=auto", "resources.slots=4"], 0, "slots has no effect with engine auto"),
        (["tune.candidates=1", "asha.reduction_factor=4"], 0, "note: asha.reduction_factor has no"),
        (["asha.grace_epochs=3"], 0, "no effect: no trial runs longer than asha.grace_epochs"),
        (["tune.seed=4"], 0, "tune.seed has no effect since every possible candidate is tried"),
        (["grid.models.0.revision=main"], 2, "error: grid.models.0.revision: tiny-llama is a tiny"),
        (["grid.models.0.trust_remote_code=true"], 0, "0.trust_remote_code has no effect with"),
        (["grid.models.0.allow_pickle=true"], 0, "0.allow_pickle has no effect with a tiny"),
    ],
)
def test_value_without_effect_is_told_in_the_dry_run(
    overrides: list[str],
    code: int,
    sentence: str,
    corpus: Path,
    write_config: WriteConfig,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_config(
        data={"path": str(corpus)},
        grid={
            "models": [{"name": "tiny-llama", "path": "tiny:llama"}],
            "n_labels": [2],
            "n_samples": [16],
        },
    )
    words = [word for override in overrides for word in ("--set", override)]
    assert main([str(path), "--dry-run", *words]) == code
    assert sentence in capsys.readouterr().out


def test_same_weights_under_two_names_are_refused(
    write_config: WriteConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"model_type": "llama"}')
        models.append({"name": name, "path": str(tmp_path / name)})
    path = write_config(grid={"models": models, "n_labels": [2], "n_samples": [16]})
    assert main([str(path), "--dry-run"]) == 2
    assert "grid.models.1: two has the same weights and method as one" in capsys.readouterr().out


def test_defaults_that_are_written_out_are_not_told_of(
    write_config: WriteConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sweep.config import dump_config

    config = load_config(write_config())
    (tmp_path / "all.yaml").write_text(dump_config(config))
    assert main([str(tmp_path / "all.yaml"), "--dry-run"]) == 0
    assert "no effect" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "data",
    [{"text_column": "x"}, {"labels_file": "x"}, {"encoding": "cp1252"},
     {"source": "synthetic", "splits": {"test": "x"}}],
)  # fmt: skip
def test_how_files_are_read_has_no_effect_on_the_built_in_corpus(
    data: dict[str, object], write_config: WriteConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(write_config(data=data)), "--dry-run"]) == 0
    assert f"warning: data.{list(data)[-1]} has no effect on the" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["path", "splits"])
def test_empty_path_does_not_mean_the_built_in_corpus(
    key: str, write_config: WriteConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(data={"text_column": "text"})
    assert main([str(path), "--dry-run", "--set", f"data.{key}="]) == 2
    assert f"{key} is empty; give a value" in capsys.readouterr().err


def test_leave_that_a_model_makes_no_use_of_is_told(
    write_config: WriteConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")
    model = {"name": "own", "path": str(tmp_path / "model")}
    leave = {"trust_remote_code": True, "allow_pickle": True}
    grid = {"models": [model | leave], "n_labels": [2], "n_samples": [16]}
    main([str(write_config(grid=grid)), "--dry-run"])
    told = capsys.readouterr().out
    assert "trust_remote_code has no effect since the model has no code of its own" in told
    assert "allow_pickle has no effect since the model has safetensors" in told
