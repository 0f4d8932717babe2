"""Loading a corpus."""

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from sweep.config import DataConfig
from sweep.data import Corpus, Row, build_synthetic_corpus, load_corpus
from sweep.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "emotions.txt").write_text("joy\nanger\n")
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.tsv").write_text(f'a "quoted {name}\t0\tx1\nboth\t0,1\tx2\n')
    return tmp_path


def load(path: Path, **settings: Any) -> Corpus:
    return load_corpus(DataConfig(source="files", path=str(path), **settings))


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
    with pytest.raises(DataError, match=r"test.tsv: cannot be read \(No such file"):
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
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(DataError, match=r"'org/name' cannot be loaded .* \(no route\)") as caught:
        load_corpus(DataConfig(source="hub", path="org/name"))
    assert "\n" not in str(caught.value)


def hub(monkeypatch: pytest.MonkeyPatch, **splits: Any) -> None:
    found = datasets.DatasetDict({k: datasets.Dataset.from_dict(v) for k, v in splits.items()})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: found)


def test_split_that_the_hub_lacks_is_held_out_from_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = {"text": [f"t{i}" for i in range(40)], "label": ["a", "b"] * 20}
    hub(monkeypatch, train=train, test={"text": ["x"], "label": ["a"]})
    corpus = load_corpus(DataConfig(source="hub", path="org/name"))
    assert {split: len(rows) for split, rows in corpus.splits.items()} == {
        "train": 36, "validation": 4, "test": 1,
    }  # fmt: skip
    assert corpus.held_out == ("validation",)


def test_split_named_but_absent_on_the_hub_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, train={"text": ["x"], "label": ["a"]})
    config = DataConfig(source="hub", path="org/name", splits={"test": "held"})
    with pytest.raises(
        DataError, match=r"the splits train and none named held; set data.splits.test to"
    ):
        load_corpus(config)


def test_hub_without_training_split_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, all={"text": ["x"], "label": ["a"]})
    with pytest.raises(DataError, match=r"none named train or training; .* data.splits.train"):
        load_corpus(DataConfig(source="hub", path="org/name"))


def test_unlabeled_split_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = datasets.ClassLabel(names=["a", "b"])
    features = datasets.Features({"text": datasets.Value("string"), "label": labels})
    train = {"text": [f"t{i}" for i in range(40)], "label": [0, 1] * 20}
    splits = {"train": train, "test": {"text": ["x", "y"], "label": [-1, -1]}}
    found = {k: datasets.Dataset.from_dict(v, features) for k, v in splits.items()}
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict(found))
    corpus = load_corpus(DataConfig(source="hub", path="org/name"))
    assert corpus.held_out == ("validation", "test")
    assert corpus.sources["test"].without_label == 2


