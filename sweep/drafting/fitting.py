"""Takes the richest study whose forecast fits into a budget of time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sweep.config import Config, RepeatConfig
from sweep.data import draw_subsets
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
# The shortest budget in seconds, and the factor from one that is tried to the next.
SHORTEST, STEP = 60.0, 1.1
# Units of a budget: the letter, the seconds, and from how many seconds on.
UNITS = (("h", 3600, 36_000), ("m", 60, 120), ("s", 1, 0))


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


class Fitter:
    """Forecasts studies, each once."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.needs = cache(self._find_need)

    def _find_need(self, study: Study) -> float:
        """Return the smallest budget, in seconds, into which ``study`` fits, with the fewest
        repeats if it has any."""
        repeat = RepeatConfig(seeds=AUTO_SEEDS[0] if study.has_repeats else 0)
        return find_need(self.bench.forecast(study, repeat))

    def climb(self, counts: Sequence[int], budget: float) -> list[Study]:
        """Return the studies, with a number of contenders among ``counts``, that ever larger
        budgets allow, up to ``budget``. Each is the richest that fits and has more contenders than
        the one before or contains it, so that more time never means less of something else."""
        survey, chosen = self.bench.survey, list[Study]()
        studies = [study for count in counts for study in list_studies(survey, count)]
        studies.sort(key=lambda study: -study.points)
        for seconds in _list_budgets(budget):
            more = (each for each in studies if not chosen or _follows(each, chosen[-1]))
            found = next((each for each in more if self.needs(each) <= seconds), None)
            if found and found not in chosen:
                chosen.append(found)
        return chosen


def _follows(study: Study, last: Study) -> bool:
    return study.contenders > last.contenders or study.contains(last)


def fit_study(bench: Bench, budget: float, all_contenders: bool) -> Draft:
    """Return the richest study that fits into ``budget`` seconds; raise ConfigError that names the
    smallest budget if none does. ``all_contenders``: none may be left out to save time."""
    fitter, most = Fitter(bench), len(bench.entries)
    counts = range(most if all_contenders else 1, most + 1)
    for study in reversed(fitter.climb(counts, budget)):
        if draft := _check_draft(bench, study, budget):
            return draft
    poorest = min(list_studies(bench.survey, counts[0]), key=fitter.needs)
    names = format_names(each.name for each in bench.entries[: counts[0]])
    needed = max(SHORTEST, SPARE * fitter.needs(poorest))
    short = format_duration(budget, rough=True)
    raise ConfigError(
        f"--budget: {short} is too short for {names} on {poorest.n_labels[-1]} labels on this "
        f"machine; use --budget {format_budget(needed)}, or name smaller models with --model"
    )


def _list_budgets(budget: float) -> list[float]:
    """Return the budgets, in seconds, that are tried up to ``budget``, whatever that is."""
    steps = math.floor(math.log(max(budget, SHORTEST) / SHORTEST) / math.log(STEP))
    return [SHORTEST * STEP**i for i in range(steps + 1)] if budget >= SHORTEST else []


def find_need(total: Total) -> float:
    """Return the smallest budget, in seconds, into which a run with this forecast fits."""
    return max(total.seconds.likely / LIKELY_SHARE, total.seconds.high / HIGH_SHARE)


def _check_draft(bench: Bench, study: Study, budget: float) -> Draft | None:
    """Return the draft of ``study``, with repeats for the time that is left; None if the forecast
    by the very texts of its cells exceeds ``budget``."""
    entries, repeats = bench.entries[: study.contenders], None
    if study.has_repeats:
        # A budget of repeats counts the time of each trial.
        trials = min(each.trials for each in bench.arrange(study).values())
        left = LIKELY_SHARE * budget - bench.forecast(study).seconds.likely
        repeats = format_budget(trials * left, down=True)
    chosen = [(each.contender, each.parameters) for each in entries]
    tree = build_tree(bench.frame, study, chosen, bench.share_cpus(study), repeats)
    config = Config.model_validate(tree)
    # Anew, for the limit on validation and test texts.
    texts = measure_texts(config, draw_subsets(bench.survey.corpus, config.data))
    forecaster = build_forecaster(config, texts, bench.machine, bench.speed(study))
    total = forecaster.estimate_total(bench.list_workloads(study), bench.arrange(study))
    return Draft(study, tree, total, entries) if find_need(total) <= budget else None


def format_budget(seconds: float, down: bool = False) -> str:
    """Return ``seconds`` as a duration of the configuration: a whole number of seconds, of minutes
    from two minutes up, or of hours from ten hours up; rounded up, or ``down``."""
    unit, size = next(each for each in UNITS if seconds >= each[2])[:2]
    count = math.floor(seconds / size) if down else math.ceil(seconds / size)
    return f"{max(1, count)}{unit}"
