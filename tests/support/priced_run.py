"""Gives a run folder what one has that records processors, prices and use: planted numbers."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sweep.storage.journal import JOURNAL_NAME
from sweep.storage.prices import Prices
from sweep.storage.tables import write_tables

PRICES = Prices({"other": 2.0}, {"other": 0.04}, 0.2, "USD")
CPU, GPU = "CPU (x86_64, 2 threads)", "NVIDIA A100-SXM4-40GB"

Event = dict[str, Any]


def price_run(
    folder: Path,
    prices: Prices | None = PRICES,
    gpus: float = 0.0,
    cpus: float | None = 2.0,
    speeds: Mapping[str, float] | None = None,
    seconds: float = 1.0,
    device: str = CPU,
) -> Path:
    """Rewrite the journal of ``folder`` and return the folder.

    Trials get ``gpus`` and ``cpus`` (None: not recorded) and take ``seconds`` times as long;
    references get CPUs alone. The models in ``speeds`` get that many texts per second, on
    ``device`` if they are no references; a speed of 0 is a failed measurement.
    """
    path = folder / JOURNAL_NAME
    events = [json.loads(line) for line in path.read_bytes().splitlines()]
    models = {
        e["trial"]["trial_id"]: e["trial"]["cell"]["model"]
        for e in events
        if e["event"] == "planned"
    }
    for event in events:
        if event["event"] == "opened" and prices is not None:
            event["prices"] = asdict(prices)
        if event["event"] in ("ended", "baseline"):
            if event["event"] == "ended":
                event["device"] = device
            if cpus is not None:
                event |= {"gpus": gpus if event["event"] == "ended" else 0.0, "cpus": cpus}
            if event.get("wall_seconds") is not None:
                event["wall_seconds"] *= seconds
    served = [_serve(event, models, speeds or {}, device) for event in events]
    lines = [*events, *(event for event in served if event)]
    path.write_text("".join(json.dumps(event) + "\n" for event in lines))
    write_tables(folder)
    return folder


def _serve(
    event: Event, models: Mapping[str, str], speeds: Mapping[str, float], device: str
) -> Event | None:
    model = event.get("model") or models.get(event.get("trial_id", ""))
    done = event["event"] == "baseline" or event.get("status") == "finished"
    if model not in speeds or event["event"] not in ("ended", "baseline") or not done:
        return None
    shared = {"event": "served", "time": event["time"], "trial_id": event["trial_id"]}
    speed = speeds[model]
    if not speed:
        return {**shared, "serving_error": "the model did not load again"}
    return {
        **shared,
        "serving_texts_per_second": speed,
        "serving_batch": 32,
        "latency_p50_seconds": 4 / speed,
        "latency_p95_seconds": 6 / speed,
        "serving_memory_bytes": 640 * 2**20,
        "serving_size_bytes": 90 * 2**20,
        "serving_device": CPU if event["event"] == "baseline" else device,
        "serving_host": "worker-1",
        "serving_cpus": 2.0,
    }
