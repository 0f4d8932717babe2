"""What the fields of the journal's events hold: a check in words and as a test for each."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from sweep.storage.account import is_account

MOST = 2**53
"""The largest whole number that a table's float64 column holds exactly."""
MOST_EPOCHS = 10**6
"""As many as ``asha.max_epochs`` allows; a trial keeps a list as long as its last epoch."""
LAST_TIME = 9e9
"""Unix seconds in the year 2255; pandas' clock ends in 2262."""


class Check(NamedTuple):
    """What a value has to be, in words and as a test."""

    words: str
    test: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    if type(value) is float:
        return math.isfinite(value)
    return type(value) is int and -MOST <= value <= MOST


def _is_amount(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= MOST


def _is_fraction(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= LAST_TIME


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST


def _is_ordinal(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MOST


def _is_epoch(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MOST_EPOCHS


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_id(value: Any) -> bool:
    return type(value) is str and value != ""


def _are_names(value: Any) -> bool:
    return type(value) is list and bool(value) and all(map(_is_id, value)) and _differ(value)


def _are_words(value: Any) -> bool:
    return type(value) is list and all(map(_is_id, value))


def _differ(values: list[str]) -> bool:
    return len(set(values)) == len(values)


def _are_counts(value: Any) -> bool:
    if type(value) is not list or not set(map(type, value)) <= {int}:
        return False
    return not value or (min(value) >= 0 and max(value) <= MOST)


def _is_prediction(value: Any) -> bool:
    """Whether ``value`` is the preflight's forecast: seconds (low, likely, high) and bytes."""
    if type(value) is not dict:
        return False
    seconds, memory = value.get("seconds"), value.get("memory_bytes")
    known = seconds is None or (type(seconds) is list and len(seconds) == 3)
    return (
        known
        and all(map(_is_amount, seconds or ()))
        and (memory is None or (type(memory) is dict and all(map(_is_amount, memory.values()))))
    )


def _is_pace(value: Any) -> bool:
    """Whether ``value`` is what the preflight knows of epochs, rungs and trials at a time."""
    if type(value) is not dict:
        return False
    epochs, rungs = value.get("epoch_seconds"), value.get("rungs")
    at_a_time = value.get("trials_at_a_time")
    return (
        (epochs is None or (type(epochs) is dict and all(map(_is_pair, epochs.values()))))
        and (rungs is None or (type(rungs) is list and all(map(_is_rung, rungs))))
        and (at_a_time is None or _is_ordinal(at_a_time))
    )


def _is_pair(value: Any) -> bool:
    return type(value) is list and len(value) == 2 and all(map(_is_amount, value))


def _is_rung(value: Any) -> bool:
    return _is_pair(value) and _is_epoch(value[0]) and _is_fraction(value[1])


def _are_versions(value: Any) -> bool:
    return type(value) is dict and all(map(_is_text, value.values()))


TEXT = Check("a text", _is_text)
ID = Check("a text that is not empty", _is_id)
REAL = Check("a finite number", _is_number)
AMOUNT = Check("a number from 0", _is_amount)
FRACTION = Check("a number from 0 to 1", _is_fraction)
COUNT = Check("a whole number from 0", _is_count)
ORDINAL = Check("a whole number from 1", _is_ordinal)
EPOCH = Check(f"a whole number from 1 to {MOST_EPOCHS}", _is_epoch)
FLAG = Check("true or false", lambda value: type(value) is bool)
COUNTS = Check("a list of whole numbers from 0", _are_counts)
NAMES = Check("a list of different names", _are_names)

FIELDS: dict[str, Check] = {
    "time": Check("a Unix time in seconds", _is_time),
    **dict.fromkeys(("trial_id", "cell_id", "model", "status"), ID),
    **dict.fromkeys(("fingerprint", "test_set"), ID),
    **dict.fromkeys(("error", "traceback", "text", "reason", "host", "device", "dtype"), TEXT),
    **dict.fromkeys(("command", "git_commit", "decision", "kind", "data_fingerprint"), TEXT),
    **dict.fromkeys(("model_path", "model_revision", "base"), TEXT),
    **dict.fromkeys(("n_labels", "n_samples", "lora_rank"), ORDINAL),
    **dict.fromkeys(("batch_size", "max_length"), ORDINAL),
    **dict.fromkeys(("epoch", "max_epochs"), EPOCH),
    **dict.fromkeys(("seed", "candidate", "epochs_run", "best_epoch", "resumed_epoch"), COUNT),
    **dict.fromkeys(("n_validation", "n_test", "pid", "trials_left", "truncated_texts"), COUNT),
    **dict.fromkeys(("train_tokens", "padded_tokens", "peak_memory_bytes"), COUNT),
    **dict.fromkeys(("trainable_parameters", "total_parameters"), COUNT),
    **dict.fromkeys(("val_accuracy", "val_macro_f1", "test_accuracy", "test_macro_f1"), FRACTION),
    **dict.fromkeys(("best_val_accuracy", "cutoff"), FRACTION),
    **dict.fromkeys(("train_loss", "val_loss"), REAL),
    **dict.fromkeys(("load_seconds", "train_seconds", "eval_seconds", "wall_seconds"), AMOUNT),
    **dict.fromkeys(("rung", "learning_rate", "weight_decay", "lora_alpha"), AMOUNT),
    "lora_dropout": FRACTION,
    "best_of_cell": FLAG,
    **dict.fromkeys(("labels", "trials"), NAMES),
    "baselines": Check("a list of names", _are_words),
    **dict.fromkeys(("items", "truth", "predictions"), COUNTS),
    "versions": Check("an object of texts", _are_versions),
    "predicted": Check("a forecast of seconds and memory_bytes", _is_prediction),
    "data": Check("an account of the data's rows", is_account),
    "pace": Check("a forecast of epoch_seconds, rungs and trials_at_a_time", _is_pace),
}
"""What a field of an event holds, whatever the event; null and fields without a check pass."""

CELL_FIELDS = ("trial_id", "cell_id", "model", "n_labels", "n_samples", "seed")

REQUIRED: dict[str, tuple[str, ...]] = {
    "planned": ("trial",),
    "replanned": ("trials",),
    "test_set": ("labels", "items", "truth"),
    "baseline": (*CELL_FIELDS, "labels"),
    "started": ("trial_id",),
    "epoch": ("trial_id", "epoch", "decision"),
    "retried": ("trial_id",),
    "noted": ("trial_id",),
    "ended": ("trial_id", "status"),
    "reopened": ("trial_id",),
}
"""What an event of each kind cannot do without, beside ``event`` and ``time``."""

SPEC: dict[str, dict[str, Check]] = {
    "cell": {
        "cell_id": ID,
        "model": ID,
        "n_labels": ORDINAL,
        "labels": NAMES,
        "n_samples": ORDINAL,
        "seed": COUNT,
    },
    "candidate": {
        "index": COUNT,
        "lora_rank": ORDINAL,
        "lora_alpha": AMOUNT,
        "learning_rate": AMOUNT,
        "lora_dropout": FRACTION,
        "weight_decay": AMOUNT,
    },
    "model": {"name": ID, "path": TEXT, "revision": TEXT},
    "recipe": {
        "batch_size": ORDINAL,
        "eval_batch_size": ORDINAL,
        "max_length": ORDINAL,
        "dtype": TEXT,
        "warmup_ratio": FRACTION,
        "max_grad_norm": AMOUNT,
        "max_epochs": EPOCH,
    },
}
"""The parts of ``TrialSpec.to_dict()`` and what each of them cannot do without."""
