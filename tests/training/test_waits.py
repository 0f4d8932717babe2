"""What the CPU waits for when a GPU trains: nothing, but the loss of an epoch's training and the
outcome of its scoring. There is no GPU here; see ``waits`` in tests/support."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from device_tensors import CUDA, DeviceTensor
from model_folders import DECODERS, ENCODERS, MORE_DECODERS, write_folder
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from waits import pretend_cuda

from sweep.config import Config
from sweep.data import Subsets
from sweep.models.flat.texts import FlatTexts
from sweep.models.forward_pass import choose_forward
from sweep.models.transfer import read, to_device
from sweep.plan import Candidate, ModelRef, Plan, TrialSpec, build_plan
from sweep.training.solo import SoloEngine, SoloTrial

FAMILIES: Mapping[str, Callable[[], PreTrainedModel]] = {
    name: build
    for name, build in (*ENCODERS.items(), *DECODERS.items(), *MORE_DECODERS.items())
    if name not in ("llama, tied", "llama, float16", "llama, five labels")
}
CANDIDATES = {
    "lora": Candidate(0, 4, 8.0, 1e-2, 0.1, 0.01),
    "full": Candidate(0, None, None, 1e-3, None, 0.01),
}
SMALL: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0, "num_labels": 3,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
# Waits in a pass that are not avoided: architecture, settings, how many, and where transformers
# asks.
KNOWN = {
    # Rotary embeddings that grow with the longest text.
    "dynamic rotary embeddings": ("llama", {"rope_parameters": DYNAMIC}, 2, "modeling_rope_utils"),
    # A list as an index, in each layer twice and in the gradient.
    "falcon": ("falcon", {}, 8, "index on the CPU"),
    # The largest finite number as a tensor, in each layer.
    "gpt-neo": ("gpt_neo", {"num_layers": 2, "attention_types": [[["global"], 2]]}, 2, "gpt_neo"),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Train on one thread: sums over several may differ in the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def plan(subsets: Subsets) -> Plan:
    model = {"name": "m", "path": "tiny:llama"}
    grid = {"models": [model], "n_labels": [4], "n_samples": [16]}
    return build_plan(Config.model_validate({"grid": grid}), subsets, {"m": "x"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def start(
    subsets: Subsets, plan: Plan, folder: Path, tmp_path: Path
) -> Callable[..., tuple[SoloEngine, SoloTrial]]:
    """Return a function that starts a trial of a family in its first epoch."""

    def begin(
        name: str, method: Any = "lora", half_batches: bool = False, **recipe: Any
    ) -> tuple[SoloEngine, SoloTrial]:
        source = folder / name
        if not source.exists():
            torch.manual_seed(0)
            write_folder(source, FAMILIES[name]())
        engine = SoloEngine(subsets, folder)
        spec = _build_spec(plan, source, method, recipe)
        engine.start(spec, tmp_path / engine._device.type, half_batches=half_batches)
        return engine, engine._trial

    return begin


def _build_spec(plan: Plan, source: Path, method: Any, recipe: dict[str, Any]) -> TrialSpec:
    last = plan.trials[-1]
    settings = {"dtype": "float32", "max_length": 24, "max_epochs": 1, "batch_size": 6} | recipe
    return replace(
        last,
        model=ModelRef(source.name, str(source), "x", method=method),
        candidate=CANDIDATES[method],
        recipe=replace(last.recipe, **settings),
    )


def train(trial: SoloTrial) -> None:
    """Train the first epoch, which is of several steps."""
    trial.progress.epoch = 1
    assert len(trial.order_epoch()) > 2
    trial._train_epoch()


@pytest.mark.parametrize("name", FAMILIES)
def test_an_epoch_waits_once_for_training_and_once_for_scoring(name: str, start: Any) -> None:
    with pretend_cuda() as waits:
        _, trial = start(name)
        waits.clear()
        trial._step([0, 1, 2, 3])
        assert [*map(str, waits)] == []
        train(trial)
        assert [wait.reason for wait in waits] == ["synchronize of a stream"]
        waits.clear()
        trial.score(trial.validation)
        assert [wait.reason for wait in waits] == ["synchronize of a stream"]


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "full"},
        {"dtype": "bfloat16"},
        {"dtype": "float16"},
        {"dtype": "float16", "method": "full"},
        {"half_batches": True},
        {"gradient_checkpointing": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["llama", "gpt2", "modernbert"])
def test_no_method_or_number_format_waits_in_a_step(
    name: str, settings: dict[str, Any], start: Any
) -> None:
    with pretend_cuda() as waits:
        _, trial = start(name, **settings)
        waits.clear()
        train(trial)
        assert [wait.reason for wait in waits] == ["synchronize of a stream"]


def test_gradient_checkpointing_of_another_decoder_waits_once_a_pass(start: Any) -> None:
    with pretend_cuda() as waits:
        _, trial = start("mistral", gradient_checkpointing=True)
        waits.clear()
        trial._step([0, 1, 2, 3])
        assert len(waits) == 1
        assert "transformers/masking_utils.py" in waits[0].place


@pytest.mark.parametrize("case", KNOWN)
def test_passes_that_wait_are_known(case: str) -> None:
    family, settings, count, where = KNOWN[case]
    model = AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model(family, **SMALL | settings)
    ).requires_grad_(False)
    with pretend_cuda() as waits:
        model.to("cuda").enable_input_require_grads()
        forward = choose_forward(model)
        texts = FlatTexts(torch.randint(1, 290, (60,), device="cuda"), [20] * 3, [19] * 3, 0)
        waits.clear()
        torch.autograd.backward(forward(texts).sum())
        assert len(waits) == count
        assert all(where in str(wait) for wait in waits)


@pytest.mark.parametrize("method", CANDIDATES)
@pytest.mark.parametrize("name", ["llama", "qwen3", "bert", "modernbert", "xlm-roberta", "mpnet"])
def test_a_trial_has_the_same_numbers_on_the_pretended_gpu(
    name: str, method: str, start: Any
) -> None:
    # Where the masks of encoders are made beside their passes, and those of the CPU are not.
    epochs = [start(name, method)[0].run_epoch()]
    with pretend_cuda():
        epochs.append(start(name, method)[0].run_epoch())
    expected, found = epochs
    assert found["predictions"] == expected["predictions"]
    for key in ("train_loss", "val_loss"):
        assert found[key] == pytest.approx(expected[key], rel=1e-6)


def test_texts_of_equal_lengths_pass_without_waits(start: Any) -> None:
    with pretend_cuda() as waits:
        _, trial = start("bert")
        shortest = min(trial.training.lengths)
        equal = [i for i, length in enumerate(trial.training.lengths) if length == shortest]
        waits.clear()
        trial._step(equal[:3])
        assert [*map(str, waits)] == []


def test_texts_that_were_scored_first_can_be_trained_on(start: Any) -> None:
    _, trial = start("llama")
    trial.score(trial.training)
    train(trial)


WAITING: dict[str, Callable[[torch.Tensor], Any]] = {
    "item": lambda x: x.sum().item(),
    "bool": lambda x: bool(x.sum() > 0),
    "float": lambda x: float(x[0, 0]),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu", torch.float64),
    "mask": lambda x: x[x > 0],
    "setting by a mask": lambda x: x.__setitem__(x < 9, torch.ones(6, device=CUDA)),
    "list": lambda x: x[[0, 1]],
    "nonzero": lambda x: x.nonzero(),
    "equal": lambda x: torch.equal(x, x),
    "repeats": lambda x: x.repeat_interleave(torch.ones(2, dtype=torch.long, device=CUDA), 0),
    "tensor": lambda x: torch.tensor([1, 2], device="cuda"),
    "as_tensor": lambda x: torch.as_tensor([1, 2], device=x.device),
    "new_tensor": lambda x: x.new_tensor([1.0]),
    "pageable": lambda x: torch.zeros(3).to(CUDA, non_blocking=True),
    "blocking": lambda x: torch.zeros(3).pin_memory().to("cuda"),
    "into a row": lambda x: x[0].copy_(torch.zeros(3)),
    "onto pageable": lambda x: torch.zeros(2, 3).copy_(x, non_blocking=True),
    "device": lambda x: torch.cuda.synchronize(),
    "stream": lambda x: torch.cuda.current_stream().synchronize(),
    "event": lambda x: torch.cuda.Event().synchronize(),
    "read": lambda x: read(x, x),
}
GOING_ON: dict[str, Callable[[torch.Tensor], Any]] = {
    "pinned": lambda x: torch.zeros(3).pin_memory().to("cuda", non_blocking=True),
    "to_device": lambda x: to_device(torch.zeros(3), x.device),
    "down": lambda x: x.to("cpu", non_blocking=True),
    "onto pinned": lambda x: torch.empty(2, 3, pin_memory=True).copy_(x, non_blocking=True),
    "made there": lambda x: torch.arange(3, device="cuda") + torch.zeros((), device=CUDA),
    "number": lambda x: x * torch.tensor(2.0) + 1,
    "setting a number": lambda x: x.__setitem__((0, slice(2)), 5.0),
    "filling a mask": lambda x: x.__setitem__(x > 0, 0.0),
    "where": lambda x: torch.where(x > 0, x, 0),
    "gather": lambda x: x[torch.arange(2, device="cuda")],
    "there already": lambda x: x.to("cuda").to(x).cuda(),
    "type": lambda x: x.half().to(torch.float64).float(),
    "event": lambda x: torch.cuda.current_stream().record_event().query(),
}


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize(
    ("run", "count"),
    [*((run, 1) for run in WAITING.values()), *((run, 0) for run in GOING_ON.values())],
    ids=[*WAITING, *(f"not {name}" for name in GOING_ON)],
)
def test_what_waits_is_noted(
    run: Callable[[torch.Tensor], Any], count: int, inference: bool
) -> None:
    with pretend_cuda() as waits, torch.inference_mode(inference):
        x = torch.randn(2, 3, device="cuda")
        run(x)
        assert len(waits) == count
        assert all("training/test_waits.py" in w.place or "transfer.py" in w.place for w in waits)


def test_tensors_of_the_cpu_do_not_mix_with_those_of_the_gpu() -> None:
    with pretend_cuda():
        x = torch.ones(2, device="cuda")
        assert type(x) is DeviceTensor
        assert x.device == CUDA
        with pytest.raises(RuntimeError, match="a tensor on the CPU"):
            x + torch.ones(2)
        with pytest.raises(TypeError, match="NumPy"):
            x.numpy()
    with pytest.raises(RuntimeError, match="outside"):
        x + 1


def test_the_backward_pass_is_watched_too() -> None:
    class Reading(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return x * 2

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return gradient * gradient.max().item()

    with pretend_cuda() as waits:
        x = torch.ones(2, device="cuda", requires_grad=True)
        torch.autograd.backward(Reading.apply(x).sum())  # type: ignore[no-untyped-call]
        assert x.grad is not None
        assert x.grad.device == CUDA
        assert len(waits) == 1
