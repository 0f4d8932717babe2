"""The models of baselines on features: checked as the grid's models are, in sentences that name the
baseline's keys."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from sweep.config import Config
from sweep.errors import Finding
from sweep.models.file_check import ResolvedModel, check_model
from sweep.models.pooling import Pooling
from sweep.models.shape import read_positions
from sweep.plan import FeaturesRef, build_model_ref, build_recipe
from sweep.preflight.checks import check_length
from sweep.preflight.effects import check_grants, check_keys

# What sentences about a grid's model say, and what holds for one that is read, not trained.
WORDS = {
    "path must be": "features must be",
    "set path to": "set features to",
    "point path to": "point features to",
    "adapters need": "features need",
    "cannot be fine-tuned here": "cannot be read here",
    "can be fine-tuned here": "can be read here",
}


@dataclass(frozen=True)
class ResolvedFeatures:
    """A resolved model, and how its tokens' vectors become one."""

    model: ResolvedModel
    pooling: Pooling


def reword(sentence: str, index: int) -> str:
    """Return a sentence about a grid's model as one about the ``index``-th baseline's."""
    sentence = re.sub(r"grid\.models\.\d+\.", f"baselines.{index}.", sentence)
    sentence = re.sub(r"grid\.models(\.\d+)?:", f"baselines.{index}.features:", sentence)
    for word, fitting in WORDS.items():
        sentence = sentence.replace(word, fitting)
    return sentence


def check_features(config: Config, resolved: Mapping[str, ResolvedFeatures]) -> Iterator[Finding]:
    """Yield an error for a revision of a model that has none and for two baselines on the same
    features, and a warning for a permission that is not needed; ``resolved`` has the available
    models by the baseline's name."""
    seen: dict[tuple[str, Pooling], str] = {}
    for index, entry in config.list_features():
        key, found = f"baselines.{index}", resolved.get(entry.model.name)
        yield from check_keys(key, entry.model)
        if found is None:
            continue
        yield from check_grants(key, entry.model, found.model)
        first = seen.setdefault((found.model.revision, found.pooling), entry.model.name)
        if first != entry.model.name:
            text = (
                f"{key}: {entry.model.name} has the same weights and pooling as {first}; keep only "
                "one of them"
            )
            yield Finding("error", key, text)


def check_feature_files(config: Config, index: int, found: ResolvedModel) -> list[Finding]:
    """Return what keeps the ``index``-th baseline's model from being loaded, and whether texts may
    be too long for it."""
    model = dict(config.list_features())[index].model
    key = f"baselines.{index}.features"
    findings = [
        replace(finding, key=key, sentence=reword(finding.sentence, index))
        for finding in check_model(index, model, found)
    ]
    positions = read_positions(found.tree)
    return findings + check_length(key, model.name, config.train.max_length, positions)


def build_features(
    config: Config, resolved: Mapping[str, ResolvedFeatures]
) -> tuple[FeaturesRef, ...]:
    """Return what the baselines on features read, as it is sent to the workers."""
    recipe = build_recipe(config)
    pairs = [(entry.model, resolved.get(entry.model.name)) for _, entry in config.list_features()]
    return tuple(
        FeaturesRef(build_model_ref(model, found.model.revision), *found.pooling, recipe)
        for model, found in pairs
        if found
    )
