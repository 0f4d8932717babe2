"""The search space of a cell: fixed values, lists and distributions, drawn as a Halton sequence."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from sweep.errors import format_value

KINDS = ("uniform", "loguniform")


@dataclass(frozen=True)
class Space:
    """The values one hyperparameter may take."""

    kind: Literal["choice", "uniform", "loguniform"]
    values: tuple[float, ...]

    @property
    def low(self) -> float:
        """Smallest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """Largest value."""
        return max(self.values)

    @property
    def is_whole(self) -> bool:
        """Whether every value is a whole number."""
        return self.kind == "choice" and all(float(v).is_integer() for v in self.values)

    @property
    def size(self) -> float:
        """How many distinct values there are (infinite for a distribution)."""
        return len(set(self.values)) if self.kind == "choice" or self.low == self.high else math.inf

    def at(self, u: float) -> float:
        """Return the value at quantile ``u`` in [0, 1), at most six significant digits."""
        if self.kind == "choice":
            return self.values[int(u * len(self.values))]
        if self.kind == "uniform":
            value = self.low + u * (self.high - self.low)
        else:
            value = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        # Rounding makes ids equal on machines whose exp() differs in the last bit; it may step
        # over a bound that has more digits.
        return min(max(float(f"{value:.6g}"), self.low), self.high)


def read_space(value: Any) -> Space:
    """Turn a YAML value (number, list, ``{uniform: [a, b]}`` or ``{loguniform: [a, b]}``) into a
    Space; raise ValueError with one sentence."""
    if isinstance(value, Space):
        return value
    if isinstance(value, dict):
        return _read_distribution(value)
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError("an empty list leaves nothing to try; give at least one value")
    numbers = tuple(_read_number(v) for v in values)
    if len(set(numbers)) != len(numbers):
        raise ValueError("a value is listed twice")
    return Space("choice", numbers)


def _read_distribution(value: dict[str, Any]) -> Space:
    if len(value) != 1 or next(iter(value)) not in KINDS:
        raise ValueError("write {uniform: [low, high]} or {loguniform: [low, high]}, or a list")
    kind, bounds = next(iter(value.items()))
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise ValueError(f"{kind} takes two bounds, [low, high]")
    low, high = (_read_number(v) for v in bounds)
    if low > high or (kind == "loguniform" and low <= 0):
        raise ValueError(f"{kind} bounds [{low:g}, {high:g}] need 0 < low <= high")
    return Space("loguniform" if kind == "loguniform" else "uniform", (low, high))


def _read_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{format_value(value)} is not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        point = "; write a decimal point" if isinstance(value, str) and "," in value else ""
        raise ValueError(f"{format_value(value)} is not a number{point}") from None
    if not math.isfinite(number):
        raise ValueError(f"{format_value(value)} is not a finite number")
    return int(number) if isinstance(value, int) else number


def dump_space(space: Space) -> Any:
    """Return the YAML value that ``read_space`` turns into ``space``."""
    if space.kind != "choice":
        return {space.kind: list(space.values)}
    return list(space.values) if len(space.values) > 1 else space.values[0]


def draw_points(spaces: dict[str, Space], seed: int) -> Iterator[dict[str, float]]:
    """Yield points of the product of ``spaces`` without end, well spread from the first on.

    A Halton sequence (Halton 1960, doi:10.1007/BF01386213) with a random shift by ``seed``
    (Cranley and Patterson 1976). The first n points do not depend on how many are taken, so
    a sweep that is enlarged keeps its candidates.
    """
    rng = random.Random(seed)
    varied = [name for name, space in spaces.items() if space.size > 1]
    bases = dict(zip(varied, _primes(len(varied)), strict=True))
    shifts = {name: rng.random() for name in varied}
    # From 0 on, the first b points of base b lie in b different parts of the range.
    for index in count():
        yield {
            name: space.at((_radical_inverse(index, bases[name]) + shifts[name]) % 1.0)
            if name in bases
            else space.at(0.0)
            for name, space in spaces.items()
        }


def draw_distinct(spaces: dict[str, Space], seed: int, wanted: int) -> list[dict[str, float]]:
    """Return ``wanted`` different points, or fewer if no new one comes for long.

    A Halton sequence meets every combination of a finite space in finite time, but a narrow
    distribution, whose values are rounded, may hold fewer values than it seems to.
    """
    unique: dict[tuple[float, ...], dict[str, float]] = {}
    repeats = 0
    for point in draw_points(spaces, seed):
        known = len(unique)
        unique.setdefault(tuple(point.values()), point)
        repeats = repeats + 1 if len(unique) == known else 0
        if len(unique) == wanted or repeats > 100_000 + 100 * wanted:
            break
    return list(unique.values())


def _radical_inverse(index: int, base: int) -> float:
    value, scale = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        value += digit * scale
        scale /= base
    return value


def _primes(count: int) -> list[int]:
    found: list[int] = []
    number = 2
    while len(found) < count:
        if all(number % prime for prime in found):
            found.append(number)
        number += 1
    return found
