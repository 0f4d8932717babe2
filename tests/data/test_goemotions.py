"""The 12 GoEmotions subsets, against the official files (SWEEP_GOEMOTIONS names their folder)."""

import os
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from sweep.config import DataConfig
from sweep.data import Corpus, Subsets, load_corpus

FOLDER = os.environ.get("SWEEP_GOEMOTIONS", "")
pytestmark = pytest.mark.skipif(
    not Path(FOLDER, "train.tsv").is_file(),
    reason="SWEEP_GOEMOTIONS does not name a folder with the official GoEmotions files",
)
COUNTS = {  # single-label rows: train, validation, test
    "admiration": (2710, 326, 348), "approval": (1873, 258, 236), "gratitude": (1857, 261, 260),
    "amusement": (1652, 208, 186), "annoyance": (1451, 164, 194), "love": (1427, 173, 160),
    "disapproval": (1402, 212, 195), "curiosity": (1389, 164, 176), "anger": (1025, 109, 131),
    "optimism": (861, 119, 107), "confusion": (858, 102, 97), "joy": (853, 106, 93),
    "sadness": (817, 84, 102), "surprise": (720, 95, 87), "disappointment": (709, 91, 88),
    "caring": (649, 96, 86),
}  # fmt: skip
EVALUATION_SIZES = {2: (514, 472), 4: (832, 744), 8: (1304, 1272), 16: (1344, 1360)}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus(DataConfig(source="files", path=FOLDER))


@pytest.fixture(scope="module")
def subsets(corpus: Corpus) -> Subsets:
    return Subsets(corpus)


def test_every_row_is_read(corpus: Corpus) -> None:
    sizes = [len(corpus.splits[split]) for split in ("train", "validation", "test")]
    assert sizes == [43_410, 5_426, 5_427]
    assert len({row.text for row in corpus.splits["train"]}) == 43_227


def test_single_label_counts_are_the_published_ones(corpus: Corpus) -> None:
    for position, split in enumerate(("train", "validation", "test")):
        rows = corpus.splits[split]
        counts = Counter(row.labels[0] for row in rows if len(row.labels) == 1)
        assert {label: counts[label] for label in COUNTS} == {
            label: values[position] for label, values in COUNTS.items()
        }


def test_labels_are_ordered_by_training_frequency(subsets: Subsets) -> None:
    assert subsets.labels_for(16) == tuple(COUNTS)


@pytest.mark.parametrize(("n_labels", "n_samples"), [*product((2, 4, 8, 16), (800, 1600, 2400))])
def test_subset_exists_balanced_and_disjoint(
    subsets: Subsets, n_labels: int, n_samples: int
) -> None:
    training = subsets.training(n_labels, n_samples, seed=0)
    held = [subsets.evaluation(split, n_labels) for split in ("validation", "test")]
    for subset in (training, *held):
        assert len(set(Counter(subset.classes).values())) == 1
        assert subset.labels == tuple(COUNTS)[:n_labels]
    assert len(training) == n_samples
    assert tuple(map(len, held)) == EVALUATION_SIZES[n_labels]
    texts = [set(subset.texts) for subset in (training, *held)]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]
