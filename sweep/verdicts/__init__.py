"""Verdicts on two recipes: tests over seeds and texts, several looks, and families of tests.

``crossed`` tests a mean over seeds and texts, ``moderation`` borrows strength for the variance
between seeds, ``looks`` says when comparisons are tested, ``holm`` adjusts for a family, ``models``
tests two trained models, ``intervals`` says how exact one accuracy is, and ``contests`` makes
verdicts of the tests. The driver decides with it who gets more seeds, and the report says what came
out.

Doors: ``Contest``, ``Judgment``, ``State``, ``judge_contests``; ``Looks``, ``ONE_LOOK``,
``SCHEDULE``, ``list_looks``, ``next_look``. Imports NumPy and ``scipy.special`` alone.
"""

from sweep.verdicts.contests import SMALLEST, Contest, Judgment, State, judge_contests
from sweep.verdicts.looks import ONE_LOOK, SCHEDULE, Looks, list_looks, next_look

__all__ = [
    "ONE_LOOK",
    "SCHEDULE",
    "SMALLEST",
    "Contest",
    "Judgment",
    "Looks",
    "State",
    "judge_contests",
    "list_looks",
    "next_look",
]
