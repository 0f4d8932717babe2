"""An exported folder as a function from texts to probabilities."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sweep.errors import ConfigError, ModelError, explain_cause, format_value
from sweep.export.bundle import load_stock, silence_progress
from sweep.export.cli import REPO
from sweep.models.device import is_out_of_memory

RECORD_NAME = "sweep.json"


class Classifier:
    """A classifier as stock libraries load it, in float32; texts are truncated as in training."""

    def __init__(self, folder: Path, device: str = "auto", trust_remote_code: bool = False) -> None:
        """``device`` is ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``. Raises ModelError if
        ``folder`` is no export, its base model is missing, or no file can hold its labels."""
        silence_progress()
        record = read_record(folder)
        code = record["trial"]["model"].get("trust_remote_code", False)
        if code and not trust_remote_code:
            raise ModelError(
                f"{folder}: the base model comes with code of its own, which would run as you; "
                "read it, then add --trust-remote-code"
            )
        try:
            merged = bool(record["exported"]["merged"])
            stock = load_stock(folder, merged, trust_remote_code, choose_device(device))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelError(
                f"{folder}: cannot be loaded ({explain_cause(error)}); an adapter needs its base "
                "model where it was when it was exported: put it back, or export with --merge"
            ) from None
        self._model, self._tokenizer = stock.model.eval(), stock.tokenizer
        names = self._model.config.id2label
        self.labels: tuple[str, ...] = tuple(names[index] for index in range(len(names)))
        check_labels(folder, self.labels)
        """In class order."""

    @property
    def device(self) -> str:
        """Where it runs, such as ``cpu`` or ``cuda:0``."""
        return str(self._model.device)

    def predict(self, texts: Sequence[str], batch_size: int = 64) -> NDArray[np.float32]:
        """Return the probability of each label, shape (texts, labels); NaN for a text to which the
        model gives logits that are no numbers.

        A batch that does not fit into the GPU's memory is halved. Raises ModelError if one text
        alone does not fit.
        """
        found = np.empty((len(texts), len(self.labels)), np.float32)
        # Sorted by length: less padding, the same probabilities.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        start, size = 0, batch_size
        while start < len(order):
            part = order[start : start + size]
            scored = self._try_batch([texts[index] for index in part])
            if scored is not None:
                found[part] = scored
                start += len(part)
            elif size == 1:
                raise ModelError(
                    "one text alone does not fit into the GPU's memory; use --device cpu"
                )
            else:
                size = max(1, len(part) // 2)
        return found

    def _try_batch(self, texts: list[str]) -> NDArray[np.float32] | None:
        """Return the probabilities of one batch; None if memory ran out."""
        try:
            return self._score(texts)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        torch.cuda.empty_cache()
        return None

    @torch.inference_mode()
    def _score(self, texts: list[str]) -> NDArray[np.float32]:
        batch = self._tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
        logits = self._model(**batch.to(self._model.device)).logits.float()
        probabilities: NDArray[np.float32] = logits.softmax(dim=-1).cpu().numpy()
        return probabilities


def read_record(folder: Path) -> dict[str, Any]:
    """Return what an exported folder says about its trial; raise ModelError if it is none."""
    path = folder / RECORD_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["trial"]["model"], record["exported"]["merged"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: {explain_cause(error)}; MODEL has to be a folder that sweep export wrote"
        ) from None
    return dict(record)


def check_labels(folder: Path, labels: Sequence[str]) -> None:
    """Raise ModelError that names the first label with a lone surrogate, which no file can hold."""
    for label in labels:
        try:
            label.encode()
        except UnicodeEncodeError:
            raise ModelError(
                f"{folder}: the label {format_value(label)} holds half a character (a lone "
                "surrogate), which no file can hold; write another name for it in id2label of the "
                "folder's config.json (beside an adapter: classifier/config.json)"
            ) from None


def choose_device(name: str) -> torch.device:
    """Return the device that ``auto``, ``cpu`` or ``cuda`` means; raise ConfigError without it."""
    here = torch.cuda.is_available()
    if name == "cuda" and not here:
        raise ConfigError("--device cuda: PyTorch sees no GPU here; use --device cpu")
    return torch.device("cuda" if here and name != "cpu" else "cpu")


def find_folder(name: str) -> Path:
    """Return the folder that MODEL names: itself, or a download from the Hub for OWNER/NAME.

    Raises ModelError if there is neither.
    """
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    if not REPO.fullmatch(name):
        raise ModelError(f"{name}: there is no such folder; name one that sweep export wrote")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name))
    except Exception as error:  # the library raises many kinds: network, rights, no such name
        raise ModelError(
            f"{name}: is no folder here, and the Hub does not give it ({explain_cause(error)}); "
            "check the name, the network and HF_TOKEN"
        ) from None
