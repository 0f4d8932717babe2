"""What became of the rows of a corpus, split by split: as plain JSON, and as lines of text.

Every row is counted once, by the first reason that applies:
``read + from_training == cut_off + usable + left_out_rows``.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from sweep.errors import Finding, format_line, format_names

Rows = Annotated[int, Field(strict=True, ge=0, le=2**53)]

# More paths, or longer ones, make a line that nobody reads; the JSON has all of them.
SHOWN_FILES = 3
SHOWN_PATH = 160


class Reason(StrEnum):
    """Why a row is not used; a row to which several apply counts under the first."""

    WITHOUT_TEXT = "without_text"
    WITHOUT_LABEL = "without_label"
    SEVERAL_LABELS = "several_labels"
    EXCLUDED_LABEL = "excluded_label"
    NOT_IN_LABEL_ORDER = "not_in_label_order"
    LABEL_NOT_IN_TRAINING = "label_not_in_training"
    IN_TEST = "in_test"
    IN_VALIDATION = "in_validation"
    CONFLICTING_LABELS = "conflicting_labels"
    REPEATED = "repeated"


PHRASES = {
    Reason.WITHOUT_TEXT: "without text",
    Reason.WITHOUT_LABEL: "without a label",
    Reason.SEVERAL_LABELS: "with several labels",
    Reason.EXCLUDED_LABEL: "excluded by data.exclude_labels",
    Reason.NOT_IN_LABEL_ORDER: "with a label outside data.label_order",
    Reason.LABEL_NOT_IN_TRAINING: "with a label that training does not have",
    Reason.IN_TEST: "also in the test split",
    Reason.IN_VALIDATION: "also in the validation split",
    Reason.CONFLICTING_LABELS: "with conflicting labels for the same text",
    Reason.REPEATED: "repeated",
}
# Reasons that concern the label itself, so the message names it.
NAMED = (Reason.EXCLUDED_LABEL, Reason.NOT_IN_LABEL_ORDER, Reason.LABEL_NOT_IN_TRAINING)


@dataclass(frozen=True)
class LeftOut:
    """Rows left out for one reason; ``labels`` counts them by label if the label is the reason."""

    reason: Reason
    rows: Rows
    labels: dict[str, Rows] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitAccount:
    """Where the rows of a split came from, and how many are usable."""

    split: Annotated[str, Field(pattern="^(train|validation|test)$")]
    files: tuple[str, ...] = ()
    """Its files, or the Hub dataset and its split; empty for held-out and for synthetic splits."""
    text_columns: tuple[str, ...] = ()
    label_column: str = ""
    read: Rows = 0
    """Rows read from ``files``."""
    from_training: Rows = 0
    """Rows held out from the training rows."""
    fraction: Annotated[float, Field(ge=0, le=1)] | None = None
    """Fraction of the training texts held out for this split; None if it has files of its own."""
    cut_off: Rows = 0
    """Rows of this split that were held out for other splits."""
    usable: Rows = 0
    left_out: tuple[LeftOut, ...] = ()

    @property
    def rows(self) -> int:
        """The number of rows that belong to this split, usable or not."""
        return self.usable + self.left_out_rows

    @property
    def left_out_rows(self) -> int:
        """The number of rows left out, whatever the reason."""
        return sum(each.rows for each in self.left_out)


@dataclass(frozen=True)
class DataAccount:
    """What became of a corpus, with remarks for the user."""

    source: Literal["hub", "files", "synthetic"]
    split_seed: Rows
    splits: tuple[SplitAccount, ...]
    unused: tuple[str, ...] = ()
    """Data files that no split uses."""
    remarks: tuple[Finding, ...] = ()

    @property
    def held_out(self) -> tuple[str, ...]:
        """The splits that were held out from training."""
        return tuple(each.split for each in self.splits if each.fraction is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


_ADAPTER = TypeAdapter(DataAccount)


def parse_account(tree: Any) -> DataAccount:
    """Return the account that ``to_dict`` wrote; raise ValueError if ``tree`` is not one."""
    return _ADAPTER.validate_python(tree)


def format_account(account: DataAccount) -> list[str]:
    """Return the account as lines: a heading, and one line for each split."""
    if account.source == "synthetic":
        return _format_synthetic(account)
    lines = [_format_split(each, account) for each in account.splits]
    return ["data:", *(f"  {format_line(line)}" for line in lines)]


def _format_synthetic(account: DataAccount) -> list[str]:
    sizes = [f"{each.split} {each.usable:,} of {each.rows:,}" for each in account.splits]
    lines = [f"data: the built-in synthetic corpus; usable rows: {join_phrases(sizes)}"]
    rest = [format_left_out(each) for each in add_up(account.splits)]
    return lines + ([f"  left out: {join_phrases(rest)}"] if rest else [])


def add_up(splits: Sequence[SplitAccount]) -> list[LeftOut]:
    """Return the rows left out of all ``splits``, by reason."""
    rows: Counter[Reason] = Counter()
    labels: dict[Reason, Counter[str]] = {reason: Counter() for reason in Reason}
    for each in (part for split in splits for part in split.left_out):
        rows[each.reason] += each.rows
        labels[each.reason].update(each.labels)
    return [
        LeftOut(reason, rows[reason], dict(labels[reason])) for reason in Reason if rows[reason]
    ]


def _format_split(split: SplitAccount, account: DataAccount) -> str:
    columns = f" ({format_columns(split)})" if split.text_columns else ""
    files, held_out = format_files(split), format_held_out(split, account)
    parts = [f"{files}{columns}: {format_rows(split.read)} read"] if files else []
    parts += [f"{held_out}: {format_rows(split.from_training)}"] if held_out else []
    parts = parts or [format_rows(split.read)]
    left_out = join_phrases([format_left_out(each) for each in split.left_out])
    parts += [format_given_up(split, account)] if split.cut_off else []
    parts += [f"left out: {left_out}"] if left_out else []
    if not (left_out or split.cut_off):
        return f"{split.split}: {'; '.join(parts)}, all usable"
    return f"{split.split}: {'; '.join(parts)}; {split.usable:,} usable"


def list_origins(split: SplitAccount, account: DataAccount) -> list[str]:
    """Return where the rows of a split came from: its files, the training rows, or both (if its
    files have no labels)."""
    origins = [format_files(split), format_held_out(split, account)]
    origins += ["the built-in synthetic corpus"] if account.source == "synthetic" else []
    return [origin for origin in origins if origin]


def format_files(split: SplitAccount) -> str:
    """Return the first few files of a split and the number of the others; empty if it has none."""
    shown = [_end_of(path) for path in split.files[:SHOWN_FILES]]
    more = len(split.files) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def format_columns(split: SplitAccount) -> str:
    """Return the columns used, e.g. ``columns title and body for the text, kind for the label``."""
    texts, label = list(split.text_columns), split.label_column
    if not label:
        return f"column{'s' * (len(texts) > 1)} {_join_names(texts)}"
    if len(texts) == 1:
        return f"columns {_join_names([*texts, label])}"
    return f"columns {_join_names(texts)} for the text, {_join_names([label])} for the label"


def _join_names(names: Sequence[str]) -> str:
    return join_phrases([format_names([name]) for name in names])


def format_held_out(split: SplitAccount, account: DataAccount) -> str:
    """Return how a split was held out from training; empty if it was not."""
    if split.fraction is None:
        return ""
    return (
        f"held out from training (data.{split.split}_fraction={split.fraction:g}, "
        f"data.split_seed={account.split_seed})"
    )


def format_given_up(split: SplitAccount, account: DataAccount) -> str:
    """Return how many rows of a split were held out, and for which splits."""
    return f"{split.cut_off:,} held out for {join_phrases(account.held_out)}"


def format_left_out(left_out: LeftOut) -> str:
    """Return how many rows are left out and why, naming the labels if they are the reason."""
    text = format_reason(left_out.reason, left_out.rows)
    labels = left_out.labels
    if not labels:
        return text
    if len(labels) == 1:
        return f"{text} ({format_names(labels)})"
    return f"{text} ({format_names((f'{name} {count:,}' for name, count in labels.items()), 5)})"


def format_reason(reason: Reason, rows: int) -> str:
    """Return how many rows are left out and why, e.g. ``12 with several labels``."""
    return f"{rows:,} {PHRASES[reason]}"


def format_rows(count: int) -> str:
    """Return ``1 row`` or ``1,200 rows``."""
    return f"{count:,} row" if count == 1 else f"{count:,} rows"


def join_phrases(phrases: tuple[str, ...] | list[str]) -> str:
    """Return ``a``, ``a and b``, or ``a, b and c``."""
    *first, last = phrases or [""]
    return f"{', '.join(first)} and {last}" if first else last


def _end_of(path: str) -> str:
    # The end of a path says the most.
    return path if len(path) <= SHOWN_PATH else f"...{path[3 - SHOWN_PATH :]}"
