"""What the contenders take on this machine, measured once, and the forecast of a study from it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from sweep.cluster.allocation import USABLE_GPU, Arrangement
from sweep.cluster.hardware import Machine
from sweep.config import AshaConfig, Config, RepeatConfig
from sweep.drafting.contenders import Contender, measure_contenders
from sweep.drafting.outline import HALVING, Frame, build_tree
from sweep.drafting.studies import Study
from sweep.drafting.survey import FEWEST, Survey
from sweep.errors import ModelError, format_bytes
from sweep.models.shape import read_positions
from sweep.preflight.forecast import CellTexts, Forecaster, ModelEstimate, ModelWorkload, Total
from sweep.preflight.runtime import Rate, TextSizes, choose_rate, estimate_tokens

# Tokens of a text that are read at most: more take longer than they tell.
MOST_TOKENS_ON_CPU, MOST_TOKENS_ON_GPU = 256, 512
# Share of a machine's memory that trials may fill, and the most trials at a time on its CPUs.
USABLE_MEMORY, MOST_TRIALS = 0.85, 8
NO_REPEATS = RepeatConfig()


@dataclass(frozen=True)
class Entry:
    """A contender with its largest trial, and what that takes."""

    contender: Contender
    workload: ModelWorkload
    estimate: ModelEstimate

    @property
    def name(self) -> str:
        return self.contender.model.name

    @property
    def parameters(self) -> float:
        return float(self.workload.facts.parameters + self.workload.facts.unused)


@dataclass(frozen=True)
class Bench:
    """The contenders that fit into this machine's memory, phrases for those that do not, and how
    fast a trial is; enough to forecast any study of the survey's data."""

    frame: Frame
    survey: Survey
    machine: Machine
    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]
    base: Config
    sizes: TextSizes
    speeds: dict[int, Rate] = field(default_factory=dict)
    """By the CPUs of a trial; measured, or assumed for a GPU, once needed."""
    _arranged: dict[int, dict[str, Arrangement]] = field(default_factory=dict)

    def speed(self, study: Study) -> Rate:
        """Return how fast a trial of ``study`` computes."""
        cpus = self.share_cpus(study)
        if cpus not in self.speeds:
            dtype = "bfloat16" if self.machine.gpus else "float32"
            self.speeds[cpus] = choose_rate(self.machine, cpus, dtype)
        return self.speeds[cpus]

    def share_cpus(self, study: Study) -> int:
        """Return the CPUs of a trial of ``study``: as many trials at a time as memory holds."""
        machine = self.machine
        if machine.gpus:
            return 1
        sizes = [each.estimate.memory_bytes_per_trial for each in self.entries[: study.contenders]]
        trials = min(int(USABLE_MEMORY * machine.memory_bytes // max(sizes)), MOST_TRIALS)
        return max(1, machine.cpus // max(1, trials))

    def configure(self, study: Study, repeat: RepeatConfig = NO_REPEATS) -> Config:
        """Return what of the configuration of ``study`` its forecast depends on."""
        asha = AshaConfig(max_epochs=study.epochs, **HALVING)
        cpus = {"cpus_per_trial": self.share_cpus(study)}
        resources = self.base.resources.model_copy(update=cpus)
        return self.base.model_copy(update={"asha": asha, "repeat": repeat, "resources": resources})

    def forecast(self, study: Study, repeat: RepeatConfig = NO_REPEATS) -> Total:
        """Return the time and disk that ``study`` needs, by the mean length of all texts."""
        texts = {
            (k, n, 0): CellTexts(self.sizes, k * self._count_scored(study, k))
            for k, n in product(study.n_labels, study.n_samples)
        }
        config = self.configure(study, repeat)
        forecaster = build_forecaster(config, texts, self.machine, self.speed(study))
        return forecaster.estimate_total(self.list_workloads(study), self.arrange(study))

    def _count_scored(self, study: Study, n_labels: int) -> int:
        have = self.survey.count("validation", n_labels)
        return min(have, study.evaluated or have)

    def list_workloads(self, study: Study) -> list[ModelWorkload]:
        """Return the workloads of the contenders of ``study``."""
        chosen = self.entries[: study.contenders]
        return [replace(each.workload, candidates=study.candidates) for each in chosen]

    def arrange(self, study: Study) -> dict[str, Arrangement]:
        """Return how the trials of each contender of ``study`` share the machine."""
        count = study.contenders
        if count not in self._arranged:
            forecaster = build_forecaster(self.configure(study), {}, self.machine)
            estimates = [each.estimate for each in self.entries[:count]]
            self._arranged[count] = forecaster.arrange(self.list_workloads(study), estimates)
        return self._arranged[count]


def build_forecaster(
    config: Config,
    texts: dict[tuple[int, int, int], CellTexts],
    machine: Machine,
    speed: Rate | None = None,
) -> Forecaster:
    """Return the forecaster of a run that has not begun."""
    return Forecaster(config, texts, machine, Path("runs") / config.name, {}, speed=speed)


def build_bench(
    name: str, survey: Survey, machine: Machine, contenders: Sequence[Contender]
) -> Bench:
    """Measure ``contenders``; raise ModelError if one cannot be trained, or none fits into the
    machine's memory."""
    most = MOST_TOKENS_ON_GPU if machine.gpus else MOST_TOKENS_ON_CPU
    limits = [read_positions(each.found.tree) or most for each in contenders]
    length = survey.choose_length(min([most, *limits]))
    frame = Frame(name, survey.data, length, bool(machine.gpus))
    sizes = estimate_tokens(survey.texts, length)
    entries = _measure(frame, survey, machine, contenders, sizes)
    kept = [each for each in entries if _fits(each.estimate, machine)]
    left_out = tuple(_explain_memory(each.estimate) for each in entries if each not in kept)
    if not kept:
        raise ModelError(
            f"no model fits into this machine's memory: {', '.join(left_out)}; name a smaller one "
            "with --model"
        )
    base = _build_config(frame, survey, [each.contender for each in kept])
    return Bench(frame, survey, machine, tuple(kept), left_out, base, sizes)


def _measure(
    frame: Frame,
    survey: Survey,
    machine: Machine,
    contenders: Sequence[Contender],
    sizes: TextSizes,
) -> list[Entry]:
    config = _build_config(frame, survey, contenders)
    key = (config.grid.n_labels[0], config.grid.n_samples[0], 0)
    forecaster = build_forecaster(config, {key: CellTexts(sizes, 1)}, machine)
    loads = {index: forecaster.build_load(index) for index in range(len(contenders))}
    facts = measure_contenders(contenders, loads)
    entries = []
    for index, each in enumerate(contenders):
        workload = forecaster.build_workload(index, each.found, facts.get(index))
        if workload is None:
            raise ModelError(
                f"--model: {each.model.name}'s config.json has no known size keys, so its time is "
                "unknown; name another model"
            )
        entries.append(Entry(each, workload, forecaster.estimate_model(workload)))
    return entries


def _build_config(frame: Frame, survey: Survey, contenders: Sequence[Contender]) -> Config:
    """Return the configuration of the poorest study of all ``contenders``: what their largest trial
    takes does not depend on the number of texts."""
    labels = len(survey.labels)
    study = Study(
        contenders=len(contenders),
        n_labels=(labels,),
        n_samples=(FEWEST["train"] * labels,),
        candidates=1,
        epochs=1,
        evaluated=None,
        has_repeats=False,
        points=0.0,
    )
    return Config.model_validate(build_tree(frame, study, [(each, 0.0) for each in contenders], 1))


def _fits(estimate: ModelEstimate, machine: Machine) -> bool:
    needed = estimate.memory_bytes_per_trial
    if not machine.gpus:
        return needed <= USABLE_MEMORY * machine.memory_bytes
    size = min(gpu.memory_bytes for gpu in machine.gpus)
    return not size or min(needed, estimate.checkpointed_bytes or needed) <= USABLE_GPU * size


def _explain_memory(estimate: ModelEstimate) -> str:
    return f"{estimate.model} (needs {format_bytes(estimate.memory_bytes_per_trial)} of memory)"
