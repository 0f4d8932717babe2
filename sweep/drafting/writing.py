"""A drafted study as YAML, with comments that say what was seen and why each choice was made."""

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

import sweep
from sweep.cluster.hardware import Machine
from sweep.drafting.bench import Bench, Entry
from sweep.drafting.fitting import Draft
from sweep.drafting.sentences import (
    describe_labels,
    describe_lengths,
    describe_machine,
    describe_rare,
    describe_test,
    describe_time,
)
from sweep.errors import format_duration, format_line
from sweep.preflight.preflight import format_count
from sweep.storage.account import format_account

WIDTH = 100
SCHEMA = Path(sweep.__file__).resolve().parent.parent / "sweep_configs" / "schema.json"


def format_study(draft: Draft, bench: Bench, budget: float, file: Path) -> str:
    """Return the text of ``file``; YAML that ``load_config`` reads as ``draft.tree``."""
    tree, machine = draft.tree, bench.machine
    lines = [f"# yaml-language-server: $schema={SCHEMA}"] if SCHEMA.is_file() else []
    lines += _comment(
        [
            f"Drafted for {format_duration(budget, rough=True)} on {describe_machine(machine)}. "
            f"Forecast: {describe_time(draft.total)}. All of it is yours to change; sweep plan "
            f"{file.name} says what that takes, docs/configuration.md what each key means."
        ]
    )
    lines.append(f"name: {json.dumps(tree['name'])}")
    lines += _comment(_describe_data(bench)) + _dump({"data": tree["data"]})
    lines += _format_grid(draft, bench)
    lines += _format_tuning(draft)
    lines += _comment(_describe_length(bench)) + _dump({"train": tree["train"]})
    lines += _format_repeats(tree) + _comment(_describe_resources(machine))
    lines += _dump({"resources": tree["resources"]})
    lines += _comment(
        [
            "What every contender must beat: the most frequent class, words counted, and a model "
            "as it is, not fine-tuned."
        ]
    )
    return "\n".join([*lines, *_dump({"baselines": tree["baselines"]}), ""])


def _describe_data(bench: Bench) -> Iterator[str]:
    survey = bench.survey
    yield from (line.strip() for line in format_account(survey.account)[1:])
    yield describe_labels(survey)
    yield from describe_rare(survey, limit=len(survey.rare))
    if "neutral" in survey.labels:
        yield "neutral counts as a label here; exclude_labels: [neutral] leaves its texts out."


def _format_grid(draft: Draft, bench: Bench) -> list[str]:
    grid, study, survey = draft.tree["grid"], draft.study, bench.survey
    lines = ["grid:", "  models:"]
    for entry, model in zip(draft.entries, grid["models"], strict=True):
        lines += _indent(_comment([_describe_model(entry)], 4), 4)
        lines += _indent(_dump([model]), 4)
    few = "" if len(study.n_labels) == 1 else "; fewer, the most frequent ones, have more texts"
    lines += _indent(_comment([f"All labels{few}.", *describe_test(survey, study)], 2), 2)
    lines += _indent(_dump({"n_labels": grid["n_labels"]}), 2)
    rarest = min(survey.labels, key=survey.count_training)
    why = (
        f"Training texts of a cell, the same number of each label: {study.per_label} at most here. "
        f"The rarest label, {rarest}, has {survey.count_training(rarest):,}."
    )
    lines += _indent(_comment([why], 2), 2)
    return lines + _indent(_dump({"n_samples": grid["n_samples"]}), 2)


def _describe_model(entry: Entry) -> str:
    if entry.contender.is_encoder:
        how = "an encoder, all weights trained"
    else:
        how = "a decoder, with LoRA adapters"
    parts = [f"{format_count(int(entry.parameters))} parameters", how, entry.contender.note]
    return "; ".join(filter(None, parts))


def _format_tuning(draft: Draft) -> list[str]:
    count = draft.study.candidates
    if count > 1:
        tune = f"In each cell {count} candidates compete, one per learning rate above."
        asha = "After each comparison about half of them go on, to this many epochs at most."
    else:
        tune = "Nothing is tuned: that takes more time, and some learning rates above."
        asha = "Each trial trains for this many epochs at most."
    lines = _comment([tune]) + _dump({"tune": draft.tree["tune"]})
    return lines + _comment([asha]) + _dump({"asha": draft.tree["asha"]})


def _describe_length(bench: Bench) -> Iterator[str]:
    length = bench.frame.max_length
    cut = 100 * bench.survey.share_cut(length)
    share = "fewer than 1 %" if cut < 1 else f"about {cut:.0f} %"
    yield f"{describe_lengths(bench.survey)} At {length} tokens {share} of them are cut off."


def _format_repeats(tree: Mapping[str, Any]) -> list[str]:
    if "repeat" not in tree:
        return []
    why = (
        "With the time left, the best candidate of each cell is trained again with other seeds, so "
        "that verdicts hold for who trains anew."
    )
    return _comment([why]) + _dump({"repeat": tree["repeat"]})


def _describe_resources(machine: Machine) -> Iterator[str]:
    if machine.gpus:
        yield "auto: adapters of one base model train together on a GPU."
    else:
        yield "As many trials at a time as the memory holds."


def _comment(sentences: Iterable[str], indent: int = 0) -> list[str]:
    width = WIDTH - indent
    return [
        line
        for sentence in sentences
        for line in textwrap.wrap(
            format_line(sentence), width, initial_indent="# ", subsequent_indent="#   "
        )
    ]


def _dump(tree: Any) -> list[str]:
    text = yaml.safe_dump(
        tree, sort_keys=False, allow_unicode=True, default_flow_style=None, width=WIDTH
    )
    return text.splitlines()


def _indent(lines: Iterable[str], by: int) -> list[str]:
    return [" " * by + line for line in lines]
