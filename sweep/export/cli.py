"""The command line of export: writes a folder that stock peft and transformers load, and scores it
again before it counts."""

import argparse
import operator
import os
import re
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from sweep.cli.options import OptionParser, read_path
from sweep.cli.outcome import run_command
from sweep.cli.program import name_program
from sweep.config import Config, ModelConfig, load_config
from sweep.data import Subsets, build_subsets, go_offline_if_silent
from sweep.errors import (
    ConfigError,
    DataError,
    ModelError,
    RunFolderError,
    explain_cause,
    first_line,
)
from sweep.export.metadata import Shape
from sweep.export.model_card import Rescored, build_card, build_record
from sweep.export.origins import find_origins
from sweep.export.winner import Winner, find_winner, has_hub_base, list_recorded
from sweep.models.sources import resolve_revision
from sweep.models.tiny_configs import TINY_PREFIX
from sweep.plan import TrialSpec, scored_at_once
from sweep.startup.home import settle_home
from sweep.startup.namesake import refuse_namesake
from sweep.storage.run_folder import CONFIG_NAME

DESCRIPTION = """\
Write the best trial of a cell as a folder that stock peft and transformers load: adapter and head
(or all weights, where all were trained), tokenizer, label names, settings and a model card. Those
libraries then load the folder and score the test texts; it only gets its name if the score is the
same as in the run."""

EPILOG = """\
Which trial: validation chooses, never test. It is the finished trial of the cell with the highest
validation accuracy; with --best, of the cell whose chance-normalized validation accuracy,
(accuracy - 1/k) / (1 - 1/k) for k labels, is the highest.

An adapter refers to its base model: by id and commit on the Hub, else by the folder's absolute path
(for a tiny family, RUN/models/...). --merge writes a self-contained folder; so is that of a full
fine-tune, always.

examples:
  {0} runs/quickstart --best --out winner
  {0} runs/quickstart --cell 1735073e7a92 --out winner --merge

exit codes: 0 exported; 2 wrong input, or the score differs: DIR.partial is kept for inspection;
130 interrupted: DIR is as it was before"""

# By number format of the training: the largest deviation of test accuracy, and the largest fraction
# of predictions that differ, when the folder is scored in float32.
LIMITS = {"float32": (0.002, 1 / 200)}
# In 16 bits logits have three digits, so close calls may go either way.
HALF_LIMITS = (0.01, 1 / 50)

