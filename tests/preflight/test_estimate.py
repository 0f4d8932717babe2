"""Estimates: parameters, memory and time from a model's shape, held against what is known."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fake_run import write_fake_run
from model_configs import GEMMA, GPT2_XL, LLAMA, QWEN

from sweep.cluster.allocation import Arrangement
from sweep.cluster.hardware import (
    GPU_FLOAT32_TERAFLOPS,
    GPU_TERAFLOPS,
    Gpu,
    Machine,
    assume_gpu_flops,
    choose_visible,
    find_gpus,
    measure_cpu_flops,
    parse_cards,
)
from sweep.config import Method
from sweep.models.facts import ModelFacts, TrialLoad
from sweep.models.formulas import derive_facts
from sweep.models.memory import (
    checkpoint_bytes,
    estimate_memory,
    estimate_pack,
    estimate_worker,
    result_bytes,
)
from sweep.models.shape import (
    ModelShape,
    count_adapter,
    count_parameters,
    count_weights,
    read_shape,
)
from sweep.models.tiny_configs import TINY_CONFIGS
from sweep.preflight.forecast import CPU_PASS_TOKENS
from sweep.preflight.runtime import (
    CellWork,
    Cost,
    Range,
    Rate,
    cell_seconds,
    choose_rate,
    epoch_costs,
    epoch_seconds,
    estimate_epochs,
    estimate_tokens,
    expect_survivors,
    list_rungs,
    read_token_rates,
    share_seconds,
    total_seconds,
)
from sweep.storage.journal import read_events
from sweep.storage.tables import RESULT_COLUMNS, write_table


def shape_of(tree: dict[str, Any]) -> ModelShape:
    shape = read_shape(tree)
    assert shape is not None
    return shape


@pytest.mark.parametrize(
    ("tree", "parameters"),
    [(QWEN, 1.5437e9), (LLAMA, 1.2358e9), (GPT2_XL, 1.5576e9), (GEMMA, 0.99989e9)],
)
def test_parameters_are_those_the_makers_state(tree: dict[str, Any], parameters: float) -> None:
    assert count_parameters(shape_of(tree)) == pytest.approx(parameters, rel=1e-4)


def test_text_part_of_a_multimodal_configuration_is_read() -> None:
    nested = {"model_type": "gemma3", "text_config": GEMMA}
    assert count_parameters(shape_of(nested)) == count_parameters(shape_of(GEMMA))


def test_configuration_without_known_sizes_has_no_shape() -> None:
    assert read_shape({"model_type": "mamba", "d_model": 768}) is None
    assert read_shape({}) is None


@pytest.mark.parametrize("family", TINY_CONFIGS)
def test_tiny_shapes_are_those_of_the_families(family: str, tmp_path: Path) -> None:
    from sweep.data import build_synthetic_corpus
    from sweep.models.tiny import build_tiny_model

    texts = [text for text, _ in build_synthetic_corpus()["train"]]
    build_tiny_model(family, texts, tmp_path)
    written = shape_of(json.loads((tmp_path / "config.json").read_text()))
    assert written == shape_of(TINY_CONFIGS[family])
    assert count_weights(tmp_path) == count_parameters(written)


def test_adapter_parameters_are_rank_times_inputs_and_outputs() -> None:
    per_layer = 2 * (2048 + 2048) + 2 * (2048 + 512) + 3 * (2048 + 8192)
    assert count_adapter(shape_of(LLAMA), 16) == 16 * 16 * per_layer
    assert count_adapter(shape_of(LLAMA), 16, ("q_proj",)) == 16 * 16 * 4096


def test_damaged_weight_header_counts_as_unknown(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 40)
    assert count_weights(tmp_path) is None


def test_weights_of_the_vocabulary_head_are_left_out(tmp_path: Path) -> None:
    tensors = {name: {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}
               for name in ("model.a.weight", "lm_head.weight")}  # fmt: skip
    header = json.dumps({"__metadata__": {}, **tensors}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert count_weights(tmp_path) == 12


def memory(tree: dict[str, Any], load: TrialLoad) -> int:
    return estimate_memory(derive_facts(shape_of(tree), load), load)


def test_memory_grows_with_tokens_rank_and_width_of_numbers() -> None:
    load = TrialLoad(400, 400, 8, 4, dtype="bfloat16", on_gpu=True)
    base = memory(QWEN, load)
    for changes in ({"train_tokens": 800}, {"rank": 32}, {"dtype": "float32"}):
        assert memory(QWEN, replace(load, **changes)) > base  # type: ignore[arg-type]
    assert base > 2 * count_parameters(shape_of(QWEN))


def test_gradient_checkpointing_trades_memory_for_a_forward_pass() -> None:
    shape, rate = shape_of(QWEN), Rate(1e11, 0.0, 0.0, 1e9, (1.0, 1.0), "")
    work = CellWork(1, 800, 16, 16_000.0, 400, 64, 8_000.0)
    kept, again = (
        TrialLoad(4000, 4000, 8, 4, checkpointed=on, dtype="bfloat16", on_gpu=True)
        for on in (False, True)
    )
    assert memory(QWEN, kept) - memory(QWEN, again) > 4000 * 24 * 4 * shape.intermediate * 2
    facts = derive_facts(shape, kept)
    plain, longer = (epoch_seconds(work, facts, load, rate, None)[0] for load in (kept, again))
    assert longer / plain == pytest.approx(1.5, rel=0.02)


def test_checkpoint_holds_four_float32_values_per_trained_parameter_and_a_result_one() -> None:
    facts = derive_facts(shape_of(LLAMA), TrialLoad(1, 1, 4, 16))
    assert facts.trained == count_adapter(shape_of(LLAMA), 4) + 2048 * 16
    assert checkpoint_bytes(facts) == 16 * facts.trained
    assert result_bytes(facts) == 4 * facts.trained


def test_pack_counts_each_trials_state_and_one_pass_for_all() -> None:
    load = TrialLoad(
        1024, 1024, 32, 16, longest=64, dtype="bfloat16", on_gpu=True, pass_tokens=8192
    )
    facts = derive_facts(shape_of(QWEN), load)
    pack = estimate_pack(facts, load)
    # Weights, gradients, two moments and best weights, in 4 bytes each.
    assert pack.slot == 20 * facts.trained
    # Eight batches fill a pass: from there on a trial adds its state alone.
    assert pack.total(8) - pack.total(7) == pytest.approx(pack.slot + pack.batch, rel=1e-6)
    assert pack.total(16) - pack.total(9) == pytest.approx(7 * pack.slot, rel=1e-6)
    assert pack.largest_pass == pytest.approx(8192 * facts.kept_bytes * 1.1)
    alone = estimate_memory(facts, load)
    assert pack.total(1) - alone == pytest.approx(4 * facts.trained, rel=0.01)


def test_as_many_trials_fit_into_a_pack_as_its_bytes_say() -> None:
    load = TrialLoad(1024, 1024, 32, 16, dtype="bfloat16", on_gpu=True, pass_tokens=8192)
    pack = estimate_pack(derive_facts(shape_of(QWEN), load), load)
    for size in (3 * 10**9, 10**10, 2 * 10**10, 4 * 10**10, 8 * 10**10):
        fit = pack.count_slots(size)
        assert pack.total(fit + 1) > size
        assert fit == 0 or pack.total(fit) <= size


def test_process_on_a_gpu_takes_the_machines_memory_too() -> None:
    load = TrialLoad(64, 64, 8, 4, dtype="bfloat16", on_gpu=True)
    count, facts = count_parameters(shape_of(QWEN)), derive_facts(shape_of(QWEN), load)
    # Weights in 16 bits on their way to the GPU, or in 32 if they are converted before.
    lora = estimate_worker(facts, load)
    wide = replace(load, dtype="float32")
    assert estimate_worker(facts, wide) - lora == 2 * count
    # Where all are trained, what they were is kept, and a checkpoint is larger than they are.
    full = replace(load, method="full")
    trained = derive_facts(shape_of(QWEN), full)
    grown = checkpoint_bytes(trained) - 2 * count
    assert estimate_worker(trained, full) - lora == 2 * count + grown


def test_trials_that_share_a_gpu_wait_for_each_others_arithmetic() -> None:
    cost = Cost(arithmetic=2.0, overhead=6.0)
    # Launches of one trial overlap with the arithmetic of others, as long as there is room.
    seconds = [share_seconds(cost, Arrangement("solo", trials, 1)) for trials in (1, 2, 4, 8)]
    assert seconds == [8.0, 8.0, 8.0, 16.0]
    assert share_seconds(cost, Arrangement("solo", 16, 2)) == 16.0
    # Where each trial has a CPU, or several GPUs, none waits.
    assert share_seconds(cost, Arrangement("solo", 4, 4)) == 8.0
    # A pack launches once for all.
    seconds = [share_seconds(cost, Arrangement("packed", trials, 1)) for trials in (1, 2, 4, 8)]
    assert seconds == [8.0, 10.0, 14.0, 22.0]


def test_rate_of_trials_in_packs_is_that_of_their_part_of_each_step() -> None:
    work = CellWork(2, 800, 16, 16_000.0, 400, 64, 8_000.0)
    rate, load = Rate(1e11, 0.0, 0.0, 1e9, (1.0, 1.0), ""), TrialLoad(400, 400, 8, 4)
    facts = derive_facts(shape_of(LLAMA), load)
    pack = Arrangement("packed", 8, 2)
    assert epoch_seconds(work, facts, load, rate, 100.0, pack)[0] == 4 * 160.0


def test_training_all_weights_takes_their_gradients_moments_and_copies() -> None:
    count = count_parameters(shape_of(QWEN))
    load = TrialLoad(64, 64, 0, 4, method="full", on_gpu=True)
    facts = derive_facts(shape_of(QWEN), load)
    assert facts.trained == count + 4 * 1536
    assert 20 * count < memory(QWEN, load) < 22 * count
    # Beside them, the CPU keeps what it loaded, here in 16 bits.
    assert memory(QWEN, replace(load, on_gpu=False)) > memory(QWEN, load) + 2 * count
    # A pass in 16 bits copies what it multiplies.
    narrow = derive_facts(shape_of(QWEN), replace(load, dtype="bfloat16"))
    assert narrow.cast == count - 151936 * 1536
    assert narrow.kept_bytes < facts.kept_bytes


def measure(tree: dict[str, Any], load: TrialLoad) -> ModelFacts:
    """Return what a rehearsal on the meta device tells of an architecture."""
    from transformers import AutoConfig

    from sweep.models.heads import MARKED_LABELS, Loaded, find_head
    from sweep.models.meta_load import build_meta
    from sweep.models.probe import probe

    config = AutoConfig.for_model(**tree, num_labels=MARKED_LABELS)
    model, _ = build_meta(config, {})
    return probe(model, find_head(model, Loaded(), "m"), load, 2)


FAMILIES = pytest.mark.parametrize(
    "tree", [QWEN, LLAMA, GPT2_XL, GEMMA], ids=lambda t: t["model_type"]
)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@FAMILIES
def test_formulas_give_what_autocast_keeps_on_a_gpu(tree: dict[str, Any], dtype: Any) -> None:
    load = TrialLoad(16 * 40, 64 * 40, 8, 4, longest=40, dtype=dtype, on_gpu=True)
    derived, measured = derive_facts(shape_of(tree), load), measure(tree, load)
    assert derived.kept_bytes == pytest.approx(measured.kept_bytes, rel=0.06)
    assert derived.scoring_bytes == pytest.approx(measured.scoring_bytes, rel=0.18)


def test_gpu_keeps_more_of_gpt2_than_16_bits_a_value() -> None:
    loads = [
        TrialLoad(640, 640, 8, 4, longest=40, dtype="bfloat16", on_gpu=on_gpu)
        for on_gpu in (False, True)
    ]
    derived = [derive_facts(shape_of(GPT2_XL), load).kept_bytes for load in loads]
    assert derived[1] / derived[0] == pytest.approx(1.46, rel=0.02)


@pytest.mark.parametrize("method", ["lora", "full"])
@FAMILIES
def test_formulas_give_what_is_measured(tree: dict[str, Any], method: Method) -> None:
    load = TrialLoad(16 * 40, 64 * 40, 8, 4, method=method, longest=40)
    derived, measured = derive_facts(shape_of(tree), load), measure(tree, load)
    for name in ("parameters", "trained", "layers", "hidden", "vocabulary", "packable", "flat"):
        assert getattr(derived, name) == getattr(measured, name)
    assert derived.kept_bytes == pytest.approx(measured.kept_bytes, rel=0.08)
    assert derived.training_flops == pytest.approx(measured.training_flops, rel=0.08)
    assert derived.scoring_flops == pytest.approx(measured.scoring_flops, rel=0.08)


def test_tokens_follow_from_characters_and_stop_at_max_length() -> None:
    sizes = estimate_tokens(["x" * 45, "x" * 9000], 32)
    assert sizes.mean == (11 + 32) / 2
    assert sizes.longest == 32
    assert estimate_tokens([], 32).mean == 32


def test_epochs_lie_between_all_stopped_and_none_stopped() -> None:
    epochs = estimate_epochs(trials=8, max_epochs=8, grace=1, reduction=3)
    assert epochs.low == 7 * 1 + 8
    assert epochs.high == 64
    assert epochs.low < epochs.likely < epochs.high


def test_grace_of_all_epochs_leaves_nothing_to_stop() -> None:
    assert estimate_epochs(4, 3, 3, 2) == Range(12, 12, 12)
    assert estimate_epochs(0, 3, 1, 2) == Range(0, 0, 0)


def test_rungs_are_grace_times_powers_of_the_reduction() -> None:
    assert list_rungs(8, 1, 3) == [1, 3]
    assert list_rungs(4, 1, 2) == [1, 2]


def test_survivors_are_those_that_asha_lets_pass() -> None:
    draw, rounds = random.Random(0), 2000
    passed = sum(count_passed(draw, arrivals=8) for _ in range(rounds))
    assert passed / rounds == pytest.approx(expect_survivors(8, 3), rel=0.03)


def count_passed(draw: random.Random, arrivals: int) -> int:
    seen: list[float] = []
    passed = 0
    for _ in range(arrivals):
        value = draw.random()
        # The rule of ray.tune.schedulers.async_hyperband: at or above the percentile goes on.
        if not seen or value >= np.percentile(seen, (1 - 1 / 3) * 100):
            passed += 1
        seen.append(value)
    return passed


def test_measured_tokens_a_second_replace_the_formula() -> None:
    work = CellWork(2, 800, 16, 16_000.0, 400, 64, 8_000.0)
    rate = Rate(1e11, 0.0, 0.0, 1e9, (1.0, 1.0), "")
    load = TrialLoad(400, 400, 8, 4)
    facts = derive_facts(shape_of(LLAMA), load)
    train, score = epoch_seconds(work, facts, load, rate, None)
    measured, scored = epoch_seconds(work, facts, load, rate, 100.0)
    assert measured == 160.0
    assert scored / measured == pytest.approx(score / train)
    assert score / train == pytest.approx(0.25, rel=0.05)


def test_padding_costs_time_only_where_passes_pad() -> None:
    work = CellWork(2, 800, 16, 16_000.0, 400, 64, 8_000.0)
    load = TrialLoad(400, 400, 8, 4, on_gpu=True)
    facts = derive_facts(shape_of(LLAMA), load)
    rate = Rate(1e11, 0.0, 0.0, 1e12, (1.0, 1.0), "")
    flat, padded = (
        [epoch_costs(work, replace(facts, flat=flat), load, rate, in_pack)[0].arithmetic
         for in_pack in (False, True)]
        for flat in (True, False)
    )  # fmt: skip
    assert flat[0] == flat[1]
    assert [b / a for a, b in zip(flat, padded, strict=True)] == pytest.approx(
        [1.06, 1.7], rel=0.01
    )


def test_optimizer_of_all_weights_takes_time_of_its_own() -> None:
    work = CellWork(1, 160, 16, 1.0, 0, 64, 0.0)
    load = TrialLoad(400, 400, 0, 4, method="full")
    facts = derive_facts(shape_of(LLAMA), load)
    train, _ = epoch_seconds(work, facts, load, Rate(1e15, 0.0, 0.0, 1e9, (1.0, 1.0), ""), None)
    assert train == pytest.approx(10 * 1.2358, rel=0.01)


def test_more_slots_shorten_a_run_down_to_its_longest_trial() -> None:
    seconds = cell_seconds(CellWork(4, 0, 1, 0.0, 0, 1, 0.0), Range(4, 6, 8), 10.0, 0.0)
    one, two, many = (
        total_seconds([("m", seconds, 20.0)], {"m": slots}, 0.0, lambda _: (1.0, 1.0))
        for slots in (1, 2, 1000)
    )
    assert one.likely > two.likely > many.likely
    assert many.likely == pytest.approx(20.0 + 12.0)


def test_rate_of_earlier_trials_is_read_from_the_results(tmp_path: Path) -> None:
    assert read_token_rates(tmp_path) == {}
    rows = [
        {"model": "a", "train_tokens": 100, "train_seconds": 2.0},
        {"model": "a", "train_tokens": 300, "train_seconds": 2.0},
        {"model": "b", "train_tokens": None, "train_seconds": None},
    ]
    write_table(tmp_path / "results.parquet", RESULT_COLUMNS, rows)
    assert read_token_rates(tmp_path) == {"a": 100.0}


def test_process_that_read_a_runs_results_ends_well(tmp_path: Path) -> None:
    write_fake_run(tmp_path)
    code = (
        "import sys; from pathlib import Path; "
        "from sweep.preflight.runtime import read_token_rates; "
        "assert read_token_rates(Path(sys.argv[1]))"
    )
    for _ in range(5):
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_gpus_are_read_from_lines_and_known_by_name() -> None:
    (card,) = parse_cards("NVIDIA H100 80GB HBM3, 81559, GPU-1, Disabled\nNo devices were found\n")
    assert (card.gpu.memory_bytes, card.uuid) == (81559 * 2**20, "GPU-1")
    assert assume_gpu_flops(card.gpu.name, "bfloat16") == (989e12, True)
    assert assume_gpu_flops(card.gpu.name, "float32") == (67e12, True)
    assert assume_gpu_flops("Some GPU", "float32") == (15e12, False)
    assert GPU_TERAFLOPS.keys() == GPU_FLOAT32_TERAFLOPS.keys()


def test_trial_in_float32_is_not_promised_the_speed_of_tensor_cores() -> None:
    machine = Machine(8, 10**11, (Gpu("NVIDIA H100 80GB HBM3", 8 * 10**10),))
    half, wide = (choose_rate(machine, 1, dtype) for dtype in ("bfloat16", "float32"))
    assert wide.flops / half.flops == pytest.approx(67 / 989)
    assert "20 TFLOP/s in float32 on NVIDIA H100" in wide.source


CARDS = "".join(
    f"NVIDIA {name}, 1000, GPU-{name.lower()}{i}, {mig}\n"
    for i, (name, mig) in enumerate([("A10", "[N/A]"), ("A10", "[N/A]"), ("H100", "Enabled")])
)


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["A10", "A10", "H100"]),
        ("1", ["A10"]),
        ("2, 0", ["H100", "A10"]),
        ("0,-1,1", ["A10"]),
        ("7", []),
        ("NoDevFiles", []),
        ("GPU-a101", ["A10"]),
        ("GPU-h", ["H100"]),
        ("GPU-a", []),
        ("MIG-GPU-h1002/1/0,MIG-5c89a6a2", ["H100", "A10"]),
        ("MIG-1,MIG-2,MIG-3,MIG-4", ["A10", "A10", "A10"]),
    ],
)
def test_only_the_gpus_that_a_scheduler_lists_are_counted(
    visible: str | None, names: list[str]
) -> None:
    found = choose_visible(parse_cards(CARDS), visible)
    assert [gpu.name.removeprefix("NVIDIA ") for gpu in found] == names


def test_memory_of_a_part_of_a_gpu_is_unknown() -> None:
    cards = parse_cards(CARDS)
    assert [gpu.memory_bytes for gpu in choose_visible(cards, "1,2")] == [1000 * 2**20, 0]
    assert [gpu.memory_bytes for gpu in choose_visible(cards, "MIG-1")] == [0]


def test_gpus_are_those_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cards").write_text(CARDS)
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\ncat {tmp_path / 'cards'}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for visible, count in (("0,1", 2), ("", 0)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert len(find_gpus()) == count


def test_matrix_product_gives_a_plausible_speed() -> None:
    assert 1e8 < measure_cpu_flops(1, seconds=0.01) < 1e13


@pytest.mark.parametrize(
    ("name", "method"),
    [("smollm2-135m", "lora"), ("gemma-3-270m", "lora"), ("minilm-l6", "lora"),
     ("minilm-l6", "full")],
)  # fmt: skip
def test_measured_trial_lies_near_its_prediction(name: str, method: Method, tmp_path: Path) -> None:
    folder = Path(os.environ.get("SWEEP_MODELS", "/nowhere")) / name
    if not folder.is_dir():
        pytest.skip("SWEEP_MODELS names no folder with this model")
    tree = {
        "name": "real",
        "data": {"source": "synthetic", "max_eval_per_label": 40},
        "grid": {
            "models": [{"name": "real", "path": str(folder), "method": method}],
            "n_labels": [4],
            "n_samples": [320],
        },
        "tune": {"candidates": 1, "lora_rank": 16, "learning_rate": 2e-4},
        "asha": {"max_epochs": 1},
        "train": {"dtype": "float32"},
        "baselines": [],
    }
    (tmp_path / "real.yaml").write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", "sweep.run", "real.yaml"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    events = list(read_events(tmp_path / "runs" / "real"))
    predicted = events[0]["predicted"]
    seconds = events[-1]["time"] - events[0]["time"]
    peak = next(e["peak_memory_bytes"] for e in events if e["event"] == "ended")
    print(f"{name}: {seconds:.0f} s, predicted {predicted.seconds}; {peak / 1e9:.2f} GB,")
    print(f"predicted {predicted.memory_bytes['real'] / 1e9:.2f} GB")
    assert predicted.memory_bytes["real"] == pytest.approx(peak, rel=0.25)
    assert 0.5 < seconds / predicted.seconds[1] < 2


def test_pass_of_a_pack_on_a_cpu_is_as_large_as_training_makes_it() -> None:
    from sweep.training.packed.microbatches import MOST_TOKENS

    assert MOST_TOKENS["cpu"] == CPU_PASS_TOKENS
    # Elsewhere it ends at train.max_batch_tokens.
    assert set(MOST_TOKENS) == {"cpu"}
