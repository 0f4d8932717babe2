"""The shipped job files, as far as one machine allows: what is in them, and what their commands do
when they are ended in the middle and run again."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from ray_runs import ONE_WORKER, kill_and_resume

from sweep.cli.run_options import build_parser, check_options
from sweep.config import find_config
from sweep.storage.journal import read_events

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "clusters"
# Two trials of four epochs each; every epoch is trained.
TREE: dict[str, Any] = {
    "name": "job",
    "data": {"source": "synthetic", "max_eval_per_label": 4},
    "grid": {
        "models": [{"name": "tiny", "path": "tiny:gpt2"}],
        "n_labels": [2],
        "n_samples": [32],
    },
    "tune": {"candidates": 2, "lora_rank": 4, "learning_rate": [0.001, 0.01]},
    "asha": {"max_epochs": 4, "grace_epochs": 4},
    "train": {"batch_size": 16, "max_length": 32, "dtype": "float32"},
    "serving": {"measure": False},
    "baselines": [],
}
# Ports and folders go by it: another run of these tests has another one.
JOB = str(os.getpid())
EXACT, NUMBERS = ("status", "epochs_run", "best_of_cell"), ("val_loss", "test_accuracy")

# The keys of KubeRay's API (ray.io/v1) and of Kubernetes' pods that the manifest may use.
RAY_JOB = {
    "entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished",
    "rayClusterSpec", "submitterPodTemplate",
}  # fmt: skip
RAY_CLUSTER = {
    "rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec",
    "workerGroupSpecs",
}  # fmt: skip
AUTOSCALER = {"version", "idleTimeoutSeconds", "resources", "securityContext"}
HEAD = {"serviceType", "rayStartParams", "template"}
WORKERS = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
POD = {
    "automountServiceAccountToken", "securityContext", "containers", "volumes", "tolerations",
    "restartPolicy",
}  # fmt: skip
CONTAINER = {"name", "image", "securityContext", "env", "ports", "resources", "volumeMounts"}
# SkyPilot's task and resources.
TASK = {"name", "workdir", "num_nodes", "resources", "envs", "file_mounts", "setup", "run"}
RESOURCES = {"accelerators", "cpus", "memory", "disk_size", "use_spot", "job_recovery"}


Rows = dict[str, tuple[list[Any], Any]]


def read_rows(folder: Path) -> Rows:
    """Return what the table says of each trial: what must be equal, and what nearly so."""
    rows = pq.read_table(folder / "results.parquet").to_pylist()
    assert len(rows) == 2 and all(row["error"] is None for row in rows)
    return {
        row["trial_id"]: (
            [row[name] for name in EXACT],
            pytest.approx([row[name] for name in NUMBERS], rel=1e-5),
        )
        for row in rows
    }


def check_rows(folder: Path, whole: Rows) -> None:
    for row in pq.read_table(folder / "results.parquet").to_pylist():
        exact, numbers = whole[row["trial_id"]]
        assert [row[name] for name in EXACT] == exact
        assert [row[name] for name in NUMBERS] == numbers
    assert read_rows(folder).keys() == whole.keys()


def parse_command(line: str) -> Any:
    """Return the options of a ``sweep run`` line, checked as the program does."""
    words = shlex.split(line)
    assert words[:2] == ["sweep", "run"]
    options = build_parser().parse_args(words[2:])
    check_options(options)
    assert options.auto_resume and options.busy == "wait"
    return options


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the study, and ``sweep`` and Slurm's commands as stand-ins in ``bin``."""
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "job.yaml").write_text(yaml.safe_dump(TREE))
    (folder / "bin").mkdir()
    scripts = {
        "sweep": f'exec {sys.executable} -m sweep "$@"',
        "python3": f'exec {sys.executable} "$@"',
        "ray": f'exec {sys.executable} -m ray.scripts.scripts "$@"',
        # Starts each task here, as if every node were this machine, and passes an end on.
        "srun": """\
echo "srun $*" >>slurm.log
while [ "${1#--}" != "$1" ]; do
  case "$1" in --ntasks=*) count="${1#*=}";; esac
  shift
done
trap 'kill $tasks 2>/dev/null; wait' TERM
for task in $(seq 0 $((count - 1))); do SLURM_PROCID=$task "$@" & tasks="${tasks:-} $!"; done
wait""",
        "scontrol": 'echo "scontrol $*" >>slurm.log',
    }
    for name, text in scripts.items():
        (folder / "bin" / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (folder / "bin" / name).chmod(0o755)
    return folder


def make_environment(place: Path, **variables: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SLURM_"))}
    path = f"{place / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return kept | {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(place)} | variables


# ---- The image ----


def read_stages() -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of each stage of the Dockerfile, and those before the first."""
    text = re.sub(r"^\s*#.*\n", "", (FOLDER / "Dockerfile").read_text(), flags=re.MULTILINE)
    stages: dict[str, list[tuple[str, str]]] = {"": []}
    for line in text.replace("\\\n", "").splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name] = list(stages.get(base, []))
        elif word:
            list(stages.values())[-1].append((word, rest.strip()))
    return stages


def test_image_is_made_of_files_that_travel_to_the_builder() -> None:
    let_in = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert let_in[1] == "*"
    copied = {
        source
        for word, rest in read_stages()["wheel"]
        if word == "COPY"
        for source in rest.split()[:-1]
    }
    bound = set(re.findall(r"type=bind,source=([\w.]+)", (FOLDER / "Dockerfile").read_text()))
    assert {line[1:] for line in let_in if line.startswith("!")} == copied | bound
    assert all((ROOT / source).exists() for source in copied | bound)


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_image_does_not_run_as_root_and_checks_itself(target: str) -> None:
    stage = read_stages()[target]
    users = [rest for word, rest in stage if word == "USER"]
    assert users[-1] == "10001:0"
    entry, check = (
        json.loads(rest[rest.index("[") :])
        for word, rest in stage
        if word in ("ENTRYPOINT", "HEALTHCHECK")
    )
    assert entry == ["tini", "--", "sweep"] and check[:2] == ["sweep", "doctor"]
    install = stage[-2][1]
    assert '"ray[default]" /wheels/*.whl' in install
    assert ("whl/cpu torch" in install) == (target == "cpu")


# ---- Kubernetes ----


@pytest.fixture(scope="module")
def manifests() -> dict[str, dict[str, Any]]:
    found = yaml.safe_load_all((FOLDER / "rayjob.yaml").read_text())
    return {each["kind"]: each for each in found}


@pytest.fixture(scope="module")
def job(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = manifests["RayJob"]["spec"]
    return spec


def list_pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [*(group["template"]["spec"] for group in groups), job["submitterPodTemplate"]["spec"]]


def test_manifest_has_only_keys_that_kuberay_and_kubernetes_know(job: dict[str, Any]) -> None:
    cluster = job["rayClusterSpec"]
    assert job.keys() <= RAY_JOB and cluster.keys() <= RAY_CLUSTER
    assert cluster["autoscalerOptions"].keys() <= AUTOSCALER
    assert cluster["headGroupSpec"].keys() <= HEAD
    assert all(group.keys() <= WORKERS for group in cluster["workerGroupSpecs"])
    for pod in list_pods(job):
        assert pod.keys() <= POD
        assert all(container.keys() <= CONTAINER for container in pod["containers"])


@pytest.mark.skipif("KUBERAY_CRD" not in os.environ, reason="KUBERAY_CRD names no file of KubeRay")
def test_manifest_passes_kuberays_own_schema(manifests: dict[str, dict[str, Any]]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    versions = yaml.safe_load(Path(os.environ["KUBERAY_CRD"]).read_text())["spec"]["versions"]
    schema = next(v for v in versions if v["name"] == "v1")["schema"]["openAPIV3Schema"]
    close_schema(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(manifests["RayJob"], schema)
    misspelled = manifests["RayJob"] | {"specs": {}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(misspelled, schema)


def close_schema(node: Any) -> None:
    """Make a schema of Kubernetes refuse unknown keys, and take numbers and texts alike where
    Kubernetes does."""
    for child in (
        node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    ):
        close_schema(child)
    if not isinstance(node, dict):
        return
    if isinstance(node.get("properties"), dict) and node.get("type") == "object":
        node.setdefault("additionalProperties", False)
    if node.get("x-kubernetes-int-or-string"):
        node.pop("type", None)


def test_kubernetes_job_is_closed_and_has_no_rights(job: dict[str, Any]) -> None:
    cluster = job["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    closed = [c["securityContext"] for pod in list_pods(job) for c in pod["containers"]]
    for context in [*closed, cluster["autoscalerOptions"]["securityContext"]]:
        assert context["runAsNonRoot"] and not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
    assert all(pod["securityContext"]["runAsUser"] > 0 for pod in list_pods(job))
    # Only the head's autoscaler talks to Kubernetes.
    assert [pod["automountServiceAccountToken"] for pod in list_pods(job)] == [True, False, False]
    assert "hf_" not in json.dumps(job)


def test_kubernetes_job_fits_together(
    job: dict[str, Any], manifests: dict[str, dict[str, Any]]
) -> None:
    cluster = job["rayClusterSpec"]
    assert f"ray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    assert len({c["image"] for pod in list_pods(job) for c in pod["containers"]}) == 1
    for pod in list_pods(job)[:-1]:
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {m["mountPath"]: m["name"] for m in pod["containers"][0]["volumeMounts"]}
        claim = volumes[mounts["/mnt/sweep"]]["persistentVolumeClaim"]["claimName"]
        assert claim == manifests["PersistentVolumeClaim"]["metadata"]["name"]
        assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
    options = parse_command(job["entrypoint"])
    assert find_config(options.config).is_file()
    assert options.out == Path("/mnt/sweep/runs")
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    assert all(group["minReplicas"] >= 1 for group in cluster["workerGroupSpecs"])


# ---- Commands that are ended in the middle and run again ----


def read_run_block(place: Path) -> str:
    """Return SkyPilot's ``run`` with this machine's folders, and a copy every fifth of a second."""
    text = yaml.safe_load((FOLDER / "sky.yaml").read_text())["run"]
    for before, after in (
        ("s3://${BUCKET}", str(place / "bucket")),
        ("/mnt/sweep", str(place / "bucket")),
        ("sleep 30", "sleep 0.2"),
        ("sweep run", f"sweep run {shlex.join(ONE_WORKER)}"),
    ):
        assert before in text
        text = text.replace(before, after)
    return str(text)


def run_block(place: Path, machine: str) -> Path:
    """Run SkyPilot's block on a machine with an empty disk; return its run folder."""
    disk = place / machine
    disk.mkdir()
    told = make_environment(place, STUDY=str(place / "job.yaml"), NAME="job", BUCKET="none")
    block = ["bash", "-c", read_run_block(place)]
    done = subprocess.run(block, cwd=disk, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return disk / "runs" / "job"


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Path:
    return run_block(place, "first")


@pytest.fixture(scope="module")
def whole(undisturbed: Path) -> Rows:
    return read_rows(undisturbed)


def test_sky_task_has_known_keys_and_a_command_that_parses() -> None:
    task = yaml.safe_load((FOLDER / "sky.yaml").read_text())
    assert task.keys() <= TASK and task["resources"].keys() <= RESOURCES
    assert task["resources"]["use_spot"] is True
    assert {mount["mode"] for mount in task["file_mounts"].values()} == {"MOUNT"}
    line = re.search(r"^sweep run (.*\\\n)*.*", task["run"], re.MULTILINE)
    assert line
    options = parse_command(line[0].replace("\\\n", ""))
    # A Ray of its own, closed to others, whatever the machine has set.
    assert options.address == "local"
    assert find_config(Path(task["envs"]["STUDY"])).is_file()


def test_sky_task_goes_on_where_the_copy_in_the_bucket_is(
    place: Path, undisturbed: Path, whole: Rows
) -> None:
    kept = place / "bucket" / "job"
    assert {"report.html", "results.parquet"} <= {path.name for path in kept.iterdir()}
    # What a copy is that was made before the machine went: half a journal, its last line torn.
    lines = (kept / "journal.jsonl").read_bytes().splitlines(keepends=True)
    epochs = [n for n, line in enumerate(lines) if b'"event":"epoch"' in line]
    (kept / "journal.jsonl").write_bytes(b"".join(lines[: epochs[2] + 1])[:-20])
    run = run_block(place, "second")
    check_rows(run, whole)
    assert len([e for e in read_events(run) if e["event"] == "opened"]) == 2


def test_kubernetes_job_is_killed_and_tried_again(
    place: Path, job: dict[str, Any], whole: Rows
) -> None:
    """The driver and all of Ray are lost, as when a head pod goes."""
    words = shlex.split(job["entrypoint"])[2:]
    words[words.index("goemotions")] = str(place / "job.yaml")
    words[words.index("/mnt/sweep/runs")] = str(place / "volume")
    kill_and_resume([*words, *ONE_WORKER], place / "volume" / "job", epochs=3, again=())
    check_rows(place / "volume" / "job", whole)


class SlurmJob:
    """The batch script, run by bash with stand-ins for Slurm's commands."""

    def __init__(self, place: Path, **variables: str) -> None:
        self.journal = place / "slurm" / "job" / "journal.jsonl"
        told = make_environment(
            place,
            SLURM_JOB_ID=JOB,
            SLURM_JOB_NUM_NODES="2",
            SLURM_CPUS_PER_TASK="1",
            **variables,
        )
        script = [str(FOLDER / "slurm.sbatch"), str(place / "job.yaml"), "--out", "slurm"]
        self.process = subprocess.Popen(
            ["bash", *script],
            cwd=place,
            env=told,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for_epochs(self, count: int) -> None:
        while self.process.poll() is None:
            if self.journal.is_file() and self.journal.read_text().count('"epoch"') >= count:
                return
            time.sleep(0.05)
        pytest.fail(self.process.communicate()[0])


def test_slurm_job_is_told_that_time_is_up_and_comes_again(place: Path) -> None:
    job = SlurmJob(place)
    job.wait_for_epochs(1)
    job.process.send_signal(signal.SIGUSR1)
    output, _ = job.process.communicate()
    assert job.process.returncode == 130, output
    assert "Ray cluster: 2 node(s)" in output
    assert "continue with: " in output
    log = (place / "slurm.log").read_text()
    assert log.startswith("srun --ntasks=2 ") and log.endswith(f"\nscontrol requeue {JOB}\n")
    assert not Path(f"/tmp/ray-{JOB}").exists()


@pytest.mark.parametrize(
    ("told", "restarts", "code", "requeued"),
    [("USR1", 0, 130, True), ("USR1", 20, 130, False), ("TERM", 0, 130, False), ("", 0, 1, False)],
)
def test_slurm_job_comes_again_only_after_its_time_was_up(
    place: Path, tmp_path: Path, told: str, restarts: int, code: int, requeued: bool
) -> None:
    """With stand-ins for Ray and the driver, too."""
    scripts = {
        "ray": 'case "$1" in start) exec sleep 60;; esac',
        "python3": "exit 0",
        "sweep": "exit 1"
        if not told
        else "trap 'exit 130' TERM; touch driving; while true; do sleep 0.05; done",
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    variables = make_environment(
        place, SLURM_JOB_ID="4712", SLURM_RESTART_COUNT=str(restarts), SLURM_CPUS_PER_TASK="1"
    )
    variables["PATH"] = f"{tmp_path}:{variables['PATH']}"
    script = ["bash", str(FOLDER / "slurm.sbatch"), "--out", "runs"]
    with subprocess.Popen(script, cwd=tmp_path, env=variables) as job:
        while told and not (tmp_path / "driving").exists():
            assert job.poll() is None
            time.sleep(0.02)
        if told:
            job.send_signal(signal.Signals[f"SIG{told}"])
        assert job.wait() == code
    assert ("scontrol requeue 4712" in (tmp_path / "slurm.log").read_text()) == requeued


def test_slurm_job_asks_to_be_told_and_to_come_again() -> None:
    lines = (FOLDER / "slurm.sbatch").read_text().splitlines()
    asked = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
    assert {"--requeue", "--signal=B:USR1@120", "--open-mode=append"} <= set(asked)
    assert "export RAY_AUTH_MODE=token" in lines
    line = next(line.strip() for line in lines if line.strip().startswith("sweep run "))
    parse_command(line.removesuffix(" &").replace("$HEAD:$PORT", "10.0.0.1:20001"))


# ---- A Ray cluster that runs ----


@pytest.fixture
def submit(place: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Start a cluster with a dashboard and a token; return a function that runs ``ray job``."""
    for package in ("aiohttp_cors", "opencensus", "smart_open", "virtualenv", "colorful"):
        pytest.importorskip(package, reason="ray[default] is not installed")
    told = make_environment(place, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
    dashboard = "http://127.0.0.1:28265"
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    start = ["--head", "--block", "--node-ip-address=127.0.0.1", "--port=26379", "--num-cpus=2"]
    start += ["--dashboard-port=28265", "--temp-dir=/tmp/ray-submit"]
    (place / "study").mkdir()
    (place / "study" / "my.yaml").write_text(yaml.safe_dump(TREE))

    def call(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [*ray, "job", words[0], "--address", dashboard, *words[1:]]
        folder = place / "study"
        return subprocess.run(
            command, env=told | variables, cwd=folder, capture_output=True, text=True, check=False
        )

    with subprocess.Popen(
        [*ray, "start", *start], env=told, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as head:
        while call("list").returncode:
            assert head.poll() is None
        yield call
        head.terminate()
    shutil.rmtree("/tmp/ray-submit")


def test_submitted_job_is_stopped_and_submitted_again(
    place: Path,
    submit: Callable[..., subprocess.CompletedProcess[str]],
    whole: Rows,
) -> None:
    out = place / "submitted"
    words = f"sweep run my.yaml --out {out} --auto-resume --busy wait {shlex.join(ONE_WORKER)}"
    line = ["--working-dir", ".", "--", *shlex.split(words)]
    parse_command(words)
    assert "token" in submit("list", RAY_AUTH_TOKEN="1" * 64).stderr.lower()
    assert submit("submit", "--submission-id", "one", "--no-wait", *line).returncode == 0
    journal = out / "job" / "journal.jsonl"
    while not (journal.is_file() and '"event":"epoch"' in journal.read_text()):
        time.sleep(0.05)
    assert submit("stop", "one").returncode == 0
    again = submit("submit", "--submission-id", "two", *line)
    assert again.returncode == 0, again.stdout
    check_rows(out / "job", whole)
