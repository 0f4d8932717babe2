"""How an exported folder describes itself: its model card and its sweep.json."""

import json
import re
from dataclasses import dataclass

from sweep.config import DataConfig
from sweep.export.metadata import Shape, build_metadata, find_interval
from sweep.export.origins import Origins
from sweep.export.winner import Winner
from sweep.plan import TrialSpec

METRICS = (
    "val_accuracy",
    "val_macro_f1",
    "test_accuracy",
    "test_macro_f1",
    "n_validation",
    "n_test",
    "best_epoch",
    "epochs_run",
)
ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
SPECIAL = frozenset("\\`*_[]|~:@$")
# A folder's name that a shell takes as it is.
PLAIN_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Rescored:
    """How the exported folder scored with stock libraries."""

    accuracy: float
    # Test texts whose predicted label differs from the run's.
    changed: int
    versions: dict[str, str]


def build_record(winner: Winner, rescored: Rescored, data: DataConfig, shape: Shape) -> str:
    """Return the text of sweep.json: the exact trial, its metrics and the versions."""
    tree = {
        "trial": winner.spec.to_dict(),
        "chosen_as": winner.reason,
        "metrics": {name: winner.ended.get(name) for name in METRICS},
        "trained": {
            "dtype": winner.ended.get("dtype"),
            "device": winner.ended.get("device"),
            "versions": winner.versions,
            "git_commit": winner.git_commit,
        },
        "exported": {
            "merged": shape.merged,
            "versions": rescored.versions,
            "test_accuracy": rescored.accuracy,
            "changed_predictions": rescored.changed,
        },
        "data": data.model_dump(mode="json"),
    }
    return json.dumps(tree, indent=2) + "\n"


def build_card(
    winner: Winner, rescored: Rescored, data: DataConfig, shape: Shape, origins: Origins
) -> str:
    """Return the text of README.md, a model card; strings from data or files are escaped."""
    spec = winner.spec
    title = f"# {escape(spec.model.name)}, fine-tuned to tell {spec.cell.n_labels} labels apart"
    sections = [
        build_metadata(winner, data, shape, origins) + f"\n{title}\n\n{_introduce(spec, shape)}",
        "## Numbers\n\n" + _format_numbers(winner, rescored),
        "## Labels\n\n" + "\n".join(f"{i}. {escape(n)}" for i, n in enumerate(spec.cell.labels)),
        "## How to load it\n\n" + _format_code(spec, shape),
        "## Data\n\n" + _describe_data(spec, data),
        "## License\n\n" + _describe_license(spec, origins),
        "## How it was made\n\n" + _format_settings(winner),
    ]
    return "\n\n".join(sections) + "\n"


def escape(text: str) -> str:
    """Return ``text`` as one line of Markdown that shows it literally."""
    shown = [c if c.isprintable() else c.encode("unicode_escape").decode() for c in text]
    return "".join(
        ENTITIES.get(c) or (f"\\{c}" if c in SPECIAL else c) for part in shown for c in part
    )


def _introduce(spec: TrialSpec, shape: Shape) -> str:
    base = f"{escape(spec.model.path)} (revision {escape(spec.model.revision)})"
    if spec.candidate.lora is None:
        return (
            f"A sequence classifier: {base}, all of its weights fine-tuned, float32. The folder is "
            "self-contained."
        )
    if shape.merged:
        return (
            f"A sequence classifier: the weights of {base} with a LoRA adapter of rank "
            f"{spec.candidate.lora_rank} merged into them, float32. The folder is self-contained."
        )
    return (
        f"A LoRA adapter of rank {spec.candidate.lora_rank} and a classification head for {base}. "
        "The base model is not in this folder: keep it where it is, or export with `--merge`."
    )


def _format_numbers(winner: Winner, rescored: Rescored) -> str:
    ended = winner.ended
    rows = [
        ("test accuracy", ended["test_accuracy"], ended["n_test"]),
        ("test macro-F1", ended["test_macro_f1"], ended["n_test"]),
        ("validation accuracy", ended["val_accuracy"], ended["n_validation"]),
        ("validation macro-F1", ended["val_macro_f1"], ended["n_validation"]),
    ]
    rows += [
        (f"test accuracy of {escape(name)} on the same texts", value, ended["n_test"])
        for name, value in sorted(winner.baselines.items())
    ]
    low, high = find_interval(winner)
    lines = ["| | value | texts |", "|---|---:|---:|"]
    lines += [f"| {name} | {value:.4f} | {count} |" for name, value, count in rows]
    return (
        "\n".join(lines)
        + f"\n\nThe 95 % Wilson interval of the test accuracy is {low:.4f} to {high:.4f}: so far "
        "could other test texts of this kind move it. Training anew with another seed is not in "
        "it.\n\nThe subsets are balanced: every label has the same number of texts, so "
        "guessing gives "
        f"{1 / winner.spec.cell.n_labels:.4f}. Validation chose the epoch and the settings; the "
        f"test texts were scored afterwards. This trial is {escape(winner.reason)}.\n\n"
        f"Loaded again from this folder by stock libraries in float32, it gave a test accuracy of "
        f"{rescored.accuracy:.4f}; {rescored.changed} of {ended['n_test']} predictions differed "
        f"from those made in training ({escape(str(ended.get('dtype')))})."
    )


