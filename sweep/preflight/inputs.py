"""Finds a sweep's models and data, and what is missing if they are unavailable."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sweep.config import Config, FeaturesConfig, ModelConfig
from sweep.data import Subsets, build_account, draw_subsets, go_offline_if_silent, load_corpus
from sweep.errors import DataError, Finding, ModelError, SweepError
from sweep.models.file_check import ResolvedModel, check_model, read_tree
from sweep.models.pooling import find_pooling
from sweep.models.sources import find_hub_config, is_local, list_hub_files, resolve_revision
from sweep.models.tiny_configs import TINY_CONFIGS, TINY_PREFIX
from sweep.preflight.effects import (
    check_data_values,
    check_evaluation,
    check_models,
    check_permissions,
    check_schedule,
)
from sweep.preflight.features import ResolvedFeatures, check_features, reword
from sweep.startup.home import list_home_notes
from sweep.storage.account import DataAccount

__all__ = ["ResolvedInputs", "ResolvedModel", "check_model", "resolve_inputs"]


@dataclass
class ResolvedInputs:
    """What is available: models by name, those of baselines on features by the baseline's name,
    subsets unless the data is too small for some cell, what became of the data's rows, and the
    findings."""

    models: dict[str, ResolvedModel] = field(default_factory=dict)
    features: dict[str, ResolvedFeatures] = field(default_factory=dict)
    subsets: Subsets | None = None
    account: DataAccount | None = None
    findings: list[Finding] = field(default_factory=list)


def resolve_inputs(config: Config) -> ResolvedInputs:
    """Return what is available of ``config``'s data and models; never raises SweepError."""
    inputs = ResolvedInputs()
    silent = go_offline_if_silent() if _needs_hub(config) else None
    if silent:
        inputs.findings.append(Finding("warning", "network", silent))
    try:
        corpus = load_corpus(config.data)
        subsets = draw_subsets(corpus, config.data)
        inputs.account = build_account(corpus, subsets, config.data)
        missing = check_counts(config, subsets)
        inputs.findings += [*missing, *check_data_values(config.data, corpus)]
        inputs.findings += [] if missing else check_evaluation(config, subsets)
        inputs.subsets = None if missing else subsets
    except SweepError as error:
        inputs.findings.append(Finding("error", "data", str(error)))
    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(resolve_model, i, m) for i, m in enumerate(config.grid.models)]
    for index, (model, call) in enumerate(zip(config.grid.models, calls, strict=True)):
        try:
            inputs.models[model.name] = call.result()
        except SweepError as error:
            inputs.findings.append(Finding("error", f"grid.models.{index}", str(error)))
    for index, entry in config.list_features():
        try:
            inputs.features[entry.model.name] = resolve_features(index, entry)
        except SweepError as error:
            key, sentence = f"baselines.{index}.features", reword(str(error), index)
            inputs.findings.append(Finding("error", key, sentence))
    revisions = {name: found.revision for name, found in inputs.models.items()}
    inputs.findings += check_models(config, revisions)
    inputs.findings += check_permissions(config, inputs.models)
    inputs.findings += check_features(config, inputs.features)
    inputs.findings += check_schedule(config)
    if _needs_hub(config):
        inputs.findings += [Finding("note", "HF_HOME", note) for note in list_home_notes()]
    return inputs


def _needs_hub(config: Config) -> bool:
    paths = [model.path for model in config.grid.models]
    paths += [entry.features for _, entry in config.list_features()]
    return config.data.source == "hub" or any(
        not path.startswith(TINY_PREFIX) and not is_local(path) for path in paths
    )


def resolve_model(index: int, model: ModelConfig) -> ResolvedModel:
    """Return the ``index``-th model's files; raise ModelError if it is unavailable."""
    revision = resolve_revision(model)
    if model.path.startswith(TINY_PREFIX):
        return ResolvedModel(revision, dict(TINY_CONFIGS[model.path.removeprefix(TINY_PREFIX)]))
    if is_local(model.path):
        folder = Path(model.path).expanduser()
        return ResolvedModel(revision, read_tree(folder / "config.json"), folder)
    path = find_hub_config(f"grid.models.{index}", model.path, revision)
    names = list_hub_files(model.path, revision, path.parent)
    return ResolvedModel(revision, read_tree(path), path.parent, names)


def resolve_features(index: int, entry: FeaturesConfig) -> ResolvedFeatures:
    """Return the model of the ``index``-th baseline; raise ModelError if it is unavailable."""
    found = resolve_model(index, entry.model)
    try:
        return ResolvedFeatures(found, find_pooling(entry, found))
    except ModelError as error:
        raise ModelError(f"baselines.{index}.features: {error}") from None


def check_counts(config: Config, subsets: Subsets) -> list[Finding]:
    """Return an error for each label set or sample size that the data is too small for."""
    findings: dict[str, Finding] = {}
    for k in config.grid.n_labels:
        for n in config.grid.n_samples:
            for seed in config.grid.seeds:
                for draw in (
                    partial(subsets.evaluation, "validation", k, config.grid.n_samples),
                    partial(subsets.evaluation, "test", k, config.grid.n_samples),
                    partial(subsets.training, k, n, seed),
                ):
                    try:
                        draw()
                    except DataError as error:
                        key = str(error).partition(":")[0]
                        findings.setdefault(str(error), Finding("error", key, str(error)))
    return list(findings.values())
