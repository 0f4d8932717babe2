"""Where the texts come from: the section ``data``."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from sweep.config.section import Section
from sweep.config.types import (
    UNIQUE,
    AnyPath,
    ColumnNames,
    Count,
    Delimiter,
    Number,
    OneOrMoreNames,
    PositiveInt,
    check_encoding,
    refuse_repeats,
)

# The keys of ``data`` that a source does not read: setting one shows that another source is meant.
WITHOUT_EFFECT = {
    "files": ("config", "revision"),
    "hub": ("quoted", "delimiter", "columns", "encoding"),
    "synthetic": (
        "path",
        "config",
        "revision",
        "validation_fraction",
        "test_fraction",
        "split_seed",
    ),
}


class DataConfig(Section):
    """Where the texts come from and which labels count."""

    source: Literal["hub", "files", "synthetic"] = "synthetic"
    """Where the data come from. Default: ``files`` if ``path`` or ``splits`` is set, else
    ``synthetic``, the built-in corpus."""
    path: AnyPath | None = None
    """A dataset id on the Hub; or a folder, file, ZIP archive or pattern such as ``data/*.csv``."""
    config: str | None = None
    """Configuration (subset) of a Hub dataset; null: its default."""
    revision: str | None = None
    """Commit, tag or branch of a Hub dataset; null: its newest commit."""
    text_column: OneOrMoreNames | None = None
    """The column with the texts, or a list of columns whose texts are joined by line breaks; null:
    found by name, then by content."""
    label_column: str | None = None
    """The column with the labels; null: found by name, then by content."""
    label_separator: Annotated[str, Field(min_length=1)] | None = None
    """Separates the labels within a text such as ``joy,anger``; null: such a text is one label."""
    labels_file: AnyPath | None = None
    """A file of label names, one per line, for labels that are integers from 0; relative to the
    data."""
    columns: ColumnNames | None = None
    """The names of all columns, in order, of CSV and TSV files without a header line; null: the
    first line holds the names."""
    delimiter: Delimiter | None = None
    """Separates the fields of CSV and TSV files: a character, or ``tab``, ``comma``,
    ``semicolon``, ``pipe``, ``space`` or ``colon``; null: detected in each file."""
    quoted: bool = True
    """Whether CSV and TSV files put quotes around texts that hold the delimiter or line breaks."""
    encoding: Annotated[str, AfterValidator(check_encoding)] | None = None
    """The encoding of text files that are not UTF-8, such as ``cp1252``; null: UTF-8 only (UTF-16
    and UTF-32 with a byte order mark are recognized)."""
    splits: dict[Literal["train", "validation", "test"], AnyPath | None] | None = None
    """For each split its name on the Hub, or its file, folder or pattern relative to ``path``. A
    split that is not listed is found by its usual names; null instead of a name: hold it out from
    training."""
    validation_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    """Fraction of the training texts to hold out for validation if the data have no such split."""
    test_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    """Fraction of the training texts to hold out for test if the data have no such split."""
    split_seed: Count = 0
    """Seed for holding missing splits out from training."""
    exclude_labels: list[str] = Field(default=["neutral"])
    """Labels whose rows are left out; ``[]``: none."""
    label_order: (
        Annotated[list[str], AfterValidator(refuse_repeats), Field(json_schema_extra=UNIQUE)] | None
    ) = None
    """The labels to use, in this order: the first k of them make the set of k; null: all, the most
    frequent in training first."""
    max_eval_per_label: PositiveInt | None = None
    """Upper bound on validation texts and on test texts per label; null: as many as balance
    allows."""

    @model_validator(mode="before")
    @classmethod
    def _path_means_files(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or "source" in tree:
            return tree
        named = [name for name in ("path", "splits") if name in tree]
        if named and not any(tree[name] for name in named):
            # As from an unset shell variable.
            raise ValueError(
                f"{named[0]} is empty; give a value, or leave it out for the built-in corpus"
            )
        return {**tree, "source": "files"} if named else tree

    @model_validator(mode="after")
    def _keys_fit_source(self) -> "DataConfig":
        other = "data.source=hub" if self.source == "files" else "data.source=files"
        for name in WITHOUT_EFFECT[self.source]:
            if getattr(self, name) != DataConfig.model_fields[name].default:
                raise ValueError(
                    f"{name} has no effect with source {self.source!r}; leave it out or set {other}"
                )
        return self

    @property
    def text_columns(self) -> list[str] | None:
        """``text_column`` as a list; None where the columns are to be found."""
        return [self.text_column] if isinstance(self.text_column, str) else self.text_column

    @model_validator(mode="after")
    def _path_fits_source(self) -> "DataConfig":
        named = self.path or (self.source == "files" and (self.splits or {}).get("train"))
        if self.source != "synthetic" and not named:
            other = " or data.splits.train" if self.source == "files" else ""
            raise ValueError(f"source {self.source!r} needs data.path{other}")
        return self

    @model_validator(mode="after")
    def _training_is_named(self) -> "DataConfig":
        if self.splits and self.splits.get("train", "") is None:
            raise ValueError("splits.train needs a file; only validation and test may be null")
        return self

    @model_validator(mode="after")
    def _training_remains(self) -> "DataConfig":
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError(
                "validation_fraction and test_fraction leave nothing to train on: "
                "together they must be below 1"
            )
        return self
