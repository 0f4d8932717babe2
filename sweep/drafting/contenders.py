"""Who can compete: models of the catalog or of the user's choice, with what they take."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from sweep.cluster.hardware import Machine
from sweep.config import ModelConfig
from sweep.drafting.catalog import BY_PATH, KnownModel, list_known
from sweep.errors import ConfigError, ModelError, SweepError, format_value
from sweep.models.facts import ModelFacts, TrialLoad
from sweep.models.file_check import ResolvedModel, check_model
from sweep.models.load_check import check_loading
from sweep.models.shape import FAMILIES, read_shape
from sweep.models.sources import is_local
from sweep.preflight.inputs import resolve_model

# How errors about models name the place of a model, which the user gave as an option.
PLACE = re.compile(r"^grid\.models(\.\d+)?: ")


@dataclass(frozen=True)
class Contender:
    """A model that may compete: its entry in the grid, its files as far as they are known, and
    what else there is to say of it."""

    model: ModelConfig
    found: ResolvedModel
    note: str = ""

    @property
    def is_encoder(self) -> bool:
        """Whether its tokens see those after them, too."""
        shape = read_shape(self.found.tree)
        named = str(self.found.tree.get("architectures"))
        causal = "CausalLM" in named or "LMHead" in named
        return not causal and not (shape and shape.family in FAMILIES)


def list_contenders(
    machine: Machine, english: bool, has_token: bool, folder: Path
) -> tuple[list[Contender], list[str]]:
    """Return the contenders of the catalog for a machine and a language, and a phrase for each that
    is left out. Their configurations are written below ``folder``."""
    known = list_known(bool(machine.gpus), english)
    chosen = [each for each in known if has_token or not each.gated]
    gated = [f"{each.name} (gated, and HF_TOKEN is not set)" for each in known
             if each not in chosen]  # fmt: skip
    return [_take_known(each, folder) for each in chosen], gated


def read_contenders(paths: Sequence[str], folder: Path) -> list[Contender]:
    """Return the models that the user names, encoders first; raise ModelError that says which one
    cannot be had or trained."""
    found: list[Contender] = []
    for path in paths:
        taken = {each.model.name for each in found}
        known = None if is_local(path) else BY_PATH.get(path)
        one = _take_known(known, folder) if known else _read_contender(len(found), path, taken)
        if any(one.model.path == each.model.path for each in found):
            raise ConfigError(f"--model {format_value(path)} is given twice; name it once")
        found.append(one)
    return sorted(found, key=lambda each: not each.is_encoder)


def _take_known(known: KnownModel, folder: Path) -> Contender:
    place = folder / known.name
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(known.sizes))
    model = ModelConfig(
        name=known.name, path=known.path, revision=known.revision, method=known.method
    )
    terms = f"; gated: accept its terms at https://huggingface.co/{known.path}, set HF_TOKEN"
    note = f"{known.license}, {known.languages}{terms if known.gated else ''}"
    found = ResolvedModel(known.revision or "main", dict(known.sizes), place, frozenset())
    return Contender(model, found, note)


def _read_contender(index: int, path: str, taken: set[str]) -> Contender:
    if is_local(path):
        path = str(Path(path).expanduser().absolute())
    try:
        model = ModelConfig(name=_choose_name(path, taken), path=path)
        found = resolve_model(index, model)
        errors = [each for each in check_model(index, model, found) if each.level == "error"]
    except ValueError as error:
        raise ConfigError(f"--model {format_value(path)}: {error}") from None
    except SweepError as error:
        raise ModelError(PLACE.sub("--model: ", str(error))) from None
    if errors:
        raise ModelError(PLACE.sub("--model: ", errors[0].sentence))
    contender = Contender(model, found)
    method = "full" if contender.is_encoder else "lora"
    return Contender(model.model_copy(update={"method": method}), found)


def _choose_name(path: str, taken: set[str]) -> str:
    last = re.sub(r"[^a-z0-9._-]+|\.\.+", "-", Path(path.replace(":", "-")).name.lower())
    name = last.strip("-._")[:90] or "model"
    others = (f"{name}-{number}" for number in count(2))
    return next(each for each in chain([name], others) if each not in taken)


def measure_contenders(
    contenders: Sequence[Contender], loads: Mapping[int, TrialLoad]
) -> dict[int, ModelFacts]:
    """Return what the largest trial of each contender takes, where it can be measured; raise
    ModelError for one that cannot be trained."""
    checked = [(index, each.model, each.found) for index, each in enumerate(contenders)]
    tried = check_loading(checked, loads=loads)
    errors = [each for each in tried.findings if each.level == "error"]
    if errors:
        raise ModelError(PLACE.sub("--model: ", errors[0].sentence))
    return tried.facts
