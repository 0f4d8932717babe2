"""Measures contenders and references in use, once everything else has ended: in one place, one
after another."""

import time
from collections.abc import Callable, Sequence

import ray

from sweep.errors import format_line, shorten
from sweep.preflight.setup import RunSetup
from sweep.storage.record import RunRecord
from sweep.tuning.meter import MachineBusyError, Meter
from sweep.tuning.recorder import Recorder
from sweep.tuning.uses import Use, list_missing


def measure_uses(
    uses: Sequence[Use],
    setup: RunSetup,
    recorder: Recorder,
    on_gpu: bool,
    notify: Callable[[str], None],
    retry_failed: bool = False,
) -> None:
    """Measure those of ``uses`` that the journal lacks and, since only numbers from one place can
    be compared, those that it has from elsewhere. What cannot be measured is recorded and told, and
    so is an interrupt: the run's results are complete."""
    missing = list_missing(uses, recorder.record, retry_failed)
    if not missing:
        return
    notify(f"measuring speed in use: {_count(missing)}")
    begin, meter = time.monotonic(), Meter(setup, on_gpu, notify)
    due, succeeded = missing, list[bool]()
    try:
        meter.start()
        due = [use for use in uses if use in missing or not _is_from(meter, use, recorder.record)]
        for use in due:
            succeeded.append(_measure(use, meter, recorder, notify))
        seconds, failures = time.monotonic() - begin, succeeded.count(False)
        failed = f", {failures} failed" if failures else ""
        notify(f"measured speed in use: {_count(due)}{failed}; took {seconds:.0f} s")
    except (MachineBusyError, ray.exceptions.RayError) as error:
        reason = shorten(error, 300) or "others hold the machine"
        notify(f"speed in use was not measured ({reason}); --resume measures what is missing")
    except KeyboardInterrupt:
        left = len(due) - len(succeeded)
        notify(f"interrupted: {left} of {len(due)} not measured in use; --resume measures them")
    finally:
        meter.stop()


def _count(uses: Sequence[Use]) -> str:
    models = sum(use.is_trial for use in uses)
    counts = ((models, "model"), (len(uses) - models, "baseline"))
    named = [f"{count} {word}{'s' * (count > 1)}" for count, word in counts if count]
    return ", ".join(named)


def _is_from(meter: Meter, use: Use, record: RunRecord) -> bool:
    """Return whether what is recorded of ``use`` was measured where ``meter`` is."""
    served = record.served[use.trial_id]
    if served.get("serving_error"):
        return True
    if served.get("serving_host") != meter.host or not use.needs_torch:
        return served.get("serving_host") == meter.host
    was_on_cpu = (served.get("serving_device") or "").startswith("CPU ")
    had = served.get("serving_cpus") or 0.0
    return was_on_cpu != meter.on_gpu and had == meter.reserved["CPU"]


def _measure(use: Use, meter: Meter, recorder: Recorder, notify: Callable[[str], None]) -> bool:
    """Measure and record; return whether that worked."""
    facts = meter.measure(use.job)
    recorder.write("served", trial_id=use.trial_id, **facts)
    error = facts.get("serving_error")
    if error is not None:
        notify(f"{use.words}: not measured in use ({format_line(error)})")
    return error is None
