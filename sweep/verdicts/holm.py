"""Families of tests, and the word for what came out of one."""

from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
# A difference is called real if its adjusted p is below this.
LEVEL = 0.05
Verdict = Literal["A better", "B better", "too close to call"]


def adjust_holm(p_values: npt.ArrayLike) -> Array:
    """Return the p-values, adjusted for the number of them (the family), in the order given.

    With these, the chance of rejecting any true null stays at the level, however the tests depend
    on each other. Source: S. Holm, "A simple sequentially rejective multiple test
    procedure", Scandinavian Journal of Statistics 6 (1979), 65-70.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate((p.size - np.arange(p.size)) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, steps)
    return adjusted


def judge(difference: float, p: float, level: float = LEVEL) -> Verdict:
    """Return which of A and B is better, or that it is too close to call.

    ``difference`` is A's accuracy minus B's, ``p`` the adjusted p-value of their comparison.
    """
    if not p < level or difference == 0:
        return "too close to call"
    return "A better" if difference > 0 else "B better"
