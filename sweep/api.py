"""The Python interface: what the commands do, as functions with types.

    from sweep import api

    problems = [each for each in api.examine_machine() if each.level == "error"]
    drafted = api.draft_study("reviews.csv", "1h", "study.yaml")
    study = api.load_study(drafted.path, ["grid.n_labels=[2,4]"])
    planned = api.plan_study(study)             # what it would run, and what is wrong
    finished = api.run_study(planned)           # trains; goes on where a run was left
    run = api.read_run(finished.folder)         # run.results, run.history, run.predictions: frames
    winner = api.export_winner(finished.folder, "winner")
    probabilities = api.load_classifier(winner).predict(["a text"])

``api.attach_run("runs/NAME")`` watches a run of another process. The commands of ``sweep`` do what
these do. Errors are those of the commands: a ``SweepError`` whose text is one sentence with a
remedy, in the options of the command where it speaks of any. Importing this module loads neither
torch nor Ray; the functions that need them do.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.cli.outcome import INTERRUPTED
from sweep.cli.program import format_command
from sweep.cluster.autoscaler import expect_machine, read_cluster_spec
from sweep.cluster.environment import check_ray, check_tracker_packages
from sweep.cluster.hardware import inspect_machine
from sweep.config import DEFAULT_CONFIG, Config, build_config, find_config, load_config
from sweep.data import Subsets
from sweep.display.plan import format_outline, format_plan, outline_to_dict, plan_to_dict
from sweep.display.reporting import load_report
from sweep.errors import Finding, RunFolderError, SweepError
from sweep.plan import Cell, Plan, build_plan, draw_candidates, extend_plan
from sweep.preflight.features import build_features
from sweep.preflight.inputs import ResolvedInputs, resolve_inputs
from sweep.preflight.paths import make_absolute
from sweep.preflight.preflight import (
    Preflight,
    check_plan,
    format_data,
    format_preflight,
    format_warnings,
)
from sweep.preflight.setup import RunSetup, Target
from sweep.repeats import Repeat, RepeatSchedule, summarize_repeats
from sweep.storage.failed_baselines import summarize_failures
from sweep.storage.journal import JOURNAL_NAME, Journal, read_events
from sweep.storage.orphans import describe_orphaned_trials
from sweep.storage.record import RunRecord, choose_planned, replay
from sweep.storage.run_folder import find_obstacle, holds_run, open_run_folder, save_config

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.load import Run
    from sweep.display.attach import AttachedRun
    from sweep.prediction.classifier import Classifier

__all__ = [
    "Config",
    "DraftedStudy",
    "Finding",
    "FinishedRun",
    "PlannedStudy",
    "SweepError",
    "attach_run",
    "build_study",
    "draft_study",
    "examine_machine",
    "export_winner",
    "load_classifier",
    "load_study",
    "plan_study",
    "read_run",
    "run_study",
    "write_report",
]


def examine_machine(out: Path | str = "runs", address: str | None = None) -> list[Finding]:
    """Return what ``sweep doctor`` says of this machine and its packages, if run folders will be in
    ``out`` and a run joins the Ray cluster at ``address`` (None: none, or ``RAY_ADDRESS``).

    What is wrong is a finding of the level ``error``, with a remedy. As in every command, variables
    such as HOME and TMPDIR are set where their values cannot be used. Raises ConfigError if the
    address cannot be one.
    """
    from sweep.doctor.examination import examine_machine as examine

    return examine(Path(out), address)


@dataclass(frozen=True)
class DraftedStudy:
    """A study that was written for given data."""

    path: Path
    """For ``load_study``."""
    sentences: tuple[str, ...]
    """What was seen of data and machine, and what was chosen and why."""


def draft_study(
    data: Path | str,
    budget: str = "1h",
    out: Path | str = "study.yaml",
    models: Sequence[str] = (),
    text_columns: Sequence[str] = (),
    label_column: str | None = None,
    overrides: Sequence[str] = (),
) -> DraftedStudy:
    """Write a commented study of ``data`` to the new file ``out``, the richest that fits into the
    ``budget`` on this machine; trains and downloads nothing. The parameters are those of
    ``sweep init``; ``overrides`` are ``data.KEY=VALUE``.

    Raises ConfigError if the file exists or no study fits, which names the smallest budget;
    DataError or ModelError if data or a model cannot be read. Nothing is written then.
    """
    from sweep.drafting.study_file import Request
    from sweep.drafting.study_file import draft_study as draft

    path, lines = Path(out), list[str]()
    request = Request(str(data), budget, path, models, text_columns, label_column, overrides)
    draft(request, lines.append)
    return DraftedStudy(path, tuple(lines))


def load_study(study: Path | str | None = None, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration in a YAML file, or that of a shipped study by its name (None: the
    quickstart), with ``KEY=VALUE`` overrides as ``--set`` takes them.

    Raises ConfigError that names the file, the key and the remedy.
    """
    path = DEFAULT_CONFIG if study is None else find_config(Path(study))
    return make_absolute(load_config(path, overrides))


