"""Results of older journals, which name no test set: whose texts their predictions are of."""

from typing import Any

from sweep.storage.unmarked import match_test_sets

SOURCE = ("data", "a", "b")


def test_set(truth: list[int], items: list[int] | None = None, **fields: Any) -> dict[str, Any]:
    return {"labels": ["a", "b"], "truth": truth, "items": items or [*range(len(truth))], **fields}


test_set.__test__ = False  # type: ignore[attr-defined]


def result(predictions: list[int], accuracy: float, f1: float | None = None) -> dict[str, Any]:
    return {"predictions": predictions, "test_accuracy": accuracy, "test_macro_f1": f1}


def test_texts_that_give_the_scores_are_those_of_the_result() -> None:
    old = test_set([0, 0, 1, 1])
    assert match_test_sets([old], {SOURCE: [result([0, 0, 1, 0], 0.75)]}) == {SOURCE: old}


def test_one_result_that_contradicts_speaks_for_all_on_the_same_data() -> None:
    majority, other = result([0, 0, 0, 0], 0.5), result([0, 1, 0, 1], 1.0)
    old = test_set([0, 0, 1, 1])
    assert match_test_sets([old], {SOURCE: [majority]}) == {SOURCE: old}
    assert match_test_sets([old], {SOURCE: [majority, other]}) == {}


def test_equal_accuracy_with_another_macro_f1_is_a_coincidence() -> None:
    old = test_set([0, 0, 1, 1])
    assert match_test_sets([old], {SOURCE: [result([0, 0, 0, 1], 0.75, 0.5)]}) == {}


def test_set_of_a_later_session_is_taken_in_the_order_of_its_rows() -> None:
    later = test_set([1, 0, 0, 1], [7, 2, 5, 4], fingerprint="f")
    found = match_test_sets([later], {SOURCE: [result([0, 1, 0, 1], 1.0)]})[SOURCE]
    assert (found["items"], found["truth"]) == ([2, 4, 5, 7], [0, 1, 0, 1])


def test_sets_of_other_labels_or_lengths_are_passed_over() -> None:
    longer, renamed = test_set([0, 1, 0]), test_set([0, 1]) | {"labels": ["a", "c"]}
    assert match_test_sets([longer, renamed], {SOURCE: [result([0, 1], 1.0)]}) == {}
