"""Small corpora, configurations and plans that the tests share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from browsing import browser  # noqa: F401  (a fixture)
from xdist.scheduler import LoadScopeScheduling

from sweep.config import Config, load_config
from sweep.data import Corpus, Row, Subsets
from sweep.plan import Plan, build_plan
from sweep.storage.record import RunRecord, apply

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

LABELS = ("joy", "anger", "love", "fear")


# The files that start Ray, the slowest, in two groups: more Rays at a time are too many for two
# cores.
RAY = (
    ("test_sweep", "test_changed_runs", "test_trackers", "test_security_secrets",
     "test_environment", "test_security_ray", "test_notebook", "test_job_files"),
    ("test_faults", "test_packed_sweep", "test_placement", "test_new_workers",
     "test_checkpoint_store", "test_lost_workers", "test_host", "test_streams",
     "test_failed_baselines", "test_feature_baselines", "test_home", "test_search_path",
     "test_visible_gpus", "test_lost_gpu", "test_wheel", "test_serving"),
)  # fmt: skip
RAY_GROUPS = {name: f"ray-{number}" for number, group in enumerate(RAY) for name in group}


class ByGroup(LoadScopeScheduling):  # type: ignore[misc]
    """Assigns tests to pytest-xdist's workers by group: those of Ray, the property tests, which are
    counted together, and otherwise those of a file, which share its fixtures."""

    def _split_scope(self, nodeid: str) -> str:
        path = Path(nodeid.partition("::")[0])
        if path.parent.name == "properties":
            return "properties"
        return RAY_GROUPS.get(path.stem, path.stem)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByGroup:
    """Schedule by group, in the order of collection."""
    return ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of Ray first: what takes longest begins first."""
    items.sort(key=lambda item: RAY_GROUPS.get(item.path.stem, "then the others"))


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """Four labels with 40, 36, 32 and 28 training texts, 8 validation and 8 test texts each."""
    splits: dict[str, list[Row]] = {}
    for split, sizes in {
        "train": (40, 36, 32, 28),
        "validation": (8,) * 4,
        "test": (8,) * 4,
    }.items():
        splits[split] = [
            Row(f"{split} text {number} feels {label} {'really ' * (number % 5)}today", (label,))
            for label, size in zip(LABELS, sizes, strict=True)
            for number in range(size)
        ]
    return Corpus(splits)


@pytest.fixture(scope="session")
def subsets(corpus: Corpus) -> Subsets:
    return Subsets(corpus)


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a small configuration, changed by keyword."""

    def write(**changes: Any) -> Path:
        tree: dict[str, Any] = {
            "name": "small",
            "grid": {
                "models": [{"name": "tiny-llama", "path": "tiny:llama"}],
                "n_labels": [2, 4],
                "n_samples": [16, 32],
            },
            "tune": {"candidates": 2, "lora_rank": [2, 4], "learning_rate": 5e-3},
            "serving": {"measure": False},
            "asha": {"max_epochs": 3, "grace_epochs": 1, "reduction_factor": 2},
            "train": {"batch_size": 8, "max_length": 24},
        }
        tree.update(changes)
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path

    return write


@pytest.fixture
def config(write_config: Callable[..., Path]) -> Config:
    return load_config(write_config())


@pytest.fixture
def plan(config: Config, subsets: Subsets) -> Plan:
    return build_plan(config, subsets, {"tiny-llama": "llama-v1"})


@pytest.fixture
def record(plan: Plan) -> RunRecord:
    """Return the record of a run that has planned its trials but not started any."""
    run = RunRecord()
    for spec in plan.trials:
        apply(run, {"event": "planned", "time": 0.0, "trial": spec})
    return run
