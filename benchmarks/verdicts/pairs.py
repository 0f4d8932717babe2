"""Simulates one comparison of two recipes: how often each test calls them different.

Both recipes are right on the share of texts that their seed's accuracy says; accuracies differ
between seeds by a standard deviation of 2.5 points. A text is easy or hard for both recipes alike,
and may suit one more than the other. Equal recipes should be called different in 5 % at most.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import stats

from sweep.verdicts.crossed import crossed_interval, drop_incomplete, measure_squares
from sweep.verdicts.holm import LEVEL, Array
from sweep.verdicts.models import sign_flip_p

EQUAL_SEEDS, POWER_SEEDS = (1, 2, 3, 5, 8), (2, 3, 5, 8, 12)
TEXTS = (200, 500, 1000)
# Gap and test texts.
POWER = [(0.02, 500), (0.05, 200), (0.05, 500), (0.05, 1000)]


@dataclass(frozen=True)
class Setting:
    """Two recipes; accuracies and the gap between their means are fractions."""

    seeds: int
    texts: int
    gap: float = 0.0
    accuracy: float = 0.8
    # Standard deviation of the true accuracy between seeds, of each recipe.
    spread: float = 0.025
    # Of the variance of a text's difficulty: what both recipes share over all seeds, and what is
    # one recipe's own over all seeds (none if they are identical). The rest is new with each seed.
    shared: float = 0.5
    own: float = 0.0


def draw_differences(setting: Setting, draws: int, seed: int = 0) -> Iterator[Array]:
    """Yield tables of A right minus B right (seeds x texts), ``draws`` of them."""
    rng = np.random.default_rng([seed, setting.seeds, setting.texts, round(1000 * setting.gap)])
    means = setting.accuracy + setting.gap * np.array([[0.5], [-0.5]])
    left = math.sqrt(1 - setting.shared - setting.own)
    for _ in range(draws):
        accuracies = rng.normal(means, setting.spread, (2, setting.seeds)).clip(0.001, 0.999)
        difficulty = math.sqrt(setting.shared) * rng.normal(size=(1, 1, setting.texts))
        difficulty = difficulty + math.sqrt(setting.own) * rng.normal(size=(2, 1, setting.texts))
        noise = left * rng.normal(size=(2, setting.seeds, setting.texts))
        right = difficulty + noise < stats.norm.ppf(accuracies)[:, :, None]
        yield right[0].astype(float) - right[1]


def reject_crossed(differences: Array, level: float) -> bool:
    """The report's test for several seeds."""
    low, high = crossed_interval(differences, 1 - level)
    return low > 0 or high < 0


def reject_texts(differences: Array, level: float) -> bool:
    """The sign flip over texts, which takes the trained models as given; with one seed McNemar's
    test, and then the report's."""
    return sign_flip_p(differences.sum(axis=0)) < level


def reject_satterthwaite(differences: Array, level: float) -> bool:
    """One quantile of Student's t, with Satterthwaite's degrees of freedom."""
    values = drop_incomplete(differences)
    seeds, texts = (size - 1 for size in values.shape)
    by_seed, by_text, residual = measure_squares(values)
    total = max(by_seed + by_text - residual, by_seed, by_text)
    parts = by_seed**2 / seeds + by_text**2 / texts + residual**2 / (seeds * texts)
    if not total:
        return False
    quantile = stats.t.ppf(1 - level / 2, max(1.0, total**2 / parts))
    return bool(abs(values.mean()) > quantile * math.sqrt(total / values.size))


TESTS = {
    "report": reject_crossed,
    "Satterthwaite": reject_satterthwaite,
    "texts alone": reject_texts,
}


def measure_rates(
    setting: Setting, draws: int, tests: tuple[str, ...], level: float = LEVEL
) -> dict[str, float]:
    """Return the share of ``draws`` that each of ``tests`` calls different."""
    found = dict.fromkeys(tests, 0)
    for differences in draw_differences(setting, draws):
        for name in tests:
            found[name] += TESTS[name](differences, level)
    return {name: count / draws for name, count in found.items()}


def estimate_error(rate: float, draws: int) -> float:
    """Return the standard error of a simulated ``rate``."""
    return math.sqrt(rate * (1 - rate) / draws)


def print_equal(draws: int) -> None:
    error = 100 * estimate_error(LEVEL, draws)
    print(f"Equal recipes called different, % ({draws} draws; standard error {error:.1f} at 5 %)\n")
    print("| recipes | test texts | seeds |", " | ".join(TESTS), "|")
    print("|---|---:|---:|" + "---:|" * len(TESTS))
    for name, own in (("identical", 0.0), ("equally accurate", 0.2)):
        for texts, seeds in product(TEXTS, EQUAL_SEEDS):
            tests = tuple(TESTS) if seeds > 1 else ("texts alone",)
            rates = measure_rates(Setting(seeds, texts, own=own), draws, tests)
            cells = [f"{100 * rates[test]:.1f}" if test in rates else "" for test in TESTS]
            print(f"| {name} | {texts} | {seeds} |", " | ".join(cells), "|", flush=True)


def print_power(draws: int) -> None:
    error = 100 * estimate_error(0.5, draws)
    print(f"\nTrue differences found, % ({draws} draws; standard error at most {error:.1f})\n")
    heads = [f"{100 * gap:.0f} points, {texts} texts" for gap, texts in POWER]
    print("| seeds |", " | ".join(heads), "|\n|---:|" + "---:|" * len(heads))
    for seeds in POWER_SEEDS:
        cells = [f"{100 * _measure_power(seeds, *each, draws):.0f}" for each in POWER]
        print(f"| {seeds} |", " | ".join(cells), "|", flush=True)


def _measure_power(seeds: int, gap: float, texts: int, draws: int) -> float:
    setting = Setting(seeds, texts, gap=gap, own=0.2)
    return measure_rates(setting, draws, ("report",))["report"]
