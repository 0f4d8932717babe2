"""Makes a configuration's paths absolute, so that they mean the same from any folder."""

from pathlib import Path
from typing import Any

from sweep.config import Config, DataConfig, FeaturesConfig, ModelConfig
from sweep.models.sources import is_local


def make_absolute(config: Config) -> Config:
    """Return ``config`` with each path on this machine made absolute; Hub ids, URIs and files
    relative to ``data.path`` stay as they are."""
    changes: dict[str, Any] = {
        "data": config.data.model_copy(update=_resolve_data(config.data)),
        "grid": config.grid.model_copy(
            update={"models": [_resolve_model(model) for model in config.grid.models]}
        ),
        "baselines": [_resolve_baseline(entry) for entry in config.baselines],
    }
    storage = config.storage.checkpoints
    if storage and "://" not in storage:
        changes["storage"] = config.storage.model_copy(update={"checkpoints": _absolute(storage)})
    mlflow = config.trackers.mlflow
    if mlflow and mlflow.tracking_uri and _is_folder(mlflow.tracking_uri):
        where = mlflow.model_copy(update={"tracking_uri": _absolute(mlflow.tracking_uri)})
        changes["trackers"] = config.trackers.model_copy(update={"mlflow": where})
    return config.model_copy(update=changes)


def _resolve_data(data: DataConfig) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    on_disk = data.source == "files"
    # The Hub's own loader accepts a folder, too.
    if data.path and (on_disk or (data.source == "hub" and Path(data.path).expanduser().is_dir())):
        # Other files are relative to it.
        changes["path"] = _absolute(data.path)
    if data.labels_file and not (on_disk and data.path):
        changes["labels_file"] = _absolute(data.labels_file)
    if on_disk and not data.path and data.splits:
        changes["splits"] = {split: file and _absolute(file) for split, file in data.splits.items()}
    return changes


def _resolve_model(model: ModelConfig) -> ModelConfig:
    if not is_local(model.path):
        return model
    return model.model_copy(update={"path": _absolute(model.path)})


def _resolve_baseline(entry: str | FeaturesConfig) -> str | FeaturesConfig:
    if isinstance(entry, str) or not is_local(entry.features):
        return entry
    return entry.model_copy(update={"features": _absolute(entry.features)})


def _is_folder(uri: str) -> bool:
    # MLflow also takes names such as "databricks" without a scheme.
    return ":" not in uri and ("/" in uri or uri.startswith("."))


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())
