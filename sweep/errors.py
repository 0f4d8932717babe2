"""The errors a user can meet: each is one sentence that says what to do next; findings of the
preflight; and how names and values stand in such sentences."""

import re
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal


class SweepError(Exception):
    """Something the user can fix; the command line prints it and exits with ``exit_code``."""

    exit_code = 2

    def __str__(self) -> str:
        return format_line(super().__str__())


class ConfigError(SweepError):
    """The YAML file or a ``--set`` override is wrong."""


class DataError(SweepError):
    """The data cannot be read, or cannot give the subsets that the grid asks for."""


class ModelError(SweepError):
    """A model or its tokenizer cannot be loaded, or does not fit the recipe."""


class RunFolderError(SweepError):
    """The run folder is in use, not empty, missing, or damaged."""


class StorageError(SweepError):
    """The disk does not take what must be kept; the run ends, and what is written stays."""

    exit_code = 1


class ClusterError(SweepError):
    """The Ray cluster cannot be reached or cannot hold a trial."""


UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Ends a line, steers a terminal, turns the reading direction, or is half a character."""

# Names to be copied from a sentence: shards of the Hub have 45 characters, a survey's columns 90.
CHOICE_WIDTH = 100
SENTENCE_LENGTH = 2000
KEPT_END = 500

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 4
_SHORT.maxstring = _SHORT.maxother = 60


def truncate(text: str, most: int) -> str:
    """Return ``text`` in ``most`` characters at most, with dots for what is left out."""
    return text if len(text) <= most else text[: most - 3] + "..."


def first_line(error: BaseException) -> str:
    """Return the first line of what ``error`` says, or the name of its class."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def format_error(error: BaseException) -> str:
    """Return the class of ``error`` and what it says, on one line of bounded length."""
    kind, text = type(error).__name__, truncate(" ".join(str(error).split()), 300)
    return f"{kind}: {text}" if text else kind


def format_line(text: str) -> str:
    """Return ``text`` on one line that a terminal shows as it is; of a very long one, both ends:
    the remedy stands last."""
    if len(text) > SENTENCE_LENGTH:
        text = f"{text[: SENTENCE_LENGTH - KEPT_END]} ... {text[-KEPT_END:]}"
    return UNSAFE.sub(lambda match: ascii(match.group())[1:-1], text)


def format_value(value: Any) -> str:
    """Return what ``value`` looks like in Python, in 60 characters at most, whatever its size."""
    text = _format_number(value) if isinstance(value, int) else _SHORT.repr(value)
    return truncate(text, 60)


def _format_number(value: int) -> str:
    # Python refuses to write out a whole number of more than 4,300 digits.
    return repr(value) if value.bit_length() < 10_000 else "a number of thousands of digits"


def format_names(names: Iterable[str], most: int = 20, width: int = 40) -> str:
    """Return ``names`` with commas between them, long ones cut to ``width`` characters and only the
    first ``most``."""
    short = [truncate(name, width) for name in names]
    more = f" and {len(short) - most} more" if len(short) > most else ""
    return (", ".join(short[:most]) + more) or "none"


def format_choices(names: Iterable[str], most: int = 20) -> str:
    """Return ``names`` as ``format_names`` does, but long enough that one of them can be copied."""
    return format_names(names, most, CHOICE_WIDTH)


def format_split_remedy(split: str) -> str:
    """Return the remedy for a split whose own file cannot be used."""
    return f"set data.splits.{split}=null to cut {split} from the training data instead"


Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One fact found before training: an ``error`` keeps the run from starting."""

    level: Level
    key: str
    """The key of the configuration it concerns, e.g. ``grid.models.0``."""
    sentence: str
