"""Estimates how long a sweep takes, as a range."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sweep.cluster.allocation import Arrangement
from sweep.cluster.hardware import Machine, assume_gpu_flops, measure_cpu_flops
from sweep.models.facts import ModelFacts, TrialLoad
from sweep.storage.forecast import RUN_START_SECONDS, SCORING_SHARE, TRIAL_START_SECONDS
from sweep.storage.tables import RESULTS_NAME

# For English text and common vocabularies, rounded; one closing token is added.
CHARACTERS_PER_TOKEN = 4.5
# Padded tokens per real token in batches sorted by length, where a model's pass pads: 1.05 to 1.07
# on short texts.
PADDING = 1.06
# The same in a pack on a GPU, whose passes hold texts of several trials: measured on GoEmotions,
# 1.60, 1.81, 1.82 and 1.53 in packs of 4, 8, 16 and 32.
PACK_PADDING = 1.7
# Fraction of a GPU's peak that fine-tuning reaches if matrices are large enough.
GPU_EFFICIENCY = 0.3
# Fraction of a matrix product's speed that training reaches on a CPU; measured 0.65 to 0.8.
CPU_EFFICIENCY = 0.7
# Seconds of a training step that do not depend on its tokens: per step, and per block of the model.
# On a CPU, measured with one and two blocks; on a GPU, the time to launch LoRA's kernels.
CPU_SECONDS = (0.001, 0.003)
GPU_SECONDS = (0.006, 0.003)
# Parameters per second whose gradients are filled, clipped and used by AdamW, which waits for
# memory: about 44 bytes are moved for each. Measured 250 to 400 million on a CPU; a GPU is assumed
# to move 1 TB/s.
CPU_UPDATES = 3e8
GPU_UPDATES = 2e10
ALONE = Arrangement("solo", 1, 1)
# Reading and converting base weights.
LOAD_BYTES_PER_SECOND = 3e8
GPU_LOAD_BYTES_PER_SECOND = 1e9


class Range(NamedTuple):
    low: float
    likely: float
    high: float


class Cost(NamedTuple):
    """Seconds of one trial's work: what its device computes, and what launches and waits take
    beside it. Trials that share a device wait for each other's arithmetic."""

    arithmetic: float
    overhead: float

    @property
    def alone(self) -> float:
        return self.arithmetic + self.overhead


@dataclass(frozen=True)
class Rate:
    """Speed of one trial: operations per second, seconds per step and per block of a step,
    parameters updated per second, the factors by which the result may be off, and the source of
    these numbers."""

    flops: float
    step_seconds: float
    block_seconds: float
    updates: float
    spread: tuple[float, float]
    source: str


@dataclass(frozen=True)
class TextSizes:
    """Tokens of a cell's texts: mean and longest, truncated at ``max_length``."""

    mean: float
    longest: int


@dataclass(frozen=True)
class CellWork:
    """The texts and tokens that the remaining trials of one cell pass through the model."""

    trials: int
    texts: int
    batch_size: int
    train_tokens: float
    eval_texts: int
    eval_batch_size: int
    eval_tokens: float


def estimate_tokens(texts: Sequence[str], max_length: int) -> TextSizes:
    """Return the tokens of ``texts``, estimated from their characters without a tokenizer."""
    sizes = [min(max_length, len(text) / CHARACTERS_PER_TOKEN + 1) for text in texts]
    if not sizes:
        return TextSizes(float(max_length), max_length)
    return TextSizes(sum(sizes) / len(sizes), math.ceil(max(sizes)))


def expect_survivors(arrivals: float, reduction: float) -> float:
    """Return how many of ``arrivals`` trials pass one rung of asynchronous halving.

    Ray's ASHA compares a trial with the ``1 - 1/reduction`` percentile of those that came before
    it. In random order, the i-th passes with probability ``(i - 1 - p) / i``, where
    ``p = (1 - 1/reduction) (i - 2)`` is the percentile's rank among the i - 1; the first always
    passes.
    """
    passed, last = 0.0, math.ceil(arrivals)
    for i in range(1, last + 1):
        rank = (1 - 1 / reduction) * max(0, i - 2)
        chance = 1.0 if i == 1 else (i - 1 - rank) / i
        passed += chance * (arrivals - i + 1 if i == last else 1.0)
    return passed


