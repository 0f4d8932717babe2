"""Mistakes of users: each is refused with one sentence that names the key and the remedy, with exit
code 2, without a traceback, and with nothing written."""

from pathlib import Path

import pytest
import yaml

from sweep.cluster import environment
from sweep.run import main

TREE = {
    "name": "small",
    "grid": {
        "models": [{"name": "tiny", "path": "tiny:llama"}],
        "n_labels": [2, 4],
        "n_samples": [16, 32],
    },
    "tune": {"candidates": 2, "lora_rank": [2, 4], "learning_rate": 5e-3},
    "asha": {"max_epochs": 3, "grace_epochs": 1, "reduction_factor": 2},
}
TWO_COLUMNS = "text,label\n" + "".join(
    f"text {i} of {name},{name}\n" for name in ("joy", "fear", "calm") for i in range(20)
)
FILES = {
    "three.csv": TWO_COLUMNS,
    "empty.csv": "",
    "nolabel.csv": "text,color\na,b\n",
    "ragged.csv": "text,label\na,b,c\n",
    "three.xlsx": TWO_COLUMNS,
    "broken.jsonl": '{"text": "a", "label": "joy"}\n{"text": \n',
    "official/emotions.txt": "joy\nfear\n",
    "official/train.tsv": "a\t0\tid\nb\t7\tid\n",
    "official/dev.tsv": "c\t0\tid\n",
    "official/test.tsv": "d\t1\tid\n",
    "nothing/notes.txt": "mine",
    "model/notes.txt": "mine",
    "used/run.txt": "mine",
    "python.yaml": "name: !!python/object/apply:os.system ['true']\n",
    "unclosed.yaml": "grid: {models: [\n",
    "list.yaml": "- 1\n- 2\n",
    "empty.yaml": "",
    "nogrid.yaml": "name: small\n",
}
ONE_MODEL = "grid.models=[{name: a, path: "