PACKAGES = ("torch", "transformers", "peft", "safetensors")
REPO = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def build_parser() -> OptionParser:
    program = name_program("sweep.export")
    parser = OptionParser(program, DESCRIPTION, EPILOG.format(program))
    add = parser.add_argument
    add("run", type=read_path, metavar="RUN", help="a run folder, e.g. runs/quickstart")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--cell", metavar="CELL_ID", help="the cell whose best trial to export")
    which.add_argument(
        "--best",
        action="store_true",
        help="the cell with the highest chance-normalized validation accuracy",
    )
    add("--out", type=read_path, required=True, metavar="DIR", help="a new or empty folder")
    add("--merge", action="store_true", help="merge the adapter into the base model's weights")
    add(
        "--push",
        metavar="OWNER/NAME",
        help="also upload the folder to this repository of the Hugging Face Hub, private if it is "
        "new; needs HF_TOKEN in the environment",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""

    def work() -> int:
        refuse_namesake()
        return _export(build_parser().parse_args(arguments))

    return run_command(work, "interrupted")


def _export(options: argparse.Namespace) -> int:
    settle_home(options.out.parent)
    out, summary = export_folder(
        options.run, options.out, options.cell, options.merge, options.push
    )
    print(summary)
    if options.push:
        print(push_folder(out, options.push))
    print(out)
    return 0


def export_folder(
    run: Path, out: Path, cell: str | None, merge: bool, push: str | None = None
) -> tuple[Path, str]:
    """Export the best trial of a cell (None: of the best cell of the run) to the new folder
    ``out``; return the folder and how it scored. ``push`` is a repository that it must suit.

    After an interruption nothing is left of it: the same call may be made again.
    """
    out, folder = out.resolve(), run.absolute()
    partial = check_target(out)
    winner = find_winner(folder, cell)
    # Where all weights were trained, they are exported, and there is no adapter to merge.
    complete = merge or winner.spec.model.method == "full"
    if push:
        check_push(push, winner.spec, complete)
    try:
        rescored = write_folder(winner, folder, partial, Shape(out.name, complete))
    except KeyboardInterrupt:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    rename_finished(partial, out)
    return out, format_summary(winner, rescored)


def write_folder(winner: Winner, run_folder: Path, target: Path, shape: Shape) -> Rescored:
    """Write the complete export to the new folder ``target`` and return how it scored.

    The model card comes last: after an error there is none.
    """
    path = run_folder / CONFIG_NAME
    if not path.exists():
        raise RunFolderError(
            f"{path}: is missing; resume the run with the configuration that it was started with, "
            "which writes it again"
        )
    config = load_config(path)
    subsets = rebuild_subsets(config, winner.spec)
    check_base(winner, run_folder)
    write_weights(winner, run_folder, config.storage.checkpoints, subsets, target, shape)
    rescored = rescore(winner, subsets, target, shape)
    (target / "sweep.json").write_text(build_record(winner, rescored, config.data, shape))
    origins = find_origins(winner.spec, config.data)
    card = build_card(winner, rescored, config.data, shape, origins)
    (target / "README.md").write_text(card, encoding="utf-8")
    return rescored


def check_target(out: Path) -> Path:
    """Return the folder beside ``out`` to write to; raise RunFolderError unless ``out`` is new or
    empty and that folder does not exist."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "is not empty" if out.is_dir() else "is a file"
        raise RunFolderError(f"{out}: {what}; choose another --out")
    partial = out.with_name(f"{out.name}.partial")
    # A dangling link does not exist, but is in the way.
    if partial.exists() or partial.is_symlink():
        raise RunFolderError(
            f"{partial}: is left over from an unfinished export; delete it, or choose another --out"
        )
    return partial


def rename_finished(partial: Path, out: Path) -> None:
    """Rename the finished folder; raise RunFolderError if something else is at ``out`` by now."""
    try:
        partial.replace(out)
    except OSError as error:
        raise RunFolderError(
            f"{out}: was filled by something else in the meantime ({error.strerror}); the export "
            f"is complete in {partial}, so rename it"
        ) from None


def rebuild_subsets(config: Config, spec: TrialSpec) -> Subsets:
    """Return the subsets of the run's data; raise DataError unless they are the ones that the trial
    was trained on."""
    subsets, cell = build_subsets(config), spec.cell
    same = subsets.labels_for(cell.n_labels) == cell.labels
    if not same or spec.data_fingerprint != subsets.fingerprint(
        cell.n_labels, cell.n_samples, cell.seed
    ):
        raise DataError(
            f"data: texts or labels have changed since cell {cell.cell_id} was trained, so its "
            "score could not be checked; restore the files, or the data keys of the run's "
            "config.yaml, to export it"
        )
    return subsets


def check_base(winner: Winner, run_folder: Path) -> None:
    """Raise ModelError if the trial's base model is missing, or not the one it was trained on."""
    ref = winner.spec.model
    if has_hub_base(winner.spec):
        go_offline_if_silent()
        return
    tiny = ref.path.startswith(TINY_PREFIX)
    if tiny and find_tiny(winner, run_folder).is_dir():
        return
    if not tiny and not (Path(ref.path).expanduser() / "config.json").is_file():
        raise ModelError(f"model {ref.name}: {ref.path} is missing; put the base model back there")
    found = resolve_revision(ModelConfig(name=ref.name, path=ref.path))
    if found != ref.revision:
        raise ModelError(
            f"model {ref.name}: {ref.path} has changed since the trial ({ref.revision} then, "
            f"{found} now); restore the former one to export"
        )


def find_tiny(winner: Winner, run_folder: Path) -> Path:
    """Return the run's copy of the tiny model that the trial was trained on."""
    name = winner.ended.get("base") or winner.spec.model.revision
    return run_folder / "models" / Path(name).name


def write_weights(
    winner: Winner,
    run_folder: Path,
    storage: str | None,
    subsets: Subsets,
    target: Path,
    shape: Shape,
) -> None:
    # Imported here: slow, and not needed to refuse what cannot be exported.
    from sweep.export import bundle

    bundle.silence_progress()
    spec, best_epoch = winner.spec, winner.ended["best_epoch"] or 0
    weights = bundle.read_best_weights(run_folder, storage, spec.trial_id, best_epoch)
    source = str(find_tiny(winner, run_folder))
    if not spec.model.path.startswith(TINY_PREFIX) or not Path(source).is_dir():
        source = bundle.materialize(spec.model, run_folder / "models", subsets.training_texts)
    base, model = bundle.build_classifier(spec, source, weights)
    try:
        target.mkdir(parents=True)
        if shape.merged:
            bundle.write_complete(model, target)
        elif has_hub_base(spec):
            bundle.write_adapter(model, base, target, source, spec.model.revision)
        else:
            bundle.write_adapter(model, base, target, str(Path(source).absolute()), None)
        bundle.write_tokenizer(base, spec.recipe.max_length, target)
    except OSError as error:
        reason = explain_cause(error)
        raise RunFolderError(
            f"{target}: cannot be written ({reason}); choose another --out"
        ) from None


def rescore(winner: Winner, subsets: Subsets, folder: Path, shape: Shape) -> Rescored:
    """Return how stock libraries score the test texts with the exported ``folder``.

    Raises RunFolderError if that is not what the run recorded.
    """
    from sweep.export import bundle

    spec, test = winner.spec, subsets.evaluation("test", winner.spec.cell.n_labels)
    classify = bundle.load_stock(folder, shape.merged, spec.model.trust_remote_code)
    found = bundle.predict_labels(classify, test.texts, scored_at_once(spec.recipe))
    truth = [test.labels[index] for index in test.classes]
    accuracy = sum(map(operator.eq, found, truth)) / len(truth)
    changed = min(sum(map(operator.ne, found, before)) for before in list_recorded(winner, test))
    off, part = LIMITS.get(winner.ended.get("dtype") or "", HALF_LIMITS)
    recorded = winner.ended["test_accuracy"] or 0.0
    wrong = abs(accuracy - recorded) > off or changed > part * len(truth)
    if wrong:
        raise RunFolderError(
            f"{folder}: the exported model scores {accuracy:.4f} on the test texts where the run "
            f"has {recorded:.4f}, and {changed} of {len(truth)} predictions "
            "differ: it is not the model that was measured, so do not use it"
        )
    return Rescored(accuracy, changed, {name: version(name) for name in PACKAGES})


def format_summary(winner: Winner, rescored: Rescored) -> str:
    cell, ended = winner.spec.cell, winner.ended
    return (
        f"cell {cell.cell_id} ({cell.model}, {cell.n_labels} labels x {cell.n_samples}, seed "
        f"{cell.seed}): test accuracy {ended['test_accuracy']:.4f} on {ended['n_test']} texts; "
        f"loaded by stock libraries {rescored.accuracy:.4f}, {rescored.changed} predictions differ"
    )


def check_push(repo: str, spec: TrialSpec, merged: bool) -> None:
    """Raise ConfigError if the folder could not be uploaded, or if nobody else could load it."""
    if not REPO.fullmatch(repo):
        raise ConfigError(f"--push {repo}: write OWNER/NAME, a repository of the Hub")
    if not os.environ.get("HF_TOKEN"):
        raise ConfigError("--push needs a token with write access: set HF_TOKEN in the environment")
    if not merged and not has_hub_base(spec):
        raise ConfigError(
            f"--push: {spec.model.name}'s base model is on this machine, where nobody else could "
            "load it from; add --merge"
        )


def push_folder(folder: Path, repo: str) -> str:
    """Upload ``folder`` to ``repo``, private if it is new; return its address."""
    from huggingface_hub import HfApi

    token = os.environ["HF_TOKEN"]
    api = HfApi(token=token)
    try:
        api.create_repo(repo, private=True, exist_ok=True)
        return str(api.upload_folder(repo_id=repo, folder_path=folder))
    except Exception as error:  # the library raises many kinds: network, rights, quota
        reason = first_line(error).replace(token, "***")
        raise RunFolderError(
            f"{folder}: is exported, but could not be uploaded to {repo} ({reason}); upload it "
            f"with: hf upload {repo} {folder}"
        ) from None
