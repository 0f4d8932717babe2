"""The configuration of a sweep: a YAML file and ``--set`` overrides in, a checked ``Config`` or an
error of one sentence out.

``types`` are the values a key may hold, ``search_space`` the hyperparameters to tune, ``section``,
``data``, ``tuning``, ``repeats``, ``costs``, ``trackers`` and ``schema`` the sections as strict
models, ``yaml_tree`` YAML without its traps, ``loader`` what ties them together, ``shipped`` the
studies that come with the package. Imports nothing of this project but ``sweep.errors``, and never
torch, transformers, peft or ray.
"""

from sweep.config.costs import CostConfig, ServingConfig
from sweep.config.data import DataConfig
from sweep.config.loader import build_config, dump_config, load_config
from sweep.config.repeats import RepeatConfig, VerdictConfig, parse_duration
from sweep.config.schema import (
    AshaConfig,
    Config,
    FeaturesConfig,
    GridConfig,
    ModelConfig,
    ResourcesConfig,
    StorageConfig,
    TrainConfig,
)
from sweep.config.search_space import Space, draw_distinct
from sweep.config.section import Section
from sweep.config.shipped import (
    DEFAULT_CONFIG,
    copy_shipped,
    describe_shipped,
    find_config,
    list_shipped,
)
from sweep.config.trackers import MlflowConfig, TrackersConfig, WandbConfig
from sweep.config.tuning import (
    LORA_KEYS,
    Method,
    TuneConfig,
    TuneOverrides,
    count_candidates,
    name_spaces,
)
from sweep.config.types import check_name, check_path, holds_password

__all__ = [
    "AshaConfig",
    "Config",
    "CostConfig",
    "DEFAULT_CONFIG",
    "DataConfig",
    "FeaturesConfig",
    "GridConfig",
    "LORA_KEYS",
    "Method",
    "MlflowConfig",
    "ModelConfig",
    "RepeatConfig",
    "ResourcesConfig",
    "Section",
    "ServingConfig",
    "Space",
    "StorageConfig",
    "TrackersConfig",
    "TrainConfig",
    "TuneConfig",
    "TuneOverrides",
    "VerdictConfig",
    "WandbConfig",
    "build_config",
    "check_name",
    "check_path",
    "copy_shipped",
    "count_candidates",
    "describe_shipped",
    "draw_distinct",
    "dump_config",
    "find_config",
    "holds_password",
    "list_shipped",
    "load_config",
    "name_spaces",
    "parse_duration",
]
