"""What a draft says, in its comments and on the screen."""

import math
from collections.abc import Iterator

from sweep.cluster.hardware import Machine
from sweep.drafting.studies import Study
from sweep.drafting.survey import Survey
from sweep.errors import format_bytes, format_duration, format_names
from sweep.preflight.forecast import Total

# With fewer test texts than this, a study says which label count has the most.
FEW_TESTED = 500


def describe_machine(machine: Machine) -> str:
    """Return what a machine has: ``2 CPUs, 24 GB of memory, no GPU``."""
    kinds = format_names(dict.fromkeys(gpu.name for gpu in machine.gpus))
    gpus = f"{len(machine.gpus)} x {kinds}" if machine.gpus else "no GPU"
    cpus = f"{machine.cpus} CPU{'s' * (machine.cpus > 1)}"
    return f"{cpus}, {format_bytes(machine.memory_bytes)} of memory, {gpus}"


def describe_labels(survey: Survey) -> str:
    """Return the number of labels, and the training texts of the most and least frequent."""
    labels, count = survey.labels, survey.count_training
    rarest = min(labels, key=count)
    language = "" if survey.is_english else " The texts are not, or not only, English."
    return (
        f"{len(labels)} labels, from {count(labels[0]):,} training texts ({labels[0]}) to "
        f"{count(rarest):,} ({rarest}), duplicates and texts with several labels left out."
        f"{language}"
    )


def describe_lengths(survey: Survey) -> str:
    median, most, longest = survey.characters
    return (
        f"Half of the texts have up to {median:,} characters, 99 % up to {most:,}, the longest "
        f"{longest:,}."
    )


def describe_rare(survey: Survey, limit: int = 6) -> Iterator[str]:
    """Yield a sentence about the labels that are left out, if any are: what the first ``limit`` of
    them lack."""
    if not survey.rare:
        return
    lacks = format_names(
        (f"{each.name} (lacks {each.lacks} {each.split} texts)" for each in survey.rare), limit, 80
    )
    noun = "label is" if len(survey.rare) == 1 else "labels are"
    yield f"{len(survey.rare)} {noun} left out, too rare to learn and to test: {lacks}."


def describe_test(survey: Survey, study: Study) -> Iterator[str]:
    """Yield for each label count how many test texts there are, and what they can tell."""
    for k in study.n_labels:
        have = survey.count("test", k)
        each = min(have, study.evaluated or have)
        rarest = min(survey.labels[:k], key=survey.subsets.pools["test"].size)
        why = f" (as {rarest} has no more)" if each == have else ""
        # Half the width of a 95 % interval of an accuracy near one half.
        width = 196 * math.sqrt(0.25 / (k * each))
        yield (
            f"Test texts of {k} labels: {k * each:,}, {each} of each{why}; an accuracy on them is "
            f"known to about {width:.0f} points up or down."
        )
    tested = {k: k * survey.count("test", k) for k in range(2, len(survey.labels) + 1)}
    k = max(tested, key=tested.__getitem__)
    if k not in study.n_labels and tested[len(survey.labels)] < FEW_TESTED:
        yield f"The {k} most frequent labels alone (grid.n_labels: [{k}]) have {tested[k]:,}."


def describe_time(total: Total) -> str:
    """Return the forecast: ``about 40 min (from 20 min to 2.0 h)``."""
    low, likely, high = (format_duration(value, rough=True) for value in total.seconds)
    return f"about {likely} (from {low} to {high})"
