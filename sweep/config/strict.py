"""Kinds of values that a journal holds: strict, and each with the words that an error names it by.

A kind is a pydantic annotation. Its words are a plain string among the metadata, which pydantic
passes over; ``sweep.storage.event_reader`` reads them when a value is refused.
"""

from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

# The largest whole number that a table's float64 column holds exactly.
MOST = 2**53
# As many as ``asha.max_epochs`` allows; a trial keeps a list as long as its last epoch.
MOST_EPOCHS = 10**6
# Unix seconds in the year 2255; pandas' clock ends in 2262.
LAST_TIME = 9e9

NamesT = TypeVar("NamesT", list[str], tuple[str, ...])


def _check_distinct(names: NamesT) -> NamesT:
    if not names or len(set(names)) < len(names):
        raise ValueError("empty, or a name stands twice")
    return names


Text = Annotated[str, Field(strict=True), "a text"]
Id = Annotated[str, Field(strict=True, min_length=1), "a text that is not empty"]
Flag = Annotated[bool, Field(strict=True), "true or false"]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False), "a finite number"]
Amount = Annotated[float, Field(strict=True, ge=0, le=MOST), "a number from 0"]
Fraction = Annotated[float, Field(strict=True, ge=0, le=1), "a number from 0 to 1"]
Count = Annotated[int, Field(strict=True, ge=0, le=MOST), "a whole number from 0"]
Ordinal = Annotated[int, Field(strict=True, ge=1, le=MOST), "a whole number from 1"]
Epoch = Annotated[
    int, Field(strict=True, ge=1, le=MOST_EPOCHS), f"a whole number from 1 to {MOST_EPOCHS}"
]
Time = Annotated[float, Field(strict=True, ge=0, le=LAST_TIME), "a Unix time in seconds"]
Counts = Annotated[list[Count], "a list of whole numbers from 0"]
Words = Annotated[list[Id], "a list of names"]
Names = Annotated[list[Id], AfterValidator(_check_distinct), "a list of different names"]
NameTuple = Annotated[tuple[Id, ...], AfterValidator(_check_distinct), "a list of different names"]
# Written by the user, so whatever the configuration takes.
TextTuple = Annotated[tuple[Text, ...], "a list of texts"]