SET = {  # what --set changes, the key that the sentence names, and the remedy it gives
    "unknown key": ("train.batchsize=8", "train.batchsize", "did you mean 'batch_size'?"),
    "unknown section": ("tunes.candidates=2", "tunes is not a known key", "did you mean 'tune'?"),
    "unknown model key": ("grid.models.0.pth=x", "grid.models.0.pth", "did you mean 'path'?"),
    "nothing near": ("train.zzz=1", "train.zzz", "known keys are batch_size"),
    "word for a number": ("train.warmup_ratio=fast", "train.warmup_ratio", "needs a number"),
    "word for an integer": ("train.batch_size=fast", "train.batch_size", "an integer"),
    "fraction of a batch": ("train.batch_size=1.5", "train.batch_size", "needs an integer"),
    "true for a number": ("tune.candidates=true", "tune.candidates", "a number is needed"),
    "not a number": ("train.max_grad_norm=.nan", "train.max_grad_norm", "finite number"),
    "zero batch": ("train.batch_size=0", "train.batch_size", "greater than 0"),
    "number for a section": ("train=3", "train", "needs keys below it, not 3"),
    "unknown dtype": ("train.dtype=float8", "train.dtype", "'bfloat16' or 'float16'"),
    "unknown source": ("data.source=web", "data.source", "'hub', 'files' or 'synthetic'"),
    "no models": ("grid.models=[]", "grid.models", "is empty; give at least one value"),
    "no label counts": ("grid.n_labels=[]", "grid.n_labels", "is empty; give at least one value"),
    "one label": ("grid.n_labels=[1]", "grid.n_labels.0", "greater than or equal to 2"),
    "count listed twice": ("grid.n_samples=[16,16]", "grid.n_samples", "listed twice"),
    "unbalanced": ("grid.n_samples=[17]", "n_samples 17", "use 16 or 18"),
    "two models of one name": (
        ONE_MODEL + "tiny:llama}, {name: a, path: tiny:gpt2}]", "grid.models", "same name 'a'"),
    "two models of one path": (
        ONE_MODEL + "tiny:llama}, {name: b, path: tiny:llama}]", "grid.models", "same path"),
    "model called like a baseline": (
        "grid.models.0.name=tf-idf", "grid.models.0.name", "is the name of a baseline"),
    "model name with a path": (
        "grid.models=[{name: ../x, path: tiny:llama}]", "grid.models.0.name", "use letters"),
    "model without path": ("grid.models=[{name: a}]", "grid.models.0.path", "add it"),
    "rate past the journal's numbers": ("tune.learning_rate=1e30", "learning_rate", "up to 1e+12"),
    "decay past the journal's numbers": ("tune.weight_decay=1e30", "weight_decay", "up to 1e+12"),
    "no values to tune": ("tune.lora_rank=[]", "tune.lora_rank", "give at least one value"),
    "fraction of a rank": ("tune.lora_rank=[1.5]", "lora_rank", "integers from 1"),
    "word for a rate": ("tune.learning_rate=fast", "tune.learning_rate", "is not a number"),
    "negative rate": ("tune.learning_rate=-1", "learning_rate", "must be above 0"),
    "unknown distribution": (
        "tune.learning_rate={normal: [0, 1]}", "tune.learning_rate", "write {uniform: [low,"),
    "bounds the wrong way": (
        "tune.learning_rate={loguniform: [1, 0.1]}", "tune.learning_rate", "need 0 < low <= high"),
    "more candidates than there are": ("tune.candidates=9", "tune.candidates", "lower it or widen"),
    "grace above the end": ("asha.grace_epochs=9", "grace_epochs 9", "above max_epochs 3"),
    "halving by one": ("asha.reduction_factor=1", "asha.reduction_factor", "greater than 1"),
    "too many GPUs said in words": (
        "resources.gpus_per_trial=lots", "resources.gpus_per_trial", "'auto'"),
    "run name with a path": ("name=../x", "name", "use letters"),
    "run name that hides": ("name=.hidden", "name", "starting with a letter or digit"),
    "number for a name": ("name=2024", "name", "put quotes around it"),
    "yes for a name": ("name=on", "name", "put quotes around it"),
    "label that YAML takes for false": (
        "data.exclude_labels=[off]", "data.exclude_labels.0", "put quotes around it"),
    "number for a label": ("data.label_order=[0, 1]", "data.label_order.0", "put quotes around it"),
    "date for a label": (
        "data.label_order=[2024-01-01]", "data.label_order.0", "'2024-01-01'; put quotes"),
    "number for a column": ("data.text_column=0", "data.text_column", "put quotes around it"),
    "number among columns": (
        "data.text_column=[title, 0]", "data.text_column.1", "put quotes around it"),
    "no text columns": ("data.text_column=[]", "data.text_column", "give at least one value"),
    "name given to two columns": ("data.columns=[text, text]", "data.columns", "listed twice"),
    "delimiter of two characters": ("data.delimiter='::'", "data.delimiter", "use one character"),
    "no equals sign": ("train.batch_size", "--set train.batch_size", "write KEY=VALUE"),
    "value that is no YAML": ("grid.n_labels=[2", "--set grid.n_labels=[2", "not valid YAML"),
    "model that is not there": ("grid.models.7.path=x", "'7'", "an index from 0 to 0"),
    "unknown tiny family": (
        "grid.models.0.path=tiny:bert", "tiny family 'bert'", "choose one of qwen2, llama"),
    "folder without a model": ("grid.models.0.path=./model", "config.json", "a model folder or a"),
    "hub id offline": ("grid.models.0.path=some/model", "some/model", "check the name"),
    "unknown tracker": ("trackers.tensorbord=true", "trackers.tensorbord", "did you mean 'tensorb"),
    "tracker without package": ("trackers.mlflow=true", "trackers.mlflow", '"textsweep[mlflow]"'),
    "password in the address": (
        "trackers.mlflow={tracking_uri: 'http://me:pw@host'}",
        "trackers.mlflow.tracking_uri", "set MLFLOW_TRACKING_USERNAME"),
}  # fmt: skip

