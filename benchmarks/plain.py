"""A plain PyTorch loop, as people write it for one model: no Ray, no search, all cores for a trial
at a time. Run as ``python -m benchmarks.plain WORK.json OUT.json``; it fine-tunes all weights.
"""

import copy
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

started = time.time()

import torch  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForSequenceClassification,
    AutoTokenizer,
    get_linear_schedule_with_warmup,
)

MOST_NORM = 1.0


def main(work_path: str, out_path: str) -> None:
    work = json.loads(Path(work_path).read_text())
    imports = time.time() - started
    rows = [train(work, trial) for trial in work["trials"]]
    rows[0]["parts"]["imports"] = imports
    Path(out_path).write_text(json.dumps(rows))


def train(work: dict[str, Any], trial: dict[str, Any]) -> dict[str, Any]:
    """Train one trial; return its scores, and the seconds of its parts."""
    mark = time.time()
    device = torch.device(work["device"])
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(trial["model"])
    model = AutoModelForSequenceClassification.from_pretrained(
        trial["model"], num_labels=len(trial["labels"]), dtype=torch.float32
    ).to(device)
    parts = {"model load": time.time() - mark}
    mark = time.time()
    data = {name: read_texts(path, tokenizer, work) for name, path in trial["files"].items()}
    parts["tokenizing"] = time.time() - mark
    steps = work["epochs"] * -(-len(data["train"]) // work["batch_size"])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=trial["learning_rate"], weight_decay=trial["weight_decay"]
    )
    schedule = get_linear_schedule_with_warmup(
        optimizer, round(work["warmup_ratio"] * steps), steps
    )
    best, kept = -1.0, model.state_dict()
    parts |= {"training": 0.0, "evaluation": 0.0}
    for _ in range(work["epochs"]):
        mark = time.time()
        model.train()
        random.shuffle(data["train"])
        for start in range(0, len(data["train"]), work["batch_size"]):
            batch = collate(data["train"][start : start + work["batch_size"]], tokenizer, device)
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), MOST_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        parts["training"] += time.time() - mark
        mark = time.time()
        found = score(model, data["validation"], tokenizer, work, device)
        if found > best:
            best, kept = found, copy.deepcopy(model.state_dict())
        parts["evaluation"] += time.time() - mark
    mark = time.time()
    model.load_state_dict(kept)
    tested = score(model, data["test"], tokenizer, work, device)
    parts["evaluation"] += time.time() - mark
    return {"val_accuracy": best, "test_accuracy": tested, "parts": parts}


def read_texts(path: str, tokenizer: Any, work: dict[str, Any]) -> list[tuple[list[int], int]]:
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    texts = [row["text"] for row in rows]
    ids = tokenizer(texts, truncation=True, max_length=work["max_length"])["input_ids"]
    return [(each, row["label"]) for each, row in zip(ids, rows, strict=True)]


def collate(rows: list[tuple[list[int], int]], tokenizer: Any, device: torch.device) -> Any:
    batch = tokenizer.pad({"input_ids": [ids for ids, _ in rows]}, return_tensors="pt")
    labels = torch.tensor([label for _, label in rows])
    keys = ("input_ids", "attention_mask")
    return {key: batch[key].to(device) for key in keys} | {"labels": labels.to(device)}


@torch.no_grad()
def score(
    model: Any, rows: list[Any], tokenizer: Any, work: dict[str, Any], device: torch.device
) -> float:
    model.eval()
    right, size = 0, work["eval_batch_size"]
    for start in range(0, len(rows), size):
        batch = collate(rows[start : start + size], tokenizer, device)
        right += int((model(**batch).logits.argmax(-1) == batch["labels"]).sum())
    return right / len(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
