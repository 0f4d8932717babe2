"""A trial's classifier as it is used: its base model with the weights of its best epoch."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from sweep.errors import ModelError, RunFolderError
from sweep.models.base import Base, load_stock_base
from sweep.models.methods import attach
from sweep.plan import TrialSpec
from sweep.storage.checkpoints import CHECKPOINTS_NAME, list_checkpoints, open_store
from sweep.training.checkpoint import Tensors, best_weights, read_checkpoint


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


def build_classifier(
    spec: TrialSpec, source: str, weights: Tensors, dtype: torch.dtype | str = torch.float32
) -> tuple[Base, Any]:
    """Return the base model at ``source``, on the CPU in ``dtype`` ("auto": as stored), and the
    classifier with ``weights`` on top of it; raise ModelError if they do not match."""
    base = load_stock_base(spec.model, source, dtype)
    model = attach(base, spec.cell.labels, spec.candidate, spec.cell.seed)
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if {n: p.shape for n, p in own.items()} != {n: t.shape for n, t in weights.items()}:
        raise ModelError(
            f"model {spec.model.name}: the checkpoint of trial {spec.trial_id} does not match "
            "it; use the release of sweep that trained it"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])
    base.model.config.architectures = [type(base.model).__name__]
    return base, model.eval()


def merge(model: PeftModel | PreTrainedModel) -> PreTrainedModel:
    """Return a plain classifier: an adapter is merged into the weights of its base model."""
    merged: Any = model.merge_and_unload() if isinstance(model, PeftModel) else model
    if hasattr(merged, "peft_config"):
        del merged.peft_config
    plain: PreTrainedModel = merged
    return plain
