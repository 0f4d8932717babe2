"""Whether a sweep's models and data can be had, and what is missing where they cannot."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep.config import Config, ModelConfig
from sweep.data import load_corpus
from sweep.errors import DataError, SweepError
from sweep.findings import Finding
from sweep.home import list_home_notes
from sweep.hub import go_offline_if_silent, list_hub_files
from sweep.revisions import TINY_PREFIX, find_hub_config, is_local, resolve_revision
from sweep.shapes import FAMILIES, TINY_CONFIGS
from sweep.subsets import Subsets

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
CODE_NAMED_IN = ("config.json", "tokenizer_config.json")


@dataclass(frozen=True)
class ReachedModel:
    """A model that can be had: the commit or hash that pins it, its parsed config.json, what is
    here of its folder, and the names of a Hub model's files if the Hub gives them."""

    revision: str
    tree: dict[str, Any]
    folder: Path | None = None
    files: frozenset[str] | None = None


@dataclass
class Reached:
    """What could be had: models by name, subsets unless the data cannot give every cell,
    and the errors."""

    models: dict[str, ReachedModel] = field(default_factory=dict)
    subsets: Subsets | None = None
    findings: list[Finding] = field(default_factory=list)


def reach_inputs(config: Config) -> Reached:
    """Return what of ``config``'s data and models can be had; nothing is raised."""
    reached = Reached()
    silent = go_offline_if_silent() if _needs_hub(config) else None
    if silent:
        reached.findings.append(Finding("warning", "network", silent))
    try:
        subsets = build_subsets(config)
        missing = check_counts(config, subsets)
        reached.findings += missing
        reached.subsets = None if missing else subsets
    except SweepError as error:
        reached.findings.append(Finding("error", "data", str(error)))
    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(reach_model, i, m) for i, m in enumerate(config.grid.models)]
    for index, (model, call) in enumerate(zip(config.grid.models, calls, strict=True)):
        try:
            reached.models[model.name] = call.result()
        except SweepError as error:
            reached.findings.append(Finding("error", f"grid.models.{index}", str(error)))
    if _needs_hub(config):
        reached.findings += [Finding("note", "HF_HOME", note) for note in list_home_notes()]
    return reached


def _needs_hub(config: Config) -> bool:
    paths = [model.path for model in config.grid.models]
    return config.data.source == "hub" or any(
        not path.startswith(TINY_PREFIX) and not is_local(path) for path in paths
    )


def build_subsets(config: Config) -> Subsets:
    """Load the corpus and return the subsets that it can give."""
    data = config.data
    return Subsets(
        load_corpus(data), data.exclude_labels, data.label_order, data.max_eval_per_label
    )


def reach_model(index: int, model: ModelConfig) -> ReachedModel:
    """Return where the ``index``-th model stands; raise ModelError if it cannot be had."""
    revision = resolve_revision(model)
    if model.path.startswith(TINY_PREFIX):
        return ReachedModel(revision, dict(TINY_CONFIGS[model.path.removeprefix(TINY_PREFIX)]))
    if is_local(model.path):
        folder = Path(model.path).expanduser()
        return ReachedModel(revision, _read_tree(folder / "config.json"), folder)
    path = find_hub_config(f"grid.models.{index}", model.path, revision)
    names = list_hub_files(model.path, revision, path.parent)
    return ReachedModel(revision, _read_tree(path), path.parent, names)


def _read_tree(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}


class KnownSubsets:
    """What the plan asks of the data, each fingerprint made once for all models."""

    def __init__(self, subsets: Subsets) -> None:
        self._subsets = subsets
        self._fingerprints: dict[tuple[int, int, int], str] = {}

    def labels_for(self, n_labels: int) -> tuple[str, ...]:
        """Return the label names of the set of that size."""
        return self._subsets.labels_for(n_labels)

    def fingerprint(self, n_labels: int, n_samples: int, seed: int) -> str:
        """Return the hash of a cell's texts and labels."""
        key = n_labels, n_samples, seed
        if key not in self._fingerprints:
            self._fingerprints[key] = self._subsets.fingerprint(*key)
        return self._fingerprints[key]


def check_counts(config: Config, subsets: Subsets) -> list[Finding]:
    """Return an error for each label set or sample size that the data cannot give."""
    findings: dict[str, Finding] = {}
    for k in config.grid.n_labels:
        for n in config.grid.n_samples:
            for seed in config.grid.seeds:
                try:
                    subsets.training(k, n, seed)
                    subsets.evaluation("validation", k)
                    subsets.evaluation("test", k)
                except DataError as error:
                    key = str(error).partition(":")[0]
                    findings.setdefault(str(error), Finding("error", key, str(error)))
    return list(findings.values())


def check_model(index: int, model: ModelConfig, found: ReachedModel) -> list[Finding]:
    """Return what speaks against loading a reached model: damaged or pickled files, remote code."""
    key = f"grid.models.{index}"
    if not found.tree:
        sentence = f"{key}: {model.name}'s config.json is not a JSON object; fetch the model again"
        return [Finding("error", key, sentence)]
    findings = _check_remote_code(key, model, found)
    files = found.files
    if is_local(model.path) and found.folder:
        files = frozenset(file.name for file in found.folder.iterdir())
    return findings if files is None else findings + _check_weights(key, model, files)


def _check_remote_code(key: str, model: ModelConfig, found: ReachedModel) -> list[Finding]:
    place = next((name for name in CODE_NAMED_IN if "auto_map" in _read_part(found, name)), None)
    if place is None or model.trust_remote_code:
        return []
    if found.tree.get("model_type") in (*FAMILIES, "gemma3"):
        text = f"{key}: {model.name} comes with code of its own (auto_map), which is not run"
        return [Finding("note", key, text)]
    return [
        Finding(
            "error",
            key,
            f"{key}: {model.name} needs code of its own (auto_map in {place}), which is not "
            f"run unasked; read it, then set {key}.trust_remote_code=true",
        )
    ]


def _read_part(found: ReachedModel, name: str) -> dict[str, Any]:
    if name == "config.json":
        return found.tree
    return _read_tree(found.folder / name) if found.folder else {}


def _check_weights(key: str, model: ModelConfig, files: frozenset[str]) -> list[Finding]:
    sentence = _find_fault(key, model, files)
    return [Finding("error", key, sentence)] if sentence else []


def _find_fault(key: str, model: ModelConfig, files: frozenset[str]) -> str | None:
    """Return what keeps these files from being loaded, or None."""
    if "adapter_config.json" in files:
        # Loaders would fetch the base model that this file names, unasked and unchecked.
        return (
            f"{key}: {model.path} is an adapter (adapter_config.json), not a base model; merge it "
            "into its base model first, or name that"
        )
    if any(name.endswith(".safetensors") for name in files):
        return None
    pickled = sorted(name for name in files if name.endswith(PICKLE_SUFFIXES))
    if not pickled:
        return f"{key}: {model.path} holds no weights (*.safetensors); add them"
    if model.allow_pickle:
        return None
    return (
        f"{key}: {model.path} holds only pickled weights ({pickled[0]}), which can run code when "
        f"loaded; convert them to safetensors, or set {key}.allow_pickle=true"
    )
