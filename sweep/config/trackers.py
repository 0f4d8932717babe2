"""Experiment trackers: the section ``trackers``."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from sweep.config.section import Section
from sweep.config.types import holds_password
from sweep.errors import format_value


def _expand_switch(value: Any) -> Any:
    # ``true`` enables a tracker with its defaults, ``false`` disables it.
    if isinstance(value, bool):
        return {} if value else None
    if value is None or isinstance(value, dict | Section):
        return value
    raise ValueError(f"write true, false, or the tracker's own keys, not {format_value(value)}")


class MlflowConfig(Section):
    """Where MLflow keeps the metrics."""

    tracking_uri: str | None = None
    """Server or folder; null: what ``MLFLOW_TRACKING_URI`` says, else ``mlflow`` in the run
    folder. Passwords belong in the environment."""
    experiment: Annotated[str, Field(min_length=1)] = "sweep"
    """Name of the experiment."""

    @field_validator("tracking_uri")
    @classmethod
    def _holds_no_secret(cls, uri: str | None) -> str | None:
        # The message must not repeat the value: it would end up in logs.
        if uri and holds_password(uri):
            raise ValueError(
                "holds a user name or password; remove it and set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD"
            )
        return uri


class WandbConfig(Section):
    """Where Weights & Biases keeps the metrics; its key comes from WANDB_API_KEY or its login."""

    project: Annotated[str, Field(min_length=1)] = "sweep"
    """Name of the project."""
    entity: str | None = None
    """User or team; null: your default."""


class TrackersConfig(Section):
    """Experiment trackers that receive the metrics of every epoch; all are off by default."""

    tensorboard: bool = False
    """Whether to write TensorBoard files, into ``tensorboard`` in the run folder."""
    mlflow: Annotated[
        MlflowConfig | None,
        BeforeValidator(_expand_switch, json_schema_input_type=MlflowConfig | bool | None),
    ] = None
    """Whether, and where, MLflow keeps the metrics; ``true``: with its defaults."""
    wandb: Annotated[
        WandbConfig | None,
        BeforeValidator(_expand_switch, json_schema_input_type=WandbConfig | bool | None),
    ] = None
    """Whether, and where, Weights & Biases keeps the metrics; ``true``: with its defaults."""
