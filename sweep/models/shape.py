"""The shape of a language model, read from config.json and the headers of weight files."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.errors import ModelError
from sweep.models.folder import list_names
from sweep.models.weight_files import list_weight_files, read_header

Tree = Mapping[str, Any]

FAMILIES = ("qwen2", "llama", "gpt2", "gemma3_text")


@dataclass(frozen=True)
class ModelShape:
    """The sizes that decide a transformer's parameters, memory and arithmetic.

    ``queries`` and ``keys`` are the total widths of the query and of the key projections.
    """

    family: str
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    queries: int
    keys: int
    head_size: int
    positions: int | None
    projection_bias: int
    file_bytes_per_parameter: int

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each linear layer of a block, by name."""
        h, i, q, k = self.hidden, self.intermediate, self.queries, self.keys
        if self.family == "gpt2":
            return {
                "attn.c_attn": (h, 3 * h),
                "attn.c_proj": (h, h),
                "mlp.c_fc": (h, i),
                "mlp.c_proj": (i, h),
            }
        return {
            "self_attn.q_proj": (h, q),
            "self_attn.k_proj": (h, k),
            "self_attn.v_proj": (h, k),
            "self_attn.o_proj": (q, h),
            "mlp.gate_proj": (h, i),
            "mlp.up_proj": (h, i),
            "mlp.down_proj": (i, h),
        }


def read_shape(tree: Tree) -> ModelShape | None:
    """Return the shape in a parsed config.json, or None if its sizes are not under known names.

    An unknown family with the usual names is assumed to be like Llama: gated feed-forward, grouped
    queries, no biases.
    """
    text = {**tree, **tree["text_config"]} if isinstance(tree.get("text_config"), dict) else tree
    family = str(text.get("model_type", "")).replace("gemma3_text", "gemma3")
    family = "gemma3_text" if family == "gemma3" else family
    try:
        return _read_gpt2(text) if family == "gpt2" else _read_grouped(text, family)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def read_positions(tree: Tree) -> int | None:
    """Return the most tokens of a text according to a parsed config.json, or None."""
    text = {**tree, **tree["text_config"]} if isinstance(tree.get("text_config"), dict) else tree
    found = (text.get(name) for name in ("max_position_embeddings", "n_positions", "n_ctx"))
    return next((number for number in found if isinstance(number, int) and number > 0), None)


def _read_gpt2(tree: Tree) -> ModelShape:
    hidden = int(tree["n_embd"])
    return ModelShape(
        family="gpt2",
        vocabulary=int(tree["vocab_size"]),
        hidden=hidden,
        intermediate=int(tree.get("n_inner") or 4 * hidden),
        layers=int(tree["n_layer"]),
        queries=hidden,
        keys=hidden,
        head_size=hidden // int(tree["n_head"]),
        positions=int(tree.get("n_positions") or tree["n_ctx"]),
        projection_bias=0,
        file_bytes_per_parameter=_file_bytes(tree),
    )


def _read_grouped(tree: Tree, family: str) -> ModelShape:
    hidden, heads = int(tree["hidden_size"]), int(tree["num_attention_heads"])
    head_size = int(tree.get("head_dim") or hidden // heads)
    queries, keys = heads * head_size, int(tree.get("num_key_value_heads") or heads) * head_size
    positions = tree.get("max_position_embeddings")
    bias = family == "qwen2" or bool(tree.get("attention_bias"))
    return ModelShape(
        family=family,
        vocabulary=int(tree["vocab_size"]),
        hidden=hidden,
        intermediate=int(tree["intermediate_size"]),
        layers=int(tree["num_hidden_layers"]),
        queries=queries,
        keys=keys,
        head_size=head_size,
        positions=int(positions) if positions else None,
        projection_bias=queries + 2 * keys if bias else 0,
        file_bytes_per_parameter=_file_bytes(tree),
    )


def _file_bytes(tree: Tree) -> int:
    name = str(tree.get("dtype") or tree.get("torch_dtype") or "float32")
    return 4 if "32" in name else 2


def count_embeddings(shape: ModelShape) -> int:
    """Return the parameters of the token embeddings and, in GPT-2, of the position embeddings."""
    learned = shape.positions or 0 if shape.family == "gpt2" else 0
    return (shape.vocabulary + learned) * shape.hidden


def count_blocks(shape: ModelShape) -> int:
    """Return the parameters of all blocks and of the last norm: those that every token passes."""
    weights = sum(inputs * outputs for inputs, outputs in shape.linears.values())
    if shape.family == "gpt2":
        biases = sum(outputs for _, outputs in shape.linears.values())
        return shape.layers * (weights + biases + 4 * shape.hidden) + 2 * shape.hidden
    norms = 2 * shape.hidden
    if shape.family == "gemma3_text":
        norms = 4 * shape.hidden + 2 * shape.head_size
    return shape.layers * (weights + shape.projection_bias + norms) + shape.hidden


def count_parameters(shape: ModelShape) -> int:
    """Return the parameters of the base model as a classifier loads it: with token embeddings, but
    without the language-modeling head (which most of these models tie to them)."""
    return count_embeddings(shape) + count_blocks(shape)


def count_adapter(shape: ModelShape, rank: int, targets: tuple[str, ...] | None = None) -> int:
    """Return LoRA's parameters: ``rank`` times (inputs + outputs) of every adapted linear layer
    (Hu et al. 2021, arXiv:2106.09685); ``targets`` are layer names, None means all."""
    chosen = [
        inputs + outputs
        for name, (inputs, outputs) in shape.linears.items()
        if targets is None or any(name == t or name.endswith(f".{t}") for t in targets)
    ]
    return rank * sum(chosen) * shape.layers


def count_weights(folder: Path) -> int | None:
    """Return the parameters named in the headers of ``folder``'s safetensors, without ``lm_head``,
    or None if there is no readable header."""
    try:
        files = list_weight_files(folder, list_names(folder))
        headers = [read_header(folder / name)[0] for name in files]
    except ModelError:
        return None
    return sum(
        math.prod(tensor.shape)
        for header in headers
        for name, tensor in header.items()
        if not name.startswith("lm_head")
    )