def build_study(tree: Mapping[str, Any]) -> Config:
    """Return the configuration that ``tree`` describes, with the keys of a YAML file.

    Raises ConfigError that names the key and the remedy.
    """
    return make_absolute(build_config(tree))


@dataclass(frozen=True)
class PlannedStudy:
    """What a study would run in ``folder``, and what is known before it does."""

    config: Config
    folder: Path
    plan: Plan | None
    """Cells and trials; None if data or models are missing, which ``errors`` then say."""
    subsets: Subsets | None
    preflight: Preflight
    """Findings, memory, disk and time."""
    done: frozenset[str]
    """Ids of the trials that an earlier run in ``folder`` has results of."""
    orphans: tuple[str, ...] = ()
    """Lines about trials in ``folder`` that no longer belong to the plan; none if all do."""
    foreign: tuple[str, ...] = ()
    """Of these, lines about trials that did when the run last started: it is another study's, or
    its data or models have changed."""
    address: str | None = None
    retry_failed: bool = False

    @property
    def errors(self) -> list[str]:
        """Why it cannot run, a sentence each; empty if it can."""
        return [finding.sentence for finding in self.preflight.errors()]

    def to_text(self) -> str:
        """Return the plan and the preflight as ``sweep plan`` prints them."""
        plan = format_plan(self.plan, self.done) if self.plan else format_outline(self.config)
        orphans = ["\n".join(self.orphans), ""] if self.orphans else []
        return "\n".join([plan, "", *orphans, format_preflight(self.preflight)])

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``sweep plan --json`` prints."""
        tree = plan_to_dict(self.plan, self.done) if self.plan else outline_to_dict(self.config)
        return tree | {"preflight": self.preflight.to_dict()}


def plan_study(
    config: Config,
    out: Path | str = "runs",
    address: str | None = None,
    retry_failed: bool = False,
) -> PlannedStudy:
    """Return what ``config`` would run in the folder ``out/NAME``, given what is there already.

    ``address`` is that of a Ray cluster (None: this machine, or ``RAY_ADDRESS``); ``retry_failed``
    counts failed trials as not done. Reads data and models, trains nothing. Raises ConfigError for
    a configuration that has no plan; what else is wrong is in ``errors``.
    """
    folder = Path(out) / config.name
    check_ray()
    check_tracker_packages(config.trackers)
    inputs = resolve_inputs(config)
    plan = _build_plan(config, inputs)
    record = _read_record(folder)
    done = _list_done(record, retry_failed)
    # If another machine trains, this one's processors and memory do not matter.
    remote = (address or os.environ.get("RAY_ADDRESS") or "local") != "local"
    spec = read_cluster_spec() if remote else None
    target = Target(None if remote else inspect_machine(), expect_machine(spec) if spec else None)
    repeats = _list_repeats(config, plan, inputs, record)
    repeated = Counter(of.cell.axes for spec, of in repeats if spec.trial_id in done)
    preflight = check_plan(config, inputs, plan, done, folder, target, repeated)
    expected = [*plan.trials, *(spec for spec, _ in repeats)] if plan else []
    orphans = describe_orphaned_trials(expected, record) if plan else []
    return PlannedStudy(
        config,
        folder,
        plan,
        inputs.subsets,
        preflight,
        done,
        tuple(orphans),
        tuple(_describe_foreign(plan, record) if plan else ()),
        address,
        retry_failed,
    )


def _describe_foreign(plan: Plan, record: RunRecord) -> list[str]:
    """Return lines that name the trials of the record's newest plan that ``plan`` lacks; none if
    there are none. Repeats of trials in ``plan`` are of the same study, wanted or not."""
    ids = {spec.trial_id for spec in plan.trials}
    known = [
        trial.spec
        for trial_id, trial in record.trials.items()
        if not record.is_planned(trial_id) or trial.repeat_of in ids
    ]
    return describe_orphaned_trials([*known, *plan.trials], record)


def note_obstacle(planned: PlannedStudy) -> None:
    """Add to the findings what prevents a new run in the planned folder, if anything does."""
    if obstacle := find_obstacle(planned.folder):
        text = f"{planned.folder.absolute()}: {obstacle}"
        planned.preflight.findings.append(Finding("note", "--name", text))


def _build_plan(config: Config, inputs: ResolvedInputs) -> Plan | None:
    """Return the plan, or None if data or models are missing."""
    for model in config.grid.models:
        draw_candidates(config, model)
    if inputs.subsets is None or len(inputs.models) < len(config.grid.models):
        return None
    revisions = {name: found.revision for name, found in inputs.models.items()}
    plan = build_plan(config, inputs.subsets, revisions)
    return replace(plan, features=build_features(config, inputs.features))


def _list_repeats(
    config: Config, plan: Plan | None, inputs: ResolvedInputs, record: RunRecord
) -> list[Repeat]:
    """Return the repeats in the record that still belong to the plan."""
    if plan is None or inputs.subsets is None:
        return []
    return RepeatSchedule(config, plan, inputs.subsets, record).known


def _read_record(folder: Path) -> RunRecord:
    if not (folder / JOURNAL_NAME).is_file():
        return RunRecord()
    return replay(read_events(folder))


def _list_done(record: RunRecord, retry_failed: bool) -> frozenset[str]:
    """Return the trials that need not run: those that ended, except those to be retried."""
    if not retry_failed:
        return record.done()
    return record.done() - {i for i, trial in record.trials.items() if trial.has_failed()}


@dataclass(frozen=True)
class FinishedRun:
    """How a run ended."""

    folder: Path
    report: Path
    cells: int
    missing: tuple[Cell, ...]
    """Cells without a result."""
    unfinished: int
    """Trials without a result, since the run was interrupted."""
    sentences: tuple[str, ...]
    """What a user should know of it."""

    @property
    def exit_code(self) -> int:
        """0 if every cell has a result, 1 if some has none, 130 after an interruption."""
        if self.unfinished:
            return INTERRUPTED
        return 1 if self.missing else 0


def run_study(
    planned: PlannedStudy,
    resume: bool | None = None,
    console: "Console | None" = None,
    resume_command: str | None = None,
) -> FinishedRun:
    """Run what is planned and not done yet; write the report; return how it ended.

    ``resume``: True goes on with the run in the folder, False starts one in a new or empty folder,
    None does what the folder asks for, but only goes on with a run of the same plan. Progress goes
    to ``console`` (None: the terminal; ``rich.console.Console(quiet=True)``: nowhere).
    ``resume_command`` is what sentences tell the user to go on with.

    Raises SweepError with one sentence if it cannot run, RunBusyError if another driver has the
    folder, and KeyboardInterrupt at the second Ctrl-C; what was done is kept.
    """
    config, plan = planned.config, planned.plan
    if resume is None:
        resume = holds_run(planned.folder)
        if resume and planned.foreign:
            raise RunFolderError(
                f"{planned.folder.absolute()}: holds a run of another study, or of data or models "
                f"that have changed since ({planned.foreign[0].partition(';')[0]}); choose another "
                "--name, or take the change over with --resume"
            )
    if plan is None or planned.subsets is None or planned.errors:
        raise SweepError(planned.errors[0])
    write = load_report()
    if not resume:
        # Slow to import. Checked before the folder is created, so a mistyped address leaves none.
        from sweep.cluster.session import check_cluster

        check_cluster(planned.address)
    folder = open_run_folder(planned.folder.parent, config.name, resume)
    preflight = planned.preflight
    forecast, pace = preflight.forecast(), preflight.pace()
    setup = RunSetup(
        config, plan, planned.subsets, folder, forecast, pace, preflight.packable, preflight.data
    )
    if not resume:
        # Before the journal: --resume then finds a configuration whenever this process is killed.
        save_config(folder, config)
    with Journal(folder) as journal:
        if resume:
            save_config(folder, config)
        record = _train(setup, journal, planned, console)
    command = resume_command or format_command(
        "sweep.run", "--name", config.name, "--out", str(planned.folder.parent), "--resume"
    )
    return _finish(setup, record, command, write(folder))


def _train(
    setup: RunSetup, journal: Journal, planned: PlannedStudy, console: "Console | None"
) -> RunRecord:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # These import Ray and are slow; planning must not wait for them.
    from rich.console import Console

    from sweep.tuning.driver import run_plan

    console = console or Console()
    preflight = planned.preflight
    lines = [f"run folder: {setup.folder}", *format_data(preflight), *format_warnings(preflight)]
    lines += planned.orphans
    if journal.dropped_bytes:
        lines.append(
            f"{journal.path}: the last line was cut short when its driver ended, and was "
            f"dropped ({journal.dropped_bytes} bytes); the work it recorded is done again"
        )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    return run_plan(setup, journal, planned.address, console, planned.retry_failed)


def _finish(setup: RunSetup, record: RunRecord, resume: str, report: Path) -> FinishedRun:
    """Return how the run ended; ``resume`` is the command that goes on with it."""
    plan = setup.plan
    unfinished = len(record.planned().keys() - record.done())
    best = choose_planned(record)
    missing = tuple(cell for cell in plan.cells if cell.cell_id not in best)
    schedule = RepeatSchedule(setup.config, plan, setup.subsets, record)
    # An interrupt may have come before what the last results made due was planned.
    unfinished = unfinished or len(schedule.take_due())
    sentences = list(summarize_repeats(schedule, record, resume))
    if unfinished:
        left = "1 trial is" if unfinished == 1 else f"{unfinished} trials are"
        sentences.append(f"interrupted: {left} left; continue with: {resume}")
    elif missing:
        sentences.append(
            f"{len(missing)} of {len(plan.cells)} cells have no result; the report says why"
        )
    entire = extend_plan(plan, [spec for spec, _ in schedule.known])
    if failures := summarize_failures(record, entire, f"{resume} --retry-failed"):
        sentences.append(failures)
    return FinishedRun(setup.folder, report, len(plan.cells), missing, unfinished, tuple(sentences))


def attach_run(run: Path | str, console: "Console | None" = None) -> "AttachedRun":
    """Show the progress of a run that another process drives, until its driver ends; return whether
    it ended, died, or still runs (after Ctrl-C, which ends the watching alone).

    Progress goes to ``console`` as in ``run_study``. Raises RunFolderError if ``run`` is no run
    folder, or its journal is damaged.
    """
    from rich.console import Console

    from sweep.display.attach import attach

    return attach(Path(run).absolute(), console or Console())


def write_report(run: Path | str) -> Path:
    """Write the report of a run folder again; return its path."""
    return load_report()(Path(run))


def read_run(run: Path | str) -> "Run":
    """Return what a run folder holds: ``results``, ``history`` and ``predictions`` as pandas
    frames, with the columns that docs/reliability.md and the Parquet files describe."""
    from analysis.load import load_run

    return load_run(Path(run))


def export_winner(
    run: Path | str, out: Path | str, cell: str | None = None, merge: bool = False
) -> Path:
    """Write the best trial of a cell (None: of the run's best cell) as a new folder that stock
    libraries load; return it. ``merge`` merges an adapter into its base model's weights.

    Raises RunFolderError if the folder does not score as the run did; see ``sweep export``.
    """
    from sweep.export.cli import export_folder

    return export_folder(Path(run), Path(out), cell, merge)[0]


def load_classifier(
    model: Path | str, device: str = "auto", trust_remote_code: bool = False
) -> "Classifier":
    """Return an exported folder, or OWNER/NAME on the Hub, as a classifier whose ``predict`` gives
    the probability of each of its ``labels``. ``device`` is ``auto``, ``cpu`` or ``cuda``."""
    from sweep.prediction.classifier import Classifier, find_folder

    return Classifier(find_folder(str(model)), device, trust_remote_code)
