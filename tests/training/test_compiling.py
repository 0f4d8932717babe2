"""Whether trials pass through compiled blocks, and that they are the same then."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._inductor.config as inductor
from model_folders import DECODERS, ENCODERS, SHARED, build_small_tokenizer, write_folder
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from sweep.data import Subsets
from sweep.models.flat import compiled
from sweep.plan import Candidate, ModelRef, Plan, TrialSpec
from sweep.training import compiling
from sweep.training.solo import SoloEngine

pytestmark = pytest.mark.usefixtures("one_thread")

LLAMA = LlamaConfig(**SHARED | {"num_hidden_layers": 3})
ON_GPUS = compiling.COMPILE_SECONDS
# More than any compiler takes.
LONG = {"llama": 1e6}


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compile anew in every test, and leave nothing in the user's cache."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    # As on GPUs, of which there may be none here.
    monkeypatch.setattr(compiling, "COMPILE_SECONDS", {"cpu": 50.0})
    yield
    compiled.forget_compiled()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "llama"
    return write_folder(path, LlamaForCausalLM(LLAMA), build_small_tokenizer())


@pytest.fixture
def spec(plan: Plan, folder: Path) -> TrialSpec:
    last = plan.trials[-1]
    return replace(
        last,
        model=ModelRef("llama", str(folder), "x"),
        candidate=Candidate(0, 4, 8.0, 1e-2, 0.0, 0.01),
        recipe=replace(last.recipe, dtype="float32", max_epochs=3),
    )


def wish(spec: TrialSpec, wanted: bool | str, **changes: Any) -> TrialSpec:
    return replace(spec, recipe=replace(spec.recipe, compile=wanted, **changes))


def start(engine: SoloEngine, spec: TrialSpec, folder: Path) -> str:
    """Start a trial; return what is said of its blocks."""
    return str(engine.start(spec, folder / spec.trial_id / str(engine.base_loads))["compiled"])


def run(engine: SoloEngine) -> list[float]:
    """Return the losses of a trial's epochs, in training and validation."""
    epochs: list[Any] = []
    while not (epochs and epochs[-1]["done"]):
        epochs.append(engine.run_epoch())
    engine.close()
    return [epoch[name] for epoch in epochs for name in ("train_loss", "val_loss")]


@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_curves_are_those_of_uncompiled_blocks(
    backend: str, subsets: Subsets, spec: TrialSpec, tmp_path: Path
) -> None:
    plain, engine = SoloEngine(subsets, tmp_path), SoloEngine(subsets, tmp_path, {}, backend)
    assert start(plain, wish(spec, False), tmp_path / "plain") == "no: train.compile is false"
    assert start(engine, wish(spec, True), tmp_path / "own").startswith("yes: compiled in ")
    assert run(engine) == pytest.approx(run(plain), rel=1e-4)


def test_later_trials_use_the_same_code(subsets: Subsets, spec: TrialSpec, tmp_path: Path) -> None:
    plain, engine = SoloEngine(subsets, tmp_path), SoloEngine(subsets, tmp_path, {}, "eager")
    for rank in (4, 8, 2):
        other = replace(spec, candidate=replace(spec.candidate, lora_rank=rank))
        start(plain, wish(other, False), tmp_path / f"plain{rank}")
        assert start(engine, wish(other, True), tmp_path / f"own{rank}").startswith("yes")
        assert run(engine) == pytest.approx(run(plain), rel=1e-4)
        if rank == 4:
            graphs = compiled.count_graphs()
    assert compiled.count_graphs() == graphs


def test_a_trial_that_is_not_fit_leaves_the_choice_to_the_next(
    subsets: Subsets, spec: TrialSpec, tmp_path: Path
) -> None:
    engine = SoloEngine(subsets, tmp_path, {}, "eager")
    dropping = replace(spec, candidate=replace(spec.candidate, lora_dropout=0.1))
    said = start(engine, wish(dropping, True), tmp_path / "first")
    assert said == "no: LoRA dropout would draw other masks"
    engine.close()
    assert start(engine, wish(spec, True), tmp_path / "second").startswith("yes")


