"""Feeds the repeats to Tune's search as they become due."""

from collections import deque
from collections.abc import Callable, Sequence

from sweep.cluster.ray_internals import InterruptWatch
from sweep.plan import TrialSpec
from sweep.repeats import Repeat, RepeatSchedule
from sweep.storage.events import TrialStatus
from sweep.storage.record import RunRecord
from sweep.tuning.baselines import BaselineTasks
from sweep.tuning.recorder import Recorder


class RepeatFeed:
    """The repeats that are left, in the order in which they start.

    What becomes due is written into the journal first; its baselines are added to ``baselines``,
    and its trials given to ``show``.
    """

    def __init__(
        self,
        schedule: RepeatSchedule,
        recorder: Recorder,
        baselines: BaselineTasks,
        show: Callable[[Sequence[TrialSpec]], None] = lambda trials: None,
    ) -> None:
        self._schedule, self._recorder, self._baselines = schedule, recorder, baselines
        self._show = show
        left = [each for each in schedule.known if self._is_left(each)]
        # As they were planned: the next driver starts them in the order of the last.
        order = {trial_id: i for i, trial_id in enumerate(recorder.record.trials)}
        self._waiting = deque(sorted(left, key=lambda each: order[each.spec.trial_id]))
        self._watch: InterruptWatch | None = None
        # Those that Tune has, or had.
        self._out: set[str] = set()

    def _is_left(self, repeat: Repeat) -> bool:
        return repeat.spec.trial_id not in self._record.done()

    def _was_stopped(self, spec: TrialSpec) -> bool:
        """Return whether ASHA stopped the trial when an earlier grid had its seed."""
        known = self._record.trials.get(spec.trial_id)
        ended = known.ended if known else None
        return ended is not None and ended["status"] == TrialStatus.STOPPED

    @property
    def _record(self) -> RunRecord:
        return self._recorder.record

    def refill(self) -> bool:
        """Add the repeats that are due by now; return whether any trial is left to start."""
        due = self._schedule.take_due()
        if due:
            events = (("planned", {"trial": spec, "repeat_of": of.trial_id}) for spec, of in due)
            stopped = [spec.trial_id for spec, _ in due if self._was_stopped(spec)]
            reopened = (("reopened", {"trial_id": trial_id}) for trial_id in stopped)
            self._recorder.write_many([*events, *reopened])
            trials = [spec for spec, _ in due]
            self._baselines.extend(trials)
            self._show(trials)
            self._waiting.extend(each for each in due if self._is_left(each))
        return bool(self._waiting)

    def next_repeat(self) -> Repeat | None:
        """Return the next repeat, or None if none is due now."""
        watch = self._watch = self._watch or InterruptWatch()
        if not self._waiting and self._schedule.catch_up():
            self.refill()
        if not self._waiting and self._schedule.waits_for_baselines and not self._is_busy():
            # Nothing else runs that would let time pass until they are there.
            self._baselines.finish_between_trials(lambda: not watch.was_interrupted())
            self.refill()
        if not self._waiting:
            return None
        repeat = self._waiting.popleft()
        self._out.add(repeat.spec.trial_id)
        return repeat

    def _is_busy(self) -> bool:
        return not self._schedule.is_settled or not self._out <= self._record.done()

    def is_finished(self) -> bool:
        """Return whether no repeat will become due any more, or shall."""
        interrupted = self._watch is not None and self._watch.was_interrupted()
        return interrupted or (not self._waiting and not self._is_busy())
