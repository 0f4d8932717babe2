"""``python -m sweep.models.meta_load``: loads models as training does, but on PyTorch's meta
device, where tensors have shapes and no values, and reports what keeps them from being trained or,
for features, read, and what training them takes.

Reads a JSON list of `sweep.models.load_check.LoadRequest` from standard input, and writes a list
of `LoadAnswer` to standard output. Of weights only headers are read, nothing is downloaded, and no
model's code runs.
"""

import json
import math
import sys
from collections.abc import Collection
from contextlib import redirect_stdout
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)

from sweep.errors import ModelError, format_error, format_names
from sweep.models.facts import ModelFacts, TrialLoad
from sweep.models.folder import NO_TOKENIZER, has_tokenizer, list_names
from sweep.models.heads import (
    Loaded,
    Parts,
    check_loaded,
    describe_left_out,
    find_head,
    is_of_head,
    read_config,
    without_pooler,
)
from sweep.models.load_check import LoadAnswer, LoadRequest
from sweep.models.probe import probe
from sweep.models.vocabulary import check_vocabulary, choose_padding, count_rows
from sweep.models.weight_files import Header, read_weights

LOCAL = {"local_files_only": True, "trust_remote_code": False}


def main() -> None:
    with redirect_stdout(sys.stderr):
        requests = [LoadRequest.from_json(tree) for tree in json.load(sys.stdin)]
        answers = [answer(request) for request in requests]
    print(json.dumps([asdict(each) for each in answers]))


def answer(request: LoadRequest) -> LoadAnswer:
    try:
        return _try(request)
    except ModelError as error:
        return LoadAnswer(request.key, error=str(error))
    except Exception as error:  # the libraries raise all kinds of errors for odd files
        text = f"model {request.name}: {request.folder} cannot be loaded ({format_error(error)})"
        return LoadAnswer(request.key, error=f"{text}; check its config.json, or download it again")


def _try(request: LoadRequest) -> LoadAnswer:
    """Return what is odd about the model and what it takes; raise the errors that training would
    raise."""
    folder, name = Path(request.folder), request.name
    config = _read_known_config(folder, name, request.has_head)
    stored = read_weights(folder, list_names(folder), False) if request.has_weights else {}
    model, loaded = build_meta(config, stored, request.has_head)
    head: Parts = {}
    if request.has_head:
        head = find_head(model, loaded, name)
    else:
        loaded = without_pooler(loaded)
    check_loaded(model, head, loaded, name)
    _check_targets(model, head, request)
    if request.has_tokenizer:
        _check_tokenizer(folder, count_rows(model), name)
    warning = describe_left_out(model, loaded, name)
    facts = _probe(model, head, request.load, _count_bytes(config, stored))
    return LoadAnswer(request.key, warning=warning, facts=facts)


def _probe(
    model: PreTrainedModel, head: Parts, load: TrialLoad | None, stored_bytes: float
) -> ModelFacts | None:
    if load is None:
        return None
    try:
        return probe(model, head, load, stored_bytes)
    except Exception as error:  # some models look at values, and there are none
        print(f"{type(model).__name__} cannot be measured: {error}", file=sys.stderr)
        return None


def _count_bytes(config: PreTrainedConfig, stored: Header) -> float:
    """Return the bytes per parameter in the weight files."""
    sizes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
    known = [(sizes[t.type], math.prod(t.shape)) for t in stored.values() if t.type in sizes]
    if not known:
        return float((config.dtype or torch.float32).itemsize)
    return sum(size * count for size, count in known) / sum(count for _, count in known)


def _read_known_config(folder: Path, name: str, has_head: bool) -> PreTrainedConfig:
    kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    if kind not in CONFIG_MAPPING:
        raise ModelError(
            f"model {name}'s architecture {kind!r} (model_type in config.json) is unknown to "
            f"transformers {transformers.__version__}; use another model, or a release that has it"
        )
    config = read_config(str(folder), **LOCAL)
    if has_head and type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ModelError(
            f"model {name}'s architecture {kind!r} has no text classifier in transformers "
            f"{transformers.__version__}; use another model"
        )
    if has_head and config.is_encoder_decoder:
        raise ModelError(
            f"model {name}'s architecture {kind!r} has an encoder and a decoder, and its text "
            "classifier cannot be trained here; use an encoder such as BERT or ModernBERT, or a "
            "decoder such as Qwen or Llama"
        )
    return config


def build_meta(
    config: PreTrainedConfig, stored: Header, has_head: bool = True
) -> tuple[PreTrainedModel, Loaded]:
    """Return the classifier, or the model without a head, without values, and how the ``stored``
    weights differ from it, if they are known."""
    kind = AutoModelForSequenceClassification if has_head else AutoModel
    with torch.device("meta"):
        empty = kind.from_config(config)
    if not stored:
        return empty, Loaded()
    tensors = {name: torch.empty(t.shape, device="meta") for name, t in stored.items()}
    model, info = type(empty).from_pretrained(
        None, config=empty.config, state_dict=tensors, device_map="meta", dtype=torch.float32,
        ignore_mismatched_sizes=True, output_loading_info=True,
    )  # fmt: skip
    return model, Loaded.from_info(info)


def _check_targets(model: PreTrainedModel, head: Parts, request: LoadRequest) -> None:
    """Raise ModelError if a target module matches no layer that has a matrix to adapt."""
    tables = (name for name, weight in model.named_parameters() if weight.dim() > 1)
    layers = [name.rpartition(".")[0] for name in tables if not is_of_head(name, head)]
    known = sorted({layer.rpartition(".")[2] for layer in layers})
    for target in request.target_modules:
        if not any(layer == target or layer.endswith(f".{target}") for layer in layers):
            raise ModelError(
                f"model {request.name}: target_modules name {target!r}, but its layers are "
                f"{format_names(known)}; choose from these, or leave the key out to adapt every "
                "linear layer"
            )


def _check_tokenizer(folder: Path, rows: int, name: str) -> None:
    tokenizer: Any = None
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
        check_vocabulary(tokenizer, rows, name)
    except Exception as error:
        names = list_names(folder)
        if not has_tokenizer(names):
            raise ModelError(f"{folder} {NO_TOKENIZER}") from None
        if tokenizer is not None:
            raise
        raise ModelError(_explain_tokenizer(folder, names, error)) from None
    choose_padding(tokenizer, rows, name)


def _explain_tokenizer(folder: Path, names: Collection[str], error: Exception) -> str:
    reason = format_error(error)
    if "tokenizer.json" in names:
        return f"{folder / 'tokenizer.json'} cannot be read ({reason}); download it again"
    lacking = find_spec("sentencepiece") is None and any(n.endswith(".model") for n in names)
    return (
        f"{folder} has no tokenizer.json, and its other files make no tokenizer ({reason}); "
        f"add tokenizer.json{', or pip install sentencepiece protobuf' if lacking else ''}"
    )


if __name__ == "__main__":
    main()
