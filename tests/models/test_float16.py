"""Models stored in float16: what stays float32, so that nothing overflows."""

from pathlib import Path

import pytest
import torch
from model_folders import DECODERS, write_decoder
from torch import nn
from transformers import AutoModelForCausalLM

from sweep.models.base import Base, load_base
from sweep.models.device import cast_to
from sweep.models.float16 import Head
from sweep.models.methods import attach_adapter
from sweep.plan import Candidate, ModelRef

CPU = torch.device("cpu")
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])


def load(folder: Path, dtype: str) -> Base:
    return load_base(ModelRef("model", str(folder), "1"), str(folder), dtype, CPU)


def compute_logits(base: Base) -> torch.Tensor:
    torch.manual_seed(0)
    nn.init.normal_(base.model.score.weight, std=0.5)
    with torch.no_grad(), cast_to(CPU, base.dtype):
        return base.last_token_forward(IDS, torch.ones_like(IDS)).float()


def test_matrices_are_float16_and_norms_and_frequencies_float32(tmp_path: Path) -> None:
    model = load(write_decoder(tmp_path), "float16").model
    kinds = {p.dim(): p.dtype for p in model.parameters()}
    assert kinds == {1: torch.float32, 2: torch.float16}
    exact = read_frequencies(load(tmp_path, "float32"))
    assert torch.equal(read_frequencies(load(tmp_path, "float16")), exact)


def read_frequencies(base: Base) -> torch.Tensor:
    found: torch.Tensor = base.model.model.rotary_emb.inv_freq
    return found


@pytest.mark.parametrize("name", DECODERS)
def test_decoder_of_any_architecture_computes_the_same_in_float16(
    name: str, tmp_path: Path
) -> None:
    write_decoder(tmp_path, name)
    expected, found = (compute_logits(load(tmp_path, each)) for each in ("float32", "float16"))
    assert (found - expected).abs().max() <= 0.01 * expected.abs().max()


@pytest.mark.parametrize("name", DECODERS)
def test_adapters_of_any_architecture_get_their_gradients(name: str, tmp_path: Path) -> None:
    base = load(write_decoder(tmp_path, name), "float16")
    model = attach_adapter(base, ("a", "b"), Candidate(0, 2, 4.0, 1e-3, 0.0, 0.0), seed=0)
    with cast_to(CPU, base.dtype):
        logits = base.last_token_forward(IDS, torch.ones_like(IDS)).float()
    torch.autograd.backward(logits.sum())
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in trained.values())


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
    assert not compute_logits(plain).isfinite().any()
    found = compute_logits(load(tmp_path, "float16"))
    assert (found - expected).abs().max() <= 0.01 * expected.abs().max()


def test_gradient_of_the_head_does_not_overflow() -> None:
    head, x = Head(3, 2, bias=False), torch.full((4, 3), 2.0)
    with torch.autocast("cpu", torch.float16):
        logits = head(x)
    torch.autograd.backward(logits, torch.full((4, 2), 3e4))
    assert head.weight.grad is not None
    assert torch.equal(head.weight.grad, torch.full((2, 3), 2.4e5))
