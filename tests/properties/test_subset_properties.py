"""Whatever is in the splits: subsets are exact, nested and disjoint, or an error says why not."""

from cases import cases
from hypothesis import strategies as st
from subset_checks import check_subsets

from sweep.data import SPLITS, Corpus, Row

NAMES = ("joy", "fear", "calm", "rage", "neutral")
sizes_by_label = st.lists(st.integers(0, 12) | st.integers(5, 12), min_size=5, max_size=5)
few_by_label = st.lists(st.integers(0, 4) | st.just(3), min_size=5, max_size=5)
copies = st.lists(
    st.tuples(st.sampled_from(SPLITS), st.integers(0, 99), st.sampled_from(SPLITS),
              st.sampled_from([("joy",), ("rage",), ("joy", "fear"), ("neutral",), None, None])),
    max_size=12,
)  # fmt: skip


@cases(
    400,
    sizes=st.tuples(sizes_by_label, few_by_label, few_by_label),
    copies=copies,
    k=st.integers(2, 4),
    per_label=st.integers(1, 8),
    seed=st.integers(0, 3),
)
def test_any_corpus(
    sizes: tuple[list[int], ...],
    copies: list[tuple[str, int, str, tuple[str, ...] | None]],
    k: int,
    per_label: int,
    seed: int,
) -> None:
    """Copies repeat a text within a split, or in another, with or without its label."""
    splits = {
        split: [
            Row(f"{split} {name} {i}", (name,))
            for name, count in zip(NAMES, counts, strict=True)
            for i in range(count)
        ]
        for split, counts in zip(SPLITS, sizes, strict=True)
    }
    for source, index, target, labels in copies:
        if splits[source]:
            row = splits[source][index % len(splits[source])]
            splits[target].append(Row(row.text, labels or row.labels))
    check_subsets(Corpus(splits), k, k * per_label, seed, frozenset({"neutral"}))
