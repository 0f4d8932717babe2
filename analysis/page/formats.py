"""How the report writes numbers."""

import shlex
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from sweep import errors

NOTHING = "\N{EN DASH}"


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
    "command": format_command,
    "share": format_share,
    "qualify": qualify,
    "next": next,
}