def _format_code(spec: TrialSpec, shape: Shape) -> str:
    remote = ", trust_remote_code=True" if spec.model.trust_remote_code else ""
    first = f"folder = {json.dumps(shape.name)}  # this folder, or its name on the Hub"
    if shape.merged:
        code = f"""\
from transformers import pipeline

{first}
classify = pipeline("text-classification", model=folder, truncation=True{remote})
print(classify("a text"))"""
    else:
        code = f"""\
from peft import AutoPeftModelForSequenceClassification as Classifier
from transformers import AutoConfig, pipeline

{first}
config = AutoConfig.from_pretrained(folder, subfolder="classifier"{remote})
names = ("id2label", "label2id", "pad_token_id")
names = {{name: getattr(config, name) for name in names if hasattr(config, name)}}
names["ignore_mismatched_sizes"] = True  # the base model's own head, if it has one
model = Classifier.from_pretrained(folder, dtype="float32"{remote}, **names)
classify = pipeline("text-classification", model=model, tokenizer=folder, truncation=True)
print(classify("a text"))"""
    folder = shape.name if PLAIN_NAME.fullmatch(shape.name) else "FOLDER"
    trust = " --trust-remote-code" if spec.model.trust_remote_code else ""
    return (
        f"```python\n{code}\n```\n\nTexts longer than {spec.recipe.max_length} tokens are "
        "truncated, as in training. A whole file of texts is labeled, with the probability of each "
        "label, by the program that trained this model (`pip install textsweep`):\n\n```sh\n"
        f"sweep predict {folder} texts.csv --out labels.parquet{trust}\n```"
    )


def _describe_data(spec: TrialSpec, data: DataConfig) -> str:
    if data.source == "synthetic":
        source = "the built-in synthetic corpus: the numbers say nothing about real texts"
    else:
        kind = "dataset of the Hugging Face Hub" if data.source == "hub" else "files"
        source = f"{escape(str(data.path or data.splits))} ({kind})"
    return (
        f"Source: {source}. Trained on {spec.cell.n_samples} texts, balanced over the labels, drawn"
        f" with seed {spec.cell.seed}; fingerprint of the training, validation and test texts: "
        f"{escape(spec.data_fingerprint)}. Texts with several labels are left out, so the "
        "classifier gives every text exactly one label. The terms and the biases of the data carry "
        "over; this folder contains no text of the data."
    )


def _describe_license(spec: TrialSpec, origins: Origins) -> str:
    named = origins.license.get("license_name") or origins.license.get("license")
    which = f" Its card names {escape(named)}." if named else ""
    return (
        f"The license of the base model, {escape(spec.model.path)}, applies to these weights; read "
        f"it before you share them.{which} The data may have terms of their own."
    )


def _format_settings(winner: Winner) -> str:
    spec, ended = winner.spec, winner.ended
    candidate, recipe = spec.candidate, spec.recipe
    lora = candidate.lora
    method = (
        f"LoRA rank {lora.rank}, alpha {lora.alpha:g}, dropout {lora.dropout:g}"
        if lora
        else "all weights fine-tuned"
    )
    lines = [
        f"- {method}; AdamW, learning rate {candidate.learning_rate:g}, weight decay "
        f"{candidate.weight_decay:g}",
        f"- batches of {recipe.batch_size} texts, epoch {ended['best_epoch']} of "
        f"{ended['epochs_run']} trained",
        f"- on {escape(str(ended.get('device')))}, with "
        + ", ".join(f"{escape(name)} {escape(number)}" for name, number in winner.versions.items()),
        f"- trial {escape(spec.trial_id)} of cell {escape(spec.cell.cell_id)}; `sweep.json` has "
        "every setting",
    ]
    return "\n".join(lines)
