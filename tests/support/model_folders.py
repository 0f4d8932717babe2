"""Small model folders of many architectures with random weights, valid and faulty, for tests."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sweep.models.tiny import build_tokenizer

ROWS = 300
SHARED: dict[str, Any] = {
    "vocab_size": ROWS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
PLAIN = {name: value for name, value in SHARED.items() if name != "num_key_value_heads"}
DISTIL = {
    "vocab_size": ROWS, "dim": 32, "hidden_dim": 32, "n_layers": 2, "n_heads": 4,
    "max_position_embeddings": 64,
}  # fmt: skip
OPT = {
    "vocab_size": ROWS, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip
GPT2 = {"vocab_size": ROWS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
DISENTANGLED: dict[str, Any] = {
    "relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm", "position_buckets": 16, "share_att_key": True,
}  # fmt: skip
MODERN = {
    "global_attn_every_n_layers": 2, "local_attention": 16, "pad_token_id": 0, "eos_token_id": 2,
    "bos_token_id": 1, "cls_token_id": 1, "sep_token_id": 2,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip

DECODERS: Mapping[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHARED)),
    "llama, tied": lambda: LlamaForCausalLM(LlamaConfig(**SHARED, tie_word_embeddings=True)),
    "llama, float16": lambda: LlamaForCausalLM(LlamaConfig(**SHARED)).half(),
    "llama, five labels": lambda: LlamaForSequenceClassification(
        LlamaConfig(**SHARED, num_labels=5, problem_type="multi_label_classification")
    ),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHARED)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHARED, head_dim=8)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**OPT, word_embed_proj_dim=32)),
    "opt, narrow": lambda: OPTForCausalLM(OPTConfig(**OPT, word_embed_proj_dim=16)),
    "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**PLAIN)),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**SHARED, pad_token_id=0)),
    "bloom": lambda: BloomForCausalLM(
        BloomConfig(vocab_size=ROWS, hidden_size=32, n_layer=2, n_head=4)
    ),
}
ENCODERS: Mapping[str, Callable[[], PreTrainedModel]] = {
    "bert": lambda: _of("MaskedLM", "bert", **PLAIN),
    "roberta": lambda: _of("MaskedLM", "roberta", **PLAIN),
    "xlm-roberta": lambda: _of("MaskedLM", "xlm-roberta", **PLAIN),
    "distilbert": lambda: _of("MaskedLM", "distilbert", **DISTIL),
    "deberta-v2": lambda: _of("MaskedLM", "deberta-v2", **PLAIN, **DISENTANGLED),
    "modernbert": lambda: _of("MaskedLM", "modernbert", **PLAIN, **MODERN),
    "electra": lambda: _of("PreTraining", "electra", **PLAIN, embedding_size=24),
    "albert": lambda: _of("MaskedLM", "albert", **PLAIN, embedding_size=24),
    "mpnet": lambda: _of("MaskedLM", "mpnet", **PLAIN),
}
MORE_DECODERS: Mapping[str, Callable[[], PreTrainedModel]] = {
    "qwen2": lambda: _of("CausalLM", "qwen2", **SHARED),
    "gpt2": lambda: _of("CausalLM", "gpt2", **GPT2),
    "gemma3": lambda: _of("CausalLM", "gemma3_text", **SHARED, head_dim=8, sliding_window=8),
    "gemma3, multimodal": lambda: _of(
        "ImageTextToText",
        "gemma3",
        text_config=SHARED | {"head_dim": 8, "sliding_window": 8},
        vision_config=VISION,
        mm_tokens_per_image=4,
    ),
    "smollm3": lambda: _of("CausalLM", "smollm3", **SHARED, pad_token_id=0),
}
# What is loaded as a classifier, but cannot be trained here, and why not.
UNTRAINABLE: Mapping[str, tuple[Callable[[], PreTrainedModel], str]] = {
    "t5": (
        lambda: _of(
            "Seq2SeqLM", "t5", vocab_size=ROWS, d_model=32, d_kv=8, d_ff=32, num_layers=2,
            num_heads=4,
        ),
        "has an encoder and a decoder",
    ),
    "fnet": (
        lambda: _of("MaskedLM", "fnet", **PLAIN),
        "takes no attention mask",
    ),
    "xlnet": (
        lambda: _of(
            "CausalLM", "xlnet", vocab_size=ROWS, d_model=32, n_layer=2, n_head=4, d_inner=32
        ),
        "padded on the right",
    ),
}  # fmt: skip


def _of(task: str, model_type: str, **fields: Any) -> PreTrainedModel:
    """Return a model for another task than classification, as models are published."""
    auto = getattr(transformers, f"AutoModelFor{task}")
    return cast(PreTrainedModel, auto.from_config(AutoConfig.for_model(model_type, **fields)))


def build_small_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of at most ``ROWS`` tokens."""
    tokenizer = build_tokenizer(["what a day", "a much longer day"])
    assert len(tokenizer) <= ROWS
    return tokenizer


def write_folder(
    folder: Path, model: PreTrainedModel, tokenizer: Any = None, **options: Any
) -> Path:
    """Write ``model`` with a tokenizer as ``save_pretrained`` does."""
    model.save_pretrained(folder, **options)
    (tokenizer or build_small_tokenizer()).save_pretrained(folder)
    return folder


def write_decoder(folder: Path, name: str = "llama", **options: Any) -> Path:
    """Write a decoder of ``DECODERS``."""
    torch.manual_seed(0)
    return write_folder(folder, DECODERS[name](), **options)


def add_modules(folder: Path, settings: Mapping[str, Any], *more: str) -> Path:
    """Add what sentence-transformers writes beside a model: how it pools tokens, by ``settings``,
    and ``more`` steps after that."""
    names = ["Transformer", "Pooling", *more]
    paths = ["", *(f"{number}_{name}" for number, name in enumerate(names) if number)]
    types = [f"sentence_transformers.models.{name}" for name in names]
    steps = [{"type": kind, "path": path} for kind, path in zip(types, paths, strict=True)]
    (folder / "modules.json").write_text(json.dumps(steps), encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def edit_json(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes one."""
    tree = json.loads(file.read_text(encoding="utf-8")) | changes
    kept = {name: value for name, value in tree.items() if value is not None}
    file.write_text(json.dumps(kept), encoding="utf-8")


def write_hollow(folder: Path, tree: Mapping[str, Any]) -> Path:
    """Write a valid folder of the model in a config.json, of any size: its weights are a header and
    a hole in a sparse file."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(tree))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**tree))
    header, end = {}, 0
    for name, value in model.state_dict().items():
        begin, end = end, end + 2 * value.numel()
        header[name] = {"dtype": "F16", "shape": [*value.shape], "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    build_small_tokenizer().save_pretrained(folder)
    return folder
