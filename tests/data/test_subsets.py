"""Balanced nested subsets."""

import itertools
from collections import Counter

import pytest

from sweep.config import DataConfig
from sweep.data import Corpus, Row, Subset, Subsets, load_corpus
from sweep.errors import DataError
from sweep.storage.account import Reason


@pytest.fixture(scope="module")
def synthetic() -> Subsets:
    return Subsets(load_corpus(DataConfig()))


def pairs(subset: Subset) -> set[tuple[str, str]]:
    names = (subset.labels[index] for index in subset.classes)
    return set(zip(subset.texts, names, strict=True))


@pytest.mark.parametrize("n_labels", [2, 4, 8, 16])
@pytest.mark.parametrize("n_samples", [800, 1600, 2400])
def test_subset_is_exactly_balanced(synthetic: Subsets, n_labels: int, n_samples: int) -> None:
    subset = synthetic.training(n_labels, n_samples, seed=0)
    counts = Counter(subset.classes)
    assert len(set(subset.texts)) == n_samples
    assert set(counts.values()) == {n_samples // n_labels}
    assert len(counts) == n_labels


@pytest.mark.parametrize("n_labels", [2, 4, 8, 16])
def test_smaller_subset_is_inside_larger(synthetic: Subsets, n_labels: int) -> None:
    small, middle, large = (
        pairs(synthetic.training(n_labels, n, seed=0)) for n in (800, 1600, 2400)
    )
    assert small < middle < large


def test_smaller_label_set_is_inside_larger(synthetic: Subsets) -> None:
    sets = [synthetic.labels_for(k) for k in (2, 4, 8, 16)]
    assert all(large[: len(small)] == small for small, large in itertools.pairwise(sets))


def test_texts_of_a_label_are_nested_over_label_sets(synthetic: Subsets) -> None:
    wide, narrow = (pairs(synthetic.training(k, 800, seed=0)) for k in (2, 4))
    labels = synthetic.labels_for(2)
    assert {pair for pair in narrow if pair[1] in labels} < wide


@pytest.mark.parametrize("n_labels", [2, 16])
def test_no_text_is_in_two_subsets(synthetic: Subsets, n_labels: int) -> None:
    training = set(synthetic.training(n_labels, 2400, seed=0).texts)
    validation = set(synthetic.evaluation("validation", n_labels).texts)
    test = set(synthetic.evaluation("test", n_labels).texts)
    assert not training & validation
    assert not training & test
    assert not validation & test


def test_seed_draws_the_training_subset_and_nothing_else(synthetic: Subsets) -> None:
    one, other = (synthetic.training(4, 800, seed) for seed in (0, 1))
    assert one == Subsets(load_corpus(DataConfig())).training(4, 800, 0)
    assert pairs(one) != pairs(other)


def test_fingerprint_distinguishes_subsets(synthetic: Subsets) -> None:
    axes = [(k, n, s) for k in (2, 4) for n in (800, 1600) for s in (0, 1)]
    assert len({synthetic.fingerprint(*axis) for axis in axes}) == len(axes)


def test_row_order_changes_neither_subset_nor_fingerprint(corpus: Corpus) -> None:
    turned = Corpus({split: rows[::-1] for split, rows in corpus.splits.items()})
    one, other = Subsets(corpus), Subsets(turned)
    assert pairs(one.training(4, 32, 0)) == pairs(other.training(4, 32, 0))
    assert one.fingerprint(4, 32, 0) == other.fingerprint(4, 32, 0)


def make_corpus(train: list[Row], validation: list[Row], test: list[Row]) -> Corpus:
    return Corpus({"train": train, "validation": validation, "test": test})


def test_shared_and_repeated_texts_leave_training_and_are_counted() -> None:
    train = [Row(f"{label} {i}", (label,)) for label in ("a", "b") for i in range(5)]
    train += [
        Row("in validation", ("a",)),
        Row("in test", ("b",)),
        Row("same twice", ("a",)),
        Row("same twice", ("a",)),
        Row("torn", ("a",)),
        Row("torn", ("b",)),
        Row("both", ("a", "b")),
        Row("none", ("neutral",)),
    ]
    held = [Row("va", ("a",)), Row("vb", ("b",)), Row("in validation", ("a",))]
    test = [Row("ta", ("a",)), Row("tb", ("b",)), Row("in test", ("b",))]
    subsets = Subsets(make_corpus(train, held, test))
    assert subsets.pools["train"].left_out == {
        Reason.IN_VALIDATION: 1,
        Reason.IN_TEST: 1,
        Reason.REPEATED: 1,
        Reason.CONFLICTING_LABELS: 2,
        Reason.SEVERAL_LABELS: 1,
        Reason.EXCLUDED_LABEL: 1,
    }
    texts = set(subsets.training(2, 10, 0).texts)
    assert not texts & {"in validation", "in test", "torn", "both", "none"}


def test_labels_are_ordered_by_training_frequency_then_name(subsets: Subsets) -> None:
    assert subsets.label_order == ("joy", "anger", "love", "fear")


def test_label_order_can_be_given(corpus: Corpus) -> None:
    assert Subsets(corpus, label_order=["fear", "joy"]).labels_for(2) == ("fear", "joy")


def test_unknown_label_in_the_order_is_refused(corpus: Corpus) -> None:
    with pytest.raises(DataError, match=r"data.label_order: 'pride' labels no training text"):
        Subsets(corpus, label_order=["pride"])


def test_too_many_labels_are_refused_with_their_names(subsets: Subsets) -> None:
    with pytest.raises(DataError, match="5 labels requested, but the data have 4: joy, anger"):
        subsets.training(5, 10, 0)


def test_too_many_samples_are_refused_with_the_counts(subsets: Subsets) -> None:
    with pytest.raises(
        DataError, match=r"need 30 training texts of each, but fear has 28; use at most 112"
    ):
        subsets.training(4, 120, 0)


def test_evaluation_can_be_bounded(corpus: Corpus) -> None:
    assert len(Subsets(corpus, max_eval_per_label=3).evaluation("test", 4)) == 12


def test_label_without_test_text_is_refused(corpus: Corpus) -> None:
    rows = [row for row in corpus.splits["test"] if row.labels != ("fear",)]
    with pytest.raises(DataError, match="test split has no text labeled only 'fear'"):
        Subsets(Corpus({**corpus.splits, "test": rows})).evaluation("test", 4)


def test_label_left_out_by_default_is_named_where_labels_are_short() -> None:
    rows = [Row(f"{label} {i}", (label,)) for label in ("good", "bad", "neutral") for i in "ab"]
    subsets = Subsets(make_corpus(rows, rows[:0], rows[:0]))
    with pytest.raises(DataError, match=r"data.exclude_labels leaves out neutral\); use at most 2"):
        subsets.labels_for(3)
