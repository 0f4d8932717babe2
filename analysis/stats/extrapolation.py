"""What more samples would bring: a power law through the measured sizes, and its uncertainty."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.stats.pairs import Correct
from sweep.verdicts.holm import Array

# Decay exponents to try; learning curves of text classifiers are well within this range.
EXPONENTS = np.geomspace(0.1, 2.0, 40)
RESAMPLES = 400
# With fewer sizes, the fit of a curve with three parameters cannot be checked.
FEW_SIZES = 4
COLUMNS = ["model", "n_labels", "n_samples", "accuracy", "low", "high", "sizes", "measured"]


@dataclass(frozen=True)
class PowerLaw:
    """``limit - scale * n ** -decay``, one of each per row of accuracies."""

    limit: Array
    scale: Array
    decay: Array

    def predict(self, sizes: Array) -> Array:
        """Return the accuracy at each of ``sizes``, a row per curve."""
        return self.limit[:, None] - self.scale[:, None] * sizes[None, :] ** -self.decay[:, None]


def fit_power_laws(sizes: Array, accuracies: Array) -> PowerLaw:
    """Return the least-squares power law of each row of ``accuracies`` (rows x sizes).

    The limit is at most 1 and the scale at least 0: more samples never hurt. Source of the form:
    R. L. Figueroa et al., "Predicting sample size required for classification performance", BMC
    Medical Informatics and Decision Making 12 (2012), 8.
    """
    fits = [_fit_with_decay(sizes, accuracies, decay) for decay in EXPONENTS]
    limits, scales, errors = (np.stack(parts) for parts in zip(*fits, strict=True))
    best = errors.argmin(axis=0)
    rows = np.arange(len(accuracies))
    return PowerLaw(limits[best, rows], scales[best, rows], EXPONENTS[best])


def _fit_with_decay(sizes: Array, accuracies: Array, decay: float) -> tuple[Array, Array, Array]:
    """Return limit, scale and squared error of each row for one exponent."""
    x = sizes**-decay
    centered = x - x.mean()
    means = accuracies.mean(axis=1)
    scales = np.maximum(0, -(accuracies @ centered) / (centered @ centered))
    limits = means + scales * x.mean()
    above = limits > 1
    scales = np.where(above, ((1 - accuracies) @ x) / (x @ x), scales)
    limits = np.where(above, 1.0, limits)
    misses = accuracies - (limits[:, None] - scales[:, None] * x[None, :])
    return limits, scales, np.asarray((misses**2).sum(axis=1))


def extrapolate(right: Correct, models: list[str]) -> pd.DataFrame:
    """Return the curve of each model and label count, up to twice the largest sample size.

    Columns: ``n_samples`` (a grid of sizes), ``accuracy``, ``low`` and ``high`` (95 % of the curves
    refitted to resampled test texts), ``sizes`` (how many sizes were measured) and ``measured``
    (whether the size is within their range). Two sizes or fewer give no curve.
    """
    frames = [
        _extrapolate_one(model, k, sizes, right)
        for model in models
        for k in sorted({k for k, _, name in right if name == model})
        if len(sizes := sorted(n for count, n, name in right if (count, name) == (k, model))) > 2
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS)


def _extrapolate_one(model: str, n_labels: int, sizes: list[int], right: Correct) -> pd.DataFrame:
    measured = np.array([right[n_labels, n, model].mean(axis=0) for n in sizes])
    grid = np.unique(np.linspace(sizes[0], 2 * sizes[-1], 25).round(-1).tolist() + sizes)
    known = np.array(sizes, dtype=float)
    curve = fit_power_laws(known, measured.mean(axis=1)[None, :]).predict(grid)[0]
    curves = fit_power_laws(known, _resample(measured)).predict(grid)
    low, high = np.quantile(curves, [0.025, 0.975], axis=0)
    frame = pd.DataFrame({"n_samples": grid.astype(int), "accuracy": curve, "low": low})
    frame = frame.assign(high=high, measured=grid <= sizes[-1], sizes=len(sizes))
    return frame.assign(model=model, n_labels=n_labels)[COLUMNS]


def _resample(right: Array) -> Array:
    """Return accuracies (resamples x sizes) on test texts resampled with replacement.

    All sizes have the same texts, so they share the sample. Source: B. Efron, "Bootstrap methods:
    another look at the jackknife", Annals of Statistics 7 (1979), 1-26.
    """
    texts = right.shape[1]
    weights = np.random.default_rng(0).multinomial(texts, np.full(texts, 1 / texts), RESAMPLES)
    return np.asarray(weights @ right.T / texts, dtype=float)


def tabulate_forecast(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``curves`` at the largest measured size and at twice that, side by side.

    Columns: ``model``, ``n_labels``, ``sizes``; ``n_now`` and ``now``; ``n_then``, ``then``,
    ``low``, ``high``; ``weak`` if too few sizes were measured to check the curve.
    """
    rows = []
    for (model, n_labels), curve in curves.groupby(["model", "n_labels"], sort=False):
        now, then = curve[curve["measured"].astype(bool)].iloc[-1], curve.iloc[-1]
        rows.append(
            {
                "model": model,
                "n_labels": n_labels,
                "n_now": now["n_samples"],
                "now": now["accuracy"],
                "n_then": then["n_samples"],
                "then": then["accuracy"],
                "low": then["low"],
                "high": then["high"],
                "weak": now["sizes"] < FEW_SIZES,
            }
        )
    return pd.DataFrame(rows)
