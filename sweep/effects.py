"""Values of a configuration that change nothing in the run that they were written for.

Defaults are not told of, written or not: a run's own config.yaml writes them all.
"""

from collections.abc import Iterator, Mapping

from sweep.config import Config, DataConfig, ModelConfig
from sweep.data import Corpus
from sweep.findings import Finding
from sweep.revisions import TINY_PREFIX, is_local


def check_models(config: Config, revisions: Mapping[str, str]) -> Iterator[Finding]:
    """Yield an error for a revision of what has none, and for two models of the same weights;
    ``revisions`` holds, by name, what pins the models that can be had."""
    seen: dict[tuple[str, str], str] = {}
    for index, model in enumerate(config.grid.models):
        key, kind = f"grid.models.{index}", _name_kind(model)
        if model.revision and kind:
            yield Finding(
                "error",
                key,
                f"{key}.revision: {model.name} is {kind}, which has no revisions (its content is "
                "hashed instead); leave it out",
            )
        if kind == TINY and (model.trust_remote_code or model.allow_pickle):
            yield _warn(f"{key}.trust_remote_code and allow_pickle", f"with {TINY}")
        if model.name in revisions:
            weights = revisions[model.name], str(model.target_modules)
            other = seen.setdefault(weights, model.name)
            if other != model.name:
                sentence = f"{key}: {model.name} has the same weights as {other}; keep one of them"
                yield Finding("error", key, sentence)


TINY = "a tiny family"


def _name_kind(model: ModelConfig) -> str:
    if model.path.startswith(TINY_PREFIX):
        return TINY
    return "a folder on this machine" if is_local(model.path) else ""


def check_schedule(config: Config) -> Iterator[Finding]:
    """Yield a warning for each setting of trials and workers that cannot matter."""
    asha, resources, patience = config.asha, config.resources, config.train.patience
    usual = type(config.train).model_fields["patience"].default
    if resources.engine == "solo" and resources.slots != "auto":
        yield _warn("resources.slots", "with engine solo; for packs set resources.engine=packed")
    if resources.engine == "packed" and resources.gpus_per_trial != "auto":
        yield _warn("resources.gpus_per_trial", "with engine packed, which shares GPUs by slots")
    if patience is not None and patience != usual and patience >= asha.max_epochs:
        yield _warn("train.patience", f"with asha.max_epochs={asha.max_epochs}: no trial is longer")


def check_data_values(data: DataConfig, corpus: Corpus) -> Iterator[Finding]:
    """Yield a warning for each setting of cut splits where nothing is cut like that."""
    for split in ("validation", "test"):
        key = f"{split}_fraction"
        default = DataConfig.model_fields[key].default
        if split not in corpus.cut and getattr(data, key) != default:
            yield _warn(f"data.{key}", f"since the data have a {split} split of their own")
    if data.split_seed and not corpus.cut:
        yield _warn("data.split_seed", "since no split is cut from training")
    separator = data.label_separator
    if separator and not any(len(row.labels) > 1 for row in corpus.splits["train"]):
        yield _warn("data.label_separator", f"since no training label holds {separator!r}")


def _warn(key: str, where: str) -> Finding:
    return Finding("warning", key, f"{key} has no effect {where}")
