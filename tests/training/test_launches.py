"""Operations per block and training step, forward and backward: a GPU with a small model, or with
short texts, takes as long as it takes to launch them."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from launch_counts import count_launches
from model_folders import GPT2, SHARED, build_small_tokenizer, write_folder
from transformers import (
    BertConfig,
    BertForMaskedLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from sweep.models.base import Base, load_base
from sweep.models.flat.texts import FlatTexts
from sweep.models.methods import attach
from sweep.plan import Candidate, Capacity, ModelRef
from sweep.training.packed.layers import Selection
from sweep.training.packed.microbatches import PackBatch
from sweep.training.packed.pack import Pack
from sweep.training.packed.products import GroupedPart, PaddedPart
from sweep.training.packed.stacks import Place

# Most operations of a block in one step: alone (one less for each linear layer on a GPU, where the
# gradients of B need no copy), and in a pack whose slots' rows are multiplied in groups, or padded.
# Blocks of Qwen2 took 147, and 168 in each pass of a pack, before passes were flat.
MOST = {"llama": 122, "qwen2": 122, "gemma3": 170, "gpt2": 75, "bert": 82}
MOST_PACKED = {
    "llama": (118, 144),
    "qwen2": (118, 144),
    "gemma3": (166, 192),
    "gpt2": (95, 119),
}
LENGTHS = [9, 3, 17, 5, 12, 7]
PLACES = [Place(0, 4, 3), Place(1, 4, 3), Place(2, 4, 3)]


def build(family: str, layers: int) -> PreTrainedModel:
    # A count does not depend on widths.
    sizes, narrow = SHARED | {"num_hidden_layers": layers}, GPT2 | {"n_layer": layers}
    kinds: dict[str, Any] = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**sizes)),
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**sizes)),
        "gemma3": lambda: Gemma3ForCausalLM(
            Gemma3TextConfig(**sizes, head_dim=8, layer_types=["full_attention"] * layers)
        ),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**narrow)),
        "bert": lambda: BertForMaskedLM(BertConfig(**sizes)),
    }
    model: PreTrainedModel = kinds[family]()
    return model


def load(family: str, layers: int, folder: Path) -> Base:
    path = write_folder(
        folder / f"{family}{layers}", build(family, layers), build_small_tokenizer()
    )
    return load_base(ModelRef("m", str(path), "x"), str(path), "float32", torch.device("cpu"))


def draw_texts() -> FlatTexts:
    ids = torch.randint(5, 290, (sum(LENGTHS),))
    return FlatTexts(ids, LENGTHS, [length - 1 for length in LENGTHS], 0)


def step_alone(base: Base) -> None:
    torch.autograd.backward(base.forward(draw_texts()).sum())


def step_packed(pack: Pack) -> None:
    counts = [2, 2, 2]
    tokens = [sum(LENGTHS[first : first + 2]) for first in (0, 2, 4)]
    nothing = torch.zeros(6)
    batch = PackBatch(draw_texts(), counts, tokens, nothing, nothing, nothing)
    torch.autograd.backward(pack.logits(batch, PLACES).sum())


def count_alone(family: str, layers: int, folder: Path) -> Counter[str]:
    base = load(family, layers, folder)
    attach(base, ("a", "b", "c"), Candidate(0, 4, 8.0, 1e-3, 0.0, 0.0), seed=0).eval()
    return count_launches(lambda: step_alone(base))


def count_packed(family: str, layers: int, folder: Path) -> Counter[str]:
    pack = Pack(load(family, layers, folder), Capacity(3, 4, 3))
    pack.join_weights()
    step_packed(pack)  # what is made once
    return count_launches(lambda: step_packed(pack))


@pytest.mark.parametrize("family", MOST)
def test_a_block_alone_takes_few_launches(family: str, tmp_path: Path) -> None:
    more, fewer = (count_alone(family, layers, tmp_path) for layers in (3, 2))
    assert (more - fewer).total() <= MOST[family], more - fewer


@pytest.mark.parametrize("kind", [GroupedPart, PaddedPart])
@pytest.mark.parametrize("family", MOST_PACKED)
def test_a_block_of_a_pack_takes_few_launches_for_all_slots(
    family: str, kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a GPU with or without a kernel for groups.
    monkeypatch.setattr(Selection, "_choose", lambda *_, **__: kind)
    monkeypatch.setattr(Selection, "joins", lambda *_: True)
    more, fewer = (count_packed(family, layers, tmp_path) for layers in (3, 2))
    most = MOST_PACKED[family][0 if kind is GroupedPart else 1]
    assert (more - fewer).total() <= most, more - fewer
