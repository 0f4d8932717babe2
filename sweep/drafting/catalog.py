"""Models that a drafted study starts from: small, well known, and with safetensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweep.config import Method


@dataclass(frozen=True)
class KnownModel:
    """A model on the Hub: its commit (None: the newest), its method, its license, and the sizes in
    its config.json, so that planning needs no network."""

    name: str
    path: str
    revision: str | None
    method: Method
    license: str
    sizes: Mapping[str, Any]
    languages: str = "English"
    gated: bool = False


def _size(kind: str, *sizes: int, **others: Any) -> dict[str, Any]:
    keys = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    heads = ("num_attention_heads", "max_position_embeddings")
    return {"model_type": kind, **dict(zip((*keys, *heads), sizes, strict=True)), **others}


KNOWN = (
    KnownModel(
        "minilm-l6",
        "sentence-transformers/all-MiniLM-L6-v2",
        "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        "full",
        "Apache-2.0",
        _size("bert", 30_522, 384, 1536, 6, 12, 512),
    ),
    KnownModel(
        "bge-small-en",
        "BAAI/bge-small-en-v1.5",
        None,
        "full",
        "MIT",
        _size("bert", 30_522, 384, 1536, 12, 12, 512),
    ),
    KnownModel(
        "multilingual-e5-small",
        "intfloat/multilingual-e5-small",
        None,
        "full",
        "MIT",
        _size("bert", 250_037, 384, 1536, 12, 12, 512),
        "94 languages",
    ),
    KnownModel(
        "modernbert-base",
        "answerdotai/ModernBERT-base",
        "8949b909ec900327062f0ebf497f51aef5e6f0c8",
        "full",
        "Apache-2.0",
        _size("modernbert", 50_368, 768, 1152, 22, 12, 8192),
    ),
    KnownModel(
        "smollm2-135m",
        "HuggingFaceTB/SmolLM2-135M",
        "93efa2f097d58c2a74874c7e644dbc9b0cee75a2",
        "lora",
        "Apache-2.0",
        _size("llama", 49_152, 576, 1536, 30, 9, 8192, num_key_value_heads=3, dtype="bfloat16"),
    ),
    KnownModel(
        "gemma-3-270m",
        "google/gemma-3-270m",
        None,
        "lora",
        "Gemma's own terms",
        _size(
            "gemma3_text", 262_144, 640, 2048, 18, 4, 32_768,
            num_key_value_heads=1, head_dim=256, dtype="bfloat16",
        ),
        "140 languages",
        gated=True,
    ),
    KnownModel(
        "qwen2.5-0.5b",
        "Qwen/Qwen2.5-0.5B",
        "060db6499f32faf8b98477b0a26969ef7d8b9987",
        "lora",
        "Apache-2.0",
        _size("qwen2", 151_936, 896, 4864, 24, 14, 32_768, num_key_value_heads=2, dtype="bfloat16"),
        "29 languages",
    ),
    KnownModel(
        "qwen2.5-1.5b",
        "Qwen/Qwen2.5-1.5B",
        "8faed761d45a263340a0528343f099c05c9a4323",
        "lora",
        "Apache-2.0",
        _size(
            "qwen2", 151_936, 1536, 8960, 28, 12, 131_072, num_key_value_heads=2, dtype="bfloat16"
        ),
        "29 languages",
    ),
    KnownModel(
        "llama-3.2-1b",
        "meta-llama/Llama-3.2-1B",
        "4e20de362430cd3b72f300e6b0f18e50e7166e08",
        "lora",
        "Llama's own terms",
        _size(
            "llama", 128_256, 2048, 8192, 16, 32, 131_072,
            num_key_value_heads=8, head_dim=64, dtype="bfloat16",
        ),
        "8 languages",
        gated=True,
    ),
)  # fmt: skip
BY_NAME = {model.name: model for model in KNOWN}
BY_PATH = {model.path: model for model in KNOWN}

# Who competes, in this order, as far as time and memory allow: an encoder first, then decoders.
ON_CPU = ("minilm-l6", "smollm2-135m", "bge-small-en", "qwen2.5-0.5b", "gemma-3-270m")
ON_GPU = ("modernbert-base", "qwen2.5-0.5b", "minilm-l6", "qwen2.5-1.5b", "llama-3.2-1b")
# The same for texts that are not, or not only, English.
MULTILINGUAL = ("multilingual-e5-small", "qwen2.5-0.5b", "gemma-3-270m", "qwen2.5-1.5b")


def list_known(has_gpus: bool, english: bool) -> list[KnownModel]:
    """Return the models that suit a machine and a language, in the order in which they compete."""
    names = (ON_GPU if has_gpus else ON_CPU) if english else MULTILINGUAL
    return [BY_NAME[name] for name in names]
