"""The command line that drafts a study."""

import argparse
import json
import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweep.cli.options import OptionParser, read_path
from sweep.cli.outcome import run_command
from sweep.cli.program import name_program
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
from sweep.startup.home import settle_home
from sweep.storage.account import format_account

DESCRIPTION = """\
Look at DATA and at this machine, and write a commented configuration of a study that fits the
budget: labels, sample sizes, models, what is tuned. DATA is a file, a folder, a ZIP archive or a
pattern."""

EPILOG = """\
examples:
  sweep init reviews.csv
  sweep init data/ --budget 8h --out tickets.yaml
  sweep init posts.tsv --text-column title --text-column body --label-column topic
  sweep init reviews.csv --model models/minilm --model Qwen/Qwen2.5-0.5B

exit codes: 0 the file is written; 2 wrong input, or a budget that is too short; 130 interrupted"""

# How the readers name what options here set.
OPTIONS = {"data.text_column": "--text-column", "data.label_column": "--label-column"}


def build_parser() -> OptionParser:
    parser = OptionParser(name_program("sweep.drafting"), DESCRIPTION, EPILOG)
    add = parser.add_argument
    add("data", metavar="DATA", help="the texts and their labels")
    add("--budget", default="1h", metavar="TIME", help="e.g. 30m, 1h, 1.5h or 2d (1h)")
    add(
        "--out",
        type=read_path,
        default=Path("study.yaml"),
        metavar="YAML",
        help="a new file (study.yaml)",
    )
    add(
        "--model",
        action="append",
        default=[],
        metavar="MODEL",
        dest="models",
        help="a folder or OWNER/NAME on the Hub, instead of well-known small models; repeatable",
    )
    add(
        "--text-column",
        action="append",
        metavar="NAME",
        help="the column with the texts; again for each to be joined (found by name or content)",
    )
    add("--label-column", metavar="NAME", help="the column with the labels (likewise)")
    add(
        "--set",
        action="append",
        default=[],
        metavar="data.KEY=VALUE",
        dest="overrides",
        help="how to read the data, e.g. data.delimiter=tab or data.exclude_labels=[other]",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return run_command(
        lambda: _draft(build_parser().parse_args(arguments)), "interrupted: nothing is written"
    )


def _draft(options: argparse.Namespace) -> int:
    out = options.out
    check_out(out)
    settle_home(out.parent)
    budget = read_budget(options.budget)
    survey = look_at(options)
    machine = inspect_machine()
    for line in [*format_account(survey.account), *list_seen(survey, machine)]:
        print(line, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench, left_out = prepare(out.stem, survey, machine, options.models, Path(folder))
    draft = fit_study(bench, budget, all_contenders=bool(options.models))
    write_new(out, format_study(draft, bench, budget, out))
    for line in list_chosen(draft, bench, left_out):
        print(line)
    for line in list_unreachable([each.contender for each in draft.entries]):
        print(line)
    name = shlex.quote(str(out))
    print(f"written: {out}\nnext: sweep plan {name}, then: sweep run {name}")
    return 0


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


def look_at(options: argparse.Namespace) -> Survey:
    """Return what the data of the ``options`` hold; raise DataError with remedies that work as
    options."""
    data = read_data_options(options)
    try:
        return survey_data(data)
    except DataError as error:
        raise DataError(_reword(str(error))) from None


def read_data_options(options: argparse.Namespace) -> DataConfig:
    """Return the section ``data`` that the options describe."""
    data = {"path": str(read_path(options.data).absolute()), "exclude_labels": []}
    names = options.text_column or []
    if names:
        data["text_column"] = names[0] if len(names) == 1 else names
    if options.label_column is not None:
        data["label_column"] = options.label_column
    other = next((each for each in options.overrides if not each.startswith("data.")), None)
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
            return load_config(file, options.overrides).data
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
