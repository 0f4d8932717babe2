"""A Tune run of trials that train nothing, scheduled as a sweep's are."""

from pathlib import Path
from types import SimpleNamespace

from ray import tune

from sweep.tuning.callbacks import SessionCallback
from sweep.tuning.scheduler import CellASHA


def run_trials(
    trainable: type[tune.Trainable],
    count: int,
    callback: SessionCallback,
    folder: Path,
    max_failures: int = 0,
) -> None:
    """Run ``count`` trials of one cell, a CPU each, on the Ray that is connected."""
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"CPU": 1}),
        param_space={
            "position": tune.grid_search(list(range(count))),
            "trial": SimpleNamespace(cell=SimpleNamespace(cell_id="cell")),
        },
        tune_config=tune.TuneConfig(scheduler=CellASHA(3, 1, 2), reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(folder),
            callbacks=[callback],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=max_failures),
            verbose=0,
        ),
    )
    assert not tuner.fit().errors
