"""Models stored in float16: what stays float32, so that nothing overflows."""

from pathlib import Path
from typing import Any

import pytest
import torch
from model_folders import DECODERS, ENCODERS, MORE_DECODERS, write_decoder, write_folder
from transformers import AutoModelForCausalLM

from sweep.models.base import Base, load_base
from sweep.models.device import cast_to
from sweep.models.flat.texts import FlatTexts
from sweep.models.float16 import Head
from sweep.models.methods import attach
from sweep.plan import Candidate, ModelRef

CPU = torch.device("cpu")
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
TEXTS = FlatTexts.from_padded(IDS, torch.ones_like(IDS), 0)
FAMILIES = {**ENCODERS, **DECODERS, **MORE_DECODERS}
CANDIDATES = {
    "lora": Candidate(0, 4, 8.0, 1e-3, 0.0, 0.0),
    "full": Candidate(0, None, None, 1e-3, None, 0.0),
}


def load(folder: Path, dtype: str, method: Any = "lora") -> Base:
    ref = ModelRef("model", str(folder), "1", method=method)
    return load_base(ref, str(folder), dtype, CPU)


def compute_logits(base: Base) -> torch.Tensor:
    """Return the logits of a new classifier on ``base``."""
    attach(base, ("a", "b", "c"), CANDIDATES[base.ref.method], seed=0).eval()
    with cast_to(CPU, base.dtype):
        return base.forward(TEXTS).float()


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert (found - expected).abs().max() <= 0.01 * expected.abs().max()


def test_matrices_are_float16_and_norms_and_frequencies_float32(tmp_path: Path) -> None:
    model = load(write_decoder(tmp_path), "float16").model
    assert {p.dim(): p.dtype for p in model.parameters()} == {1: torch.float32, 2: torch.float16}
    exact = load(tmp_path, "float32").model.model.rotary_emb.inv_freq
    assert torch.equal(model.model.rotary_emb.inv_freq, exact)


@pytest.mark.parametrize("method", CANDIDATES)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_computes_the_same_in_float16_and_has_finite_gradients(
    name: str, method: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    write_folder(tmp_path, FAMILIES[name]())
    base = load(tmp_path, "float16", method)
    logits = compute_logits(base)
    assert_near(logits, compute_logits(load(tmp_path, "float32", method)))
    torch.autograd.backward(logits.square().sum())
    trained = [p for p in base.model.parameters() if p.grad is not None]
    assert {p.dtype for p in trained} == {torch.float32}
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in trained)


def test_sums_beyond_the_range_of_float16_stay_finite(tmp_path: Path) -> None:
    # As in Gemma 3, where they grow to 104,000.
    model = AutoModelForCausalLM.from_pretrained(write_decoder(tmp_path))
    with torch.no_grad():
        model.get_input_embeddings().weight.sign_().mul_(5e4)
        for layer in model.model.layers:
            layer.mlp.gate_proj.weight.mul_(30)
            layer.mlp.up_proj.weight.mul_(30)
            layer.mlp.down_proj.weight.mul_(1e4)
    model.save_pretrained(tmp_path)
    plain = load(tmp_path, "float32")
    expected = compute_logits(plain)
    plain.model.half()
    assert not plain.forward(TEXTS).isfinite().any()
    assert_near(compute_logits(load(tmp_path, "float16")), expected)


def test_gradient_of_the_head_does_not_overflow() -> None:
    head, x = Head(3, 2, bias=False), torch.full((4, 3), 2.0)
    with torch.autocast("cpu", torch.float16):
        logits = head(x)
    torch.autograd.backward(logits, torch.full((4, 2), 3e4))
    assert head.weight.grad is not None
    assert torch.equal(head.weight.grad, torch.full((2, 3), 2.4e5))
