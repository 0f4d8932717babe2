"""The command line of prediction."""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sweep.cli.options import OptionParser, read_path
from sweep.cli.outcome import run_command
from sweep.cli.program import name_program
from sweep.errors import ConfigError, DataError, format_line, format_names, format_value
from sweep.prediction.parts import Parts
from sweep.prediction.texts import Texts, load_texts
from sweep.startup.home import settle_home

if TYPE_CHECKING:
    from sweep.prediction.classifier import Classifier

DESCRIPTION = """\
Give every text of a file its label and the probability of each, with a folder that sweep export
wrote. FILE is CSV, TSV, JSON, JSON lines, Parquet or Arrow, also compressed."""

EPILOG = """\
The Parquet file has a row per row of FILE, in its order: row (from 0), label, probability (of that
label), and p_LABEL for each label. A row without a text has nulls; a text to which the model gives
no number has a null label and NaN. Rows are kept as they are done: after an interruption the same
command goes on, and recognizes a file that it has finished.

examples:
  {0} winner texts.csv --out labels.parquet
  {0} winner texts.jsonl --out labels.parquet --text-column title --text-column body

exit codes: 0 every text has a label; 1 the model gives no number for some; 2 wrong input;
130 interrupted"""

# Texts per part: what an interruption may cost.
PART = 2048


def build_parser() -> OptionParser:
    program = name_program("sweep.prediction")
    parser = OptionParser(program, DESCRIPTION, EPILOG.format(program))
    add = parser.add_argument
    add("model", metavar="MODEL", help="an exported folder, or OWNER/NAME on the Hub")
    add("file", type=read_path, metavar="FILE", help="the texts")
    add("--out", type=read_path, required=True, metavar="PARQUET", help="a new file")
    add(
        "--text-column",
        action="append",
        metavar="NAME",
        help="the column with the texts; again for each to be joined; left out: that of the "
        "training data, else found by name or content",
    )
    add("--batch-size", type=_read_size, default=64, metavar="N", help="texts at a time (64)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to run (auto)")
    add("--trust-remote-code", action="store_true", help="let the base model's own code run as you")
    return parser


def _read_size(value: str) -> int:
    if not value.isascii() or not value.isdigit() or not 0 < int(value) <= 10**6:
        raise ConfigError(
            f"--batch-size {format_line(value)[:40]}: use a number from 1 to 1,000,000"
        )
    return int(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return run_command(
        lambda: _predict(build_parser().parse_args(arguments)),
        "interrupted: what is done is kept; the same command goes on",
    )


def _predict(options: argparse.Namespace) -> int:
    check_columns(options.text_column or [])
    settle_home(options.out.parent)
    # Slow to import: a mistyped option is told at once.
    from sweep.prediction.classifier import Classifier, find_folder, read_record

    folder = find_folder(options.model)
    record = read_record(folder)
    usual = record.get("data", {}).get("text_column")
    texts = load_texts(
        options.file, options.text_column, [usual] if isinstance(usual, str) else usual
    )
    if not any(texts.texts):
        columns = format_names(texts.columns)
        raise DataError(
            f"{options.file}: no row has a text in {columns}; name another --text-column"
        )
    content = {"trial": record["trial"]["trial_id"], "texts": texts.fingerprint, "part": PART}
    parts = Parts(options.out, content)
    if parts.finished:
        print("finished before, with the same model and texts")
    else:
        load = partial(Classifier, folder, options.device, options.trust_remote_code)
        _fill(parts, texts, load, options.batch_size)
    outcome = count_labels(options.out)
    print(format_outcome(outcome))
    print(options.out)
    return 1 if outcome.unscored else 0


def _fill(parts: Parts, texts: Texts, load: Callable[[], "Classifier"], batch_size: int) -> None:
    """Write the parts that are not there yet, and join them all."""
    count = -(-len(texts.texts) // PART)
    left = [number for number in range(count) if not parts.has(number)]
    if left:
        classifier = load()
        print(_describe(texts, classifier.device, count - len(left), count))
    for number in left:
        chosen = texts.texts[number * PART : (number + 1) * PART]
        present = [index for index, text in enumerate(chosen) if text]
        found = classifier.predict([chosen[index] for index in present], batch_size)
        table = build_table(classifier.labels, number * PART, len(chosen), present, found)
        parts.write(number, table)
        if count > 1:
            print(f"{number + 1} of {count} parts", flush=True)
    parts.join(count)


def check_columns(names: Sequence[str]) -> None:
    """Raise ConfigError if a column is named twice: its texts would be joined with themselves."""
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ConfigError(
            f"--text-column {format_value(twice)} is given twice, which would join the column with "
            "itself; name each column once"
        )


def _describe(texts: Texts, device: str, done: int, count: int) -> str:
    before = f"; {done} of {count} parts were there already" if done else ""
    columns = format_names(texts.columns)
    return f"{len(texts.texts):,} rows, texts from {columns}, on {device}{before}"


def build_table(
    labels: Sequence[str],
    first: int,
    rows: int,
    present: Sequence[int],
    probabilities: NDArray[np.float32],
) -> pa.Table:
    """Return the table of ``rows`` rows from number ``first`` on; those at ``present`` have the
    ``probabilities`` (texts, labels), the others nulls. Where these are NaN, the label is null."""
    every = np.full((rows, len(labels)), np.nan, np.float32)
    every[list(present)] = probabilities
    without_text = np.ones(rows, bool)
    without_text[list(present)] = False
    # NaN where the model's logits are no numbers, which is not the same as no text.
    unscored = np.isnan(every).any(axis=1)
    best = np.where(unscored, 0, np.nan_to_num(every).argmax(axis=1))
    chosen = np.take(np.array(labels, dtype=object), best)
    columns = {
        "row": pa.array(range(first, first + rows), pa.int64()),
        "label": pa.array(chosen, pa.string(), mask=unscored),
        "probability": pa.array(every.max(axis=1), pa.float32(), mask=without_text),
    }
    for index, label in enumerate(labels):
        columns[f"p_{label}"] = pa.array(every[:, index], pa.float32(), mask=without_text)
    return pa.table(columns)


@dataclass(frozen=True)
class Outcome:
    """How many rows of a finished table have which label, or none and why."""

    labels: Counter[str]
    without_text: int
    unscored: int
    """Rows with a text to which the model gave no number."""


def count_labels(path: Path) -> Outcome:
    """Return what the finished table at ``path`` holds."""
    table = pq.read_table(path, columns=["label", "probability"])
    counts = Counter(table["label"].to_pylist())
    unlabeled = counts.pop(None, 0)
    # Of the rows without a label, those with a text have NaN there.
    without_text = table["probability"].null_count
    return Outcome(counts, without_text, unlabeled - without_text)


def format_outcome(outcome: Outcome) -> str:
    """Return one line that says what was found and what was not."""
    shares = ", ".join(
        f"{count:,} {format_line(name)}" for name, count in outcome.labels.most_common(20)
    )
    line = f"labels: {shares or 'none'}"
    if outcome.without_text:
        line += f"; {outcome.without_text:,} rows without a text"
    if outcome.unscored:
        line += (
            f"; {outcome.unscored:,} rows without a label, since the model's scores of their texts "
            "are not numbers (NaN): its weights are damaged, or too large; export it again, or "
            "another cell, and choose another --out"
        )
    return line
