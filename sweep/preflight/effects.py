"""Finds values of a configuration that have no effect on its run.

Default values are not reported, even if written down: a run's own config.yaml contains them all.
"""

from collections.abc import Iterator, Mapping
from math import prod

from sweep.config import (
    LORA_KEYS,
    AshaConfig,
    Config,
    DataConfig,
    ModelConfig,
    ResourcesConfig,
    TuneConfig,
    count_candidates,
    name_spaces,
)
from sweep.data import Corpus, Subsets, is_read_differently
from sweep.errors import Finding
from sweep.models.file_check import CODE_NAMED_IN, ResolvedModel, list_model_files, read_part
from sweep.models.sources import is_local
from sweep.models.tiny_configs import TINY_PREFIX
from sweep.models.weight_files import choose_entry

# Keys that say how files are read; the built-in corpus has no files.
OF_FILES = (
    "splits", "text_column", "label_column", "label_separator", "labels_file", "quoted",
    "delimiter", "columns", "encoding",
)  # fmt: skip

# The highest learning rate at which full fine-tuning is common.
HIGH = 1e-3


def check_models(config: Config, revisions: Mapping[str, str]) -> Iterator[Finding]:
    """Yield an error for a revision of a model that has none, and for two models with the same
    weights; ``revisions`` maps the name of each available model to what pins its weights."""
    seen: dict[tuple[str, str], str] = {}
    for index, model in enumerate(config.grid.models):
        key = f"grid.models.{index}"
        yield from check_keys(key, model)
        if model.name in revisions:
            weights = revisions[model.name], f"{model.method} {model.target_modules}"
            other = seen.setdefault(weights, model.name)
            if other != model.name:
                sentence = (
                    f"{key}: {model.name} has the same weights and method as {other}; keep only "
                    "one of them, or give them different methods"
                )
                yield Finding("error", key, sentence)


def check_keys(key: str, model: ModelConfig) -> Iterator[Finding]:
    """Yield what its path alone shows of a model at ``key``: an error for a revision where there
    are none, and a warning for each permission that a tiny family does not need."""
    kind = _name_kind(model)
    if model.revision and kind:
        yield Finding(
            "error",
            key,
            f"{key}.revision: {model.name} is {kind}, which has no revisions (its content is "
            "hashed instead); remove the key",
        )
    for name in ("trust_remote_code", "allow_pickle"):
        if kind == TINY and getattr(model, name):
            yield _warn(f"{key}.{name}", f"with {TINY}")


TINY = "a tiny family"


def _name_kind(model: ModelConfig) -> str:
    if model.path.startswith(TINY_PREFIX):
        return TINY
    return "a folder on this machine" if is_local(model.path) else ""


def check_permissions(config: Config, resolved: Mapping[str, ResolvedModel]) -> Iterator[Finding]:
    """Yield a warning for each permission that a model is granted but does not need; ``resolved``
    has the available models by name."""
    for index, model in enumerate(config.grid.models):
        if found := resolved.get(model.name):
            yield from check_grants(f"grid.models.{index}", model, found)


def check_grants(key: str, model: ModelConfig, found: ResolvedModel) -> Iterator[Finding]:
    """Yield a warning for each permission that the model at ``key`` does not need."""
    if _name_kind(model) == TINY:
        return
    own_code = any("auto_map" in read_part(found, name) for name in CODE_NAMED_IN)
    if model.trust_remote_code and not own_code:
        yield _warn(f"{key}.trust_remote_code", "since the model has no code of its own")
    names = list_model_files(model, found)
    if model.allow_pickle and names is not None and choose_entry(names, allow_pickle=False):
        yield _warn(f"{key}.allow_pickle", "since the model has safetensors, which are used")


def check_schedule(config: Config) -> Iterator[Finding]:
    """Yield a warning for each setting of trials and workers that cannot matter."""
    asha, resources, patience = config.asha, config.resources, config.train.patience
    default = type(config.train).model_fields["patience"].default
    if resources.engine == "solo" and resources.slots != "auto":
        yield _warn("resources.slots", "with engine solo; for packs set resources.engine=packed")
    adapted = all(model.method == "lora" for model in config.grid.models)
    if config.train.compile is True and resources.engine == "packed" and adapted:
        yield _warn("train.compile", "with engine packed: trials of a pack are not compiled")
    if patience is not None and patience != default and patience >= asha.max_epochs:
        where = f"with asha.max_epochs={asha.max_epochs}: no trial runs longer"
        yield _warn("train.patience", where)
    yield from _check_tuning(config)


