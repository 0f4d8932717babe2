"""Validation and test splits that are cut from training rows."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.config import DataConfig
from sweep.data import Corpus, load_corpus
from sweep.data.splits import cut_splits


def load(path: Path, **settings: Any) -> Corpus:
    return load_corpus(DataConfig(source="files", path=str(path), **settings))


SIZES = {"joy": 100, "anger": 60, "fear": 20}


def write_single(path: Path, order: int = 1, extra: int = 0) -> Path:
    rows = [(f"{name} {i}", name) for name, size in SIZES.items() for i in range(size)]
    rows += [("again", "joy")] * 3 + [(f"new {i}", "joy") for i in range(extra)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows[::order]])
    return path


def texts_of(corpus: Corpus) -> dict[str, set[str]]:
    return {split: {row.text for row in rows} for split, rows in corpus.splits.items()}


def test_single_file_is_split_in_the_same_parts_of_each_label(tmp_path: Path) -> None:
    corpus = load(write_single(tmp_path / "all.csv"))
    counts = {
        split: Counter(row.labels[0] for row in rows if row.text != "again")
        for split, rows in corpus.splits.items()
    }
    for split in ("validation", "test"):
        assert abs(counts[split]["joy"] - 10) <= 1
        assert (counts[split]["anger"], counts[split]["fear"]) == (6, 2)
    assert sum(map(len, corpus.splits.values())) == sum(SIZES.values()) + 3


def test_no_text_is_in_two_splits(tmp_path: Path) -> None:
    found = texts_of(load(write_single(tmp_path / "all.csv")))
    assert len(set.union(*found.values())) == sum(map(len, found.values()))


def test_split_is_the_same_every_time_in_any_row_order(tmp_path: Path) -> None:
    one = texts_of(load(write_single(tmp_path / "one.csv")))
    assert one == texts_of(load(write_single(tmp_path / "other.csv", order=-1)))


def test_added_rows_move_few_others(tmp_path: Path) -> None:
    one = texts_of(load(write_single(tmp_path / "one.csv")))
    more = texts_of(load(write_single(tmp_path / "more.csv", extra=10)))
    assert sum(len(one[split] - more[split]) for split in one) <= 6


def test_split_seed_and_fractions_change_the_split(tmp_path: Path) -> None:
    path = write_single(tmp_path / "all.csv")
    one, seeded = load(path), load(path, split_seed=1)
    assert texts_of(one) != texts_of(seeded)
    wide = load(path, test_fraction=0.5, validation_fraction=0.25).splits
    assert [len(wide[split]) for split in ("validation", "test")] == pytest.approx([45, 90], abs=4)


@given(
    rows=st.lists(st.tuples(st.sampled_from("abcdefghij"), st.sampled_from("xyz")), max_size=30),
    seed=st.integers(0, 9),
)
def test_cut_gives_equal_texts_one_split(rows: list[tuple[str, str]], seed: int) -> None:
    texts, labels = [text for text, _ in rows], [(label,) for _, label in rows]
    places = cut_splits(texts, labels, {"validation": 0.2, "test": 0.2}, seed)
    assert len(set(zip(texts, places, strict=True))) == len(set(texts))
    turned = cut_splits(texts[::-1], labels[::-1], {"validation": 0.2, "test": 0.2}, seed)
    assert turned == places[::-1]
