"""The reference methods."""

import os
from pathlib import Path

import pytest

from sweep.config import DataConfig
from sweep.data import Subsets, load_corpus
from sweep.training.baselines import run_baseline
from sweep.tuning.baselines import identify_baseline

FOLDER = os.environ.get("SWEEP_GOEMOTIONS", "")


def score(subsets: Subsets, name: str, n_labels: int, n_samples: int) -> dict[str, float]:
    held = [subsets.evaluation(split, n_labels) for split in ("validation", "test")]
    return run_baseline(name, subsets.training(n_labels, n_samples, 0), *held)


@pytest.fixture(scope="module")
def synthetic() -> Subsets:
    return Subsets(load_corpus(DataConfig()))


@pytest.mark.parametrize("n_labels", [2, 16])
def test_majority_is_right_by_chance(synthetic: Subsets, n_labels: int) -> None:
    result = score(synthetic, "majority", n_labels, 800)
    assert result["test_accuracy"] == pytest.approx(1 / n_labels)
    assert len(set(result["predictions"])) == 1


def test_tf_idf_falls_with_labels_and_rises_with_samples(synthetic: Subsets) -> None:
    accuracy = {
        (k, n): score(synthetic, "tf-idf", k, n)["test_accuracy"]
        for k, n in ((2, 800), (8, 800), (8, 1600))
    }
    assert accuracy[2, 800] > accuracy[8, 1600] > accuracy[8, 800] > 0.5


def test_baseline_repeats_itself(synthetic: Subsets) -> None:
    one, other = (score(synthetic, "tf-idf", 2, 800) for _ in range(2))
    assert one["predictions"] == other["predictions"]


def test_id_changes_with_name_and_data() -> None:
    ids = {identify_baseline(name, data) for name in ("majority", "tf-idf") for data in ("a", "b")}
    assert len(ids) == 4


@pytest.mark.skipif(
    not Path(FOLDER, "train.tsv").is_file(),
    reason="SWEEP_GOEMOTIONS does not name a folder with the official GoEmotions files",
)
@pytest.mark.parametrize(
    ("n_labels", "expected"), [(2, 0.812), (4, 0.783), (8, 0.618), (16, 0.423)]
)
def test_tf_idf_on_goemotions_is_near_the_known_accuracy(n_labels: int, expected: float) -> None:
    subsets = Subsets(load_corpus(DataConfig(source="files", path=FOLDER)))
    assert score(subsets, "tf-idf", n_labels, 800)["test_accuracy"] == pytest.approx(
        expected, abs=0.035
    )
