"""The journal's events: what each kind holds.

Each field is declared once, here; ``event_reader`` checks lines against these classes. What is not
declared, which a later release may write, is accepted: fields of events and of planned trials, and
events of other kinds. A field may always be null unless its event needs it.
"""

from enum import StrEnum
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    get_args,
    get_type_hints,
)

from pydantic import PlainValidator
from typing_extensions import TypedDict

from sweep.config.strict import (
    Amount,
    Count,
    Counts,
    Epoch,
    Flag,
    Fraction,
    Id,
    Names,
    Ordinal,
    Real,
    Text,
    Time,
    Words,
)
from sweep.plan import TrialSpec
from sweep.storage.account import DataAccount, parse_account
from sweep.storage.forecast import Forecast, PaceForecast
from sweep.storage.prices import Prices


class TrialStatus(StrEnum):
    """How a trial ended, or a baseline."""

    FINISHED = "finished"
    STOPPED = "stopped"  # by ASHA
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "oom"
    FAILED = "failed"


# Statuses of trials without a result because something went wrong.
FAILURES = (TrialStatus.DIVERGED, TrialStatus.OUT_OF_MEMORY, TrialStatus.FAILED)


class Decision(StrEnum):
    """What happens to a trial after an epoch."""

    CONTINUE = "continue"
    STOP = "stop"  # by ASHA
    DONE = "done"  # the trial ended itself


class Facts(TypedDict, total=False):
    """What is measured for a trial or a baseline, under the names of the results table."""

    batch_size: Ordinal | None
    max_length: Ordinal | None
    max_epochs: Epoch | None
    lora_rank: Ordinal | None
    lora_alpha: Amount | None
    lora_dropout: Fraction | None
    learning_rate: Amount | None
    weight_decay: Amount | None
    candidate: Count | None
    epochs_run: Count | None
    best_epoch: Count | None
    resumed_epoch: Count | None
    val_accuracy: Fraction | None
    val_macro_f1: Fraction | None
    val_loss: Real | None
    test_accuracy: Fraction | None
    test_macro_f1: Fraction | None
    n_validation: Count | None
    n_test: Count | None
    train_tokens: Count | None
    padded_tokens: Count | None
    truncated_texts: Count | None
    load_seconds: Amount | None
    train_seconds: Amount | None
    eval_seconds: Amount | None
    wall_seconds: Amount | None
    peak_memory_bytes: Count | None
    trainable_parameters: Count | None
    total_parameters: Count | None
    device: Text | None
    dtype: Text | None
    compiled: Text | None
    host: Text | None
    base: Text | None
    base_loads: Count | None
    gpus: Amount | None
    cpus: Amount | None
    node_type: Text | None
    market: Text | None
    model_path: Text | None
    model_revision: Text | None
    data_fingerprint: Text | None
    error: Text | None
    traceback: Text | None
    kind: Text | None
    best_of_cell: Flag | None
    test_set: Id | None
    predictions: Counts | None


class ServingFacts(TypedDict, total=False):
    """What is measured of a trained model in use, under the names of the results table."""

    serving_texts_per_second: Amount | None
    serving_batch: Ordinal | None
    latency_p50_seconds: Amount | None
    latency_p95_seconds: Amount | None
    serving_memory_bytes: Count | None
    serving_size_bytes: Count | None
    serving_device: Text | None
    serving_host: Text | None
    serving_cpus: Amount | None
    serving_node_type: Text | None
    serving_market: Text | None
    serving_error: Text | None


class EpochResult(TypedDict, total=False):
    """What an engine reports after an epoch, and Tune passes to the driver; for a trial that could
    not continue, only how it failed."""

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    val_macro_f1: float
    best_val_accuracy: float
    train_seconds: float
    eval_seconds: float
    done: bool
    status: str | None
    error: str | None
    traceback: str
    halt: str  # why the entire run has to end
    test_accuracy: float
    test_macro_f1: float
    predictions: list[int]
    totals: Facts
    facts: Facts
    notes: list[str]


