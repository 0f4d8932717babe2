"""The preflight: what it finds before training, in which words, and how a run takes it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError
from model_configs import GPT2_XL, LLAMA, QWEN
from model_folders import ENCODERS, write_folder, write_hollow

from sweep.cluster.allocation import (
    Arrangement,
    arrange,
    choose_engine,
    choose_gpu_share,
    choose_slots,
    count_slots,
    trial_resources,
    use_gpus,
)
from sweep.cluster.hardware import Gpu, Machine
from sweep.cluster.nodes import explain_storage
from sweep.config import Config, ModelConfig, ResourcesConfig, load_config
from sweep.errors import ClusterError, ModelError, format_bytes, format_duration
from sweep.models.file_check import ResolvedModel, check_model
from sweep.models.sources import explain_gated, find_hub_config, is_gated, resolve_revision
from sweep.preflight.checks import (
    check_disk,
    check_length,
    check_memory,
    check_pack,
    check_resources,
    check_workers,
)
from sweep.preflight.forecast import CellTexts, Forecaster
from sweep.preflight.inputs import resolve_inputs
from sweep.preflight.preflight import (
    Preflight,
    check_plan,
    format_count,
    format_preflight,
    format_warnings,
)
from sweep.preflight.runtime import TextSizes
from sweep.preflight.setup import RunSetup, Target
from sweep.run import main
from sweep.storage.forecast import Forecast, PackBytes

WriteConfig = Callable[..., Path]
GB = 10**9
CPU = Machine(cpus=4, memory_bytes=16 * GB)
GPU = Machine(cpus=8, memory_bytes=64 * GB, gpus=(Gpu("NVIDIA A10G", 24 * GB),))
TWO_GPUS = replace(GPU, gpus=2 * GPU.gpus)
# A GPU of 24 GB holds 8 trials in the 92 % that may be used, and 9 in all of it.
PACK = PackBytes(4 * GB, 1.75 * GB, GB, 3 * GB)
SMALL_PACK = PackBytes(2 * GB, GB, GB, GB)
SMALL = ["--set", "grid.n_samples=[64]"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_model(folder: Path, tree: dict[str, Any], weights: str = "model.safetensors") -> Path:
    """Write a model folder with a configuration, a tokenizer, and a weight file of that name."""
    write_hollow(folder, tree)
    if weights:
        (folder / "model.safetensors").rename(folder / weights)
    else:
        (folder / "model.safetensors").unlink()
    return folder


def preflight_of(
    write_config: WriteConfig, model: dict[str, Any], machine: Machine | None = CPU, **changes: Any
) -> Preflight:
    """Return the preflight of one model on the built-in corpus."""
    grid = {"models": [model], "n_labels": [2], "n_samples": [64]}
    config = load_config(write_config(grid=grid, **changes))
    folder = Path("/nowhere/run")
    return check_plan(config, resolve_inputs(config), None, frozenset(), folder, Target(machine))


def sentences(preflight: Preflight, level: str = "error") -> list[str]:
    return [finding.sentence for finding in preflight.findings if finding.level == level]


def test_sound_plan_has_no_finding(write_config: WriteConfig) -> None:
    preflight = preflight_of(write_config, {"name": "a", "path": "tiny:llama"})
    assert preflight.findings == []
    assert preflight.total is not None
    low, likely, high = preflight.total.seconds
    assert 0 < low <= likely <= high


@pytest.mark.parametrize("tree", [LLAMA, QWEN])
def test_model_too_large_for_the_machine_is_an_error(
    tree: dict[str, Any], write_config: WriteConfig, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", tree)
    small = Machine(cpus=2, memory_bytes=2 * GB)
    preflight = preflight_of(write_config, {"name": "big", "path": str(folder)}, small)
    (sentence,) = sentences(preflight)
    assert "a trial of big needs about" in sentence
    assert "this machine has 2 GB; use a smaller model" in sentence


def test_model_in_float16_takes_as_much_memory_as_in_bfloat16(write_config: WriteConfig) -> None:
    needed = []
    for dtype in ("float32", "bfloat16", "float16"):
        train = {"dtype": dtype}
        preflight = preflight_of(write_config, {"name": "a", "path": "tiny:llama"}, train=train)
        needed.append(preflight.models[0].memory_bytes_per_trial)
    assert needed[0] > needed[1] == needed[2]


def test_several_trials_too_large_together_are_a_warning_with_the_cpus_to_set() -> None:
    (finding,) = check_memory("big", 7 * GB, ResourcesConfig(), CPU)
    assert finding.level == "warning"
    assert finding.sentence.startswith("4 trials of big at a time need about 28 GB")
    assert "set resources.cpus_per_trial=2," in finding.sentence


def test_trials_that_fit_are_not_spoken_of() -> None:
    assert check_memory("m", 3 * GB, ResourcesConfig(), CPU) == []
    assert check_memory("m", 20 * GB, ResourcesConfig(), GPU) == []


def test_gpu_too_small_is_an_error_and_too_small_a_share_a_warning() -> None:
    (error,) = check_memory("m", 40 * GB, ResourcesConfig(), GPU)
    assert error.level == "error"
    assert "this GPU has 24 GB" in error.sentence
    (warning,) = check_memory("m", 10 * GB, ResourcesConfig(gpus_per_trial=0.25), GPU)
    assert warning.level == "warning"
    assert "its share of a GPU (6 GB); set resources.gpus_per_trial=auto" in warning.sentence
    (warning,) = check_memory("m", 25 * GB, ResourcesConfig(), GPU)
    assert "more than a GPU (24 GB); lower train.max_batch_tokens" in warning.sentence
    assert "auto" not in warning.sentence


@pytest.mark.parametrize(
    ("checkpointed", "named"), [(20 * GB, True), (26 * GB, False), (None, False)]
)
def test_refusal_names_gradient_checkpointing_where_it_helps(
    checkpointed: int | None, named: bool
) -> None:
    sharing, pack = Arrangement("packed", 12, 1), PackBytes(40 * GB, GB, GB, GB)
    (error,) = check_memory("m", 40 * GB, ResourcesConfig(), GPU, checkpointed)
    (refused,) = check_pack("m", pack, sharing, GPU, checkpointed)
    for sentence in (error.sentence, refused.sentence):
        assert ("set train.gradient_checkpointing=true, or use" in sentence) is named


def test_memory_of_gpus_of_unknown_size_is_not_checked() -> None:
    machine = replace(GPU, gpus=(Gpu("NVIDIA H100", 0),), memory_bytes=GB)
    assert check_memory("m", 40 * GB, ResourcesConfig(), machine) == []
    assert check_pack("m", PACK, Arrangement("packed", 8, 1), machine) == []
    assert arrange("packed", ResourcesConfig(), machine, 0, [PACK]).trials == 8


def forecast_qwen(
    write_config: WriteConfig, machine: Machine, checkpointing: str | bool, **resources: Any
) -> tuple[bool, int, int | None]:
    """Return whether trials that train all of Qwen on 8,192 tokens checkpoint gradients, and their
    bytes, now and with it if it is off."""
    method = "lora" if resources else "full"
    grid: dict[str, Any] = {
        "models": [{"name": "q", "path": "q", "method": method}],
        "n_labels": [2],
        "n_samples": [64],
    }
    train = {"batch_size": 128, "gradient_checkpointing": checkpointing}
    tune = {"learning_rate": {"loguniform": [2e-5, 3e-4]}}
    config = load_config(write_config(grid=grid, train=train, tune=tune, resources=resources))
    texts = {(2, 64, 0): CellTexts(TextSizes(64.0, 64), 100)}
    forecaster = Forecaster(config, texts, machine, Path("/nowhere"), {})
    workload = forecaster.build_workload(0, ResolvedModel("q", QWEN, None), None)
    assert workload is not None
    estimate = forecaster.estimate_model(workload)
    least = estimate.pack.total(1) if resources else estimate.memory_bytes_per_trial
    return workload.load.checkpointed, least, estimate.checkpointed_bytes


def test_memory_on_a_gpu_is_that_with_gradient_checkpointing_where_auto_turns_it_on(
    write_config: WriteConfig,
) -> None:
    machines = [replace(GPU, gpus=(Gpu("NVIDIA", size * GB),)) for size in (80, 48, 0)]
    on_large, on_small, on_unknown = (forecast_qwen(write_config, m, "auto") for m in machines)
    assert [found[0] for found in (on_large, on_small, on_unknown)] == [False, True, False]
    assert on_large[1] > 60 * GB > 48 * GB > on_small[1]
    assert (on_large[2], on_small[2]) == (on_small[1], None)
    assert forecast_qwen(write_config, machines[1], False) == on_large


def test_packs_checkpoint_gradients_where_not_even_one_trial_fits_without(
    write_config: WriteConfig,
) -> None:
    packed = {"engine": "packed"}
    machines = [replace(GPU, gpus=(Gpu("NVIDIA", size * GB),)) for size in (80, 24)]
    large, small = (forecast_qwen(write_config, m, "auto", **packed) for m in machines)
    assert (large[0], small[0]) == (False, True)
    assert large[1] > 24 * GB > small[1] == large[2]


@pytest.mark.parametrize(
    ("memory", "gpu", "share"),
    [(5 * GB, 24 * GB, 0.25), (1, 24 * GB, 0.125), (23 * GB, 24 * GB, 1.0), (99 * GB, 24 * GB, 1.0),
     (7 * GB, 24 * GB, 0.3333), (None, 24 * GB, 1.0), (5 * GB, None, 1.0)],
)  # fmt: skip
def test_share_of_a_gpu_is_one_over_the_trials_that_fit(
    memory: int | None, gpu: int | None, share: float
) -> None:
    assert choose_gpu_share(memory, gpu) == share


def test_trials_get_their_share_where_the_cluster_has_gpus(config: Config) -> None:
    cluster = {"CPU": 8.0, "GPU": 1.0}
    assert trial_resources(config, cluster, 5 * GB, 24 * GB) == {"CPU": 1, "GPU": 0.25}
    assert trial_resources(config, cluster, 5 * GB, None) == {"CPU": 1, "GPU": 1.0}
    assert trial_resources(config, {"CPU": 8.0}, 5 * GB, None) == {"CPU": 1}


def test_slots_follow_from_cpus_and_from_shares_of_gpus() -> None:
    assert count_slots(ResourcesConfig(cpus_per_trial=2), CPU, GB) == 2
    assert count_slots(ResourcesConfig(), GPU, 5 * GB) == 4
    assert count_slots(ResourcesConfig(gpus_per_trial=0.5), GPU, 5 * GB) == 2


@pytest.mark.parametrize(
    ("share", "trials"), [(0.6, 4), (0.3, 12), (0.25, 16), (0.3333, 12), (0.1, 40), (1, 4), (2, 2)]
)
def test_fraction_of_a_gpu_is_of_one_gpu(share: float, trials: int) -> None:
    machine = replace(GPU, cpus=64, gpus=4 * GPU.gpus)
    assert count_slots(ResourcesConfig(gpus_per_trial=share), machine, GB) == trials


@pytest.mark.parametrize(
    ("keys", "machine", "expected"),
    [
        ({"engine": "solo"}, CPU, ("solo", 4, 4)),
        ({"engine": "auto"}, CPU, ("solo", 4, 4)),
        ({"engine": "packed"}, CPU, ("packed", 8, 4)),
        ({"engine": "packed", "slots": 3, "cpus_per_trial": 2}, CPU, ("packed", 6, 2)),
        ({"engine": "packed"}, GPU, ("packed", 8, 1)),
        ({"engine": "auto", "slots": 6}, TWO_GPUS, ("packed", 12, 2)),
        ({"engine": "solo"}, TWO_GPUS, ("solo", 8, 2)),
        ({"engine": "solo", "gpus_per_trial": 2}, TWO_GPUS, ("solo", 1, 1)),
        ({"engine": "solo", "gpus_per_trial": 0}, TWO_GPUS, ("solo", 8, 8)),
    ],
)
def test_trials_share_a_machine_as_the_engine_has_them(
    keys: dict[str, Any], machine: Machine, expected: tuple[str, int, int]
) -> None:
    resources = ResourcesConfig(**keys)
    engine = choose_engine(resources, bool(machine.gpus))
    here = use_gpus(resources, machine)
    found = arrange(engine, resources, here, 5 * GB, [PACK])
    assert (found.engine, found.trials, found.devices) == expected


def test_slots_of_a_run_are_those_of_its_forecast() -> None:
    # What a run asks of its cluster, and what the dry run says of a machine.
    resources = ResourcesConfig(engine="packed")
    slots = choose_slots(resources, [PACK, SMALL_PACK], 24 * GB, on_gpu=True)
    assert slots == arrange("packed", resources, GPU, 0, [PACK, SMALL_PACK]).trials == 8


def test_packs_too_large_for_a_gpu_are_told_with_the_slots_that_fit() -> None:
    sharing = Arrangement("packed", 12, 1)
    (warning,) = check_pack("m", PACK, sharing, GPU)
    assert (warning.level, warning.key) == ("warning", "resources.slots")
    assert "12 trials of m at a time need about 28 GB of a GPU's 24 GB" in warning.sentence
    assert "set resources.slots=9, or lower train.max_batch_tokens" in warning.sentence
    assert check_pack("m", PACK, Arrangement("packed", 9, 1), GPU) == []
    (error,) = check_pack("m", PackBytes(40 * GB, GB, GB, GB), sharing, GPU)
    assert error.level == "error"
    assert "this GPU has 24 GB" in error.sentence


def test_packs_too_large_for_a_machine_without_gpus_are_told_with_the_slots_that_fit() -> None:
    (warning,) = check_pack("m", SMALL_PACK, Arrangement("packed", 16, 4), CPU)
    assert "16 trials of m at a time need about 28 GB of this machine's 16 GB" in warning.sentence
    assert "set resources.slots=1," in warning.sentence


def test_processes_on_gpus_are_held_against_the_machines_own_memory() -> None:
    assert check_workers("m", 8 * GB, Arrangement("solo", 8, 1), GPU) == []
    (warning,) = check_workers("m", 9 * GB, Arrangement("solo", 8, 1), GPU)
    assert "8 trials of m at a time need about 72 GB of this machine's 64 GB" in warning.sentence
    assert "set resources.gpus_per_trial=0.1428, or use a smaller model" in warning.sentence
    (warning,) = check_workers("m", 33 * GB, Arrangement("solo", 2, 2), TWO_GPUS)
    assert "set resources.gpus_per_trial=2," in warning.sentence
    # A host is one process on each GPU, whatever the trials on it; these have small actors.
    assert check_workers("m", 29 * GB, Arrangement("packed", 16, 2), TWO_GPUS) == []
    (warning,) = check_workers("m", 31 * GB, Arrangement("packed", 16, 2), TWO_GPUS)
    assert "set resources.slots=5, or use a smaller model" in warning.sentence
    (warning,) = check_workers("m", 33 * GB, Arrangement("packed", 16, 2), TWO_GPUS)
    assert warning.sentence.endswith("; use a smaller model or a machine with more memory")
    (error,) = check_workers("m", 90 * GB, Arrangement("packed", 16, 2), TWO_GPUS)
    assert error.level == "error"
    assert "max_batch_tokens" not in error.sentence


@pytest.mark.parametrize("gigabytes", [9, 11, 20, 33, 60])
@pytest.mark.parametrize("gpus", [1, 2, 8])
def test_gpus_per_trial_that_are_advised_are_few_enough(gigabytes: int, gpus: int) -> None:
    machine = replace(GPU, cpus=64, gpus=gpus * GPU.gpus)
    sharing = Arrangement("solo", 8 * gpus, gpus)
    (warning,) = check_workers("m", gigabytes * GB, sharing, machine)
    advised = re.search(r"gpus_per_trial=([\d.]+),", warning.sentence)
    assert advised
    resources = ResourcesConfig(gpus_per_trial=float(advised[1]))
    sharing = arrange("solo", resources, machine, GB)
    assert check_workers("m", gigabytes * GB, sharing, machine) == []


def test_dry_run_says_that_trials_are_packed(write_config: WriteConfig) -> None:
    model = {"name": "a", "path": "tiny:llama"}
    preflight = preflight_of(write_config, model, GPU, resources={"engine": "auto"})
    assert preflight.total
    assert (preflight.total.engine, preflight.total.slots) == ("packed", 16)
    assert preflight.total.trials_at_a_time == preflight.pace().trials_at_a_time == 16
    assert "16 trial(s) at a time in packs of up to 16;" in format_preflight(preflight)
    changes: dict[str, Any] = {"resources": {"engine": "auto"}, "tune": {"candidates": 1}}
    full = preflight_of(write_config, model | {"method": "full"}, GPU, **changes)
    assert full.total
    assert (full.total.engine, full.total.trials_at_a_time) == ("solo", 8)


def test_dry_run_names_the_models_that_train_beside_the_packs(write_config: WriteConfig) -> None:
    models = [
        {"name": "a", "path": "tiny:llama"},
        {"name": "b", "path": "tiny:llama", "method": "full"},
    ]
    grid = {"models": models, "n_labels": [2], "n_samples": [64]}
    resources = {"engine": "packed", "gpus_per_trial": 0.125}
    changes: dict[str, Any] = {"resources": resources, "tune": {"candidates": 1}}
    config = load_config(write_config(grid=grid, **changes))
    target, folder = Target(GPU), Path("/nowhere/run")
    preflight = check_plan(config, resolve_inputs(config), None, frozenset(), folder, target)
    assert preflight.total
    assert preflight.total.alone == ("b",)
    assert not any("no effect" in sentence for sentence in sentences(preflight, "warning"))
    assert "in packs of up to 16, but b alone;" in format_preflight(preflight)
    assert {name: each.trials for name, each in preflight.arranged.items()} == {"a": 16, "b": 8}


def test_more_gpus_or_cpus_than_there_are_is_an_error() -> None:
    (gpus,) = check_resources(ResourcesConfig(gpus_per_trial=2), CPU)
    assert "2 requested, but this machine has 0 GPUs" in gpus.sentence
    (cpus,) = check_resources(ResourcesConfig(cpus_per_trial=64), CPU)
    assert "64 requested, but this machine has 4 CPUs" in cpus.sentence


def test_cluster_without_the_gpus_asked_is_refused(write_config: WriteConfig) -> None:
    config = load_config(write_config(resources={"gpus_per_trial": 2}))
    with pytest.raises(ClusterError, match="2 requested, but the cluster has 1 GPUs"):
        trial_resources(config, {"CPU": 4.0, "GPU": 1.0})


def test_checkpoints_beyond_the_free_disk_are_a_warning(tmp_path: Path) -> None:
    (finding,) = check_disk(10**18, tmp_path / "not" / "yet")
    assert finding.level == "warning"
    assert "checkpoints may take up to 1e+06 TB" in finding.sentence
    assert str(tmp_path) in finding.sentence
    assert check_disk(1, tmp_path) == []


def test_max_length_beyond_the_positions_is_an_error(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", {**GPT2_XL, "n_layer": 2, "n_embd": 50, "n_head": 5})
    train = {"max_length": 2000}
    preflight = preflight_of(write_config, {"name": "a", "path": str(folder)}, train=train)
    assert sentences(preflight) == [
        "train.max_length: 2000 tokens, but a has only 1024 positions; "
        "set train.max_length=1024 or less"
    ]
    assert check_length("k", "a", 2000, None) == []


def test_pickled_weights_are_an_error_unless_allowed(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", LLAMA, weights="pytorch_model.bin")
    found = ResolvedModel("x", LLAMA, folder)
    model = ModelConfig(name="a", path=str(folder))
    (finding,) = check_model(1, model, found)
    assert "holds only pickled weights (pytorch_model.bin)" in finding.sentence
    assert "set grid.models.1.allow_pickle=true" in finding.sentence
    assert check_model(1, model.model_copy(update={"allow_pickle": True}), found) == []


def test_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", LLAMA, weights="")
    (finding,) = check_model(
        0, ModelConfig(name="a", path=str(folder)), ResolvedModel("x", LLAMA, folder)
    )
    assert "holds no weights" in finding.sentence


def test_remote_code_is_an_error_unless_trusted_or_not_needed(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", LLAMA)
    tree = {**LLAMA, "model_type": "odd", "auto_map": {"AutoModel": "odd.Odd"}}
    model = ModelConfig(name="a", path=str(folder))
    (finding,) = check_model(0, model, ResolvedModel("x", tree, folder))
    assert finding.level == "error"
    assert "set grid.models.0.trust_remote_code=true" in finding.sentence
    trusted = model.model_copy(update={"trust_remote_code": True})
    assert check_model(0, trusted, ResolvedModel("x", tree, folder)) == []
    known = tree | {"model_type": "llama"}
    assert check_model(0, model, ResolvedModel("x", known, folder))[0].level == "note"


def test_damaged_configuration_of_a_model_is_an_error(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", LLAMA)
    (folder / "config.json").write_text("{")
    preflight = preflight_of(write_config, {"name": "a", "path": str(folder)})
    assert "config.json is not a JSON object" in sentences(preflight)[0]
    assert preflight.total is None


def write_own_code(folder: Path, tree: dict[str, Any]) -> dict[str, Any]:
    """Write a model of an architecture that transformers does not know; return its contender."""
    write_model(folder, LLAMA)
    own = {"model_type": "odd", "auto_map": {"AutoModel": "odd.Odd"}}
    (folder / "config.json").write_text(json.dumps(tree | own))
    return {"name": "a", "path": str(folder), "trust_remote_code": True}


def test_unknown_shape_is_a_note_and_leaves_time_unknown(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    preflight = preflight_of(write_config, write_own_code(tmp_path / "model", {"depth": 2}))
    assert sentences(preflight) == []
    assert "memory and time are unknown" in "".join(sentences(preflight, "note"))
    assert preflight.forecast() == Forecast(None, {}, {}, {})


def test_architecture_that_cannot_be_measured_is_taken_for_a_llama(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    preflight = preflight_of(write_config, write_own_code(tmp_path / "model", LLAMA))
    assert "a could not be measured: memory and time are" in "".join(sentences(preflight, "note"))
    assert preflight.total is not None
    assert preflight.packable == frozenset()


def test_any_architecture_is_measured(write_config: WriteConfig, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", {"model_type": "bloom", "n_layer": 2, "n_head": 4})
    preflight = preflight_of(write_config, {"name": "a", "path": str(folder)})
    assert preflight.findings == []
    assert preflight.total is not None
    assert preflight.packable == {"a"}


def test_longest_text_is_that_of_the_table_of_positions(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    model = {"name": "a", "path": str(write_folder(tmp_path / "m", ENCODERS["roberta"]()))}
    (sentence,) = sentences(preflight_of(write_config, model, train={"max_length": 64}))
    assert "64 tokens, but a has only 62 positions; set train.max_length=62" in sentence


def test_contender_says_what_it_trains(write_config: WriteConfig) -> None:
    model = {"name": "a", "path": "tiny:llama"}
    lora, full = (
        preflight_of(write_config, model | {"method": method}, tune={"candidates": 1})
        for method in ("lora", "full")
    )
    assert f"k parameters, {format_count(lora.models[0].trained)} trained, " in format_preflight(
        lora
    )
    assert "k parameters, all trained, " in format_preflight(full)
    assert lora.packable == {"a"}
    assert full.packable == frozenset()


def test_disk_holds_a_value_of_each_result_and_three_checkpoints_of_what_runs(
    write_config: WriteConfig,
) -> None:
    for method in ("lora", "full"):
        model = {"name": "a", "path": "tiny:llama", "method": method}
        preflight = preflight_of(write_config, model, tune={"candidates": 5})
        (estimate,), total = preflight.models, preflight.total
        assert total is not None
        assert estimate.checkpoint_bytes == 16 * estimate.trained
        running = 3 * total.trials_at_a_time * estimate.checkpoint_bytes
        assert total.disk_bytes == 5 * 4 * estimate.trained + running


def test_gated_model_names_its_page_and_the_variable() -> None:
    error = GatedRepoError.__new__(GatedRepoError)
    assert is_gated(error)
    sentence = explain_gated("grid.models.1", "meta-llama/Llama-3.2-1B")
    assert "accept its terms at https://huggingface.co/meta-llama/Llama-3.2-1B" in sentence
    assert "HF_TOKEN" in sentence


def test_gated_model_that_hides_its_files_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise GatedRepoError.__new__(GatedRepoError)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(ModelError, match=r"grid\.models\.2: 'a/b' is gated"):
        find_hub_config("grid.models.2", "a/b", COMMIT)


def test_cold_cache_offline_lists_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"config\.json, weights .*, tokenizer missing"):
        find_hub_config("grid.models.0", "a/b", COMMIT)
    snapshot = write_model(tmp_path / "models--a--b" / "snapshots" / COMMIT, LLAMA)
    (snapshot / "tokenizer.json").unlink()
    with pytest.raises(
        ModelError, match="incomplete in the cache: tokenizer missing, and HF_HUB_OFFLINE is set"
    ):
        find_hub_config("grid.models.0", "a/b", COMMIT)
    (snapshot / "tokenizer.json").touch()
    assert find_hub_config("grid.models.0", "a/b", COMMIT) == snapshot / "config.json"


def test_branch_is_pinned_by_the_commit_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "models--a--b" / "refs"
    refs.mkdir(parents=True)
    (refs / "v2").write_text(COMMIT)
    assert resolve_revision(ModelConfig(name="m", path="a/b", revision="v2")) == COMMIT
    assert resolve_revision(ModelConfig(name="m", path="a/b", revision=COMMIT)) == COMMIT
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        resolve_revision(ModelConfig(name="m", path="a/b", revision="v3"))


def test_dry_run_without_model_or_data_still_lists_the_cells(
    write_config: WriteConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(write_config()), "--dry-run", "--set", "data.source=files"]
    arguments += ["--set", "data.path=/nowhere", "--set", "grid.models.0.path=/nowhere"]
    assert main(arguments) == 2
    text = capsys.readouterr().out
    assert "4 cells x 2 candidates = 8 trials" in text
    assert "unknown until the data and models are read" in text
    assert text.count("  error: ") == 2
    assert main([*arguments, "--json"]) == 2
    tree = json.loads(capsys.readouterr().out)
    assert len(tree["cells"]) == 4
    assert len(tree["trials"]) == 8
    assert tree["cells"][0]["cell_id"] is None
    assert {each["level"] for each in tree["preflight"]["findings"]} == {"error"}


def test_counts_that_do_not_fit_are_all_listed(
    write_config: WriteConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--dry-run", "--set", "grid.n_labels=[2,17]", "--set", "grid.n_samples=[680000]"]
    assert main([str(write_config()), *arguments]) == 2
    text = capsys.readouterr().out
    assert "use at most" in text
    assert "17 labels requested" in text


def test_json_holds_findings_and_estimates(
    write_config: WriteConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(write_config()), "--dry-run", "--json", *SMALL]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert set(tree) == {"cells", "trials", "preflight"}
    estimates = tree["preflight"]["estimates"]
    assert set(estimates["models"][0]) == {
        "model", "parameters", "trained", "memory_bytes_per_trial", "checkpoint_bytes",
        "slot_bytes", "pack", "worker_bytes", "checkpointed_bytes",
    }  # fmt: skip
    assert set(estimates["models"][0]["pack"]) == {"base", "slot", "batch", "largest_pass"}
    total = estimates["total"]
    assert set(total["seconds"]) == {"low", "likely", "high"}
    assert (total["engine"], total["slots"], total["alone"]) == ("solo", 1, [])
    assert estimates["total"]["disk_bytes"] > 0


def test_run_is_refused_with_the_first_error_and_makes_no_folder(
    write_config: WriteConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(write_config()), "--out", str(tmp_path / "runs"), *SMALL]
    assert main([*arguments, "--set", "resources.gpus_per_trial=100"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: resources.gpus_per_trial: 100 requested")
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_run_journals_what_was_predicted(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[RunSetup] = []

    def stand_in(setup: RunSetup, *arguments: Any) -> Any:
        seen.append(setup)
        raise ClusterError("stopped here")

    monkeypatch.setattr("sweep.tuning.driver.run_plan", stand_in)
    assert main([str(write_config()), "--out", str(tmp_path / "runs"), *SMALL]) == 2
    (setup,) = seen
    assert setup.forecast.seconds
    assert len(setup.forecast.seconds) == 3
    assert set(setup.forecast.memory_bytes or ()) == set(setup.forecast.slot_bytes or ())
    assert set(setup.forecast.memory_bytes or ()) == {"tiny-llama"}
    assert set(setup.forecast.packs or ()) == {"tiny-llama"}
    assert setup.packable == {"tiny-llama"}
    assert setup.account
    assert setup.account.source == "synthetic"
    assert len(setup.pace.epoch_seconds or ()) == 2
    assert all(min(pair) > 0 for pair in (setup.pace.epoch_seconds or {}).values())
    assert setup.pace.rungs == ((1, 0.75), (2, 0.8333))
    assert (setup.pace.trials_at_a_time or 0) >= 1


def test_dry_run_loads_neither_torch_nor_ray(write_config: WriteConfig) -> None:
    code = (
        "import sys; from sweep.run import main; main(sys.argv[1:]);"
        "print([n for n in ('torch', 'transformers', 'peft', 'ray') if n in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(write_config()), "--dry-run", *SMALL]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


def test_run_says_warnings_and_needs_in_a_few_lines(write_config: WriteConfig) -> None:
    machine = Machine(cpus=64, memory_bytes=4 * GB)
    preflight = preflight_of(write_config, {"name": "a", "path": "tiny:llama"}, machine)
    lines = format_warnings(preflight)
    assert len(lines) == 3
    assert lines[0].startswith("warning: 64 trials of a at a time")
    assert lines[1].startswith("time: about")


def test_run_says_what_became_of_the_data_before_its_warnings(
    write_config: WriteConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stand_in(*_: Any, **__: Any) -> Any:
        raise ClusterError("stopped here")

    monkeypatch.setattr("sweep.tuning.driver.run_plan", stand_in)
    assert main([str(write_config()), "--out", str(tmp_path / "runs"), *SMALL]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("run folder: ")
    assert lines[1].startswith("data: the built-in synthetic corpus; usable rows: ")
    assert lines[2].startswith("  left out: ")
    assert lines[3].startswith("time: about")


def test_cluster_not_yet_asked_is_a_note(write_config: WriteConfig) -> None:
    preflight = preflight_of(write_config, {"name": "a", "path": "tiny:llama"}, None)
    assert [finding.key for finding in preflight.findings] == ["--address"]
    assert "checked once it is connected" in format_preflight(preflight)


def test_storage_that_a_node_does_not_see_is_explained() -> None:
    text = explain_storage(Path("/runs/a"), None, ["node2", "node1"])
    assert "/runs/a is not visible from node1, node2; choose an --out on storage" in text


def test_sizes_and_times_read_well() -> None:
    assert format_bytes(1.54e9) == "1.54 GB"
    assert format_bytes(12) == "12 B"
    assert format_duration(42, rough=True) == "42 s"
    assert format_duration(200, rough=True) == "3.3 min"
    assert format_duration(2000, rough=True) == "33 min"
    assert format_duration(5 * 86_400, rough=True) == "5.0 days"
