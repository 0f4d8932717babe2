"""Whether a trial that trains alone passes through compiled blocks (``train.compile``).

Compiling takes some seconds of each worker once, and saves a part of every step. ``auto`` tries it
on GPUs only, where the forecast has so much training ahead of the worker that a small gain pays,
and keeps it only if steps on the trial's own texts are faster by that much. ``true`` skips these
questions.
Either way the compiled pass has to give the logits and gradients of the other, and a compiler that
fails leaves the trial with that one, in the middle of an epoch too.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sweep.errors import format_error
from sweep.models.base import Base
from sweep.models.device import cast_to, is_gpu_lost, is_out_of_memory
from sweep.models.flat.texts import FlatTexts
from sweep.models.full_pass import AGREEMENT, ForwardPass

if TYPE_CHECKING:
    from sweep.models.flat.compiled import Compiler
    from sweep.training.solo import SoloTrial

# Where ``auto`` tries it, and seconds that compiling takes there. For GPUs assumed: one CPU core
# took 34 to 53, for any number of blocks; ``python -m benchmarks.gpu --parts compiled`` measures
# it. CPUs are left out: steps of six models were 0.94 to 1.02 times as fast.
COMPILE_SECONDS = {"cuda": 60.0}
# Steps must be this much faster: compiling pays if it takes no larger part of the time ahead.
LEAST_GAIN = 1.05
# Batches whose steps are timed, and how often at least and at most, for so many seconds.
BATCHES, LEAST_ROUNDS, MOST_ROUNDS, TIMED_SECONDS = 4, 3, 10, 3.0

# What a trial's facts say first.
COMPILED, NOT_COMPILED = "yes", "no"
REMEDY = "install g++ or, on GPUs, Triton and gcc, or set train.compile=false"

# What PyTorch adds to its errors begins so.
ADVICE = " Set TORCHDYNAMO_VERBOSE"
# The name of a backend of ``torch.compile``, or one.
Backend = str | Callable[..., Any]
# Loss, and gradients of what is trained.
Outcome = tuple[torch.Tensor, list[torch.Tensor]]


@dataclass(frozen=True)
class Verdict:
    """Whether compiled blocks are used, and why, in words that follow "yes" or "no"."""

    compiled: bool
    reason: str

    def __str__(self) -> str:
        return f"{COMPILED if self.compiled else NOT_COMPILED}: {self.reason}"


class BlockChoice:
    """Chooses, for one trial after another, between the passes of their base model.

    ``ahead`` has the seconds of training that a worker has ahead of it by model, as far as they are
    known. What was found of a base model holds for all its trials.
    """

    def __init__(self, ahead: Mapping[str, float], backend: Backend = "inductor") -> None:
        self._ahead = ahead
        self._backend = backend
        self._compiler: Compiler | None = None
        # By model, which may be loaded more than once.
        self._found: dict[str, Verdict] = {}

    def forget(self) -> None:
        """Drop the code of the base model that was loaded."""
        if self._compiler is not None:
            from sweep.models.flat.compiled import forget_compiled

            forget_compiled()
        self._compiler = None

    def choose(self, trial: "SoloTrial") -> Verdict:
        """Give ``trial``, whose first epoch has not begun, the pass with compiled blocks if that is
        wanted and works; return what was decided."""
        wanted = trial.spec.recipe.compile
        objection = self._find_objection(wanted, trial.base)
        if objection:
            return Verdict(False, objection)
        known = self._found.get(trial.base.ref.name)
        if known is not None and not known.compiled:
            return known
        try:
            return self._try(trial, wanted is True)
        except Exception as error:  # compilers and their backends raise all kinds
            if is_gpu_lost(error):
                raise
            trial.compiled = None
            if is_out_of_memory(error):
                # Another trial may be smaller.
                return Verdict(False, "memory ran out")
            return self._note_failure(trial.base, error)

    def _note_failure(self, base: Base, error: Exception) -> Verdict:
        reason = format_error(error).partition(ADVICE)[0]
        verdict = Verdict(False, f"it failed ({reason}); {REMEDY}")
        self._found[base.ref.name] = verdict
        return verdict

    def _find_objection(self, wanted: bool | str, base: Base) -> str:
        if wanted is False:
            return "train.compile is false"
        if not base.forward.flat:
            return "the model has no flat pass, whose blocks could be compiled"
        if wanted is True:
            return ""
        if base.device.type not in COMPILE_SECONDS:
            return "on a CPU, steps get no faster"
        ahead = self._ahead.get(base.ref.name)
        if ahead is None:
            return "it is not known how much training lies ahead"
        least = COMPILE_SECONDS[base.device.type] * LEAST_GAIN / (LEAST_GAIN - 1)
        if ahead < least:
            return f"it pays from {least:.0f} s of training on, and {ahead:.0f} s lie ahead"
        return ""

    def _try(self, trial: "SoloTrial", insisted: bool) -> Verdict:
        from sweep.models.flat.compiled import KINDS, Compiler, UnfitError

        base = trial.base
        kind = base.model.config.model_type
        if kind not in KINDS:
            return Verdict(False, f"blocks of {kind} are none of {', '.join(KINDS)}")
        compiler = self._compiler = self._compiler or Compiler(self._backend)
        try:
            found = ForwardPass(compiler.build(base.model, base.forward.run), flat=True)
        except UnfitError as error:
            # Another trial of this base model may be fit.
            return Verdict(False, str(error))
        name = base.ref.name
        if name not in self._found:
            self._found[name] = _measure(trial, found, insisted)
            if base.device.type == "cuda":
                # What was tried is no part of the trial.
                torch.cuda.reset_peak_memory_stats(base.device)
        if self._found[name].compiled:
            trial.compiled = ForwardPass(self._guard(trial, found), flat=True)
        return self._found[name]

    def _guard(
        self, trial: "SoloTrial", compiled: ForwardPass
    ) -> Callable[[FlatTexts], torch.Tensor]:
        """Return ``compiled`` or, from when it has to be compiled once more and cannot, the pass
        without it."""
        from torch._dynamo.exc import TorchDynamoException

        def run(texts: FlatTexts) -> torch.Tensor:
            try:
                return compiled(texts)
            except TorchDynamoException as error:
                verdict = self._note_failure(trial.base, error)
                trial.compiled = None
                warnings.warn(f"blocks are compiled no longer: {verdict.reason}", stacklevel=2)
                return trial.base.forward(texts)

        return run


def _measure(trial: "SoloTrial", compiled: ForwardPass, insisted: bool) -> Verdict:
    """Compile, by passes of training and scoring; compare, and time unless it is ``insisted``."""
    plain = trial.base.forward
    batches = list(_list_batches(trial))
    start = time.perf_counter()
    with _rehearsing(trial):
        if not _agrees(trial, plain, compiled, batches[0]):
            return Verdict(False, "the compiled pass does not agree with the uncompiled one")
        seconds = time.perf_counter() - start
        if insisted:
            return Verdict(True, f"compiled in {seconds:.0f} s")
        gain = _measure_gain(trial, plain, compiled, batches)
    if gain < LEAST_GAIN:
        return Verdict(False, f"steps are {gain:.2f} times as fast, {LEAST_GAIN:g} would pay")
    return Verdict(True, f"steps are {gain:.2f} times as fast, compiled in {seconds:.0f} s")


Part = tuple[FlatTexts, torch.Tensor]


def _list_batches(trial: "SoloTrial") -> Iterator[Part]:
    """Yield what passes at once of the first batches of an epoch."""
    for indices in trial.order_epoch()[:BATCHES]:
        _, texts, classes = next(trial.parts(trial.training, indices))
        yield texts, classes


@contextmanager
def _rehearsing(trial: "SoloTrial") -> Iterator[None]:
    """Leave no gradients behind."""
    try:
        yield
    finally:
        trial.optimizer.zero_grad(set_to_none=True)
        trial.model.train()


def _agrees(trial: "SoloTrial", plain: ForwardPass, compiled: ForwardPass, batch: Part) -> bool:
    """Return whether two passes give the same loss, gradients and, scoring, logits."""
    limit = AGREEMENT.get(trial.base.dtype, 0.1)
    (loss, gradients), (own_loss, own) = (
        _step(trial, forward, batch) for forward in (plain, compiled)
    )
    scores, own_scores = (_score(trial, forward, batch[0]) for forward in (plain, compiled))
    largest = max(gradient.abs().max() for gradient in gradients)
    return (
        _is_close(loss, own_loss, limit * loss.abs())
        and _is_close(scores, own_scores, limit * scores.abs().max())
        and all(_is_close(*pair, limit * largest) for pair in zip(gradients, own, strict=True))
    )


def _is_close(expected: torch.Tensor, found: torch.Tensor, limit: torch.Tensor) -> bool:
    return bool((found - expected).abs().max() <= limit)


def _step(trial: "SoloTrial", forward: ForwardPass, batch: Part) -> Outcome:
    """Pass ``batch`` forward and backward, as in training."""
    trial.model.train()
    trial.optimizer.zero_grad(set_to_none=True)
    # What the base model drops, and each epoch seeds anew.
    torch.manual_seed(0)
    base = trial.base
    with cast_to(base.device, base.dtype):
        logits = forward(batch[0]).float()
    loss = nn.functional.cross_entropy(logits, batch[1])
    # Without the scale of float16, whose first one may be too large.
    torch.autograd.backward(loss)
    trained = [p for group in trial.optimizer.param_groups for p in group["params"]]
    return loss.detach(), [p.grad for p in trained if p.grad is not None]


def _score(trial: "SoloTrial", forward: ForwardPass, texts: FlatTexts) -> torch.Tensor:
    trial.model.eval()
    with torch.inference_mode(), cast_to(trial.base.device, trial.base.dtype):
        return forward(texts).float()


def _measure_gain(
    trial: "SoloTrial", plain: ForwardPass, compiled: ForwardPass, batches: list[Part]
) -> float:
    """Return how many times faster steps are, by the best of several of each batch."""
    for batch in batches:
        _step(trial, compiled, batch)  # warm-up
    best: dict[ForwardPass, list[float]] = {
        forward: [float("inf")] * len(batches) for forward in (plain, compiled)
    }
    start = time.perf_counter()
    for round_ in range(MOST_ROUNDS):
        if round_ >= LEAST_ROUNDS and time.perf_counter() - start > TIMED_SECONDS:
            break
        for number, batch in enumerate(batches):
            # In turn, so that other load on the machine slows both.
            for forward, times in best.items():
                times[number] = min(times[number], _time_step(trial, forward, batch))
    return sum(best[plain]) / sum(best[compiled])


def _time_step(trial: "SoloTrial", forward: ForwardPass, batch: Part) -> float:
    start = time.perf_counter()
    _step(trial, forward, batch)
    if trial.base.device.type == "cuda":
        torch.cuda.synchronize(trial.base.device)
    return time.perf_counter() - start
