"""The exported folder: written from a trial's checkpoint, and loaded again by nothing but stock
peft and transformers."""

import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import AutoPeftModelForSequenceClassification, PeftModel
from transformers import AutoConfig, PreTrainedModel, pipeline
from transformers.utils import logging

from sweep.errors import ModelError, RunFolderError
from sweep.models.base import Base, load_base, materialize
from sweep.models.methods import attach
from sweep.plan import TrialSpec
from sweep.storage.checkpoints import CHECKPOINTS_NAME, list_checkpoints, open_store
from sweep.training.checkpoint import Tensors, best_weights, read_checkpoint

__all__ = [
    "build_classifier",
    "find_best_weights",
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


def find_best_weights(checkpoints: Path, trial_id: str, best_epoch: int) -> Tensors | None:
    """Return the adapter and head of the trial's best epoch, from its newest complete checkpoint in
    a folder; None if there is none."""
    for folder in list_checkpoints(checkpoints):
        found = read_checkpoint(folder)
        if found is None or found[1].get("trial_id") != trial_id:
            continue
        if found[1]["progress"]["best_epoch"] == best_epoch:
            return best_weights(found[0])
    return None


def read_best_weights(
    run_folder: Path, storage: str | None, trial_id: str, best_epoch: int
) -> Tensors:
    """Return the adapter and head of the trial's best epoch, from the run's storage for checkpoints
    or from its folder, where they may have been kept before.

    Raises RunFolderError if they are in neither.
    """
    storages = dict.fromkeys((storage, None))
    for uri in storages:
        with tempfile.TemporaryDirectory() as scratch:
            checkpoints = open_store(run_folder, uri).fetch(trial_id, Path(scratch))
            found = find_best_weights(checkpoints, trial_id, best_epoch)
        if found is not None:
            return found
    looked = " and ".join(str(uri or run_folder / CHECKPOINTS_NAME) for uri in storages)
    raise RunFolderError(
        f"{looked}: the checkpoint of trial {trial_id} is missing or damaged; restore it "
        "from a backup, set storage.checkpoints in the run's config.yaml to where it is, or train "
        "the cell again under another --name"
    )


def build_classifier(spec: TrialSpec, source: str, weights: Tensors) -> tuple[Base, Any]:
    """Return the base model at ``source`` and the classifier with ``weights`` on top of it, in
    float32 on the CPU; raise ModelError if they do not match."""
    base = load_base(spec.model, source, "float32", torch.device("cpu"))
    model = attach(base, spec.cell.labels, spec.candidate, spec.cell.seed)
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if {n: p.shape for n, p in own.items()} != {n: t.shape for n, t in weights.items()}:
        raise ModelError(
            f"model {spec.model.name}: the checkpoint of trial {spec.trial_id} does not match "
            "it; export with the release of sweep that trained it"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])
    base.model.config.architectures = [type(base.model).__name__]
    return base, model.eval()


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
    merged: Any = model.merge_and_unload() if isinstance(model, PeftModel) else model
    if hasattr(merged, "peft_config"):
        del merged.peft_config
    merged.save_pretrained(folder)


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
