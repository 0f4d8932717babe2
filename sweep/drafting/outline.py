"""A study as the tree of a configuration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sweep.config import DataConfig
from sweep.drafting.contenders import Contender
from sweep.drafting.studies import Study

RANK = 16
# After each comparison, about half of the candidates go on.
HALVING = {"grace_epochs": 1, "reduction_factor": 2}
# Peak learning rates to try, from and to, up to a number of parameters: smaller models take higher
# rates, and adapters about ten times those of full fine-tuning (``sweep.config.tuning``).
RATES = {
    "full": ((60e6, (5e-5, 3e-4)), (math.inf, (2e-5, 1.2e-4))),
    "lora": ((60e6, (5e-4, 2e-3)), (400e6, (2e-4, 1.2e-3)), (math.inf, (1e-4, 6e-4))),
}


@dataclass(frozen=True)
class Frame:
    """What all studies of the same data on the same machine share: the name, the data, and the
    tokens read of a text."""

    name: str
    data: DataConfig
    max_length: int
    has_gpus: bool


def build_tree(
    frame: Frame,
    study: Study,
    contenders: Sequence[tuple[Contender, float]],
    cpus_per_trial: int,
    repeat_budget: str | None = None,
) -> dict[str, Any]:
    """Return the configuration of ``study`` with its ``contenders``, each with its number of
    parameters; ``repeat_budget`` is the time for repeats, if it has any."""
    data = frame.data.model_dump(mode="json", exclude_unset=True)
    if study.evaluated:
        data["max_eval_per_label"] = study.evaluated
    tree: dict[str, Any] = {
        "name": frame.name,
        "data": data,
        "grid": {
            "models": [_build_entry(each, size, study) for each, size in contenders],
            "n_labels": list(study.n_labels),
            "n_samples": list(study.n_samples),
        },
        "tune": {"candidates": study.candidates},
        "asha": {"max_epochs": study.epochs, **(HALVING if study.candidates > 1 else {})},
        "train": {"batch_size": 16, "max_length": frame.max_length},
    }
    if repeat_budget:
        tree["repeat"] = {"seeds": "auto", "budget": repeat_budget}
    engine = {"engine": "auto"} if frame.has_gpus else {}
    tree["resources"] = {**engine, "cpus_per_trial": cpus_per_trial}
    model = _choose_features(contenders).model
    features = {"features": model.path}
    if model.revision:
        features["revision"] = model.revision
    tree["baselines"] = ["majority", "tf-idf", features]
    return tree


def _choose_features(contenders: Sequence[tuple[Contender, float]]) -> Contender:
    """Return whose features are a baseline: the smallest encoder, since small ones are mostly made
    for that; without an encoder, the first contender."""
    encoders = [(size, index) for index, (each, size) in enumerate(contenders) if each.is_encoder]
    return contenders[min(encoders)[1] if encoders else 0][0]


def _build_entry(contender: Contender, parameters: float, study: Study) -> dict[str, Any]:
    model = contender.model
    entry: dict[str, Any] = {"name": model.name, "path": model.path}
    if model.revision:
        entry["revision"] = model.revision
    entry["method"] = model.method
    rank = {"lora_rank": RANK} if model.method == "lora" else {}
    entry["tune"] = {**rank, "learning_rate": list_rates(model.method, parameters, study)}
    return entry


def list_rates(method: str, parameters: float, study: Study) -> list[float]:
    """Return a learning rate for each candidate, evenly spread by their logarithms, in two digits;
    the middle one if there is only one."""
    low, high = next(bounds for most, bounds in RATES[method] if parameters <= most)
    last = study.candidates - 1
    parts = [i / last for i in range(study.candidates)] if last else [0.5]
    return [float(f"{low * (high / low) ** part:.1e}") for part in parts]
