"""What keeps a model from being loaded, as far as its files show it: configuration, weights,
tokenizer, and code that would run."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.config import ModelConfig
from sweep.errors import Finding, ModelError
from sweep.models.folder import (
    ADAPTER,
    MERGE_FIRST,
    NO_TOKENIZER,
    VOCABULARIES,
    VOCABULARY_SUFFIXES,
    has_tokenizer,
    is_here,
    list_names,
    read_json,
    read_start,
)
from sweep.models.shape import FAMILIES
from sweep.models.sources import hub_folder, is_local
from sweep.models.tiny_configs import TINY_PREFIX
from sweep.models.weight_files import choose_entry, read_weights

CODE_NAMED_IN = ("config.json", "tokenizer_config.json")
TOKENIZER_TABLES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
)
# Types of unquantized weights; integers and 8-bit floats are quantized ones.
PLAIN_TYPES = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True)
class ResolvedModel:
    """A resolved model: the commit or hash that pins it, its parsed config.json, its folder as far
    as it is on this machine, and the file names of a Hub model if the Hub lists them."""

    revision: str
    tree: dict[str, Any]
    folder: Path | None = None
    files: frozenset[str] | None = None


def read_tree(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file, or an empty one if there is none."""
    try:
        return read_json(file)
    except ModelError:
        return {}


def check_model(index: int, model: ModelConfig, found: ResolvedModel) -> list[Finding]:
    """Return what keeps a resolved model from being loaded: damaged, missing or pickled files,
    quantized weights, remote code. Only headers and small files are read."""
    if model.path.startswith(TINY_PREFIX):
        return []
    key = f"grid.models.{index}"
    try:
        check_config(model, found)
        code = _check_remote_code(key, model, found)
        names = list_model_files(model, found)
        if names is not None and not _stops(code):
            _check_files(key, model, found, names)
    except ModelError as error:
        return [Finding("error", key, f"{key}: {fit_remedy(str(error), model)}")]
    return code


def _stops(findings: Collection[Finding]) -> bool:
    return any(finding.level == "error" for finding in findings)


def fit_remedy(sentence: str, model: ModelConfig) -> str:
    # A Hub model's file is downloaded again only after it is gone from the cache.
    if is_local(model.path):
        return sentence
    cache = hub_folder(model.path)
    sentence = sentence.replace(
        "download it again",
        f"delete {cache}, and the next run that can reach the Hub downloads it again",
    )
    return sentence.replace(
        "download them into it", "the next run that can reach the Hub downloads them"
    )


def list_model_files(model: ModelConfig, found: ResolvedModel) -> frozenset[str] | None:
    """Return the names of the model's files, also of those not downloaded yet; None: unknown."""
    if is_local(model.path) and found.folder:
        return list_names(found.folder)
    return found.files


def check_config(model: ModelConfig, found: ResolvedModel) -> None:
    """Raise ModelError unless config.json names an architecture whose weights can be trained."""
    if not found.tree:
        read_json((found.folder or Path(model.path)) / "config.json")
        raise ModelError(f"{model.name}'s config.json is empty; download it again")
    if not isinstance(found.tree.get("model_type"), str):
        raise ModelError(
            f"{model.name}'s config.json names no architecture (model_type); use the config.json "
            "that was published with the weights"
        )
    quantized = found.tree.get("quantization_config")
    if quantized:
        method = quantized.get("quant_method") if isinstance(quantized, dict) else None
        raise ModelError(
            f"{model.name} is quantized ({method or 'quantization_config'} in its config.json), "
            "but adapters need unquantized weights; use the model it was made from"
        )


def _check_files(key: str, model: ModelConfig, found: ResolvedModel, names: frozenset[str]) -> None:
    if ADAPTER in names:
        # Loaders would download the base model that this file names, unasked and unchecked.
        raise ModelError(f"{model.path} is an adapter ({ADAPTER}), not a base model; {MERGE_FIRST}")
    _check_pickles(key, model, names)
    folder = found.folder or Path(model.path)
    _check_weights(model, folder, names)
    _check_tokenizer(model, folder, names)


def _check_pickles(key: str, model: ModelConfig, names: frozenset[str]) -> None:
    entry = choose_entry(names, allow_pickle=True)
    has_safetensors = any(name.endswith(".safetensors") for name in names)
    if not entry or has_safetensors or model.allow_pickle or choose_entry(names, False):
        return
    raise ModelError(
        f"{model.path} holds only pickled weights ({entry}), which can run code when loaded; "
        f"convert them to safetensors, or set {key}.allow_pickle=true"
    )


def _check_weights(model: ModelConfig, folder: Path, names: frozenset[str]) -> None:
    tensors = read_weights(folder, names, model.allow_pickle)
    # Masks and positions may be integers; tensors named weight may not.
    types = {tensor.type for name, tensor in tensors.items() if name.endswith("weight")}
    odd = sorted(types - PLAIN_TYPES)
    if odd:
        raise ModelError(
            f"{model.path} holds weights of type {', '.join(odd)}: they are quantized, but "
            "adapters need unquantized weights; use the model it was made from"
        )


def _check_tokenizer(model: ModelConfig, folder: Path, names: frozenset[str]) -> None:
    here = {name: folder / name for name in sorted(names) if is_here(folder / name)}
    for name in here.keys() & set(TOKENIZER_TABLES):
        read_json(here[name])
    for name, file in here.items():
        if name in VOCABULARIES or name.endswith(VOCABULARY_SUFFIXES):
            _check_filled(file)
    # A tokenizer of bytes has a class but no vocabulary; loading shows whether this is one.
    if not has_tokenizer(names) and "tokenizer_config.json" not in names:
        raise ModelError(f"{model.path} {NO_TOKENIZER}")


def _check_filled(file: Path) -> None:
    if not read_start(file):
        raise ModelError(f"{file} is empty; download it again")


def _check_remote_code(key: str, model: ModelConfig, found: ResolvedModel) -> list[Finding]:
    file = next((name for name in CODE_NAMED_IN if "auto_map" in read_part(found, name)), None)
    if file is None or model.trust_remote_code:
        return []
    if found.tree.get("model_type") in (*FAMILIES, "gemma3"):
        text = f"{key}: {model.name} comes with its own code (auto_map), which is not run"
        return [Finding("note", key, text)]
    return [
        Finding(
            "error",
            key,
            f"{key}: {model.name} needs its own code (auto_map in {file}), which is not run "
            f"without your consent; review it, then set {key}.trust_remote_code=true",
        )
    ]


def read_part(found: ResolvedModel, name: str) -> dict[str, Any]:
    """Return the object in one of a model's JSON files, or an empty one."""
    if name == "config.json":
        return found.tree
    return read_tree(found.folder / name) if found.folder else {}
