"""From data and a budget to the file of a study: what ``sweep init`` and ``sweep.api`` do."""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweep.cli.options import read_path
from sweep.cluster.hardware import Machine, inspect_machine
from sweep.config import DataConfig, load_config, parse_duration
from sweep.data import go_offline_if_silent
from sweep.drafting.bench import Bench, build_bench
from sweep.drafting.contenders import Contender, list_contenders, read_contenders
from sweep.drafting.fitting import Draft, fit_study
from sweep.drafting.sentences import (
    describe_labels,
    describe_lengths,
    describe_machine,
    describe_rare,
    describe_test,
    describe_time,
)
from sweep.drafting.survey import Survey, survey_data
from sweep.drafting.writing import format_study
from sweep.errors import ConfigError, DataError, explain_cause, format_names
from sweep.models.sources import is_local
from sweep.models.tiny_configs import TINY_PREFIX
from sweep.storage.account import format_account

# How the readers name what a request sets, as options of the command.
OPTIONS = {"data.text_column": "--text-column", "data.label_column": "--label-column"}


@dataclass(frozen=True)
class Request:
    """What to draft a study for."""

    data: str
    """A file, a folder, a ZIP archive or a pattern."""
    budget: str
    """How long the run may take, such as ``1h``."""
    out: Path
    """The file to write, which must not exist."""
    models: Sequence[str] = ()
    """Folders or OWNER/NAME on the Hub; empty: well-known small models."""
    text_columns: Sequence[str] = ()
    """Columns whose texts are joined; empty: found."""
    label_column: str | None = None
    overrides: Sequence[str] = ()
    """``data.KEY=VALUE``: how to read the data."""


def draft_study(request: Request, tell: Callable[[str], object]) -> None:
    """Write the richest study that fits into the budget on this machine; ``tell`` is given a line
    for everything that was seen and chosen, as soon as it is known.

    Raises ConfigError, DataError or ModelError with a remedy in the options of ``sweep init``;
    nothing is written then.
    """
    out = request.out
    check_out(out)
    budget = read_budget(request.budget)
    survey = look_at(request)
    machine = inspect_machine()
    for line in [*format_account(survey.account), *list_seen(survey, machine)]:
        tell(line)
    with tempfile.TemporaryDirectory() as folder:
        bench, left_out = prepare(out.stem, survey, machine, request.models, Path(folder))
    draft = fit_study(bench, budget, all_contenders=bool(request.models))
    write_new(out, format_study(draft, bench, budget, out))
    for line in list_chosen(draft, bench, left_out):
        tell(line)
    for line in list_unreachable([each.contender for each in draft.entries]):
        tell(line)


def check_out(out: Path) -> None:
    """Raise ConfigError if the file exists, or its folder does not."""
    if out.exists():
        raise ConfigError(f"--out {out}: exists already; name a new file, or move that one away")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}; create it first")


def read_budget(value: str) -> float:
    """Return the seconds of ``--budget``."""
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ConfigError(f"--budget {error}") from None


def look_at(request: Request) -> Survey:
    """Return what the data of the ``request`` hold; raise DataError with remedies that work as
    options."""
    data = read_data_section(request)
    try:
        return survey_data(data)
    except DataError as error:
        raise DataError(_reword(str(error))) from None


def read_data_section(request: Request) -> DataConfig:
    """Return the section ``data`` that the request describes."""
    data: dict[str, object] = {
        "path": str(read_path(request.data).absolute()),
        "exclude_labels": [],
    }
    names = list(request.text_columns)
    if names:
        data["text_column"] = names[0] if len(names) == 1 else names
    if request.label_column is not None:
        data["label_column"] = request.label_column
    other = next((each for each in request.overrides if not each.startswith("data.")), None)
    if other is not None:
        raise ConfigError(
            f"--set {other[:80]}: here it takes only keys of data, such as data.delimiter=tab; "
            "change the others in the file that is written"
        )
    model = {"name": "none", "path": f"{TINY_PREFIX}llama"}
    grid = {"models": [model], "n_labels": [2], "n_samples": [2]}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.yaml"
        file.write_text(json.dumps({"data": data, "grid": grid}))
        try:
            return load_config(file, request.overrides).data
        except ConfigError as error:
            raise ConfigError(_reword(str(error).removeprefix(f"{file}: "))) from None


def _reword(sentence: str) -> str:
    for key, option in OPTIONS.items():
        sentence = sentence.replace(key, option)
    sentence = sentence.replace("data.path", "DATA")
    keys = dict.fromkeys(re.findall(r"\bdata\.[a-z_]+(?:\.(?:train|validation|test))?", sentence))
    return f"{sentence} (here with --set {next(iter(keys))}=VALUE)" if keys else sentence


def prepare(
    name: str, survey: Survey, machine: Machine, models: Sequence[str], folder: Path
) -> tuple[Bench, list[str]]:
    """Return the contenders, measured, and phrases for those left out; ``models`` are those of the
    user, if any. Configurations of known models are written to ``folder``."""
    contenders, left_out = (
        (read_contenders(models, folder), [])
        if models
        else list_contenders(machine, survey.is_english, bool(os.environ.get("HF_TOKEN")), folder)
    )
    bench = build_bench(_choose_run_name(name), survey, machine, contenders)
    return bench, [*left_out, *bench.left_out]


def _choose_run_name(stem: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+|\.\.+", "-", stem).strip("-._")
    return name[:100] or "study"


def list_seen(survey: Survey, machine: Machine) -> Iterator[str]:
    """Yield what was seen of the data and of the machine."""
    yield describe_labels(survey)
    yield from describe_rare(survey)
    yield describe_lengths(survey)
    yield f"This machine: {describe_machine(machine)}."


def list_chosen(draft: Draft, bench: Bench, left_out: Sequence[str]) -> Iterator[str]:
    """Yield what was chosen, why, and who was left out."""
    study = draft.study
    names = format_names(each.name for each in draft.entries)
    counts, sizes = (format_names(map(str, each)) for each in (study.n_labels, study.n_samples))
    yield (
        f"Chosen: {names} against majority, TF-IDF and frozen features, on {counts} labels with "
        f"{sizes} training texts: {study.cells} cell{'s' * (study.cells > 1)} with "
        f"{study.candidates} candidate{'s' * (study.candidates > 1)}{' each' * (study.cells > 1)}."
    )
    yield from describe_test(bench.survey, study)
    slow = [f"{each.name} (takes too long)" for each in bench.entries[study.contenders :]]
    if others := [*left_out, *slow]:
        yield f"Left out: {format_names(others, width=120)}."
    if study.has_repeats:
        yield (
            f"The best candidates are trained again with other seeds, for {draft.repeat_budget} of "
            "trial time at most."
        )
    yield f"Expected: {describe_time(draft.total)}, downloads not counted."


def list_unreachable(contenders: Sequence[Contender]) -> Iterator[str]:
    """Yield a sentence if ``contenders`` are on the Hub and it cannot be reached."""
    remote = [each.model.path for each in contenders if not is_local(each.model.path)]
    remote = [path for path in remote if not path.startswith(TINY_PREFIX)]
    if remote and (silent := go_offline_if_silent()):
        yield (
            f"note: {silent}; models that are not there: connect once, or name folders with --model"
        )


def write_new(file: Path, text: str) -> None:
    """Write ``text`` to a ``file`` that does not exist yet."""
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise ConfigError(
            f"--out {file}: cannot be written ({explain_cause(error)}); name another file"
        ) from None