def list_rungs(max_epochs: int, grace: int, reduction: float) -> list[float]:
    """Return the epochs at which trials are compared: grace times powers of the reduction."""
    rungs, epoch = [], float(grace)
    while epoch < max_epochs:
        rungs.append(epoch)
        epoch *= reduction
    return rungs


def estimate_rungs(
    trials: int, max_epochs: int, grace: int, reduction: float
) -> list[tuple[int, float]]:
    """Return for each rung the epoch at which a cell's trials reach it, and the fraction of those
    that continues (``expect_survivors``)."""
    shares, alive = [], float(trials)
    for rung in list_rungs(max_epochs, grace, reduction):
        passed = expect_survivors(alive, reduction)
        shares.append((math.ceil(rung), passed / alive))
        alive = passed
    return shares


def estimate_epochs(trials: int, max_epochs: int, grace: int, reduction: float) -> Range:
    """Return the total epochs of a cell's trials: low if all but one stop at the first rung, high
    if none stops, likely by ``expect_survivors`` (patience is ignored)."""
    if trials == 0:
        return Range(0, 0, 0)
    likely, alive, before = 0.0, float(trials), 0.0
    for rung in list_rungs(max_epochs, grace, reduction):
        likely += alive * (math.ceil(rung) - before)
        alive, before = expect_survivors(alive, reduction), math.ceil(rung)
    likely += alive * (max_epochs - before)
    low = (trials - 1) * min(grace, max_epochs) + max_epochs
    return Range(low, likely, trials * max_epochs)


def choose_rate(machine: Machine, threads: int, dtype: str) -> Rate:
    """Return the speed of one trial on this machine: for a GPU, assumed by its name and the number
    format ``dtype``; for a CPU, measured by a matrix product on as many threads as a trial gets."""
    if not machine.gpus:
        flops = measure_cpu_flops(threads)
        source = f"measured: {flops / 1e9:.0f} GFLOP/s in float32 on {threads} CPU thread(s)"
        return Rate(flops * CPU_EFFICIENCY, *CPU_SECONDS, CPU_UPDATES, (0.7, 2.0), source)
    peak, known = assume_gpu_flops(machine.gpus[0].name, dtype)
    flops = peak * GPU_EFFICIENCY
    kind = "" if known else ", a GPU that is not in the table"
    source = f"assumed: {flops / 1e12:.0f} TFLOP/s in {dtype} on {machine.gpus[0].name}{kind}"
    spread = (0.5, 2.5) if known else (0.3, 4.0)
    return Rate(flops, *GPU_SECONDS, GPU_UPDATES, spread, source)


def read_token_rates(folder: Path) -> dict[str, float]:
    """Return each model's training tokens per second (without padding), from the results of a run
    in ``folder``; empty if there are none."""
    path = folder / RESULTS_NAME
    if not path.is_file():
        return {}
    import pyarrow.parquet as pq  # planning a new run does not need it

    columns = ["model", "train_tokens", "train_seconds"]
    sums: dict[str, tuple[float, float]] = {}
    # Opened once, because a driver may replace the table; and not by Python: if Arrow's threads
    # still hold a Python file when this process ends, they abort it.
    with pq.ParquetFile(path) as file:
        found = file.read(columns=columns).to_pydict()
    for model, tokens, seconds in zip(*found.values(), strict=True):
        if tokens and seconds:
            total = sums.get(model, (0.0, 0.0))
            sums[model] = (total[0] + tokens, total[1] + seconds)
    return {model: tokens / seconds for model, (tokens, seconds) in sums.items()}


