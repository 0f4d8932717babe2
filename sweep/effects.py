"""Values of a configuration that change nothing in the run that they were written for."""

from collections.abc import Iterator

from sweep.config import Config, ModelConfig
from sweep.data import Corpus
from sweep.findings import Finding
from sweep.revisions import TINY_PREFIX, is_local


def find_idle_values(config: Config, corpus: Corpus | None) -> list[Finding]:
    """Return a finding for each value that has no effect: an error where it promises something (a
    model's revision), else a warning. ``corpus`` is None where the data cannot be read.

    Defaults are not told of, written or not.
    """
    findings = [*_check_models(config), *_check_schedule(config)]
    return [*findings, *_check_data(config, corpus)] if corpus else findings


def _check_models(config: Config) -> Iterator[Finding]:
    for index, model in enumerate(config.grid.models):
        key, kind = f"grid.models.{index}", _name_kind(model)
        if model.revision and kind:
            yield Finding(
                "error",
                key,
                f"{key}.revision: {model.name} is {kind}, which has no revisions; leave it out "
                "(the files themselves are hashed)",
            )
        if kind == "a tiny family" and (model.trust_remote_code or model.allow_pickle):
            yield _warn(f"{key}.trust_remote_code and allow_pickle", "with a tiny family")


def _name_kind(model: ModelConfig) -> str:
    if model.path.startswith(TINY_PREFIX):
        return "a tiny family"
    return "a folder on this machine" if is_local(model.path) else ""


def _check_schedule(config: Config) -> Iterator[Finding]:
    asha, resources, patience = config.asha, config.resources, config.train.patience
    usual = type(config.train).model_fields["patience"].default
    if resources.engine == "solo" and resources.slots != "auto":
        yield _warn("resources.slots", "with engine solo; for packs set resources.engine=packed")
    if resources.engine == "packed" and resources.gpus_per_trial != "auto":
        yield _warn(
            "resources.gpus_per_trial", "with engine packed, whose trials share GPUs by slots"
        )
    if patience is not None and patience != usual and patience >= asha.max_epochs:
        yield _warn("train.patience", f"with asha.max_epochs={asha.max_epochs}: no trial is longer")


def _check_data(config: Config, corpus: Corpus) -> Iterator[Finding]:
    data = config.data
    for split in ("validation", "test"):
        key = f"{split}_fraction"
        default = type(data).model_fields[key].default
        if split not in corpus.cut and getattr(data, key) != default:
            yield _warn(f"data.{key}", f"since the data have a {split} split of their own")
    if data.split_seed and not corpus.cut:
        yield _warn("data.split_seed", "since no split is cut from training")


def _warn(key: str, where: str) -> Finding:
    return Finding("warning", key, f"{key} has no effect {where}")
