"""Base models and adapters, for each of the four architectures."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sweep.config import ModelConfig
from sweep.data import Corpus
from sweep.errors import ModelError
from sweep.models import device
from sweep.models.base import Base, load_base, materialize
from sweep.models.device import choose_attention, choose_gpu_dtype, read_gpu_dtype
from sweep.models.methods import attach_adapter, detach
from sweep.models.sources import resolve_revision
from sweep.models.tiny_configs import TINY_FAMILIES
from sweep.plan import Candidate, ModelRef

CANDIDATE = Candidate(0, 4, 8.0, 5e-3, 0.0, 0.0)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    """Return a folder with the four tiny families."""
    path = tmp_path_factory.mktemp("models")
    texts = [row.text for row in corpus.splits["train"]]
    for family in TINY_FAMILIES:
        materialize(ref(family), path, texts)
    return path


def ref(family: str) -> ModelRef:
    model = ModelConfig(name=family, path=f"tiny:{family}")
    return ModelRef(family, model.path, resolve_revision(model))


def load(family: str, folder: Path) -> Base:
    return load_base(ref(family), str(folder / ref(family).revision), "float32", CPU)


def logits(model: torch.nn.Module, base: Base) -> torch.Tensor:
    batch = base.tokenizer(["a day", "a much longer day"], padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    model.eval()
    with torch.inference_mode():
        return model(**batch).logits.clone()


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_every_linear_layer_and_the_head_are_trained_and_nothing_else(
    family: str, folder: Path
) -> None:
    base = load(family, folder)
    model = attach_adapter(base, ("a", "b", "c"), CANDIDATE, seed=0)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name or "score.modules_to_save" in name for name in trained)
    assert sum("score" in name for name in trained) == 1
    layers = base.model.config.num_hidden_layers
    projections = 4 if family == "gpt2" else 7  # c_attn, c_proj, c_fc, c_proj; q k v o gate up down
    assert sum("lora_A" in name for name in trained) == layers * projections


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_detaching_leaves_the_base_as_it_was(family: str, folder: Path) -> None:
    base = load(family, folder)
    before = {name: p.clone() for name, p in base.model.named_parameters() if "score" not in name}
    for labels in (("a", "b"), ("a", "b", "c", "d")):
        model = attach_adapter(base, labels, CANDIDATE, seed=0)
        assert logits(model, base).shape == (2, len(labels))
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p.add_(1.0)
        detach(base, model)
    after = {name: p for name, p in base.model.named_parameters() if "score" not in name}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(p.requires_grad for p in base.model.parameters())


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_adapter_and_head_reload_in_stock_peft(family: str, folder: Path, tmp_path: Path) -> None:
    base = load(family, folder)
    model = attach_adapter(base, ("a", "b", "c"), CANDIDATE, seed=0)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.05 * torch.randn(p.shape))
    model.save_pretrained(tmp_path)
    stock = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3)
    stock.base_model.model.config.pad_token_id = base.tokenizer.pad_token_id
    assert torch.allclose(logits(stock, base), logits(model, base), atol=1e-5)


def test_same_seed_gives_the_same_start_and_another_does_not(folder: Path) -> None:
    base = load("llama", folder)
    starts = []
    for seed in (0, 0, 1):
        model = attach_adapter(base, ("a", "b"), CANDIDATE, seed)
        starts.append(logits(model, base))
        detach(base, model)
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_padding_changes_no_prediction(family: str, folder: Path) -> None:
    base = load(family, folder)
    model = attach_adapter(base, ("a", "b"), CANDIDATE, seed=0).eval()
    alone = base.tokenizer(["a day"], return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        assert torch.allclose(model(input_ids=alone).logits[0], logits(model, base)[0], atol=1e-5)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_tiny_family_is_an_ordinary_folder_of_its_architecture(family: str, folder: Path) -> None:
    path = folder / f"{family}-v1"
    model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=2)
    assert family in type(model).__name__.lower()
    assert AutoTokenizer.from_pretrained(path)("a day")["input_ids"]


def test_tokenizer_without_padding_gets_its_end_token(folder: Path, tmp_path: Path) -> None:
    source = folder / "gpt2-v1"
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    AutoModelForSequenceClassification.from_pretrained(source).save_pretrained(tmp_path)
    base = load_base(ref("gpt2"), str(tmp_path), "float32", CPU)
    assert base.tokenizer.pad_token_id == base.tokenizer.eos_token_id
    assert base.model.config.pad_token_id == base.tokenizer.eos_token_id


def test_unknown_target_module_is_named(folder: Path) -> None:
    base = load("llama", folder)
    base.ref = ModelRef("llama", "tiny:llama", "llama-v1", target_modules=("nowhere",))
    with pytest.raises(ModelError, match=r"target_modules .*nowhere"):
        attach_adapter(base, ("a", "b"), CANDIDATE, seed=0)


def test_pickle_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder / "llama-v1")
    AutoTokenizer.from_pretrained(folder / "llama-v1").save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_base(ref("llama"), str(tmp_path), "float32", CPU)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_requested_dtype_is_taken(folder: Path, dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    base = load_base(ref("llama"), str(folder / ref("llama").revision), name, CPU)
    assert base.dtype == next(base.model.parameters()).dtype == dtype


@pytest.mark.parametrize(
    ("native_bfloat16", "capability", "dtype"),
    [
        (True, (8, 0), "bfloat16"),
        (False, (7, 5), "float16"),
        (False, (7, 0), "float16"),
        (False, (6, 1), "float32"),
    ],
)
def test_gpu_trains_in_the_format_that_it_is_fast_in(
    native_bfloat16: bool, capability: tuple[int, int], dtype: str
) -> None:
    assert choose_gpu_dtype(native_bfloat16, capability) == dtype


def test_gpu_that_only_emulates_bfloat16_trains_in_float16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As on a T4.
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert read_gpu_dtype(torch.device("cuda")) == "float16"


@pytest.mark.parametrize("half_is_faster", [True, False])
def test_folder_in_float16_trains_in_another_format_on_a_cpu(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half_is_faster: bool
) -> None:
    source = folder / ref("llama").revision
    AutoModelForSequenceClassification.from_pretrained(source).half().save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(source).save_pretrained(tmp_path)
    monkeypatch.setattr(device, "multiplies_faster_in_bfloat16", lambda model: True)
    monkeypatch.setattr(device, "_measure_gain", lambda plain, half: 2.0 if half_is_faster else 0.5)
    base = load_base(ref("llama"), str(tmp_path), "auto", CPU)
    assert base.dtype == (torch.bfloat16 if half_is_faster else torch.float32)
    assert {p.dtype for p in base.model.parameters()} == {base.dtype}


@pytest.mark.parametrize("half_is_faster", [True, False])
def test_auto_takes_the_format_in_which_this_model_takes_a_step_faster(
    folder: Path, monkeypatch: pytest.MonkeyPatch, half_is_faster: bool
) -> None:
    seconds = {torch.float32: 1.0, torch.bfloat16: 0.5 if half_is_faster else 2.0}
    monkeypatch.setattr(device, "multiplies_faster_in_bfloat16", lambda model: True)
    monkeypatch.setattr(device, "_pass", lambda model, forward, ids: seconds[model.dtype])
    base = load_base(ref("gpt2"), str(folder / ref("gpt2").revision), "auto", CPU)
    assert base.dtype == (torch.bfloat16 if half_is_faster else torch.float32)
    assert base.dtype == next(base.model.parameters()).dtype


@pytest.mark.parametrize("method", ["lora", "full"])
def test_no_step_is_timed_in_bfloat16_where_products_in_it_are_slower(
    folder: Path, monkeypatch: pytest.MonkeyPatch, method: Literal["lora", "full"]
) -> None:
    def multiply(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        time.sleep(0.01 if rows.dtype == torch.bfloat16 else 0.0)
        return rows

    monkeypatch.setattr(torch, "mm", multiply)
    monkeypatch.setattr(device, "_pass", lambda *_: pytest.fail("a step was timed"))
    model = replace(ref("llama"), method=method)
    assert load_base(model, str(folder / model.revision), "auto", CPU).dtype == torch.float32


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_measuring_leaves_a_model_as_it_was(folder: Path, family: str) -> None:
    fixed, measured = (
        load_base(ref(family), str(folder / ref(family).revision), dtype, CPU)
        for dtype in ("float32", "auto")
    )
    states = [dict(base.model.float().named_parameters()) for base in (fixed, measured)]
    assert not any(p.requires_grad or p.grad is not None for p in states[1].values())
    names = [name for name in states[0] if "score" not in name]  # the head is new each time
    # A tiny family's weights are written in float32: where bfloat16 was faster they are rounded.
    exact = measured.dtype == torch.float32
    for name in names:
        torch.testing.assert_close(
            states[0][name], states[1][name], rtol=0 if exact else 1e-2, atol=0 if exact else 1e-2
        )


@pytest.mark.parametrize("family", TINY_FAMILIES)
@pytest.mark.parametrize(
    ("dtype", "max_length", "attention"),
    [("bfloat16", 64, "eager"), ("bfloat16", 1024, "sdpa"), ("float32", 64, "sdpa")],
)
def test_attention_is_plain_where_that_is_faster_and_gives_the_same(
    folder: Path, family: str, dtype: str, max_length: int, attention: str
) -> None:
    torch.manual_seed(0)  # the head's weights
    base = load_base(ref(family), str(folder / ref(family).revision), dtype, CPU)
    ids, mask = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]]), torch.tensor([[1] * 4, [1, 1, 0, 0]])
    with torch.no_grad():
        before = base.model(input_ids=ids, attention_mask=mask).logits
        choose_attention(base.model, max_length)
        after = base.model(input_ids=ids, attention_mask=mask).logits
    assert base.model.config._attn_implementation == attention
    # bfloat16 has eight bits: the two ways round differently.
    scale = before.float().abs().max()
    assert (after.float() - before.float()).abs().max() <= 0.05 * scale


def test_tiny_model_belongs_to_the_texts_of_its_tokenizer(tmp_path: Path) -> None:
    one, other = ["a first text", "and a second"], ["others say nothing of the kind"]
    first = materialize(ref("llama"), tmp_path, one)
    assert first == str(tmp_path / "llama-v1")
    assert materialize(ref("llama"), tmp_path, reversed(one)) == first
    second = materialize(ref("llama"), tmp_path, other)
    assert second != first
    assert materialize(ref("llama"), tmp_path, other) == second
    assert materialize(ref("llama"), tmp_path, one) == first
