"""How the report writes numbers."""

import math
import shlex
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from sweep import errors

NOTHING = "\N{EN DASH}"
# Amounts of money below this are all alike.
SMALLEST_MONEY = 0.0001


def format_percent(value: float | None) -> str:
    """Return a fraction as a percentage with one decimal, without the sign."""
    return NOTHING if value is None or pd.isna(value) else f"{100 * value:.1f}"


def format_chance(value: float) -> str:
    """Return a chance level as a percentage with as few digits as it needs: 50, 12.5, 6.25."""
    return f"{100 * value:.3g}"


def format_points(value: float) -> str:
    """Return a difference of fractions as signed percentage points with one decimal."""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\N{MINUS SIGN}")


def format_decimal(value: float | None, decimals: int = 1) -> str:
    return NOTHING if value is None or pd.isna(value) else f"{value:.{decimals}f}"


def format_rank(value: float | None, kind: str = "model") -> str:
    """Return LoRA's rank; 'all weights' for a model that has none."""
    if value is None or pd.isna(value):
        return "all weights" if kind == "model" else NOTHING
    return f"{value:.0f}"


def format_digits(value: float | None) -> str:
    """Return a number with three significant digits."""
    return NOTHING if value is None or pd.isna(value) else f"{value:.3g}"


def format_time(value: float) -> str:
    """Return a Unix time as date and minute in UTC."""
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M UTC")


def format_interval(low: float | None, high: float | None) -> str:
    """Return two fractions as percentages: 'low to high'; a dash where there is no interval."""
    if low is None or high is None or pd.isna(low) or pd.isna(high):
        return NOTHING
    return f"{format_percent(low)} to {format_percent(high)}"


def format_range(low: float, high: float) -> str:
    """Return an interval of a difference as signed points: 'low to high'."""
    return f"{format_points(low)} to {format_points(high)}"


def format_p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def format_count(value: float | None) -> str:
    """Return an integer with thousands separators."""
    return NOTHING if value is None or pd.isna(value) else f"{value:,.0f}"


def format_share(part: int, whole: int) -> str:
    """Return how many of the grid's combinations: 'the one combination', '3 of 12 combinations'."""
    if whole == 1:
        return "the one combination" if part else "no combination"
    if part == whole:
        return "both combinations" if whole == 2 else f"all {whole} combinations"
    return f"{part} of {whole} combinations"


def qualify(seeds: int) -> str:
    """Return what to add to one verdict that rests on ``seeds`` seeds."""
    return " with this seed" if seeds == 1 else ""


def format_duration(seconds: float | None) -> str:
    if seconds is None or pd.isna(seconds):
        return NOTHING
    return errors.format_duration(seconds)


def format_money(value: float, currency: str) -> str:
    return f"{format_amount(value)} {currency}"


def format_amount(value: float | None) -> str:
    """Return an amount of money with cents, without them from 1,000 up, with two digits below 1."""
    if value is None or pd.isna(value):
        return NOTHING
    if 0 < value < SMALLEST_MONEY:
        return f"<{SMALLEST_MONEY:.4f}"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 1 or value == 0 else _round_digits(value)


def _round_digits(value: float) -> str:
    """Return a number below 1 with two significant digits, and at least two decimals."""
    return f"{value:.{max(2, 1 - math.floor(math.log10(value)))}f}"


def format_hours(hours: float, of: str = "") -> str:
    """Return hours in the unit that suits them: '4.6 GPU hours', '12 CPU minutes'."""
    for unit, size in (("hours", 1.0), ("minutes", 1 / 60), ("seconds", 1 / 3600)):
        count = hours / size
        if count >= 2 or unit == "seconds":
            break
    number = f"{count:,.0f}" if count >= 10 else f"{count:.2g}"
    return " ".join(part for part in (number, of, unit) if part)


def format_seconds(seconds: float) -> str:
    """Return a latency: '4.2 ms', '1.3 s'."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:.2g} ms"


def format_bytes(size: float) -> str:
    """Return a size in GiB, or in MiB or KiB if that is less than one of them."""
    for unit, bytes_per in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= bytes_per:
            return f"{size / bytes_per:.3g} {unit}"
    return f"{size / 2**10:.3g} KiB"


def name_model(name: str) -> str:
    """Return a contender's or reference's name as sentences write it."""
    return {"tf-idf": "TF-IDF", "majority": "the majority class"}.get(name, name)


def format_command(command: Any) -> str:
    """Return a command as one line; journals hold a string or a list of words."""
    return shlex.join(map(str, command)) if isinstance(command, list) else str(command)


FILTERS = {
    "percent": format_percent,
    "chance": format_chance,
    "points": format_points,
    "decimal": format_decimal,
    "rank": format_rank,
    "digits": format_digits,
    "utc": format_time,
    "p": format_p,
    "count": format_count,
    "duration": format_duration,
    "amount": format_amount,
    "milli": lambda seconds: format_digits(None if seconds is None else 1000 * seconds),
    "mebi": lambda size: format_digits(None if size is None else size / 2**20),
    "command": format_command,
    "share": format_share,
    "qualify": qualify,
    "next": next,
}