def test_short_sweeps_are_not_compiled(subsets: Subsets, spec: TrialSpec, tmp_path: Path) -> None:
    engine = SoloEngine(subsets, tmp_path, {"llama": 90.0})
    said = start(engine, wish(spec, "auto"), tmp_path)
    assert said.startswith("no: it pays from ") and said.endswith(", and 90 s lie ahead")


def test_cpus_are_left_out(
    subsets: Subsets, spec: TrialSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "COMPILE_SECONDS", ON_GPUS)
    engine = SoloEngine(subsets, tmp_path, LONG, "eager")
    assert start(engine, wish(spec, "auto"), tmp_path) == "no: on a CPU, steps get no faster"


def test_what_lies_ahead_has_to_be_known(subsets: Subsets, spec: TrialSpec, tmp_path: Path) -> None:
    engine = SoloEngine(subsets, tmp_path)
    said = start(engine, wish(spec, "auto"), tmp_path)
    assert said == "no: it is not known how much training lies ahead"


@pytest.mark.parametrize(("factor", "kept"), [(1.5, True), (1.01, False)])
def test_long_sweeps_are_compiled_if_steps_get_faster(
    factor: float,
    kept: bool,
    subsets: Subsets,
    spec: TrialSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def time_step(trial: Any, forward: Any, batch: Any) -> float:
        return factor if forward is trial.base.forward else 1.0

    monkeypatch.setattr(compiling, "_time_step", time_step)
    engine = SoloEngine(subsets, tmp_path, LONG, "eager")
    said = start(engine, wish(spec, "auto"), tmp_path)
    assert said.startswith(f"{'yes' if kept else 'no'}: steps are {factor:.2f} times as fast, ")
    assert (engine._trial.compiled is not None) == kept
    # A model that is not worth it is not tried again.
    engine.close()
    assert start(engine, wish(spec, "auto"), tmp_path / "next") == said


def test_steps_are_timed(subsets: Subsets, spec: TrialSpec, tmp_path: Path) -> None:
    def backend(graph: Any, _: Any) -> Any:
        def run(*args: Any) -> Any:
            time.sleep(0.01)
            return graph(*args)

        return run

    engine = SoloEngine(subsets, tmp_path, LONG, backend)
    said = start(engine, wish(spec, "auto"), tmp_path)
    assert said.startswith("no: steps are 0.") and said.endswith(" times as fast, 1.05 would pay")


def test_choosing_leaves_the_trial_as_it_was(
    subsets: Subsets, spec: TrialSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "_time_step", lambda *_: 1.0)
    plain, engine = SoloEngine(subsets, tmp_path), SoloEngine(subsets, tmp_path, LONG, "eager")
    start(plain, wish(spec, False), tmp_path / "plain")
    assert start(engine, wish(spec, "auto"), tmp_path / "own").startswith("no: steps are 1.00")
    assert run(engine) == run(plain)


def test_a_compiler_that_fails_later_leaves_the_trial_uncompiled(
    subsets: Subsets, spec: TrialSpec, tmp_path: Path
) -> None:
    broken = False

    def backend(graph: Any, _: Any) -> Any:
        if broken:
            raise RuntimeError("no space left")
        return graph

    plain, engine = SoloEngine(subsets, tmp_path), SoloEngine(subsets, tmp_path, {}, backend)
    start(plain, wish(spec, False), tmp_path / "plain")
    assert start(engine, wish(spec, True), tmp_path / "own").startswith("yes")
    broken = True
    compiled.forget_compiled()
    with pytest.warns(UserWarning, match="compiled no longer: it failed .*no space left"):
        assert run(engine) == run(plain)
    # Nor is it tried for the next trial.
    assert start(engine, wish(spec, True), tmp_path / "next").startswith("no: it failed")


def test_blocks_of_encoders_are_not_compiled(
    subsets: Subsets, spec: TrialSpec, tmp_path: Path
) -> None:
    path = write_folder(tmp_path / "bert", ENCODERS["bert"](), build_small_tokenizer())
    spec = replace(spec, model=ModelRef("bert", str(path), "x"))
    engine = SoloEngine(subsets, tmp_path, {}, "eager")
    said = start(engine, wish(spec, True), tmp_path)
    assert said == "no: blocks of bert are none of llama, qwen2, gemma3_text, gpt2"


def test_a_broken_compiler_is_told_and_the_trial_goes_on(
    subsets: Subsets, spec: TrialSpec, tmp_path: Path
) -> None:
    def backend(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("g++ is not installed")

    plain = SoloEngine(subsets, tmp_path)
    engine = SoloEngine(subsets, tmp_path, {}, backend)
    start(plain, wish(spec, False), tmp_path / "plain")
    said = start(engine, wish(spec, True), tmp_path / "own")
    assert said.startswith("no: it failed (") and "g++ is not installed" in said
    assert said.endswith("); install g++ or, on GPUs, Triton and gcc, or set train.compile=false")
    assert run(engine) == run(plain)
    # Nor is it tried again.
    assert start(engine, wish(spec, True), tmp_path / "next") == said


def test_a_machine_without_a_compiler_is_told_so(
    subsets: Subsets, spec: TrialSpec, tmp_path: Path
) -> None:
    with inductor.patch({"cpp.cxx": ("no-such-compiler",)}):
        said = start(SoloEngine(subsets, tmp_path), wish(spec, True), tmp_path)
    assert said.startswith("no: it failed (InductorError: InvalidCxxCompiler: No working C++ comp")
    assert said.endswith("; install g++ or, on GPUs, Triton and gcc, or set train.compile=false")
    assert "TORCHDYNAMO" not in said


def test_where_compiling_is_switched_off_nothing_is_called_compiled(
    subsets: Subsets, spec: TrialSpec, tmp_path: Path
) -> None:
    with torch._dynamo.config.patch(disable=True):
        said = start(SoloEngine(subsets, tmp_path), wish(spec, True), tmp_path)
    assert said == "no: torch.compile is switched off; unset TORCHDYNAMO_DISABLE"


def test_a_pass_that_does_not_agree_is_not_taken(
    subsets: Subsets, spec: TrialSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    multiply = compiled.leave
    monkeypatch.setattr(compiled, "leave", lambda *args: multiply(*args) * 1.1)
    engine = SoloEngine(subsets, tmp_path, {}, "eager")
    said = start(engine, wish(spec, True), tmp_path)
    assert said == "no: the compiled pass does not agree with the uncompiled one"
    assert engine._trial.compiled is None


def test_models_that_pad_are_not_compiled(subsets: Subsets, plan: Plan, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mistral", DECODERS["mistral"](), build_small_tokenizer())
    last = plan.trials[-1]
    spec = replace(last, model=ModelRef("mistral", str(folder), "x"))
    said = start(SoloEngine(subsets, tmp_path), wish(spec, True, dtype="float32"), tmp_path)
    assert said == "no: the model has no flat pass, whose blocks could be compiled"


def test_another_base_model_is_compiled_anew(
    subsets: Subsets, spec: TrialSpec, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=300, n_embd=32, n_layer=3, n_head=4, n_positions=64, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    folder = write_folder(tmp_path / "gpt2", GPT2LMHeadModel(config), build_small_tokenizer())
    other = replace(spec, model=ModelRef("gpt2", str(folder), "x"))
    plain, engine = SoloEngine(subsets, tmp_path), SoloEngine(subsets, tmp_path, {}, "eager")
    for number, each in enumerate((spec, other, spec)):
        start(plain, wish(each, False), tmp_path / f"plain{number}")
        assert start(engine, wish(each, True), tmp_path / f"own{number}").startswith("yes")
        assert run(engine) == pytest.approx(run(plain), rel=1e-4)
