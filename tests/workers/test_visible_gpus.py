"""Which GPUs workers see, on a real Ray that counts one GPU."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune

from sweep.cluster.visible_gpus import VARIABLE, hidden_gpus
from sweep.data import Subsets
from sweep.plan import Plan
from sweep.tuning import baselines
from sweep.workers.host import Host
from sweep.workers.mixed_actor import MixedTrialActor
from sweep.workers.solo_actor import SoloTrialActor


@pytest.fixture(scope="module", autouse=True)
def one_gpu() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(VARIABLE, raising=False)
        ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def read_visible(actor: Any) -> tuple[str | None, bool]:
    """Return the variable in an actor, and whether CUDA had started when it was set."""

    def look(self: Any, name: str) -> tuple[str | None, bool]:
        import torch

        return os.environ.get(name), torch.cuda.is_initialized()

    found: tuple[str | None, bool] = ray.get(actor.__ray_call__.remote(look, VARIABLE))
    ray.kill(actor)
    return found


def test_ray_itself_hides_no_gpu_from_an_actor_that_asked_for_none() -> None:
    class Plain:
        pass

    # Where this fails, Ray does it again, and this package need not.
    assert read_visible(ray.remote(num_gpus=0)(Plain).remote()) == (None, False)


@pytest.mark.parametrize(("gpus", "visible"), [(0, ""), (1, "0"), (0.25, "0")])
@pytest.mark.parametrize("kind", [SoloTrialActor, MixedTrialActor])
def test_trial_sees_the_gpu_that_it_asked_for_and_no_other(
    kind: Any, gpus: float, visible: str, subsets: Subsets, plan: Plan, tmp_path: Path
) -> None:
    class EmptyPool:
        """A pool of hosts without any."""

        def vacate(self, location: Any) -> None:
            pass

    parameters: dict[str, Any] = {"subsets": subsets, "run_folder": str(tmp_path)}
    if kind is MixedTrialActor:
        pool = ray.remote(num_cpus=0)(EmptyPool).remote()
        parameters |= {"hosts": pool, "alone": frozenset(["tiny-llama"])}
    trainable = tune.with_parameters(kind, **parameters)
    config = {"trial": plan.trials[0], "model": "tiny-llama", "resume_epoch": 0}
    actor = ray.remote(num_cpus=0, num_gpus=gpus)(trainable).remote(config)
    assert read_visible(actor) == (visible, False)


@pytest.mark.parametrize(("gpu", "visible"), [(None, ""), ("3", "3")])
def test_host_sees_the_gpu_of_its_trials_and_no_other(
    gpu: str | None, visible: str, subsets: Subsets, tmp_path: Path
) -> None:
    actor = ray.remote(num_cpus=0)(Host).remote(subsets, str(tmp_path), 1, {}, gpu)
    assert read_visible(actor) == (visible, False)


def test_features_are_computed_where_no_gpu_is_visible(
    subsets: Subsets, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []
    monkeypatch.setenv(VARIABLE, "5")
    monkeypatch.setattr(baselines, "_count_cpus", lambda: 1)
    monkeypatch.setattr(
        "sweep.training.features.load_features_model",
        lambda ref, subsets: seen.append(os.environ.get(VARIABLE)),
    )
    monkeypatch.setattr(
        "sweep.training.features.compute_features",
        lambda ref, frozen, texts: seen.append(os.environ.get(VARIABLE)),
    )
    baselines._compute_on_worker(None, subsets, [], 1.0)  # type: ignore[arg-type]
    assert seen == ["", ""]
    # The next task of this process may have a GPU.
    assert os.environ[VARIABLE] == "5"


def test_gpus_that_were_not_named_are_not_named_after_they_were_hidden() -> None:
    with hidden_gpus():
        assert os.environ[VARIABLE] == ""
    assert VARIABLE not in os.environ
