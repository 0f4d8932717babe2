"""The exported folder: written from a trial's checkpoint, and loaded again by nothing but stock
peft and transformers."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import AutoPeftModelForSequenceClassification, PeftModel
from transformers import AutoConfig, PreTrainedModel, pipeline
from transformers.utils import logging

from sweep.models.base import Base, materialize
from sweep.training.classifier import build_classifier, merge, read_best_weights

__all__ = [
    "build_classifier",
    "load_stock",
    "materialize",
    "predict_labels",
    "read_best_weights",
    "silence_progress",
    "write_adapter",
    "write_complete",
    "write_tokenizer",
]

# Subfolder for config.json: beside an adapter, stock loaders would take it for a complete model.
CLASSIFIER = "classifier"
# Settings that turn a stock base model into the classifier that was trained.
NAMES = ("id2label", "label2id", "pad_token_id")

INPUTS = ["input_ids", "attention_mask"]


def write_adapter(
    model: PeftModel, base: Base, folder: Path, path: str, revision: str | None
) -> None:
    """Write adapter, head and configuration; stock peft finds the base model by ``path`` and
    ``revision``."""
    config = model.peft_config["default"]
    config.base_model_name_or_path, config.revision = path, revision
    # By default, peft would ask the Hub whether the vocabulary has grown.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    # peft's own model card is an empty template; ours follows once the score is confirmed.
    (folder / "README.md").unlink(missing_ok=True)
    base.model.config.save_pretrained(folder / CLASSIFIER)


def write_complete(model: PeftModel | PreTrainedModel, folder: Path) -> None:
    """Write one plain float32 sequence classifier; an adapter is merged into its weights."""
    merge(model).save_pretrained(folder)


def write_tokenizer(base: Base, max_length: int, folder: Path) -> None:
    """Write the tokenizer so that by itself it pads and truncates as in training."""
    base.tokenizer.model_max_length = max_length
    base.tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    for name in ("is_local", "local_files_only"):
        tree.pop(name, None)
    # GPT-2 would add token type ids, which some tokenizers return, to its embeddings.
    tree |= {"model_input_names": INPUTS, "padding_side": "right", "truncation_side": "right"}
    path.write_text(json.dumps(tree, indent=2, ensure_ascii=False), encoding="utf-8")


def load_stock(
    folder: Path,
    merged: bool,
    trust_remote_code: bool = False,
    device: torch.device | None = None,
) -> Any:
    """Return the text-classification pipeline of an exported folder, as in its model card; on a GPU
    if there is one and ``device`` does not say otherwise."""
    options = {"dtype": torch.float32, "trust_remote_code": trust_remote_code}
    path = str(folder)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if merged:
        return pipeline(
            "text-classification", model=path, truncation=True, device=device, **options
        )
    config = AutoConfig.from_pretrained(
        path, subfolder=CLASSIFIER, trust_remote_code=trust_remote_code
    )
    options |= {name: getattr(config, name) for name in NAMES if hasattr(config, name)}
    # The base model may have a head of its own, for other classes.
    options["ignore_mismatched_sizes"] = True
    model = AutoPeftModelForSequenceClassification.from_pretrained(path, **options)
    return pipeline(
        "text-classification", model=model, tokenizer=path, truncation=True, device=device
    )


def predict_labels(classify: Any, texts: Sequence[str], batch_size: int) -> list[str]:
    """Return the label that a pipeline gives each of ``texts``."""
    # Sorted by length: less padding, the same labels.
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    answers = classify([texts[index] for index in order], batch_size=batch_size)
    labels = [""] * len(texts)
    for index, answer in zip(order, answers, strict=True):
        labels[index] = answer["label"]
    return labels


def silence_progress() -> None:
    """Keep the libraries' progress bars and notices off the terminal."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