def epoch_costs(
    work: CellWork, facts: ModelFacts, load: TrialLoad, rate: Rate, in_pack: bool = False
) -> tuple[Cost, Cost]:
    """Return the costs of one epoch's training, and of scoring validation (or test) once."""
    padding = 1.0 if facts.flat else PACK_PADDING if in_pack and load.on_gpu else PADDING
    fixed = rate.step_seconds + rate.block_seconds * facts.layers
    scoring_steps = math.ceil(work.eval_texts / work.eval_batch_size)
    steps = math.ceil(work.texts / work.batch_size)
    # Gradient checkpointing adds a forward pass.
    flops = facts.training_flops + (facts.scoring_flops if load.checkpointed else 0.0)
    train = work.train_tokens * padding * flops / rate.flops + steps * facts.trained / rate.updates
    score = work.eval_tokens * padding * facts.scoring_flops / rate.flops
    return Cost(train, steps * fixed), Cost(score, scoring_steps * fixed * SCORING_SHARE)


def epoch_seconds(
    work: CellWork,
    facts: ModelFacts,
    load: TrialLoad,
    rate: Rate,
    tokens_per_second: float | None,
    sharing: Arrangement = ALONE,
) -> tuple[float, float]:
    """Return the seconds of one epoch's training, and of scoring validation (or test) once, while
    as many trials run as ``sharing`` says; ``tokens_per_second`` is what they were measured to
    train at."""
    costs = epoch_costs(work, facts, load, rate, in_pack=sharing.engine == "packed")
    train, score = (share_seconds(cost, sharing) for cost in costs)
    if not tokens_per_second:
        return train, score
    measured = work.train_tokens / tokens_per_second
    if sharing.engine == "packed":
        # Of the seconds of a shared step, each trial was told its part.
        measured *= sharing.per_device
    return measured, score * measured / train


def share_seconds(cost: Cost, sharing: Arrangement) -> float:
    """Return the seconds in which all trials that share a device have done work of ``cost`` each.

    A pack launches once for all of them. On its own a trial launches at the same time as others
    do, but the device computes for one after another.
    """
    trials = max(1.0, sharing.per_device)
    if sharing.engine == "packed":
        return trials * cost.arithmetic + cost.overhead
    return max(cost.alone, trials * cost.arithmetic)


def cell_seconds(work: CellWork, epochs: Range, train: float, score: float) -> Range:
    """Return the seconds of work in one cell: every epoch trains and validates, every trial starts
    once, and each that finishes scores the test texts."""
    finished = (1, max(1.0, work.trials / 2), work.trials)
    return Range(
        *(
            count * (train + score) + ended * score + work.trials * TRIAL_START_SECONDS
            for count, ended in zip(epochs, finished, strict=True)
        )
    )


def total_seconds(
    cells: Sequence[tuple[str, Range, float]],
    trials: Mapping[str, int],
    load_seconds: float,
    spread: Callable[[str], tuple[float, float]],
) -> Range:
    """Return the run's wall time: the work of ``cells`` (model, seconds, seconds of its longest
    trial) divided among each model's number of ``trials`` at a time, each device loading each model
    once; never below the longest trial."""
    if not cells:
        return Range(0, 0, 0)
    totals = [0.0, 0.0, 0.0]
    for model, seconds, _ in cells:
        fast, slow = spread(model)
        for i, factor in enumerate((fast, 1.0, slow)):
            totals[i] += seconds[i] * factor / trials[model]
    loading = RUN_START_SECONDS + load_seconds
    pairs = zip(totals, _longest(cells, spread), strict=True)
    return Range(*(loading + max(pair) for pair in pairs))


def _longest(
    cells: Sequence[tuple[str, Range, float]], spread: Callable[[str], tuple[float, float]]
) -> Range:
    """Return the seconds of the longest trial, which more trials at a time do not shorten."""
    model, _, seconds = max(cells, key=lambda cell: cell[2])
    fast, slow = spread(model)
    return Range(seconds * fast, seconds, seconds * slow)
