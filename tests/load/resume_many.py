"""Times the resume of a run of 10,000 trials x 8 epochs, step by step, and its report."""

import argparse
import io
import tempfile
from pathlib import Path
from typing import Any

from big_run import SHAPES, plan_config, write_config, write_run
from measure import timed

with timed("import what plans and reads"):
    from rich.console import Console

    from analysis.report import write_report
    from sweep.config import Config
    from sweep.data import Subsets
    from sweep.plan import Plan
    from sweep.preflight.setup import RunSetup
    from sweep.storage.journal import Journal, read_events
    from sweep.storage.record import replay
with timed("import what trains (Ray, torch, transformers)"):
    from sweep.tuning import driver


def time_steps() -> None:
    """Have the steps of ``run_plan`` print what they take."""
    for name in ("replay", "replay_results", "connect", "PlanSearch"):
        setattr(driver, name, wrap(name, getattr(driver, name)))
    driver.Recorder.write_tables = wrap(  # type: ignore[method-assign]
        "write_tables", driver.Recorder.write_tables
    )


def wrap(name: str, call: Any) -> Any:
    """Return ``call`` with its time printed."""

    def timed_call(*given: Any, **named: Any) -> Any:
        with timed(f"  of it {name}"):
            return call(*given, **named)

    return timed_call


def resume(folder: Path, config: Config, plan: Plan, subsets: Subsets) -> None:
    """Run what is left of ``plan``."""
    with timed("find what is done"):
        done = replay(read_events(folder)).done()
    print(f"  {len(done)} of {len(plan.trials)} trials are done")
    with Journal(folder) as journal, timed("run_plan, from its call to its return"):
        setup = RunSetup(config, plan, subsets, folder)
        driver.run_plan(setup, journal, None, Console(file=io.StringIO()))
    events = [e for e in read_events(folder) if e["event"] in ("opened", "started")]
    (last,) = [i for i, e in enumerate(events) if e["event"] == "opened"][-1:]
    if events[last + 1 :]:
        waited = events[last + 1]["time"] - events[last]["time"]
        print(
            f"  first trial {waited:.1f} s after the session's first event (Ray's start included)"
        )


def main() -> None:
    """Print the times for each shape, with every trial done and with the last few left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--left", type=int, default=2, help="trials to train at the end (0: none)")
    options = parser.parse_args()
    time_steps()
    with tempfile.TemporaryDirectory() as place:
        for name in SHAPES:
            config, plan, subsets = plan_config(write_config(name, Path(place)))
            for left in dict.fromkeys((0, options.left)):
                print(f"{name}, {left} trials left:")
                folder = Path(place) / f"{name}-{left}"
                write_run(folder, config, plan, subsets, left)
                resume(folder, config, plan, subsets)
            with timed("report"):
                report = write_report(folder)
            assert replay(read_events(folder)).done() == {s.trial_id for s in plan.trials}
            print(f"  report of {report.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
