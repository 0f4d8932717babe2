"""Loading a corpus."""

from pathlib import Path
from typing import Any

import datasets
import pytest

from sweep.config import DataConfig
from sweep.data import Row, load_corpus
from sweep.errors import DataError
from sweep.synthetic import build_synthetic_corpus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "emotions.txt").write_text("joy\nanger\n")
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.tsv").write_text(f'a "quoted {name}\t0\tx1\nboth\t0,1\tx2\n')
    return tmp_path


def load(folder: Path) -> Any:
    return load_corpus(DataConfig(source="files", path=str(folder)))


def test_official_folder_is_read_without_quoting(folder: Path) -> None:
    corpus = load(folder)
    assert corpus.splits["validation"] == [
        Row('a "quoted dev', ("joy",)),
        Row("both", ("joy", "anger")),
    ]


def test_line_separator_inside_a_text_does_not_end_the_row(folder: Path) -> None:
    (folder / "train.tsv").write_text("one\u2028two\x85three\t1\tx\r\n", newline="")
    assert load(folder).splits["train"] == [Row("one\u2028two\x85three", ("anger",))]


@pytest.mark.parametrize("line", ["no tab", "text\tjoy\tx", "text\t7\tx", "text\t-1\tx"])
def test_damaged_row_is_named_by_file_and_line(folder: Path, line: str) -> None:
    (folder / "dev.tsv").write_text(f"fine\t0\tx\n{line}\n")
    with pytest.raises(DataError, match=r"dev.tsv: line 2 is not"):
        load(folder)


def test_missing_file_is_named(folder: Path) -> None:
    (folder / "test.tsv").unlink()
    with pytest.raises(DataError, match=r"test.tsv: cannot be read"):
        load(folder)


def test_file_that_is_not_utf8_is_named(folder: Path) -> None:
    (folder / "train.tsv").write_bytes(b"caf\xe9\t0\tx\n")
    with pytest.raises(DataError, match=r"train.tsv: is not UTF-8"):
        load(folder)


def test_hub_dataset_is_read_by_its_features(monkeypatch: pytest.MonkeyPatch) -> None:
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "labels": datasets.Sequence(datasets.ClassLabel(names=["joy", "anger"])),
        }
    )
    split = datasets.Dataset.from_dict({"text": ["a", "b"], "labels": [[0], [0, 1]]}, features)
    asked: list[Any] = []

    def stand_in(path: str, config: str | None, revision: str | None) -> datasets.DatasetDict:
        asked.append((path, config, revision))
        return datasets.DatasetDict(train=split, validation=split, test=split)

    monkeypatch.setattr(datasets, "load_dataset", stand_in)
    corpus = load_corpus(DataConfig(source="hub", path="org/name", config="simple", revision="r1"))
    assert asked == [("org/name", "simple", "r1")]
    assert corpus.splits["test"] == [Row("a", ("joy",)), Row("b", ("joy", "anger"))]


def test_hub_out_of_reach_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route\nmany more lines")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DataError, match=r"'org/name' cannot be loaded .* \(no route\)") as caught:
        load_corpus(DataConfig(source="hub", path="org/name"))
    assert "\n" not in str(caught.value)


def test_synthetic_corpus_is_the_same_every_time() -> None:
    assert build_synthetic_corpus() == build_synthetic_corpus()
    assert build_synthetic_corpus(seed=1) != build_synthetic_corpus()


def test_synthetic_corpus_has_what_real_ones_have() -> None:
    splits = build_synthetic_corpus()
    rows = splits["train"]
    texts = [text for text, _ in rows]
    held = {text for split in ("validation", "test") for text, _ in splits[split]}
    assert len(set(texts)) < len(texts)
    assert set(texts) & held
    assert any(len(labels) > 1 for _, labels in rows)
    assert any(labels == ("neutral",) for _, labels in rows)