def _check_tuning(config: Config) -> Iterator[Finding]:
    tune, asha = config.tune, config.asha
    models = config.grid.models
    counts = [count_candidates(tune, model.overrides) for model in models]
    if tune.seed and all(_tries_all(tune, model) for model in models):
        yield _warn("tune.seed", "since every possible candidate is tried")
    yield from _check_methods(config)
    names, why = ["reduction_factor"], "no trial runs longer than asha.grace_epochs"
    if max(counts) == 1:
        names, why = ["grace_epochs", *names], "each cell has only one candidate"
    elif asha.grace_epochs < asha.max_epochs:
        return
    for name in names:
        if getattr(asha, name) != AshaConfig.model_fields[name].default:
            key = f"asha.{name}"
            yield Finding("note", key, f"{key} has no effect: {why}")


def _tries_all(tune: TuneConfig, model: ModelConfig) -> bool:
    spaces = name_spaces(tune, model.method, model.overrides)
    possible = prod(space.size for space in spaces.values())
    return possible == count_candidates(tune, model.overrides)


def _check_methods(config: Config) -> Iterator[Finding]:
    """Yield a warning for what is tuned of adapters where there are none, and for a rate of
    adapters by which all weights would be trained."""
    tune, models = config.tune, config.grid.models
    if all(model.method == "full" for model in models):
        for name in LORA_KEYS:
            if getattr(tune, name) != TuneConfig.model_fields[name].default:
                yield _warn(f"tune.{name}", "since no model is trained by LoRA")
    for index, model in enumerate(models):
        rate = None if model.overrides.learning_rate else tune.learning_rate
        if model.method == "full" and rate and rate.high > HIGH:
            key = f"grid.models.{index}.tune.learning_rate"
            yield Finding(
                "warning",
                key,
                f"{key} is not set, so {model.name} is fully fine-tuned with rates up to "
                f"{rate.high:g} from tune.learning_rate, which suit adapters; set it, for example "
                "to {loguniform: [2e-5, 3e-4]}",
            )


def check_engine(
    resources: ResourcesConfig, has_gpus: bool | None, alone: bool
) -> Iterator[Finding]:
    """Yield a warning for what the engine ignores on a machine with or without GPUs (None: that is
    unknown); ``alone`` is whether trials of some model may train beside the packs."""
    engine = resources.engine
    if resources.gpus_per_trial != "auto" and not alone:
        if engine == "packed":
            where = "with engine packed, which shares GPUs by slots"
            yield _warn("resources.gpus_per_trial", where)
        elif engine == "auto" and has_gpus:
            where = "with engine auto on a machine with GPUs: trials are packed"
            yield _warn("resources.gpus_per_trial", where)
    if engine == "auto" and has_gpus is False and resources.slots != "auto":
        where = "with engine auto on a machine without a GPU: trials are not packed"
        yield _warn("resources.slots", where)


def check_data_values(data: DataConfig, corpus: Corpus) -> Iterator[Finding]:
    """Yield a warning for each setting about held-out splits or files that the data does not
    need."""
    for split in ("validation", "test"):
        key = f"{split}_fraction"
        default = DataConfig.model_fields[key].default
        if split not in corpus.held_out and getattr(data, key) != default:
            yield _warn(f"data.{key}", f"since the data has its own {split} split")
    if data.split_seed and not corpus.held_out:
        yield _warn("data.split_seed", "since no split is held out from training")
    if data.source == "synthetic":
        yield from _check_synthetic(data)
        return
    if corpus.unused_names:
        yield _warn("data.labels_file", "since the labels are already names")
    if data.encoding and not data.labels_file and not _needs(data.encoding, corpus):
        yield _warn("data.encoding", "since every text file is UTF-8")
    separator = data.label_separator
    if separator and not any(len(row.labels) > 1 for row in corpus.splits["train"]):
        yield _warn("data.label_separator", f"since no training label contains {separator!r}")


def check_evaluation(config: Config, subsets: Subsets) -> Iterator[Finding]:
    """Yield a warning for a limit on validation and test texts that no label set reaches."""
    most = config.data.max_eval_per_label
    labels = subsets.labels_for(min(config.grid.n_labels))
    pools = (subsets.pools[split] for split in ("validation", "test"))
    have = max(min(map(pool.size, labels)) for pool in pools)
    if most is not None and most > have:
        where = f"since balancing leaves at most {have} validation or test texts per label"
        yield _warn("data.max_eval_per_label", where)


def _check_synthetic(data: DataConfig) -> Iterator[Finding]:
    for name in OF_FILES:
        if getattr(data, name) != DataConfig.model_fields[name].default:
            yield _warn(f"data.{name}", "on the built-in corpus; set data.path to read your own")


def _needs(encoding: str, corpus: Corpus) -> bool:
    """Return whether some data file would be read differently without ``encoding``."""
    files = {file for source in corpus.sources.values() for file in source.files}
    return any(is_read_differently(file, encoding) for file in files)


def _warn(key: str, where: str) -> Finding:
    return Finding("warning", key, f"{key} has no effect {where}")