DATA = {  # data.path, further changes, what the sentence names, and the remedy it gives
    "no path": (None, [], "data", "needs data.path"),
    "missing file": ("nowhere.csv", [], "nowhere.csv", "check data.path"),
    "unknown kind of file": ("three.xlsx", [], "three.xlsx", "that ends in"),
    "empty file": ("empty.csv", [], "empty.csv", "needs a line of column names"),
    "no label column": ("nolabel.csv", [], "data.label_column", "color"),
    "column that is not there": (
        "three.csv", ["data.text_column=body"], "data.text_column", "choose one of these"),
    "row too long": ("ragged.csv", [], "line 2 has 3 fields", "put quotes around"),
    "broken JSON": ("broken.jsonl", [], "line 2", "one object per line"),
    "label index too high": ("official", [], "train.tsv: line 2", "fix or delete it"),
    "folder without data": ("nothing", [], "data.path", "such as train.csv"),
    "too many labels": ("three.csv", ["grid.n_labels=[4]"], "4 labels requested", "have 3"),
    "too many samples": (
        "three.csv", ["grid.n_labels=[2]", "grid.n_samples=[400]"], "grid.n_samples", "at most"),
    "label that is not there": (
        "three.csv", ["data.label_order=[joy, rage]"], "data.label_order", "calm, fear, joy"),
}  # fmt: skip

LINE = {  # the complete command line, what the sentence names, and the remedy it gives
    "missing configuration": (["nowhere.yaml"], "nowhere.yaml", "name a YAML file"),
    "configuration is a folder": (["model"], "model: cannot be read", "name a YAML file"),
    "bad YAML": (["unclosed.yaml"], "unclosed.yaml", "invalid YAML at line 2"),
    "YAML that runs code": (["python.yaml"], "python.yaml", "invalid YAML at line 1"),
    "YAML list": (["list.yaml"], "list.yaml", "needs keys such as 'grid:'"),
    "empty configuration": (["empty.yaml"], "empty.yaml", "needs keys such as 'grid:'"),
    "no grid": (["nogrid.yaml"], "grid is missing", "add it"),
    "name with a path": (["small.yaml", "--name", "../x"], "--name", "use letters"),
    "JSON without dry run": (["small.yaml", "--json"], "--json", "--dry-run; add it"),
    "nothing to resume": (["small.yaml", "--resume"], "small", "omit --resume"),
    "folder in use": (["small.yaml", "--out", ".", "--name", "used"], "used", "add --resume"),
    "folder below a file": (["small.yaml", "--out", "three.csv"], "three.csv", "another --out"),
}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the files that the inputs name, go there, and hide MLflow if it is installed."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(TREE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(environment, "find_spec", lambda package: None)
    return tmp_path


def check_refusal(
    arguments: list[str], key: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_size for path in Path.cwd().rglob("*")}
    assert main(arguments) == 2
    output = capsys.readouterr()
    sentence = output.err.removesuffix("\n")
    print(sentence)  # shown by pytest -rP: the list of sentences
    assert sentence.startswith("error: ")
    assert "\n" not in sentence
    assert "Traceback" not in output.out + output.err
    assert key in sentence
    assert remedy in sentence
    assert {path: path.stat().st_size for path in Path.cwd().rglob("*")} == before


def as_sets(changes: list[str]) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


def test_what_the_others_change_is_accepted() -> None:
    assert main(["small.yaml", "--dry-run"]) == 0


def test_data_that_the_others_change_are_accepted() -> None:
    fits = ["data.source=files", "data.path=three.csv", "grid.n_labels=[2]", "grid.n_samples=[16]"]
    assert main(["small.yaml", "--dry-run", *as_sets(fits)]) == 0


@pytest.mark.parametrize(("change", "key", "remedy"), SET.values(), ids=SET)
def test_value(change: str, key: str, remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    check_refusal(["small.yaml", "--set", change], key, remedy, capsys)


@pytest.mark.parametrize(("path", "changes", "key", "remedy"), DATA.values(), ids=DATA)
def test_data(
    path: str | None, changes: list[str], key: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["data.source=files", *([f"data.path={path}"] if path else [])]
    check_refusal(["small.yaml", *as_sets([*source, *changes])], key, remedy, capsys)


@pytest.mark.parametrize(("arguments", "key", "remedy"), LINE.values(), ids=LINE)
def test_command_line(
    arguments: list[str], key: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check_refusal(arguments, key, remedy, capsys)
