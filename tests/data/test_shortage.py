"""A subset that the data cannot provide: the sentence says why, and its remedy works."""

from dataclasses import replace

import pytest

from sweep.data import Corpus, Row, SplitSource, Subsets
from sweep.errors import DataError


def rows(count: int, label: str, tag: str = "") -> list[Row]:
    return [Row(f"{label} {tag}{i}", (label,)) for i in range(count)]


def corpus(
    train: list[Row], validation: list[Row] | None = None, test: list[Row] | None = None
) -> Corpus:
    held = [rows(3, "a", split) + rows(3, "b", split) for split in ("v", "t")]
    splits = {
        "train": train,
        "validation": held[0] if validation is None else validation,
        "test": held[1] if test is None else test,
    }
    sources = {name: SplitSource(files=(f"{name}.csv",)) for name in splits}
    return Corpus(splits, sources)


def explain(found: Corpus, k: int = 2, n: int = 20, **settings: object) -> str:
    with pytest.raises(DataError) as caught:
        Subsets(found, **settings).of_cell(k, n, 0)  # type: ignore[arg-type]
    return str(caught.value)


def test_texts_that_are_in_test_too_are_the_reason_and_leave_the_test_file() -> None:
    train = rows(20, "a") + rows(20, "b")
    text = explain(corpus(train, test=train))
    assert "a has 0 (not counted: 20 also in the test split), b has 0" in text
    assert "use at most" not in text
    assert "remove those texts from test.csv" in text
    assert Subsets(corpus(train)).of_cell(2, 20, 0)


def test_conflicting_labels_are_the_reason() -> None:
    train = rows(20, "a") + [Row(row.text, ("b",)) for row in rows(20, "a")]
    text = explain(corpus(train))
    assert "a has 0 (not counted: 20 with conflicting labels for the same text)" in text
    assert text.endswith("keep one label for each text in train.csv")


def test_reasons_are_counted_for_each_label() -> None:
    train = rows(20, "a") + rows(9, "b") + rows(2, "b")
    train += [Row(f"both {i}", ("a", "b")) for i in range(38)] + rows(3, "b", "t")
    text = explain(corpus(train))
    assert (
        "b has 9 (not counted: 38 with several labels, 3 also in the test split and 2 repeated); "
        "use at most 18, or remove those texts from test.csv"
    ) in text


def test_remedy_that_would_not_suffice_is_not_given() -> None:
    train = rows(20, "a") + rows(2, "b") + rows(3, "b", "t")
    assert explain(corpus(train)).endswith("use at most 4")


def test_texts_cut_off_for_other_splits_are_counted() -> None:
    held = {split: rows(3, "a", split) + rows(3, "b", split) for split in ("validation", "test")}
    found = corpus(rows(9, "a") + rows(9, "b"), **held)
    text = explain(replace(found, held_out=("validation", "test")))
    assert "a has 9 (not counted: 6 held out for validation and test)" in text
    assert text.endswith("use at most 18, or lower data.validation_fraction and data.test_fraction")


def test_fewer_labels_are_offered_where_those_have_enough() -> None:
    train = rows(20, "a") + rows(20, "b") + rows(5, "c")
    held = rows(3, "a", "h") + rows(3, "b", "h") + rows(5, "c")
    text = explain(corpus(train, test=held), k=3, n=30)
    assert "c has 0 (not counted: 5 also in the test split); lower grid.n_labels to 2, or" in text
    assert Subsets(corpus(train, test=held)).of_cell(2, 30, 0)


def test_other_labels_are_offered_where_those_have_enough() -> None:
    train = rows(30, "a") + rows(20, "b") + rows(20, "c")
    held = [rows(3, "b", tag) + rows(3, "c", tag) for tag in "vt"]
    found = corpus(train, held[0] + rows(30, "a"), held[1])
    assert "name labels that have enough in data.label_order (b, c)" in explain(found)
    assert Subsets(found, label_order=["b", "c"]).of_cell(2, 20, 0)


def test_labels_written_differently_in_test_are_named() -> None:
    text = explain(corpus(rows(20, "a") + rows(20, "b"), test=rows(9, "A") + rows(8, "B")))
    assert "the test split has no text labeled only 'a' or 'b' (its rows are labeled A, B)" in text
    assert text.endswith("write labels the same way in train.csv and test.csv")


def test_validation_that_is_a_copy_of_test_is_reported() -> None:
    held = rows(3, "a", "h") + rows(3, "b", "h")
    text = explain(corpus(rows(20, "a") + rows(20, "b"), held, held))
    assert "the validation split has no text labeled only 'a' or 'b'" in text
    assert "(not counted: 6 also in the test split); remove those texts from test.csv" in text


def test_lower_label_count_is_offered_only_where_it_divides_the_samples() -> None:
    train = [row for label in "abcd" for row in rows(20, label)]
    held = [row for label in "abc" for row in rows(3, label, "h")]
    found = corpus(train, [*held, *rows(3, "d", "h")], [Row(f"{r.text}t", r.labels) for r in held])
    with pytest.raises(DataError, match=r"lower grid.n_labels to 2, or add such rows to test.csv"):
        Subsets(found).evaluation("test", 4, [40])
    with pytest.raises(DataError, match=r"lower grid.n_labels to 3"):
        Subsets(found).evaluation("test", 4, [60])


def test_default_exclusion_that_leaves_one_class_is_undone() -> None:
    text = explain(corpus(rows(20, "a") + rows(20, "neutral")))
    assert text.endswith(
        "the data have 1: a (data.exclude_labels leaves out neutral); set data.exclude_labels=[]"
    )


def test_labels_that_occur_only_with_others_are_named() -> None:
    text = explain(corpus(rows(20, "a") + [Row(f"both {i}", ("a", "b")) for i in range(9)]))
    assert "the data have 1: a (b only in rows with several labels)" in text
    assert "give more rows a single label" in text


def test_single_class_asks_for_another_column() -> None:
    assert "name another column in data.label_column" in explain(corpus(rows(20, "a")))


def test_too_short_an_order_asks_for_more_names() -> None:
    text = explain(corpus(rows(20, "a") + rows(20, "b")), label_order=["a"])
    assert text.endswith("data.label_order names 1: a; name more there")


def test_excluded_label_in_the_order_names_the_other_key() -> None:
    found = corpus(rows(20, "a") + rows(20, "neutral"))
    assert "'neutral' is left out by data.exclude_labels; set data.exclude_labels=[]" in explain(
        found, label_order=["neutral", "a"]
    )


def test_split_that_lacks_a_label_may_be_set_to_null() -> None:
    text = explain(corpus(rows(20, "a") + rows(20, "b"), test=rows(3, "a")))
    assert text.endswith("add such rows to test.csv, or set data.splits.test to other data or null")
