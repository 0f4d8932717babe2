"""The types of configuration values, each with its checks and its JSON schema."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    WithJsonSchema,
)

from sweep.config.search_space import KINDS, Space, dump_space, read_space
from sweep.errors import format_value

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_name(value: str) -> str:
    """Return ``value`` if it is safe as a folder name; else raise ValueError."""
    if not NAME_PATTERN.fullmatch(value) or ".." in value:
        raise ValueError(
            f"{format_value(value)} is not a usable name: use letters, digits, '.', '_' and '-', "
            "starting with a letter or digit, at most 100"
        )
    return value


def _coerce_number(value: Any) -> Any:
    # YAML 1.1 reads 1e-4 as text, though people mean a number.
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
        raise ValueError("Ray counts in ten-thousandths; use at least 0.0001")
    return value


def check_encoding(value: str) -> str:
    """Return ``value`` if Python knows such a text encoding; else raise ValueError."""
    try:
        "".encode(value)
    except (LookupError, ValueError):
        raise ValueError(
            f"{format_value(value)} is not a text encoding that Python knows; use one such as "
            "cp1252, latin-1, utf-16 or gb18030"
        ) from None
    return value


def check_path(value: str) -> str:
    """Return ``value`` if a file system can look it up; else raise ValueError."""
    sizes = [len(part.encode("utf-8", "surrogatepass")) for part in value.split("/")]
    if "\0" in value or max(sizes) > 255 or sum(sizes) > 3000:
        raise ValueError(
            f"{format_value(value)} cannot be a path: it is too long (a part may have 255 bytes) "
            "or contains a null character; shorten or fix it"
        )
    try:
        Path(value).expanduser()
    except RuntimeError:
        raise ValueError(
            f"{format_value(value)} starts in a home folder that does not exist here; write the "
            "absolute path"
        ) from None
    return value


def refuse_repeats(values: Sequence[Any]) -> Sequence[Any]:
    seen = set(values)
    if len(seen) != len(values):
        raise ValueError("a value is listed twice; list it once")
    return values


def check_storage(value: str) -> str:
    """Return ``value`` if it can be a storage that every machine reaches; else raise ValueError."""
    # The message must not repeat a password, which would end up in logs.
    if holds_password(value):
        raise ValueError(
            "holds a user name or password; remove it: credentials come from the machine"
        )
    scheme, mark, rest = value.partition("://")
    if mark and scheme in ("file", "s3", "gs") and rest:
        return value
    if not mark and value.startswith(("/", "~")):
        return check_path(value)
    raise ValueError(
        f"{format_value(value)} is not a storage that every machine can reach; write "
        "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, or an absolute path on a shared disk"
    )


# For characters that are hard to write in a shell or in YAML; people write a tab as \t.
DELIMITER_WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
DELIMITER_WORDS |= {"space": " ", "colon": ":"}


def read_delimiter(value: str) -> str:
    """Return the character that ``value`` is or names; else raise ValueError."""
    character = DELIMITER_WORDS.get(value.lower(), value)
    if (
        len(character) != 1
        or character.isalnum()
        or character in '"\r\n\0'
        or has_surrogate(character)
    ):
        raise ValueError(
            f"{format_value(value)} is not a delimiter: use one character that is not a letter, "
            "digit or quote, or one of the words tab, comma, semicolon, pipe, space, colon"
        )
    return character


def has_surrogate(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


def check_baseline(value: Any) -> Any:
    if value in BASELINES:
        return value
    raise ValueError(
        f"{format_value(value)} is not a baseline; use {', '.join(BASELINES)} or "
        "{features: MODEL}, where MODEL is a folder or a Hub id"
    )


def derive_name(path: str) -> str:
    """Return a usable name for the features of the model at ``path``, from its last part."""
    last = re.sub(r"[^A-Za-z0-9._-]+|\.\.+", "-", Path(path).name).strip("-._")
    return f"features-{last}"[:100] if last else "features"


def _count_form(value: Any) -> str:
    return "several" if isinstance(value, list) else "one"


# What editors know about types that are checked by code; the code decides.
NAME_SCHEMA = {"type": "string", "pattern": rf"^(?!.*\.\.){NAME_PATTERN.pattern}$"}
STORAGE_SCHEMA = {
    "type": "string",
    "pattern": r"^((file|s3|gs)://(?!$)[^/@]*(/.*)?|(?!.*://)[/~].*)$",
    "examples": ["s3://BUCKET/PREFIX"],
}
DELIMITER_SCHEMA = {
    "anyOf": [
        {"enum": [*DELIMITER_WORDS]},
        {"type": "string", "pattern": r"^[^A-Za-z0-9\"\r\n\u0000]$"},
    ]
}
# For lists that ``refuse_repeats`` checks.
UNIQUE: dict[str, Any] = {"uniqueItems": True}


def describe_space(
    kind: Literal["number", "integer"] = "number", **bounds: float
) -> WithJsonSchema:
    """Return the JSON schema of a search space of numbers within ``bounds``.

    Distributions are not of integers, so a space of integers is a number or a list.
    """
    number = {"type": kind, **bounds}
    values = {"type": "array", "items": number, "minItems": 1, **UNIQUE}
    pair = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
    distributions = {
        "type": "object",
        "properties": dict.fromkeys(KINDS, pair),
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
    forms = [number, values, distributions]
    return WithJsonSchema({"anyOf": forms[:2] if kind == "integer" else forms})


Name = Annotated[str, AfterValidator(check_name), WithJsonSchema(NAME_SCHEMA)]
StorageUri = Annotated[str, AfterValidator(check_storage), WithJsonSchema(STORAGE_SCHEMA)]
AnyPath = Annotated[str, AfterValidator(check_path)]
Number = Annotated[
    float, BeforeValidator(_no_bool), BeforeValidator(_coerce_number), Field(allow_inf_nan=False)
]
PositiveInt = Annotated[int, BeforeValidator(_no_bool), Field(gt=0, le=10**9)]
# A count or a seed; NumPy and scikit-learn accept no larger seed.
Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=2**32 - 1)]
Share = Annotated[Number, Field(ge=0, le=10**6), AfterValidator(_check_share)]
Delimiter = Annotated[str, AfterValidator(read_delimiter), WithJsonSchema(DELIMITER_SCHEMA)]
ColumnNames = Annotated[
    list[str],
    Field(min_length=1, json_schema_extra=UNIQUE),
    AfterValidator(refuse_repeats),
]
OneOrMoreNames = Annotated[
    Annotated[str, Tag("one")] | Annotated[ColumnNames, Tag("several")], Discriminator(_count_form)
]
LabelCount = Annotated[PositiveInt, Field(ge=2)]
PlainBaseline = Literal["majority", "tf-idf"]
BASELINES = get_args(PlainBaseline)
BaselineName = Annotated[PlainBaseline, BeforeValidator(check_baseline)]
TuneSpace = Annotated[Space, BeforeValidator(read_space), PlainSerializer(dump_space)]


def holds_password(uri: str) -> bool:
    """Return whether ``uri`` has a user name or password before its host."""
    return "@" in uri.partition("://")[2].partition("/")[0]
