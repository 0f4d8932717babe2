"""Small model folders of many architectures with random weights, valid and faulty, for tests."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    BloomConfig,
    BloomForCausalLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
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
    T5Config,
    T5ForConditionalGeneration,
    XLNetConfig,
    XLNetLMHeadModel,
)

from sweep.models.tiny import build_tokenizer

ROWS = 300
SHARED: dict[str, Any] = {
    "vocab_size": ROWS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
PLAIN = {name: value for name, value in SHARED.items() if name != "num_key_value_heads"}
DISTIL = {"vocab_size": ROWS, "dim": 32, "hidden_dim": 32, "n_layers": 2, "n_heads": 4}
OPT = {
    "vocab_size": ROWS, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64,
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
OTHER_HEADS: Mapping[str, tuple[Callable[[], PreTrainedModel], str]] = {
    "bert": (lambda: BertForMaskedLM(BertConfig(**PLAIN)), "'classifier'"),
    "distilbert": (lambda: DistilBertForMaskedLM(DistilBertConfig(**DISTIL)), "'classifier'"),
    "t5": (
        lambda: T5ForConditionalGeneration(
            T5Config(vocab_size=ROWS, d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4)
        ),
        "'classification_head'",
    ),
    "xlnet": (
        lambda: XLNetLMHeadModel(
            XLNetConfig(vocab_size=ROWS, d_model=32, n_layer=2, n_head=4, d_inner=32)
        ),
        "'logits_proj'",
    ),
}


def build_small_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of at most ``ROWS`` tokens."""
    tokenizer = build_tokenizer(["what a day", "a much longer day"])
    assert len(tokenizer) <= ROWS
    return tokenizer


def write_folder(folder: Path, model: PreTrainedModel, **options: Any) -> Path:
    """Write ``model`` with a tokenizer as ``save_pretrained`` does."""
    model.save_pretrained(folder, **options)
    build_small_tokenizer().save_pretrained(folder)
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