def end_trial(status: TrialStatus, error: str, traceback: str = "") -> EpochResult:
    """Return the last result of a trial that failed."""
    return {"done": True, "status": status, "error": error, "traceback": traceback}


class Line(TypedDict):
    """What every event has, beside ``event``: its kind."""

    time: Time


class TrialLine(Line):
    """An event of one trial."""

    trial_id: Id


class Opened(Line):
    """A driver starts or resumes the run."""

    event: Literal["opened"]
    host: NotRequired[Text | None]
    pid: NotRequired[Count | None]
    command: NotRequired[Text | None]
    versions: NotRequired[Annotated[dict[str, Text], "an object of texts"] | None]
    git_commit: NotRequired[Text | None]
    predicted: NotRequired[Annotated[Forecast, "a forecast of seconds and memory_bytes"] | None]
    pace: NotRequired[
        Annotated[PaceForecast, "a forecast of epoch_seconds, rungs and trials_at_a_time"] | None
    ]
    data: NotRequired[
        Annotated[DataAccount, PlainValidator(parse_account), "an account of the data's rows"]
        | None
    ]
    baselines: NotRequired[Words | None]
    prices: NotRequired[Annotated[Prices, "prices by the hour and by the label"] | None]
    smallest: NotRequired[Fraction | None]
    repeat_seeds: NotRequired[Id | None]
    """``auto``, or the number of further seeds, as text."""


class Planned(Line):
    """A trial in the plan."""

    event: Literal["planned"]
    trial: TrialSpec
    repeat_of: NotRequired[Id | None]
    """The tuned trial whose candidate this one trains again with another seed."""


class Replanned(Line):
    """Which of the trials are in the current configuration's plan."""

    event: Literal["replanned"]
    trials: Names


class TestSet(Line):
    """Test items by row number, with their true classes."""

    event: Literal["test_set"]
    labels: Names
    items: Counts
    truth: Counts
    fingerprint: NotRequired[Id | None]


class Baseline(Facts, TrialLine):
    """The result of a baseline."""

    event: Literal["baseline"]
    cell_id: Id
    model: Id
    n_labels: Ordinal
    labels: Names
    n_samples: Ordinal
    seed: Count
    status: NotRequired[Id | None]


class Started(Facts, TrialLine):
    """A worker starts a trial."""

    event: Literal["started"]


class EpochDone(TrialLine):
    """An epoch of a trial, with ASHA's decision after it."""

    event: Literal["epoch"]
    epoch: Epoch
    decision: Text
    train_loss: NotRequired[Real | None]
    val_loss: NotRequired[Real | None]
    val_accuracy: NotRequired[Fraction | None]
    val_macro_f1: NotRequired[Fraction | None]
    best_val_accuracy: NotRequired[Fraction | None]
    train_seconds: NotRequired[Amount | None]
    eval_seconds: NotRequired[Amount | None]
    rung: NotRequired[Amount | None]
    cutoff: NotRequired[Fraction | None]


class Retried(TrialLine):
    """A trial lost its worker and is restarted."""

    event: Literal["retried"]
    error: NotRequired[Text | None]


class Noted(TrialLine):
    """Something worth knowing about a trial."""

    event: Literal["noted"]
    text: NotRequired[Text | None]


class Ended(Facts, TrialLine):
    """The result of a trial."""

    event: Literal["ended"]
    status: Id


class Served(ServingFacts, TrialLine):
    """A finished trial or baseline was measured in use."""

    event: Literal["served"]


class Reopened(TrialLine):
    """A failed trial or baseline is to run again."""

    event: Literal["reopened"]


class Closed(Line):
    """The driver ends."""

    event: Literal["closed"]
    trials_left: NotRequired[Count | None]


class Other(Line):
    """An event of a kind that this release does not know."""

    event: Text


Result = Ended | Baseline
Event = (
    Opened
    | Planned
    | Replanned
    | TestSet
    | Baseline
    | Started
    | EpochDone
    | Retried
    | Noted
    | Ended
    | Served
    | Reopened
    | Closed
)
KINDS: dict[str, Any] = {
    get_args(get_type_hints(kind)["event"])[0]: kind for kind in get_args(Event)
}
