"""Simulates a plan on 1 to 64 GPUs and prints how long it takes and what it costs.

    python -m benchmarks.simulate sweep_configs/goemotions.yaml --price 3.0
    python -m benchmarks.simulate RUN --check

A run folder provides its own plan, times and accuracies; a configuration is simulated with assumed
times, or those of another run (--times). Neither data nor models are needed. The makespan is the
time from the start of the run to its report; utilization is the work done as a fraction of what the
GPUs could do in that time with every slot busy.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.curves import draw_curve, read_curve
from benchmarks.durations import (
    Durations,
    MeasuredRun,
    choose,
    count_hosts,
    count_workers,
    measure_durations,
    read_run,
)
from benchmarks.playback import Asha, Fleet, Gain, Outcome, Playback, SimulatedTrial
from sweep.cluster.allocation import choose_slots
from sweep.config import Config, load_config
from sweep.errors import ConfigError, RunFolderError, SweepError
from sweep.plan import TrialSpec, build_plan
from sweep.storage.run_folder import CONFIG_NAME

GPUS = (1, 2, 4, 8, 16, 32, 64)
# Assumed: seconds of an epoch per 1,000 texts, of a start with and without a load; test share.
PER_1000 = 8.0
LOAD, SETUP, TEST_SHARE = 15.0, 0.5, 0.1
# Assumed. To measure it: `python -m benchmarks --device cuda --engines solo,packed`; the training
# time of solo divided by that of packed, with as many candidates as slots, is the gain for that.
PACKED_GAIN = "1:1.0,4:2.0,8:2.5"


class PlaceholderSubsets:
    """Stands in for the data: in a simulation, label sets differ only in size."""

    def labels_for(self, n_labels: int) -> tuple[str, ...]:
        return tuple(str(label) for label in range(n_labels))

    def fingerprint(self, n_labels: int, n_samples: int, seed: int) -> str:
        return f"{n_labels} {n_samples} {seed}"


@dataclass(frozen=True)
class Scenario:
    """What is the same on every fleet; times in seconds."""

    trials: list[SimulatedTrial]
    asha: Asha
    start_seconds: float
    process_seconds: float
    report_seconds: float
    # Where the numbers come from, for the reader of the table.
    notes: list[str]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.simulate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", type=Path, help="a configuration, or a run folder")
    add("--check", action="store_true", help="predict the makespan of the finished run SOURCE")
    add("--times", type=Path, help="a run folder whose times to use for a configuration")
    add("--epoch-seconds", help=f"of 1,000 texts: S or MODEL=S,... (assumed: {PER_1000:g})")
    add("--load-seconds", help=f"start with a load: S or MODEL=S,... (assumed: {LOAD:g})")
    add("--process-seconds", type=float, help="start of a worker (assumed: 8)")
    add("--start-seconds", type=float, help="of the run, Ray included (assumed: 10)")
    add("--report-seconds", type=float, default=20.0, help="tables and report (default: 20)")
    add("--trials-per-gpu", type=read_count, default=1, help="of the solo engine (default: 1)")
    add("--solo-gain", help="as --packed-gain (assumed: 1:1.0, they take turns)")
    add("--slots", type=read_count, default=8, help="of the packed engine on each GPU (default: 8)")
    add("--packed-gain", help=f"work of a GPU by busy slots (assumed: {PACKED_GAIN})")
    add("--price", type=float, help="of one GPU for an hour")
    add("--seed", type=int, default=0, help="of drawn accuracies (default: 0)")
    return parser


def main() -> None:
    options = build_parser().parse_args()
    try:
        print(check_run(options.source) if options.check else simulate(options))
    except SweepError as error:
        sys.exit(f"error: {error}")


def simulate(options: argparse.Namespace) -> str:
    """Return where the numbers come from, and the table of both engines by number of GPUs."""
    scenario = build_scenario(options)
    process = scenario.process_seconds
    solo = Fleet(1, options.trials_per_gpu, False, read_gain(options.solo_gain or "1:1.0"), process)
    packed = Fleet(1, options.slots, True, read_gain(options.packed_gain or PACKED_GAIN), process)
    origin = "given" if options.packed_gain else "assumed"
    lines = [
        *scenario.notes,
        f"packed gain ({origin}): {options.packed_gain or PACKED_GAIN}, {options.slots} slots",
        f"solo: {options.trials_per_gpu} per GPU; process start {process:.1f} s",
        f"start {scenario.start_seconds:.1f} s, report {scenario.report_seconds:g} s",
    ]
    outcomes = [
        (gpus, engine, play(scenario, replace(fleet, gpus=gpus)))
        for gpus in GPUS
        for engine, fleet in (("solo", solo), ("packed", packed))
    ]
    return "\n".join([*(f"- {line}" for line in lines), "", format_table(outcomes, options.price)])


def play(scenario: Scenario, fleet: Fleet) -> Outcome:
    """Return the outcome on ``fleet``, including the run's start and report."""
    outcome = Playback(scenario.trials, fleet, scenario.asha).run()
    seconds = scenario.start_seconds + outcome.seconds + scenario.report_seconds
    busy = outcome.utilization * outcome.seconds
    return replace(outcome, seconds=seconds, utilization=busy / seconds if seconds else 0.0)


