"""Takes the richest study whose forecast fits into a budget of time."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweep.config import Config, RepeatConfig
from sweep.drafting.bench import Bench, Entry, build_forecaster
from sweep.drafting.outline import build_tree
from sweep.drafting.studies import Study, list_studies
from sweep.errors import ConfigError, format_duration, format_names
from sweep.preflight.forecast import Total, measure_texts
from sweep.preflight.repeat_forecast import AUTO_SEEDS

# The likely time may be this share of the budget, and the longest time so many budgets.
LIKELY_SHARE, HIGH_SHARE = 0.8, 2.5
# A smallest budget is told with this much to spare, since the speed is measured anew each time.
SPARE = 1.15


@dataclass(frozen=True)
class Draft:
    """A study that fits, its configuration, its forecast, and its contenders."""

    study: Study
    tree: Mapping[str, Any]
    total: Total
    entries: tuple[Entry, ...]

    @property
    def repeat_budget(self) -> str | None:
        """The trial time that repeats may take; None without repeats."""
        return self.tree["repeat"]["budget"] if self.study.has_repeats else None


def fit_study(bench: Bench, budget: float, all_contenders: bool) -> Draft:
    """Return the richest study that fits into ``budget`` seconds; raise ConfigError that names the
    smallest budget if none does. ``all_contenders``: none may be left out to save time."""
    most = len(bench.entries)
    studies = list_studies(bench.survey, most if all_contenders else 1, most)
    for study in studies:
        seconds = _find_repeat_seconds(bench, study, budget)
        draft = None if seconds is None else _check_draft(bench, study, seconds, budget)
        if draft:
            return draft
    plain = [study for study in studies if not study.has_repeats]
    needed = min(_find_needed(bench.forecast(study)) for study in plain)
    poorest = plain[-1]
    names = format_names(each.name for each in bench.entries[: poorest.contenders])
    raise ConfigError(
        f"--budget: {format_duration(budget)} is too short for {names} on {poorest.n_labels[-1]} "
        f"labels on this machine; use --budget {format_budget(SPARE * needed)}, or name smaller "
        "models with --model"
    )


def _find_needed(total: Total) -> float:
    return max(total.seconds.likely / LIKELY_SHARE, total.seconds.high / HIGH_SHARE)


def _find_repeat_seconds(bench: Bench, study: Study, budget: float) -> float | None:
    """Return the trial seconds that are left for the repeats of ``study``, 0 if it has none; None
    if it does not fit into ``budget``."""
    total = bench.forecast(study)
    if _find_needed(total) > budget or not study.has_repeats:
        return None if _find_needed(total) > budget else 0.0
    fewest = bench.forecast(study, RepeatConfig(seeds=AUTO_SEEDS[0]))
    if _find_needed(fewest) > budget:
        return None
    trials = min(each.trials for each in bench.arrange(study).values())
    return trials * (LIKELY_SHARE * budget - total.seconds.likely)


def _check_draft(bench: Bench, study: Study, repeats: float, budget: float) -> Draft | None:
    """Return the draft of ``study`` with ``repeats`` seconds of repeats; None if the forecast by
    the very texts of its cells exceeds ``budget``."""
    entries = bench.entries[: study.contenders]
    chosen = [(each.contender, each.parameters) for each in entries]
    tree = build_tree(bench.frame, study, chosen, format_budget(repeats, down=True))
    config = Config.model_validate(tree)
    texts = measure_texts(config, bench.survey.subsets)
    forecaster = build_forecaster(config, texts, bench.machine, bench.speed)
    total = forecaster.estimate_total(bench.list_workloads(study), bench.arrange(study))
    return Draft(study, tree, total, entries) if _find_needed(total) <= budget else None


def format_budget(seconds: float, down: bool = False) -> str:
    """Return ``seconds`` as a duration of the configuration, in whole minutes from two minutes up;
    rounded up, or ``down``. None is written as an empty text."""
    if not seconds:
        return ""
    unit, size = ("m", 60) if seconds >= 120 else ("s", 1)
    count = math.floor(seconds / size) if down else math.ceil(seconds / size)
    return f"{max(1, count)}{unit}"
