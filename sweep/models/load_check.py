"""Whether the training libraries would load a model, found out before training: in a separate
process, so that planning does without torch, and without reading weights."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from sweep.config import ModelConfig
from sweep.errors import Finding, shorten
from sweep.models.facts import ModelFacts, TrialLoad
from sweep.models.file_check import (
    CODE_NAMED_IN,
    ResolvedModel,
    fit_remedy,
    list_model_files,
    read_part,
)
from sweep.models.folder import has_tokenizer
from sweep.models.shape import FAMILIES
from sweep.models.sources import is_local
from sweep.models.tiny_configs import TINY_PREFIX
from sweep.models.weight_files import PICKLE, PICKLE_INDEX, choose_entry, is_complete

# Importing the libraries takes 4 s on two cores, and each model 0.1 to 2 s; slow disks take longer.
MOST_SECONDS = 120
MODULE = "sweep.models.meta_load"
# Nothing is downloaded or converted, no GPU is used, and nobody reads the log.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "DISABLE_SAFETENSORS_CONVERSION": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
}


# A model, its position in the grid or among the baselines, and what is there of it.
Checked = tuple[int, ModelConfig, ResolvedModel]


@dataclass(frozen=True)
class LoadRequest:
    """A model folder to try, and which of its parts are on this machine: those of a Hub model may
    not be yet. ``load`` is the trial to measure; None: no one wants to know."""

    key: str
    name: str
    folder: str
    has_weights: bool
    has_tokenizer: bool
    target_modules: tuple[str, ...] = ()
    has_head: bool = True
    """False for a model that only gives features."""
    load: TrialLoad | None = None

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "LoadRequest":
        targets, load = tuple(tree["target_modules"]), tree["load"]
        if load is not None:
            load = TrialLoad(**{**load, "targets": tuple(load["targets"] or ()) or None})
        return cls(**{**tree, "target_modules": targets, "load": load})


@dataclass(frozen=True)
class LoadAnswer:
    """Why a model cannot be trained (``error``), or what is odd about it (``warning``), and what
    its largest trial takes, if that could be measured."""

    key: str
    error: str | None = None
    warning: str | None = None
    facts: ModelFacts | None = None

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "LoadAnswer":
        facts = tree["facts"]
        return cls(**{**tree, "facts": None if facts is None else ModelFacts(**facts)})


class Tried(NamedTuple):
    """What trying to load models told: findings, and facts by the models' positions in the grid."""

    findings: list[Finding]
    facts: dict[int, ModelFacts]


def check_loading(
    models: Sequence[Checked],
    features: Sequence[Checked] = (),
    loads: Mapping[int, TrialLoad] | None = None,
) -> Tried:
    """Return what the libraries refuse or find odd in ``models`` of the grid and of baselines on
    ``features``: architecture, head, tensors, tokenizer, target modules; and what trials with these
    ``loads`` take of the models of the grid."""
    found = [build_request(*each, (loads or {}).get(each[0])) for each in models]
    found += [_build_headless(*each) for each in features]
    requests = [request for request in found if request]
    if not requests:
        return Tried([], {})
    try:
        answers = ask(requests)
    except (OSError, ValueError, TypeError, subprocess.SubprocessError) as error:
        key = requests[0].key
        reason = shorten(error, 200)
        text = f"{key}: could not check before the run whether the models load ({reason})"
        return Tried([Finding("warning", key, text)], {})
    asked = {f"grid.models.{index}": model for index, model, _ in models}
    asked |= {_name_features_key(index): model for index, model, _ in features}
    findings = [each for answer in answers for each in _list_findings(answer, asked[answer.key])]
    facts = {answer.key: answer.facts for answer in answers if answer.facts}
    places = {index: facts.get(f"grid.models.{index}") for index, _, _ in models}
    return Tried(findings, {index: known for index, known in places.items() if known})


def _list_findings(answer: LoadAnswer, model: ModelConfig) -> list[Finding]:
    pairs = (("error", answer.error), ("warning", answer.warning))
    return [
        Finding(level, answer.key, f"{answer.key}: {fit_remedy(text, model)}")  # type: ignore[arg-type]
        for level, text in pairs
        if text
    ]


def build_request(
    index: int, model: ModelConfig, found: ResolvedModel, load: TrialLoad | None = None
) -> LoadRequest | None:
    """Return what to try; None if there is nothing to learn, or if the model's own code would
    have to run."""
    if model.path.startswith(TINY_PREFIX) or found.folder is None:
        return None
    own_code = any("auto_map" in read_part(found, name) for name in CODE_NAMED_IN)
    if own_code and model.trust_remote_code:
        return None
    names = list_model_files(model, found) or frozenset()
    entry = choose_entry(names, model.allow_pickle)
    plain = entry is not None and entry not in (PICKLE, PICKLE_INDEX)
    weights = plain and is_complete(found.folder, names)
    tokenizer = _has_tokenizer_here(model, found.folder, names)
    targets = tuple(model.target_modules or ())
    if not (weights or tokenizer or targets) and found.tree.get("model_type") in FAMILIES:
        return None
    folder = str(found.folder.absolute())
    key = f"grid.models.{index}"
    return LoadRequest(key, model.name, folder, weights, tokenizer, targets, load=load)


def _build_headless(index: int, model: ModelConfig, found: ResolvedModel) -> LoadRequest | None:
    request = build_request(index, model, found)
    return request and replace(request, key=_name_features_key(index), has_head=False)


def _name_features_key(index: int) -> str:
    return f"baselines.{index}.features"


def _has_tokenizer_here(model: ModelConfig, folder: Path, names: frozenset[str]) -> bool:
    """Return whether the complete tokenizer is on this machine; parts of a Hub model may not be."""
    if is_local(model.path):
        return True
    parts = [n for n in names if has_tokenizer([n]) or n in ("merges.txt", "vocab.json")]
    parts += [n for n in names if n.startswith(("tokenizer", "special_tokens", "added_tokens"))]
    return bool(parts) and all((folder / name).is_file() for name in parts)


def ask(requests: Sequence[LoadRequest]) -> list[LoadAnswer]:
    """Return the answers of the other process; raise an error of ``subprocess``, or ValueError, if
    there are none."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | QUIET | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        # -P: files in the user's folder must not shadow the libraries.
        [sys.executable, "-P", "-m", MODULE],
        input=json.dumps([asdict(request) for request in requests]),
        capture_output=True,
        text=True,
        env=environment,
        timeout=MOST_SECONDS,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ValueError(lines[-1])
    return [LoadAnswer.from_json(tree) for tree in json.loads(done.stdout)]