def build_scenario(options: argparse.Namespace) -> Scenario:
    """Return the plan with the times and accuracies that ``options`` name."""
    run = read_run(options.source) if options.source.is_dir() else None
    measured = run or (read_run(options.times) if options.times else None)
    if measured and measured.packed:
        raise RunFolderError(
            f"{options.source if run else options.times}: times of the packed engine are only "
            "valid for its own packs; name a run of the solo engine"
        )
    config = load_config(options.source / CONFIG_NAME if run else options.source)
    specs = run.trials if run else build_simulated_plan(config)
    durations = _choose_durations(options, measured)
    start, process = options.start_seconds, options.process_seconds
    if start is None:
        start = measured.start_seconds if measured else 10.0
    if process is None:
        process = measured.process_seconds if measured else 8.0
    trials = [_simulate_trial(spec, durations, run, options.seed) for spec in specs]
    notes = [f"{len({s.cell.cell_id for s in specs})} cells, {len(specs)} trials"]
    notes += _name_sources(options, measured, durations, run is not None)
    missing = {s.cell.model for s in specs} - set(durations.per_sample)
    if missing and "" not in durations.per_sample:
        notes.append(f"no times of {', '.join(sorted(missing))}: median of the other models")
    if measured and count_workers(measured.record) > 1:
        notes.append("the measured trials ran side by side, and their times include what that cost")
    return Scenario(trials, read_asha(config), start, process, options.report_seconds, notes)


def build_simulated_plan(config: Config) -> Sequence[TrialSpec]:
    """Return the trials of ``config`` in starting order; only the order of candidates within a
    cell, which depends on label names, differs from the real plan."""
    revisions = {model.name: model.name for model in config.grid.models}
    return build_plan(config, PlaceholderSubsets(), revisions).trials


def read_asha(config: Config) -> Asha:
    asha = config.asha
    return Asha(asha.max_epochs, asha.grace_epochs, asha.reduction_factor)


def _choose_durations(options: argparse.Namespace, measured: MeasuredRun | None) -> Durations:
    if measured:
        durations = measure_durations(measured.record)
    else:
        durations = Durations({"": PER_1000 / 1000}, {"": LOAD}, {"": SETUP}, TEST_SHARE)
    if options.epoch_seconds:
        given = {m: s / 1000 for m, s in read_seconds(options.epoch_seconds).items()}
        durations = replace(durations, per_sample=given, cells={})
    if options.load_seconds:
        durations = replace(durations, load=read_seconds(options.load_seconds))
    return durations


def _name_sources(
    options: argparse.Namespace, measured: MeasuredRun | None, durations: Durations, own: bool
) -> list[str]:
    base = "measured in the run's journal" if measured else "assumed"
    rates = ", ".join(f"{m or 'all'} {1000 * s:.3g}" for m, s in durations.per_sample.items())
    loads = ", ".join(f"{m or 'all'} {s:.3g}" for m, s in durations.load.items())
    return [
        f"epoch, seconds per 1,000 texts ({'given' if options.epoch_seconds else base}): {rates}",
        f"start with a load, seconds ({'given' if options.load_seconds else base}): {loads}",
        f"start without a load ({base}): {median(durations.setup.values()):.2g} s; "
        f"test scoring ({base}): {durations.test_share:.2f} of an epoch",
        "accuracies: the journal's" if own else f"accuracies: drawn, seed {options.seed}",
    ]


