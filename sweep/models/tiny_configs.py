"""Names and sizes of the tiny random-weight families that ship with this package. `tiny` builds
them; this module has no torch, because planning needs it too."""

from typing import Any

TINY_PREFIX = "tiny:"
# Raise this whenever weights or tokenizer of the tiny families change.
TINY_VERSION = 1
VOCABULARY = 2000
POSITIONS = 128

_SHARED = {"vocab_size": VOCABULARY, "tie_word_embeddings": True}
_GROUPED = {
    **_SHARED,
    "hidden_size": 192,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
}
# By family, as its config.json names the fields.
TINY_CONFIGS: dict[str, dict[str, Any]] = {
    "qwen2": {**_GROUPED, "model_type": "qwen2"},
    "llama": {**_GROUPED, "model_type": "llama"},
    "gpt2": {
        **_SHARED,
        "model_type": "gpt2",
        "n_embd": 192,
        "n_inner": 64,
        "n_layer": 1,
        "n_head": 4,
        "n_positions": POSITIONS,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    },
    "gemma3": {
        **_SHARED,
        "model_type": "gemma3_text",
        "hidden_size": 128,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "max_position_embeddings": POSITIONS,
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 16,
    },
}
TINY_FAMILIES = tuple(TINY_CONFIGS)
