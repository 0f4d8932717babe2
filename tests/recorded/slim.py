"""Cuts a run's journal down to what the time left is told from:
python tests/recorded/slim.py RUN > tests/recorded/NAME/journal.jsonl"""

import json
import sys
from pathlib import Path
from typing import Any

from sweep.storage.journal import JOURNAL_NAME

Event = dict[str, Any]
KEPT = {
    "opened": ("pace",),
    "planned": ("trial",),
    "started": ("trial_id",),
    "epoch": ("trial_id", "epoch", "decision", "rung", "train_seconds", "eval_seconds",
              "val_accuracy", "best_val_accuracy"),
    "retried": ("trial_id", "error"),
    "ended": ("trial_id", "status", "val_accuracy"),
    "reopened": ("trial_id",),
    "closed": ("trials_left",),
}  # fmt: skip


def slim(event: Event, start: float) -> Event:
    """Return the event with the fields that are kept, its time counted from the run's start."""
    kept = {name: event[name] for name in KEPT[event["event"]] if event.get(name) is not None}
    kept = {name: round(v, 4) if isinstance(v, float) else v for name, v in kept.items()}
    if event["event"] == "opened":
        kept["predicted"] = {"seconds": (event.get("predicted") or {}).get("seconds")}
    if event["event"] == "planned":
        model = event["trial"]["model"]
        model["path"] = f"/models/{model['name']}"
    return {"event": event["event"], "time": round(event["time"] - start, 3), **kept}


if __name__ == "__main__":
    lines = (Path(sys.argv[1]) / JOURNAL_NAME).read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event["event"] in KEPT]
    for event in events:
        print(json.dumps(slim(event, events[0]["time"]), separators=(",", ":")))