def test_folder_with_one_file_per_split_is_read(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(
        b'\xef\xbb\xbftext,label\r\n"said ""hi""\r\ntwice",joy\r\nmad,anger\r\n'
    )
    (tmp_path / "val.jsonl").write_text('{"label": ["anger", "joy"], "text": "v"}\n')
    pq.write_table(pa.table({"text": ["t"], "label": ["joy"]}), tmp_path / "Test.parquet")
    corpus = load(tmp_path)
    assert corpus.splits == {
        "train": [Row('said "hi"\r\ntwice', ("joy",)), Row("mad", ("anger",))],
        "validation": [Row("v", ("anger", "joy"))],
        "test": [Row("t", ("joy",))],
    }
    assert corpus.held_out == ()


def write_split(path: Path, text: str) -> Path:
    path.write_text(f"text,label\n{text},joy\n")
    return path


def test_splits_name_their_files(tmp_path: Path) -> None:
    splits = {s: f"{s}-2.csv" for s in ("train", "validation", "test")}
    paths = {split: write_split(tmp_path / name, split) for split, name in splits.items()}
    beside = load_corpus(DataConfig(source="files", path=str(tmp_path), splits=splits))
    whole = {split: str(path) for split, path in paths.items()}
    assert load_corpus(DataConfig(source="files", splits=whole)).splits == beside.splits
    assert beside.splits["test"] == [Row("test", ("joy",))]


def test_names_of_numbered_labels_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("joy\nanger\n")
    (tmp_path / "all.csv").write_text("text,label\na,1\nb,0\n")
    corpus = load(tmp_path / "all.csv", labels_file="names.txt")
    assert corpus.splits["train"] == [Row("a", ("anger",)), Row("b", ("joy",))]


def test_rows_without_text_or_label_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text("text,label\na,joy\n ,joy\n,\nb,\nc, \nd,[]\n")
    corpus = load(tmp_path / "all.csv")
    assert corpus.splits["train"] == [Row("a", ("joy",))]
    train = corpus.sources["train"]
    assert (train.without_text, train.without_label) == (2, 3)


@pytest.mark.parametrize(
    ("files", "settings", "sentence"),
    [
        ({"notes.csv": "a"}, {}, r"no training file such as train.csv \(its files: notes"),
        ({}, {}, r"\(its files: none of a known kind\); name one in data.splits.train"),
        ({"train.csv": "a", "train.tsv": "a"}, {},
         r"several files for train \(train.csv, train.tsv\); name one in data.splits.train"),
        ({"train.csv": "text,label\na,b", "dev.csv": "text,mood\na,b"}, {},
         r"dev.csv: has no column 'label' as the training data have; rename one of text, mood, .*"
         r"set data.splits.validation=null to hold out validation from the training data instead"),
        ({"train.csv": "text,label\n,b"}, {}, "has no row with a text in 'text' and a label in"),
        ({"train.csv": "text,label\na,b", "n": "x\nx"}, {"labels_file": "n"},
         "data.labels_file needs two or more different names"),
        ({"train.csv": "text,label\na,b\nc,7", "n": "b\nc"}, {"labels_file": "n"},
         r"train.csv: line 3: '7' is neither one of the 2 label names .* 0 to 1; fix or delete"),
        ({"train.jsonl": '{"text": "\\ud800", "label": "b"}'}, {}, "line 1: the text holds half a"),
        ({"train.jsonl": '{"text": ["a"], "label": "b"}'}, {}, "the text column .* not text"),
        ({"train.csv": "text,label\na,b"}, {"splits": {"test": "no.csv"}}, "there is no such file"),
    ],
)  # fmt: skip
def test_unusable_folder_is_refused_with_remedy(
    tmp_path: Path, files: dict[str, str], settings: dict[str, Any], sentence: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=sentence) as caught:
        load(tmp_path, **settings)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["", "data.csv", "folder"])
def test_path_that_does_not_exist_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"there is no such file; check data.path"):
        load(tmp_path / "gone" / name)


def test_path_or_splits_without_a_source_mean_files() -> None:
    assert DataConfig().source == "synthetic"
    assert DataConfig(path="mine.csv").source == "files"
    assert DataConfig(splits={"train": "mine.csv"}).source == "files"


def test_path_that_looks_like_a_hub_id_or_holds_a_variable_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"there is no such file .*needs data.source=hub"):
        load(tmp_path / "owner" / "dataset")
    with pytest.raises(DataError, match=r"no such file .variables such as \$HOME are not expanded"):
        load(tmp_path / "${DATA}" / "train.csv")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"source": "files"}, "source 'files' needs data.path or data.splits.train"),
        ({"source": "hub", "splits": {"train": "x"}}, "source 'hub' needs data.path"),
        ({"path": "x", "test_fraction": 0.6, "validation_fraction": 0.4}, "nothing to train on"),
        ({"source": "synthetic", "path": "x"}, "path has no effect with source 'synthetic'"),
        ({"test_fraction": 0.2}, "test_fraction has no effect with source 'synthetic'"),
        ({"path": "x", "revision": "main"}, "revision has no effect with source 'files'"),
        ({"source": "hub", "path": "x", "delimiter": ";"}, "delimiter has no effect with source"),
        ({"test_fraction": 0}, "greater than 0"),
        ({"splits": {"dev": "x"}}, "'train', 'validation' or 'test'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        DataConfig(**settings)


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
