"""Models of published sizes with random weights, for timing without the real ones."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen2Config

from sweep.data import build_synthetic_corpus
from sweep.models.tiny import build_tokenizer
from sweep.storage.atomic import create_folder

SIZES = ("qwen2-1.5b", "llama-1b", "llama-135m")
# Standard deviation of the weights: what Llama and Qwen2 are initialized with.
SPREAD = 0.02


def write_random_model(size: str, target: Path, device: str = "cpu") -> Path:
    """Write a model folder in bfloat16, with a small tokenizer, and return it.

    Weights are drawn on ``device``, one tensor at a time, and in bfloat16 from the start: 1.5
    billion take 20 s on one core, their file included.
    """
    config = _config(size)
    config.dtype = torch.bfloat16
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    config.architectures = [type(model).__name__]
    tokenizer = build_tokenizer(text for text, _ in build_synthetic_corpus()["train"])
    with create_folder(target) as folder:
        weights = draw_weights(model, torch.device(device))
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return target


def draw_weights(model: nn.Module, device: torch.device) -> dict[str, torch.Tensor]:
    """Return random values on the CPU for the weights of ``model``, which may be on the meta
    device: ones for norms, zeros for biases, noise for matrices; tied weights once."""
    generator = torch.Generator(device).manual_seed(0)
    return {
        name: _draw(name, weight, device, generator).cpu()
        for name, weight in model.named_parameters()
    }


def _draw(
    name: str, weight: torch.Tensor, device: torch.device, generator: torch.Generator
) -> torch.Tensor:
    if weight.dim() > 1:
        values = torch.empty(weight.shape, dtype=weight.dtype, device=device)
        return values.normal_(std=SPREAD, generator=generator)
    fill = 0.0 if name.endswith("bias") else 1.0
    return torch.full(weight.shape, fill, dtype=weight.dtype, device=device)


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
