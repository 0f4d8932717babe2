"""Trackers: a real TensorBoard file, and MLflow and Weights & Biases played by stand-ins that write
down what they are sent by Ray's own callbacks."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboardX.proto import event_pb2

from sweep.cluster import environment
from sweep.config import Config, TrackersConfig, load_config
from sweep.errors import ConfigError
from sweep.plan import Candidate
from sweep.tuning.trackers import (
    build_trackers,
    extract_hyperparameters,
    extract_metrics,
    hide_variable,
)

KEY = "key-0f3a9c-not-for-logs"
STAND_INS = {
    "mlflow/__init__.py": """
import json, os
from types import SimpleNamespace
__version__ = "3.0"
def write(*event):
    with open(os.environ["TRACKER_LOG"], "a") as file:
        file.write(json.dumps(event) + "\\n")
def set_tracking_uri(uri): write("mlflow", "uri", uri)
def set_registry_uri(uri): pass
def get_tracking_uri(): return None
get_registry_uri = active_run = get_tracking_uri
def get_experiment_by_name(name): return None
def create_experiment(name, artifact_location=None): write("mlflow", "experiment", name)
def get_run(run_id): return None
class MlflowClient:
    def __init__(self, **uris): pass
    def create_run(self, run_name, experiment_id, tags):
        write("mlflow", "run", run_name)
        return SimpleNamespace(info=SimpleNamespace(run_id=run_name))
    def log_param(self, run_id, key, value): write("mlflow", "param", run_id, key, value)
    def log_metric(self, run_id, key, value, step):
        write("mlflow", "metric", run_id, key, value, step)
    def set_terminated(self, run_id, status): write("mlflow", "end", run_id, status)
""",
    "mlflow/tracking.py": "from mlflow import MlflowClient\n",
    "mlflow/utils/mlflow_tags.py": "MLFLOW_RUN_NAME = 'mlflow.runName'\n",
    "mlflow/exceptions.py": "class MlflowException(Exception): pass\n",
    "wandb/__init__.py": """
import json, os
from types import SimpleNamespace
def write(*event):
    with open(os.environ["TRACKER_LOG"], "a") as file:
        file.write(json.dumps(event) + "\\n")
class config:
    def update(values, allow_val_change): write("wandb", "update", values)
def init(**options):
    write("wandb", "init", options, os.environ.get("WANDB_API_KEY"), os.getcwd())
    return SimpleNamespace(config=SimpleNamespace())
def log(values, step): write("wandb", "log", values, step)
def finish(): write("wandb", "finish")
""",
    "wandb/util.py": "from json import dumps as json_dumps_safer\n",
    "wandb/wandb_run.py": "class Run: pass\n",
    "wandb/sdk/data_types/base_types/wb_value.py": "class WBValue: pass\n",
    "wandb/sdk/data_types/image.py": "class Image: pass\n",
    "wandb/sdk/data_types/video.py": "class Video: pass\n",
}
SCRIPT = """
import json, sys
from pathlib import Path
import ray
from types import SimpleNamespace
from ray import tune
from sweep.config import TrackersConfig
from sweep.plan import Candidate
from sweep.tuning.trackers import build_trackers

class Toy(tune.Trainable):
    def setup(self, config): self.epoch = 0
    def save_checkpoint(self, folder): pass
    def step(self):
        self.epoch += 1
        done = self.epoch == 3
        return {"epoch": self.epoch, "val_accuracy": self.epoch / 4, "train_loss": float("nan"),
                "status": "finished" if done else None, "done": done,
                "predictions": ["private text"], "facts": {"host": "private host"}}

folder = Path(sys.argv[1])
candidate = Candidate(0, 4, 8.0, 0.01, 0.0, 0.0)
MODEL = SimpleNamespace(method="lora", path="private path")
callbacks = build_trackers(TrackersConfig.model_validate(json.loads(sys.argv[2])), folder)
context = ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
tune.Tuner(
    Toy,
    param_space={
        "model": "tiny", "n_labels": 2, "n_samples": 16, "seed": 0,
        "candidate": tune.grid_search([0, 1]), "lora_rank": 4,
        "trial": SimpleNamespace(path="private path", model=MODEL, candidate=candidate),
    },
    tune_config=tune.TuneConfig(trial_name_creator=lambda t: f"trial-{t.config['candidate']}"),
    run_config=tune.RunConfig(
        name="scratch", storage_path=str(folder / "tune"), callbacks=callbacks, verbose=0
    ),
).fit()
from ray._private.state import state
from ray._private.worker import global_worker
jobs = repr(global_worker.gcs_client.get_all_job_info())
print(json.dumps({"session": context.address_info["session_dir"],
                  "tables": jobs + repr(state.actor_table(None))}))
