"""The errors a user can meet, each one sentence that says what to do next; the findings of the
preflight; and how names, values and quantities are written in such sentences."""

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


class RunBusyError(RunFolderError):
    """Another driver has the run folder."""


class StorageError(SweepError):
    """A file that the run needs cannot be written; the run ends, and what was written stays."""

    exit_code = 1


class ClusterError(SweepError):
    """The Ray cluster cannot be reached or has no room for a trial."""


# Line breaks, terminal control codes, bidirectional overrides and lone surrogates.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# Wide enough to copy a name from a sentence: Hub shards have 45 characters, survey columns 90.
CHOICE_WIDTH = 100
MAX_SENTENCE = 2000
# Of a longer sentence the end is kept too: the remedy comes last.
KEPT_END = 500

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 4
_SHORT.maxstring = _SHORT.maxother = 60


def truncate(text: str, limit: int) -> str:
    """Return ``text``, ending in dots where it is longer than ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def shorten(message: object, limit: int) -> str:
    """Return ``message`` on one line, its runs of whitespace collapsed, and truncated."""
    return truncate(" ".join(str(message).split()), limit)


def first_line(error: BaseException) -> str:
    """Return the first line of the error's message, or the name of its class."""
    lines = str(error).strip().splitlines()
    return (lines or [type(error).__name__])[0][:200]


def explain_cause(error: BaseException) -> str:
    """Return what the operating system says of an OSError, else the error's first line."""
    # Without the number and the path: the sentence around it names the file.
    return getattr(error, "strerror", None) or first_line(error)


def format_error(error: BaseException) -> str:
    """Return the error's class and message on one line of bounded length."""
    kind, text = type(error).__name__, shorten(error, 300)
    return f"{kind}: {text}" if text else kind


def format_line(text: str) -> str:
    """Return ``text`` on one line that is safe to print, both ends of it if it is very long."""
    if len(text) > MAX_SENTENCE:
        text = f"{text[: MAX_SENTENCE - KEPT_END]} ... {text[-KEPT_END:]}"
    return UNSAFE.sub(lambda match: ascii(match.group())[1:-1], text)


def format_value(value: Any) -> str:
    """Return the ``repr`` of ``value`` in at most 60 characters, whatever its size."""
    text = _format_number(value) if isinstance(value, int) else _SHORT.repr(value)
    return truncate(text, 60)


def _format_number(value: int) -> str:
    # Python refuses to write out an integer of more than 4,300 digits.
    return repr(value) if value.bit_length() < 10_000 else "a number of thousands of digits"


def format_names(names: Iterable[str], limit: int = 20, width: int = 40) -> str:
    """Return the first ``limit`` names, separated by commas, each in at most ``width`` characters,
    and how many more there are."""
    short = [truncate(name, width) for name in names]
    more = f" and {len(short) - limit} more" if len(short) > limit else ""
    return (", ".join(short[:limit]) + more) or "none"


def format_choices(names: Iterable[str], limit: int = 20) -> str:
    """Return ``names`` as ``format_names`` does, but wide enough to copy one of them."""
    return format_names(names, limit, CHOICE_WIDTH)


def format_bytes(count: float) -> str:
    """Return a size in decimal units, e.g. ``1.5 GB``."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def format_duration(seconds: float, rough: bool = False) -> str:
    """Return a duration in the largest unit that it holds at least two of, e.g. ``2.5 h``; a
    ``rough`` one, such as an estimate, without decimals from 10 units up."""
    for unit, size in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            count = seconds / size
            return f"{count:.{0 if rough and count >= 10 else 1}f} {unit}"
    return f"{seconds:.0f} s" if rough or seconds >= 10 else f"{seconds:.2g} s"


def format_split_remedy(split: str) -> str:
    """Return what to do about a split whose own file cannot be used."""
    return f"set data.splits.{split}=null to hold out {split} from the training data instead"


Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """What a check before training found; an ``error`` keeps the run from starting.

    ``key`` is the key of the configuration that it concerns, e.g. ``grid.models.0``.
    """

    level: Level
    key: str
    sentence: str
