"""Models of published sizes with random weights, for timing without the real ones."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen2Config

from sweep.data import build_synthetic_corpus
from sweep.models.tiny import build_tokenizer

SIZES = ("qwen2-1.5b", "llama-1b", "llama-135m")


def write_random_model(size: str, folder: Path) -> Path:
    """Write a model folder in bfloat16, with a small tokenizer, and return it."""
    folder.mkdir(parents=True)
    model = AutoModelForCausalLM.from_config(_config(size), dtype=torch.bfloat16)
    model.save_pretrained(folder)
    build_tokenizer(text for text, _ in build_synthetic_corpus()["train"]).save_pretrained(folder)
    return folder


def _config(size: str) -> PreTrainedConfig:
    if size == "qwen2-1.5b":
        return Qwen2Config(
            vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28,
            num_attention_heads=12, num_key_value_heads=2, tie_word_embeddings=True,
        )  # fmt: skip
    if size == "llama-1b":
        return LlamaConfig(
            vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
            num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=True,
        )  # fmt: skip
    return LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
    )  # fmt: skip