"""
SWITCHES = {
    "tensorboard": True,
    "mlflow": {"tracking_uri": "http://tracking:5000", "experiment": "study"},
    "wandb": {"project": "emotions"},
}


class Outcome:
    """What a tracked run left behind: its folder, what the stand-ins heard, and Ray's tables."""

    def __init__(self, folder: Path, log: Path, printed: str) -> None:
        self.folder = folder
        self.events = [json.loads(line) for line in log.read_text().splitlines()]
        self.ray = json.loads(printed.splitlines()[-1])

    def heard(self, tracker: str, kind: str) -> list[Any]:
        return [event[2:] for event in self.events if event[:2] == [tracker, kind]]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Run two trials of three epochs with every tracker on."""
    root = tmp_path_factory.mktemp("trackers")
    for name, text in STAND_INS.items():
        (root / "path" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "path" / name).write_text(text)
    repository = Path(__file__).parents[2]
    variables = os.environ | {
        "PYTHONPATH": f"{root / 'path'}{os.pathsep}{repository}",
        "TRACKER_LOG": str(root / "log.jsonl"),
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "WANDB_API_KEY": KEY,
    }
    command = [sys.executable, "-c", SCRIPT, str(root / "study-1"), json.dumps(SWITCHES)]
    answer = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return Outcome(root / "study-1", root / "log.jsonl", answer.stdout)


def read_scalars(folder: Path) -> dict[tuple[str, int], float]:
    """Return the values of a TensorBoard folder by tag and step."""
    found = {}
    for path in folder.glob("events.out.tfevents.*"):
        data = path.read_bytes()
        while data:  # length, its checksum, event, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
            data = data[16 + length :]
    return found


def test_tensorboard_files_stay_in_the_run_folder(outcome: Outcome) -> None:
    folders = sorted(path.name for path in (outcome.folder / "tensorboard").iterdir())
    assert folders == ["trial-0", "trial-1"]
    scalars = read_scalars(outcome.folder / "tensorboard" / "trial-1")
    curve = [scalars["ray/tune/val_accuracy", step] for step in (1, 2, 3)]
    assert curve == [0.25, 0.5, 0.75]


def test_tensorboard_shows_the_hyperparameters(outcome: Outcome) -> None:
    tags = {tag for tag, _ in read_scalars(outcome.folder / "tensorboard" / "trial-0")}
    assert "_hparams_/session_start_info" in tags


def test_mlflow_hears_where_to_go(outcome: Outcome) -> None:
    assert outcome.heard("mlflow", "uri") == [["http://tracking:5000"]]
    assert outcome.heard("mlflow", "experiment") == [["study"]]


def test_mlflow_hears_every_epoch_once_and_the_end(outcome: Outcome) -> None:
    metrics = outcome.heard("mlflow", "metric")
    curve = [m[2:] for m in metrics if m[0] == "trial-0" and m[1] == "val_accuracy"]
    assert curve == [[0.25, 1], [0.5, 2], [0.75, 3]]
    assert sorted(outcome.heard("mlflow", "end")) == [
        ["trial-0", "FINISHED"],
        ["trial-1", "FINISHED"],
    ]


def test_mlflow_hears_the_hyperparameters(outcome: Outcome) -> None:
    params = {key: value for run, key, value in outcome.heard("mlflow", "param") if run[-1] == "1"}
    assert params == {
        "model": "tiny", "n_labels": 2, "n_samples": 16, "seed": 0, "candidate": 1,
        "method": "lora", "lora_rank": 4, "lora_alpha": 8.0, "learning_rate": 0.01,
        "lora_dropout": 0.0, "weight_decay": 0.0,
    }  # fmt: skip


def test_wandb_gets_project_group_and_a_lasting_folder(outcome: Outcome) -> None:
    for options, _, folder in outcome.heard("wandb", "init"):
        assert (options["project"], options["group"]) == ("emotions", "study-1")
        assert options["id"].startswith("study-1-")
        assert Path(folder).parent == outcome.folder / "wandb"


def test_wandb_hears_every_epoch(outcome: Outcome) -> None:
    heard = outcome.heard("wandb", "log")
    assert sorted(step for _, step in heard) == [1, 1, 2, 2, 3, 3]
    assert {tuple(values) for values, _ in heard} == {("val_accuracy", "training_iteration")}


def test_wandb_key_reaches_its_logger_but_not_rays_tables_and_logs(outcome: Outcome) -> None:
    assert [key for _, key, _ in outcome.heard("wandb", "init")] == [KEY, KEY]
    assert KEY not in outcome.ray["tables"]
    logs = [path for path in Path(outcome.ray["session"]).rglob("*") if path.is_file()]
    assert len(logs) > 5
    assert not [path for path in logs if KEY.encode() in path.read_bytes()]


def test_no_tracker_hears_specs_texts_or_hosts(outcome: Outcome) -> None:
    assert "private" not in json.dumps(outcome.events)
    for path in outcome.folder.rglob("events.out.tfevents.*"):
        assert b"private" not in path.read_bytes()


def test_metrics_are_known_finite_numbers() -> None:
    result = {"epoch": 2, "val_loss": float("inf"), "val_accuracy": 0.5, "pid": 7, "facts": {}}
    assert extract_metrics(result) == {"val_accuracy": 0.5, "training_iteration": 2}


def test_hyperparameters_are_known_names() -> None:
    candidate = Candidate(1, 8, 16.0, 0.01, 0.0, 0.1)
    spec = SimpleNamespace(model=SimpleNamespace(method="lora"), candidate=candidate)
    config = {"model": "a", "trial": spec, "position": 3}
    found = extract_hyperparameters(config)
    assert (found["model"], found["lora_rank"]) == ("a", 8)
    assert not {"trial", "position", "index"} & set(found)


def test_trackers_are_off_by_default(config: Config, tmp_path: Path) -> None:
    assert build_trackers(config.trackers, tmp_path) == []
    assert not list(tmp_path.glob("tensorboard"))


@pytest.mark.parametrize("name", ["mlflow", "wandb", "tensorboard"])
def test_missing_package_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "find_spec", lambda package: None)
    config = TrackersConfig.model_validate({name: True})
    with pytest.raises(ConfigError, match=rf'pip install "textsweep\[{name}\]"'):
        build_trackers(config, Path("unused"))


def test_tracker_that_fails_is_told_once_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tracker,) = build_trackers(TrackersConfig(tensorboard=True), tmp_path)
    monkeypatch.setattr(tracker._inner, "log_trial_start", lambda view: 1 / 0)
    trial: Any = type("Trial", (), {"trial_id": "t", "config": {}, "__str__": lambda self: "t"})()
    for _ in range(2):
        tracker.on_trial_start(0, [], trial)
    tracker.on_trial_result(0, [], trial, {"epoch": 1, "val_accuracy": 0.5})
    tracker.on_trial_complete(0, [], trial)
    assert [r.getMessage() for r in caplog.records] == [
        "trackers.tensorboard stopped: division by zero; the run continues"
    ]


def test_hidden_variable_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "value")
    with hide_variable("SOME_KEY"):
        assert "SOME_KEY" not in os.environ
    assert os.environ["SOME_KEY"] == "value"


@pytest.mark.parametrize(
    ("trackers", "sentence"),
    [
        (
            {"tensorbord": True},
            "trackers.tensorbord is not a known key; did you mean 'tensorboard'",
        ),
        ({"mlflow": "yes please"}, "trackers.mlflow: write true, false, or the tracker's own keys"),
        ({"mlflow": {"uri": "x"}}, "trackers.mlflow.uri is not a known key"),
        ({"mlflow": {"tracking_uri": "https://me:pw@host/"}}, "set MLFLOW_TRACKING_USERNAME"),
        ({"wandb": {"project": ""}}, "trackers.wandb.project: .*at least 1 character"),
    ],
)
def test_wrong_tracker_settings_are_refused(
    write_config: Any, trackers: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        load_config(write_config(trackers=trackers))
    assert "pw" not in str(caught.value)


def test_switches_read_back_from_the_saved_configuration(write_config: Any) -> None:
    trackers = load_config(write_config(trackers={"mlflow": True, "wandb": False})).trackers
    assert trackers.mlflow is not None
    assert trackers.mlflow.experiment == "sweep"
    assert trackers.wandb is None
