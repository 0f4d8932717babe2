"""The stock recipe: Ray Tune, Hugging Face's Trainer and peft, as in their documentation.

Each trial is a process of its own that loads model and data, tokenizes, trains with padding to the
longest text of a batch, evaluates and saves each epoch, and scores the test texts with the best
epoch's weights. Run as ``python -m benchmarks.stock WORK.json OUT.json``.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import ray
from ray import tune


def train(config: dict[str, Any], send: Callable[..., None] = tune.report) -> None:
    """Train one trial; ``send`` each epoch's metrics and, at the end, the parts of the trial's
    time."""
    entered = time.time()
    work, trial = config["work"], config["trial"]
    import numpy as np
    import torch
    from datasets import disable_progress_bars, load_dataset
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    disable_progress_bars()
    torch.set_num_threads(max(1, int(work["cpus"])))
    marks = {"imports": time.time() - entered}
    mark = time.time()

    tokenizer = AutoTokenizer.from_pretrained(trial["model"])
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(
        trial["model"], num_labels=len(trial["labels"]), dtype=torch.float32
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    if trial["lora_rank"] is not None:
        adapter = LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=trial["lora_rank"],
            lora_alpha=trial["lora_alpha"],
            lora_dropout=trial["lora_dropout"],
            target_modules="all-linear",
            fan_in_fan_out=trial["conv1d"],
        )
        model = get_peft_model(model, adapter)
    marks["model load"], mark = time.time() - mark, time.time()

    def encode(rows: dict[str, list[Any]]) -> Any:
        return tokenizer(rows["text"], truncation=True, max_length=work["max_length"])

    with tempfile.TemporaryDirectory() as cache:
        texts = load_dataset("json", data_files=trial["files"], cache_dir=cache)
        data = texts.map(encode, batched=True)
        marks["tokenizing"] = time.time() - mark

        seconds = dict.fromkeys(("training", "evaluation", "checkpoint", "report"), 0.0)

        class Report(TrainerCallback):  # type: ignore[misc]
            """Times the parts of an epoch and reports it to Tune with its checkpoint."""

            def on_epoch_begin(self, *arguments: Any, **more: Any) -> None:
                self.mark = time.time()

            def on_epoch_end(self, *arguments: Any, **more: Any) -> None:
                self._take("training")

            def on_evaluate(self, *arguments: Any, metrics: dict[str, float], **more: Any) -> None:
                self.metrics = metrics
                self._take("evaluation")

            def on_save(self, arguments: Any, state: Any, control: Any, **more: Any) -> None:
                self._take("checkpoint")
                folder = Path(arguments.output_dir) / f"checkpoint-{state.global_step}"
                send(
                    {"val_accuracy": self.metrics["eval_accuracy"]},
                    checkpoint=tune.Checkpoint.from_directory(folder),
                )
                self._take("report")

            def _take(self, part: str) -> None:
                now = time.time()
                seconds[part] += now - self.mark
                self.mark = now

        def score(prediction: Any) -> dict[str, float]:
            hits = np.argmax(prediction.predictions, -1) == prediction.label_ids
            return {"accuracy": float(hits.mean())}

        steps = work["epochs"] * -(-len(data["train"]) // work["batch_size"])
        arguments = TrainingArguments(
            output_dir=cache,
            per_device_train_batch_size=work["batch_size"],
            per_device_eval_batch_size=work["eval_batch_size"],
            num_train_epochs=work["epochs"],
            learning_rate=trial["learning_rate"],
            weight_decay=trial["weight_decay"],
            warmup_steps=round(work["warmup_ratio"] * steps),
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            bf16=trial["dtype"] == "bfloat16",
            fp16=trial["dtype"] == "float16",
            use_cpu=work["device"] == "cpu",
            report_to="none",
            logging_strategy="no",
            disable_tqdm=True,
        )
        report = Report()
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=data["train"],
            eval_dataset=data["validation"],
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=score,
            callbacks=[report],
        )
        trainer.train()
        mark = time.time()
        tested = trainer.predict(data["test"]).metrics["test_accuracy"]
        seconds["evaluation"] += time.time() - mark
    send(
        {
            "val_accuracy": trainer.state.best_metric,
            "test_accuracy": tested,
            "parts": marks | seconds,
        }
    )


def main(work_path: str, out_path: str) -> None:
    """Run the trials of ``work_path``; write a row per trial to ``out_path``."""
    work = json.loads(Path(work_path).read_text())
    resources = {"cpu": work["cpus"], **({"gpu": work["gpus"]} if work["gpus"] else {})}
    ray.init(log_to_driver=False, include_dashboard=False, logging_level="error")
    with tempfile.TemporaryDirectory() as storage:
        tuner = tune.Tuner(
            tune.with_resources(train, resources),
            param_space={"work": work, "trial": tune.grid_search(work["trials"])},
            run_config=tune.RunConfig(storage_path=storage, verbose=0),
        )
        results = tuner.fit()
        rows = []
        for result in results:
            if result.error is not None:
                raise result.error
            metrics = result.metrics
            rows.append(
                {
                    "trial": metrics["config"]["trial"]["name"],
                    "val_accuracy": metrics["val_accuracy"],
                    "test_accuracy": metrics["test_accuracy"],
                    "parts": metrics["parts"],
                }
            )
    ray.shutdown()
    Path(out_path).write_text(json.dumps(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
