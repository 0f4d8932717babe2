"""Tiny random-weight models of four architectures, for sweeps and tests without downloads."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma3TextConfig,
    PreTrainedTokenizerFast,
)

from sweep.models.tiny_configs import POSITIONS, TINY_CONFIGS, VOCABULARY

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"

# The weights are frozen noise, scaled so that adapters can learn from it: near-uniform attention
# makes the closing token an average of the words, and quiet MLPs keep that average clear.
EMBEDDING_SPREAD = {"qwen2": 0.1, "llama": 0.1, "gpt2": 0.1, "gemma3": 0.05}
POSITION_SPREAD, BIAS_SPREAD = 0.01, 0.02
QUERY_KEY_GAIN = 0.1
MLP_GAIN = 0.2
# Gemma's norms after attention and MLP set how loud these are; the first layer's attention leads.
GEMMA_LOUDNESS = {
    "layers.1.post_attention_layernorm.weight": 0.3,
    "post_feedforward_layernorm.weight": 0.2,
}


def build_tiny_model(family: str, texts: Iterable[str], folder: Path, seed: int = 0) -> None:
    """Write a model folder (config, safetensors weights, tokenizer) of one of
    `sweep.models.tiny_configs.TINY_FAMILIES`.

    The vocabulary is learned from `texts`; the weights are random and fixed by `seed`. The folder
    loads like any other, by `AutoTokenizer` and `AutoModelForSequenceClassification`.
    Raises KeyError for an unknown family.
    """
    fields = TINY_CONFIGS[family]
    tokenizer = build_tokenizer(texts)
    config = AutoConfig.for_model(**fields | _token_fields(tokenizer))
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(config)
    _fill_weights(model, EMBEDDING_SPREAD[family], seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _token_fields(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of 2,000 pieces learned from ``texts``."""
    pieces = _train_pieces(texts)
    # Every text ends in the same token, so the head always reads the same kind of average.
    pieces.post_processor = TemplateProcessing(
        single=f"$A {EOS}", special_tokens=[(EOS, pieces.token_to_id(EOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="right",
        model_max_length=POSITIONS,
    )


def _train_pieces(texts: Iterable[str]) -> Tokenizer:
    # Byte-level BPE without a prefix space is the only kind that all four read back: for "qwen2",
    # AutoTokenizer replaces the saved class and pre-tokenizer by its own.
    pieces = Tokenizer(BPE())
    pieces.pre_tokenizer = ByteLevel(add_prefix_space=False)
    pieces.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, EOS, UNK],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces.train_from_iterator(texts, trainer)
    return pieces


@torch.no_grad()
def _fill_weights(model: nn.Module, embedding_spread: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for name, weight in sorted(model.named_parameters()):
        if _is_embedding(name):
            weight.normal_(
                std=POSITION_SPREAD if "wpe" in name else embedding_spread, generator=draw
            )
        elif weight.dim() == 2:
            _fill_projection(name, weight, draw)
        elif name.endswith("bias") and "ln_" not in name:
            weight.normal_(std=BIAS_SPREAD, generator=draw)
    _set_loudness(model)


def _is_embedding(name: str) -> bool:
    return any(part in name for part in ("embed_tokens", "wte", "wpe"))


def _fill_projection(name: str, weight: torch.Tensor, draw: torch.Generator) -> None:
    is_conv1d = ".c_" in name
    inputs = weight.shape[0] if is_conv1d else weight.shape[1]
    weight.normal_(std=1.0 / math.sqrt(inputs), generator=draw)
    if "c_attn" in name:
        weight[:, : 2 * inputs] *= QUERY_KEY_GAIN
    elif "q_proj" in name or "k_proj" in name:
        weight *= QUERY_KEY_GAIN
    elif "down_proj" in name or "mlp.c_proj" in name:
        weight *= MLP_GAIN


def _set_loudness(model: nn.Module) -> None:
    if not isinstance(model.config, Gemma3TextConfig):
        return
    for name, weight in model.named_parameters():
        for ending, loudness in GEMMA_LOUDNESS.items():
            if name.endswith(ending):
                weight.fill_(loudness - 1.0)  # Gemma's norms multiply by 1 + weight.
