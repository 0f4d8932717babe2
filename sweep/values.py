"""The kinds of values that the configuration's sections hold, each with what it refuses."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from sweep.phrases import show_value
from sweep.space import Space, dump_space, read_space

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_name(value: str) -> str:
    """Return ``value`` if it is safe as a folder name; else raise ValueError."""
    if not NAME_PATTERN.fullmatch(value) or ".." in value:
        raise ValueError(
            f"{show_value(value)} is not a usable name: take letters, digits, '.', '_' and '-', "
            "starting with a letter or digit, at most 100"
        )
    return value


def _coerce_number(value: Any) -> Any:
    # YAML 1.1 reads 1e-4 as text; a person means a number.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is needed here, not true or false")
    return value


def _check_share(value: float) -> float:
    if 0 < value < 1e-4:
        raise ValueError("Ray counts in ten-thousandths; take at least 0.0001")
    return value


def check_encoding(value: str) -> str:
    """Return ``value`` if Python knows such a text encoding; else raise ValueError."""
    try:
        "".encode(value)
    except (LookupError, ValueError):
        raise ValueError(
            f"{show_value(value)} is no text encoding that Python knows; take one such as cp1252, "
            "latin-1, utf-16 or gb18030"
        ) from None
    return value


def check_path(value: str) -> str:
    """Return ``value`` if a file system can look it up; else raise ValueError."""
    sizes = [len(part.encode("utf-8", "surrogatepass")) for part in value.split("/")]
    if "\0" in value or max(sizes) > 255 or sum(sizes) > 3000:
        raise ValueError(
            f"{show_value(value)} can be no path: it is too long (a part takes 255 bytes) or "
            "holds a null character; shorten or mend it"
        )
    try:
        Path(value).expanduser()
    except RuntimeError:
        raise ValueError(
            f"{show_value(value)} starts in a home folder that is not here; write the whole path"
        ) from None
    return value


def refuse_repeats(values: Sequence[Any]) -> Sequence[Any]:
    seen = set(values)
    if len(seen) != len(values):
        raise ValueError("a value is listed twice; list it once")
    return values


def check_place(value: str) -> str:
    """Return ``value`` if it may name a storage that other machines find too; else raise
    ValueError."""
    # The message must not repeat a password: it would end up in logs.
    if holds_password(value):
        raise ValueError("holds a user name or password; take it out: keys come from the machine")
    scheme, mark, rest = value.partition("://")
    if mark and scheme in ("file", "s3", "gs") and rest:
        return value
    if not mark and value.startswith(("/", "~")):
        return check_path(value)
    raise ValueError(
        f"{show_value(value)} is no place that every machine finds; write s3://BUCKET/PREFIX, "
        "gs://BUCKET/PREFIX, or a whole path on a disk that all share"
    )


Name = Annotated[str, AfterValidator(check_name)]
StoragePlace = Annotated[str, AfterValidator(check_place)]
AnyPath = Annotated[str, AfterValidator(check_path)]
Number = Annotated[
    float, BeforeValidator(_no_bool), BeforeValidator(_coerce_number), Field(allow_inf_nan=False)
]
PositiveInt = Annotated[int, BeforeValidator(_no_bool), Field(gt=0, le=10**9)]
Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=2**32 - 1)]
"""A count or a seed; NumPy and scikit-learn take no larger seed."""
Share = Annotated[Number, Field(ge=0, le=10**6), AfterValidator(_check_share)]
Labels = Annotated[PositiveInt, Field(ge=2)]
BaselineNames = Annotated[list[Literal["majority", "tf-idf"]], AfterValidator(refuse_repeats)]
TuneSpace = Annotated[Space, BeforeValidator(read_space), PlainSerializer(dump_space)]


def holds_password(uri: str) -> bool:
    """Return whether ``uri`` names a user or a password before its host."""
    return "@" in uri.partition("://")[2].partition("/")[0]