def _simulate_trial(
    spec: TrialSpec, durations: Durations, run: MeasuredRun | None, seed: int
) -> SimulatedTrial:
    epoch = durations.epoch_seconds(spec)
    curve = read_curve(run.record, spec.trial_id) if run else ()
    setup = choose(durations.setup, spec.cell.model)
    return SimulatedTrial(
        trial_id=spec.trial_id,
        cell_id=spec.cell.cell_id,
        model=spec.cell.model,
        epoch_seconds=epoch,
        test_seconds=durations.test_share * epoch,
        load_seconds=max(setup, choose(durations.load, spec.cell.model)),
        setup_seconds=setup,
        accuracies=curve or draw_curve(spec, spec.recipe.max_epochs, seed),
        patience=spec.recipe.patience,
    )


def check_run(folder: Path) -> str:
    """Return the makespan of the run in ``folder``, predicted and measured, and their ratio.

    The prediction uses the journal's times of epochs, loads and the run's start, its accuracies,
    and its number of workers; trials start in the order of the plan. Each worker of the solo engine
    counts as a GPU: how much they slow each other down is already in their times. A host of the
    packed engine counts as one GPU that its trials share: a machine has one, or, without GPUs, one
    for as many workers as there are slots.
    """
    run = read_run(folder)
    durations = measure_durations(run.record)
    trials = [_simulate_trial(spec, durations, run, 0) for spec in run.trials]
    workers = count_workers(run.record)
    config = load_config(folder / CONFIG_NAME)
    fleet = Fleet(workers, process_seconds=run.process_seconds)
    if run.packed:
        hosts = count_hosts(run.record)
        if run.on_cpus:
            slots = choose_slots(config.resources, None, None, None, on_gpu=False)
            hosts = math.ceil(workers / slots)
        fleet = replace(fleet, gpus=hosts, slots=math.ceil(workers / hosts), packed=True)
    asha = read_asha(config)
    simulated = Playback(trials, fleet, asha).run().seconds
    start, measured = run.start_seconds, run.closed - run.opened
    after = measured - start
    return (
        f"{len(trials)} trials, {workers} workers: predicted {start + simulated:.1f} s, "
        f"measured {measured:.1f} s, ratio {(start + simulated) / measured:.3f}; without the start "
        f"of {start:.1f} s: {simulated:.1f} s, {after:.1f} s, ratio {simulated / after:.3f}"
    )


def read_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not an integer from 1 up")
    return int(text)


def read_gain(text: str) -> Gain:
    """Return the gain that text such as ``1:1.0,4:2.0`` describes; raise ConfigError unless it
    starts at 1:1 and increases."""
    try:
        pairs = [part.split(":") for part in text.split(",")]
        points = tuple((int(trials), float(gain)) for trials, gain in pairs)
    except ValueError:
        raise ConfigError(f"gain {text}: write TRIALS:GAIN,..., for example 1:1,4:2") from None
    rises = all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(points))
    if points[0] != (1, 1.0) or not rises:
        raise ConfigError(f"gain {text}: start with 1:1 and let trials and gain rise")
    return Gain(points)


def read_seconds(text: str) -> dict[str, float]:
    """Return model -> seconds for ``S`` (under the key '') or ``MODEL=S,...``."""
    try:
        pairs = [part.rpartition("=") for part in text.split(",")]
        return {model: float(seconds) for model, _, seconds in pairs}
    except ValueError:
        raise ConfigError(f"seconds {text}: write a number, or MODEL=NUMBER,...") from None


def format_table(outcomes: Sequence[tuple[int, str, Outcome]], price: float | None) -> str:
    """Return the table in Markdown; ``price`` is for one GPU for one hour."""
    lines = [
        "| GPUs | engine | makespan, min | utilization | GPU hours | cost | epochs |",
        "|---|---|---|---|---|---|---|",
    ]
    for gpus, engine, outcome in outcomes:
        hours = gpus * outcome.seconds / 3600
        cost = "" if price is None else f"{price * hours:.2f}"
        lines.append(
            f"| {gpus} | {engine} | {outcome.seconds / 60:.1f} | {outcome.utilization:.2f} "
            f"| {hours:.2f} | {cost} | {outcome.epochs} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
