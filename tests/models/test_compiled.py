"""Compiled blocks, against the blocks as they are. They are traced, forward and backward, but not
made into code, which takes longer."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from passes import DECODER, adapt_all, build
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from sweep.models.checkpointing import enable_checkpointing
from sweep.models.flat.compiled import Compiler, UnfitError, count_graphs, forget_compiled
from sweep.models.flat.texts import FlatTexts
from sweep.models.float16 import store_in_float16
from sweep.models.forward_pass import choose_forward
from sweep.models.full_pass import ForwardPass
from sweep.models.fused import speed_up

SHARED = DECODER | {"num_hidden_layers": 4}
NARROW = {
    "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 64, "resid_pdrop": 0.0,
    "embd_pdrop": 0.0, "attn_pdrop": 0.0, "vocab_size": 96, "pad_token_id": 0, "num_labels": 5,
}  # fmt: skip
KINDS = ["sliding_attention", "full_attention"] * 2
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SHARED, attention_bias=True, mlp_bias=True),
    "qwen2": Qwen2Config(**SHARED),
    "gemma3": Gemma3TextConfig(**SHARED, head_dim=16, layer_types=KINDS, sliding_window=4),
    "gpt2": GPT2Config(**NARROW),
}
# A function before attention and one after it, each in training and in scoring.
MOST_GRAPHS = 4
TEXTS = [[9, 3, 17, 5, 12, 7], [4, 4], [2, 60, 31], [1, 1], [20, 21, 1, 40, 8, 2, 3], [33]]


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compile anew in every test, and leave nothing in the user's cache."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    torch.manual_seed(0)
    forget_compiled()
    yield
    forget_compiled()


@pytest.fixture
def traced(fresh: None) -> Compiler:
    return Compiler("aot_eager")


def adapt(model: PreTrainedModel, rank: int = 3, dropout: float = 0.0) -> list[nn.Parameter]:
    """Give every linear layer a fused adapter; return what is trained, none of it zero."""
    weights = adapt_all(model, dropout, rank)
    speed_up(model)  # type: ignore[arg-type]
    return weights


def draw_texts(lengths: list[int]) -> FlatTexts:
    ids = torch.randint(1, 96, (sum(lengths),))
    return FlatTexts(ids, lengths, [length - 1 for length in lengths], 0)


def differentiate(run: Any, texts: FlatTexts, weights: list[nn.Parameter]) -> list[torch.Tensor]:
    """Return logits and the gradients of ``weights``."""
    logits = run(texts).float()
    return [logits.detach(), *torch.autograd.grad(logits.square().sum(), weights)]


def compare(
    plain: ForwardPass, compiled: Any, weights: list[nn.Parameter], tolerance: float = 1e-4
) -> None:
    for lengths in TEXTS:
        texts = draw_texts(lengths)
        pairs = [differentiate(run, texts, weights) for run in (plain, compiled)]
        # Some are zero but for rounding: in a text of one token no query has a choice.
        least = 1e-3 * max(float(each.abs().max()) for each in pairs[0])
        for expected, found in zip(*pairs, strict=True):
            scale = max(float(expected.abs().max()), least)
            torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("name", CONFIGS)
def test_compiled_blocks_give_the_logits_and_gradients_of_others(
    name: str, traced: Compiler
) -> None:
    model = build(CONFIGS[name])
    plain = choose_forward(model)
    weights = adapt(model)
    compare(plain, traced.build(model, plain.run), weights)


@pytest.mark.parametrize("name", CONFIGS)
def test_they_do_so_where_all_weights_are_trained(name: str, traced: Compiler) -> None:
    model = build(CONFIGS[name])
    plain = choose_forward(model, trains_base=True)
    weights = list(model.requires_grad_(True).parameters())
    compare(plain, traced.build(model, plain.run), weights)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_they_do_so_in_16_bits(name: str, dtype: torch.dtype, traced: Compiler) -> None:
    model = build(CONFIGS[name])
    if dtype == torch.float16:
        store_in_float16(model)
    else:
        model = model.to(dtype)
    plain = choose_forward(model)
    weights = adapt(model)
    for weight in weights:
        weight.data = weight.data.float()
    compiled = traced.build(model, plain.run)
    with torch.autocast("cpu", dtype):
        compare(plain, compiled, weights, 0.1 if dtype == torch.bfloat16 else 0.02)
    assert count_graphs() == 2


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_they_do_so_with_gradient_checkpointing(name: str, traced: Compiler) -> None:
    model = build(CONFIGS[name])
    plain = choose_forward(model)
    weights = adapt(model)
    enable_checkpointing(model)
    model.train()
    compare(plain, traced.build(model, plain.run), weights)
    # What keeps tensors, and what keeps none and is computed again.
    assert count_graphs() <= 4


@pytest.mark.parametrize("name", CONFIGS)
def test_few_graphs_serve_all_blocks_texts_ranks_and_modes(name: str, traced: Compiler) -> None:
    model = build(CONFIGS[name])
    plain = choose_forward(model)
    for rank in (3, 2, 8, 16, 5):
        weights = adapt(model, rank)
        compiled = traced.build(model, plain.run)
        for training in (True, False):
            model.train(training)
            for lengths in TEXTS:
                texts = draw_texts(lengths)
                differentiate(compiled, texts, weights)
                with torch.inference_mode():
                    compiled(texts)
        model = detach(model)
    assert count_graphs() == MOST_GRAPHS


def detach(model: PreTrainedModel) -> PreTrainedModel:
    """Return ``model`` without the adapter that was put into its layers."""
    for path, module in list(model.named_modules()):
        if hasattr(module, "base_layer"):
            model.set_submodule(path, module.base_layer)
    return model


def test_what_draws_random_numbers_is_not_compiled(traced: Compiler) -> None:
    model = build(CONFIGS["llama"])
    plain = choose_forward(model)
    adapt(model, dropout=0.1)
    with pytest.raises(UnfitError, match="LoRA dropout"):
        traced.build(model, plain.run)
    config = copy.deepcopy(CONFIGS["gpt2"])
    config.resid_pdrop = 0.1
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(UnfitError, match="dropout between its layers"):
        traced.build(model, choose_forward(model).run)


def test_layers_of_another_kind_are_not_compiled(traced: Compiler) -> None:
    class Other(nn.Linear):
        """Not what it is taken for."""

    model = build(CONFIGS["llama"])
    plain = choose_forward(model)
    model.model.layers[1].mlp.up_proj = Other(32, 48)
    with pytest.raises(UnfitError, match="Other is no layer"):
        traced.build(model, plain.run)


def test_an_unknown_activation_is_told(traced: Compiler) -> None:
    model = build(CONFIGS["llama"])
    model.config.hidden_act = "mish"
    with pytest.raises(UnfitError, match="mish is none of silu"):
        traced.build(model, choose_forward(model).run)
