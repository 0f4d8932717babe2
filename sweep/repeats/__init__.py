"""Which trials are trained again with further seeds, and when that is enough.

``schedule`` gives out the repeats of each cell's best candidate, as configured or by how the
comparisons stand; ``contests`` reads those comparisons from a run's record; ``summary`` says what
they came to. All are functions of the record alone, so a resumed run decides as the undisturbed
one. Imports config, plan, storage and verdicts; never Ray, torch, transformers or peft.
"""

from sweep.repeats.schedule import Repeat, RepeatSchedule
from sweep.repeats.summary import summarize_repeats

__all__ = ["Repeat", "RepeatSchedule", "summarize_repeats"]
