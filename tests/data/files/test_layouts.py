"""Which files of a folder, an archive or a pattern become which split."""

import gzip
import shutil
import zipfile
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweep.config import DataConfig
from sweep.data import Corpus, load_corpus
from sweep.errors import DataError


def load(path: Path | str, **settings: Any) -> Corpus:
    return load_corpus(DataConfig(source="files", path=str(path), **settings))


def write(path: Path, rows: int = 10) -> Path:
    """Write ``rows`` rows that name their file, as Parquet, gzip or CSV by the ending."""
    texts = [f"{path.name} text {i}" for i in range(rows)]
    labels = ["joy", "anger"] * (rows // 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
    data = "\n".join(["text,label", *lines]).encode()
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": texts, "label": labels}), path)
    else:
        path.write_bytes(gzip.compress(data) if path.suffix.lower() == ".gz" else data)
    return path


def write_all(folder: Path, *names: str) -> Path:
    for name in names:
        write(folder / name)
    return folder


def files_of(corpus: Corpus, split: str = "train") -> list[str]:
    return [Path(file).name for file in corpus.sources[split].files]


def refuse(path: Path | str, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(path, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


SHARDS = [f"train-0000{i}-of-00003.parquet" for i in range(3)]


def test_shards_are_read_in_order(tmp_path: Path) -> None:
    corpus = load(write_all(tmp_path, *reversed(SHARDS)))
    assert files_of(corpus) == SHARDS
    assert corpus.sources["train"].rows == 30


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
def test_shards_may_be_of_any_kind(tmp_path: Path, ending: str) -> None:
    names = [f"train-0000{i}-of-00002{ending}" for i in range(2)]
    assert load(write_all(tmp_path, *names)).sources["train"].rows == 20


def test_missing_shard_is_named(tmp_path: Path) -> None:
    sentence = refuse(write_all(tmp_path, SHARDS[0], SHARDS[2]))
    assert f"of which {SHARDS[1]} cannot be found" in sentence
    assert "such as train-*-of-00003.parquet" in sentence


def test_remedy_for_missing_shard_works(tmp_path: Path) -> None:
    write_all(tmp_path / "data", SHARDS[0], SHARDS[2], "test-00000-of-00001.parquet")
    corpus = load(tmp_path, splits={"train": "train-*-of-00003.parquet"})
    assert files_of(corpus) == [SHARDS[0], SHARDS[2]]
    assert files_of(corpus, "test") == ["test-00000-of-00001.parquet"]


def test_error_in_a_shard_names_the_shard_and_its_line(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00002.jsonl").write_text('{"text": "a b", "label": "x"}\n' * 3)
    (tmp_path / "train-00001-of-00002.jsonl").write_text('\n{"text": ["a"], "label": "x"}\n')
    assert "train-00001-of-00002.jsonl: line 2: the text column" in refuse(tmp_path)


def test_column_that_one_shard_lacks_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00002.csv")
    (tmp_path / "train-00001-of-00002.csv").write_text("text,Label\na b,joy\n")
    assert "column 'label' is missing in" in refuse(tmp_path)


def test_numbered_files_are_shards_unless_a_plain_one_is_there(tmp_path: Path) -> None:
    write_all(tmp_path, "train_1.csv", "train_2.csv", "train_10.csv")
    assert files_of(load(tmp_path)) == ["train_1.csv", "train_2.csv", "train_10.csv"]
    write(tmp_path / "train.csv")
    corpus = load(tmp_path)
    assert files_of(corpus) == ["train.csv"]
    assert len(corpus.unused) == 3


@pytest.mark.parametrize(
    "names",
    [
        ["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"],
        ["train/data.csv", "test/data.csv"],
        ["train/a.csv", "train/b.csv", "test/c.csv"],
        ["default/train/0000.parquet", "default/test/0000.parquet"],
        ["train.csv/part-00000-x-c000.csv", "test.csv/part-00000-x-c000.csv"],
        ["train.parquet/part-00000.snappy.parquet", "test.parquet/part-00000.snappy.parquet"],
        ["project/data/train.csv", "project/data/test.csv"],
        ["twitter_training.csv", "twitter_test.csv"],
        ["TRAIN.CSV", "Test.Csv.GZ"],
    ],
)
def test_usual_layouts_give_training_and_test(tmp_path: Path, names: list[str]) -> None:
    corpus = load(write_all(tmp_path, *names))
    assert corpus.held_out == ("validation",)
    assert corpus.unused == ()
    assert sum(source.rows for source in corpus.sources.values()) == 10 * len(names)


def test_what_spark_and_macos_put_beside_data_is_not_read(tmp_path: Path) -> None:
    write_all(tmp_path, "train.csv/part-00000.csv", "test.csv")
    for name in ("train.csv/_SUCCESS", "train.csv/.part-00000.csv.crc", "._train.csv", ".DS_Store"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    corpus = load(tmp_path)
    assert files_of(corpus) == ["part-00000.csv"]
    assert corpus.unused == ()


def test_empty_part_holds_no_rows(tmp_path: Path) -> None:
    write(tmp_path / "train.csv" / "part-00000.csv")
    (tmp_path / "train.csv" / "part-00001.csv").write_text("")
    corpus = load(tmp_path)
    assert len(corpus.sources["train"].files) == 2
    assert corpus.sources["train"].rows == 10


def test_folder_of_parts_may_be_the_path_itself(tmp_path: Path) -> None:
    write_all(tmp_path / "out", "part-00000.csv", "part-00001.csv")
    assert load(tmp_path / "out").sources["train"].rows == 20


def test_split_folder_of_several_kinds_is_refused(tmp_path: Path) -> None:
    sentence = refuse(write_all(tmp_path, "train/a.csv", "train/b.parquet"))
    assert "holds files of several kinds (a.csv, b.parquet); name those of one kind" in sentence


def test_several_folders_with_training_files_are_named(tmp_path: Path) -> None:
    write_all(tmp_path, "raw/train.csv", "simplified/train.csv")
    assert "(raw, simplified); set data.path to one of them" in refuse(tmp_path)
    assert load(tmp_path / "raw").sources["train"].rows == 10
    assert load(tmp_path, splits={"train": "raw/train.csv"}).sources["train"].rows == 10


@pytest.mark.parametrize(
    ("names", "validation", "test", "unused"),
    [
        (["train", "eval", "test"], ["eval.csv"], ["test.csv"], []),
        (["train", "eval", "testing"], ["eval.csv"], ["testing.csv"], []),
        (["train", "valid", "evaluation"], ["valid.csv"], ["evaluation.csv"], []),
        (["train", "dev", "eval", "test"], ["dev.csv"], ["test.csv"], ["eval.csv"]),
        (["train", "val", "test", "sample_submission"], ["val.csv"], ["test.csv"],
         ["sample_submission.csv"]),
    ],
)  # fmt: skip
def test_each_file_is_a_split_or_reported_as_unused(
    tmp_path: Path, names: list[str], validation: list[str], test: list[str], unused: list[str]
) -> None:
    corpus = load(write_all(tmp_path, *(f"{name}.csv" for name in names)))
    assert (files_of(corpus, "validation"), files_of(corpus, "test")) == (validation, test)
    assert [Path(name).name for name in corpus.unused] == unused


def test_two_files_for_one_split_are_refused_with_remedies_that_work(tmp_path: Path) -> None:
    write_all(tmp_path, "train.csv", "dev.csv", "valid.csv")
    assert "(dev.csv, valid.csv); name one in data.splits.validation" in refuse(tmp_path)
    corpus = load(tmp_path, splits={"validation": "dev.csv"})
    assert [Path(name).name for name in corpus.unused] == ["valid.csv"]
    assert load(tmp_path, splits={"validation": None}).held_out == ("validation", "test")


def test_file_that_is_named_for_one_split_is_not_mistaken_for_another(tmp_path: Path) -> None:
    write_all(tmp_path, "train.csv", "test.csv")
    assert load(tmp_path, splits={"validation": "test.csv"}).held_out == ("test",)


def test_test_file_without_labels_is_reported_and_held_out(tmp_path: Path) -> None:
    write(tmp_path / "train.csv")
    (tmp_path / "test.csv").write_text("id,text\n1,a b\n2,c d\n3,\n")
    corpus = load(tmp_path)
    assert corpus.held_out == ("validation", "test")
    source = corpus.sources["test"]
    assert (source.rows, source.without_text, source.without_label) == (3, 1, 2)


def test_labels_that_are_all_minus_one_are_none(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(f"a {i},1\n" for i in range(20)))
    (tmp_path / "test.csv").write_text("text,label\nb 1,-1\nb 2,-1\n")
    corpus = load(tmp_path)
    assert corpus.held_out == ("validation", "test")
    assert corpus.sources["test"].without_label == 2


def test_labels_under_another_name_are_refused_with_a_remedy_that_works(tmp_path: Path) -> None:
    write(tmp_path / "train.csv")
    (tmp_path / "test.csv").write_text("text,mood\na b,joy\n")
    assert "data.splits.test=null to hold out test from" in refuse(tmp_path)
    corpus = load(tmp_path, splits={"test": None})
    assert corpus.held_out == ("validation", "test")
    assert [Path(name).name for name in corpus.unused] == ["test.csv"]


def pack(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    shutil.rmtree(folder)
    return archive


def test_archive_is_read_like_its_folder(tmp_path: Path) -> None:
    write_all(tmp_path / "x", "my/train.csv", "my/test.csv", "my/more.csv", "__MACOSX/my/train.csv")
    corpus = load(pack(tmp_path / "x.zip", tmp_path / "x"))
    assert corpus.sources["train"].files == (f"{tmp_path}/x.zip/my/train.csv",)
    assert corpus.held_out == ("validation",)
    assert corpus.unused == (f"{tmp_path}/x.zip/my/more.csv",)


def test_archive_of_one_file_is_that_file(tmp_path: Path) -> None:
    write_all(tmp_path / "x", "all my data.csv")
    assert load(pack(tmp_path / "x.zip", tmp_path / "x")).sources["train"].rows == 10


def test_splits_name_files_inside_an_archive_and_labels_beside_it(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.csv").write_text("text,label\na b,1\nc d,0\n")
    write(tmp_path / "x" / "b.csv")
    (tmp_path / "names.txt").write_text("joy\nanger\n")
    archive = pack(tmp_path / "x.zip", tmp_path / "x")
    corpus = load(archive, splits={"train": "a.csv", "test": "b.csv"}, labels_file="names.txt")
    assert {row.labels for row in corpus.splits["train"]} == {("anger",), ("joy",)}
    assert files_of(corpus, "test") == ["b.csv"]


def test_pattern_joins_files_or_finds_splits(tmp_path: Path) -> None:
    write_all(tmp_path, "2021.csv", "2022.csv")
    assert load(f"{tmp_path}/20*.csv").sources["train"].rows == 20
    write_all(tmp_path, "train.csv", "test.csv")
    corpus = load(f"{tmp_path}/*.csv")
    assert files_of(corpus) == ["train.csv"]
    assert [Path(name).name for name in corpus.unused] == ["2021.csv", "2022.csv"]
    assert "no data file matches the pattern" in refuse(f"{tmp_path}/*.tsv")


def test_splits_may_be_patterns_folders_and_compressed_files(tmp_path: Path) -> None:
    write_all(tmp_path, "a1.csv", "a2.csv", "held.csv/part-00000.csv", "dev.csv.gz")
    splits = {"train": "a?.csv", "validation": "dev.csv.gz", "test": "held.csv"}
    corpus = load(tmp_path, splits=splits)
    assert [corpus.sources[split].rows for split in splits] == [20, 10, 10]


def test_home_folder_trailing_slash_and_links_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "real" / "x.csv")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.csv").symlink_to("../real/x.csv")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("~/mine/").sources["train"].rows == 10
    (tmp_path / "real" / "x.csv").unlink()
    assert "is a link to ../real/x.csv, which does not exist" in refuse("~/mine")


def save(folder: Path, **splits: int) -> Path:
    names = datasets.ClassLabel(names=["joy", "anger"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    made = {
        split: datasets.Dataset.from_dict(
            {"text": [f"{split} {i}" for i in range(n)], "label": [i % 2 for i in range(n)]},
            features,
        )
        for split, n in splits.items()
    }
    datasets.DatasetDict(made).save_to_disk(str(folder))
    return folder


@pytest.mark.parametrize("below", ["", "saved"])
def test_dataset_saved_to_disk_keeps_its_label_names(tmp_path: Path, below: str) -> None:
    save(tmp_path / below, train=20, test=6, unsupervised=3)
    corpus = load(tmp_path)
    assert {row.labels for row in corpus.splits["test"]} == {("joy",), ("anger",)}
    assert files_of(corpus) == ["data-00000-of-00001.arrow"]
    assert [Path(name).name for name in corpus.unused] == ["unsupervised"]


def test_single_split_saved_to_disk_is_read(tmp_path: Path) -> None:
    corpus = load(save(tmp_path / "x", train=20) / "train")
    assert corpus.sources["train"].rows == 20
    assert corpus.unused == ()


def test_saved_splits_of_other_names_can_be_named(tmp_path: Path) -> None:
    save(tmp_path, a=20, b=6)
    assert "(a, b)" in refuse(tmp_path)
    assert load(tmp_path, splits={"train": "a", "test": "b"}).sources["test"].rows == 6


def test_damaged_saved_dataset_is_refused(tmp_path: Path) -> None:
    save(tmp_path, train=20, test=4)
    shutil.rmtree(tmp_path / "test")
    assert "names the split test, which does not exist" in refuse(tmp_path)
    (tmp_path / "train" / "data-00000-of-00001.arrow").write_bytes(b"x")
    assert "cannot be loaded as a dataset saved to disk" in refuse(tmp_path / "train")


def tweets(folder: Path) -> Path:
    for split, n in (("train", 4), ("val", 2), ("test", 2)):
        (folder / f"{split}_text.txt").write_text("".join(f"{split} {i}\n" for i in range(n)))
        (folder / f"{split}_labels.txt").write_text("".join(f"{i % 2}\n" for i in range(n)))
    (folder / "mapping.txt").write_text("0\tanger\n1\tjoy\n")
    return folder


def test_text_and_label_files_are_paired_by_line(tmp_path: Path) -> None:
    corpus = load(tweets(tmp_path))
    assert [row.labels for row in corpus.splits["validation"]] == [("anger",), ("joy",)]
    assert files_of(corpus) == ["train_text.txt", "train_labels.txt", "mapping.txt"]
    assert corpus.unused == ()


def test_file_of_texts_brings_its_labels(tmp_path: Path) -> None:
    corpus = load(tweets(tmp_path) / "train_text.txt")
    assert corpus.sources["train"].rows == 4
    assert len(corpus.unused) == 4


def test_text_and_label_files_of_other_lengths_are_refused(tmp_path: Path) -> None:
    (tweets(tmp_path) / "train_labels.txt").write_text("0\n1\n")
    assert "train_text.txt: has 4 lines, but" in refuse(tmp_path)
    assert "train_labels.txt has 2; give each text one label" in refuse(tmp_path)


def test_label_that_the_mapping_lacks_is_named(tmp_path: Path) -> None:
    (tweets(tmp_path) / "mapping.txt").write_text("0\tanger\n")
    assert "train_labels.txt: line 2 holds '1', which" in refuse(tmp_path)


def test_texts_without_labels_are_an_unlabeled_test_split(tmp_path: Path) -> None:
    (tweets(tmp_path) / "test_labels.txt").unlink()
    assert load(tmp_path).held_out == ("test",)
    (tmp_path / "train_labels.txt").unlink()
    assert "has no file of labels beside it, such as train_labels.txt" in refuse(tmp_path)


def test_mapping_may_be_the_file_of_label_names(tmp_path: Path) -> None:
    (tweets(tmp_path) / "mapping.txt").rename(tmp_path / "names.txt")
    corpus = load(tmp_path, labels_file="names.txt")
    assert {row.labels for row in corpus.splits["train"]} == {("anger",), ("joy",)}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("train.txt", "is plain text, which has no columns; rename it"),
        ("train.xlsx", "is a spreadsheet; save its sheet as CSV UTF-8"),
        ("data/train.ods", "is a spreadsheet; save its sheet as CSV UTF-8"),
        ("train.pkl", "is a pickle, which can run code when read"),
        ("train/joy/1.txt", "holds no data file (it holds: joy)"),
    ],
)
def test_training_file_of_another_kind_is_refused_with_the_true_reason(
    tmp_path: Path, name: str, sentence: str
) -> None:
    write(tmp_path / name)
    assert sentence in refuse(tmp_path)


def test_test_file_of_another_kind_is_reported_as_unused(tmp_path: Path) -> None:
    write_all(tmp_path, "train.csv", "test.xlsx", "notes.txt")
    assert [Path(name).name for name in load(tmp_path).unused] == ["test.xlsx"]


def test_mapping_serves_the_splits_that_are_not_named_too(tmp_path: Path) -> None:
    corpus = load(tweets(tmp_path), splits={"train": "train_text.txt"})
    assert {row.labels for row in corpus.splits["test"]} <= {("anger",), ("joy",)}


def test_file_of_labels_named_for_a_split_is_refused(tmp_path: Path) -> None:
    sentence = refuse(tweets(tmp_path), splits={"train": "train_labels.txt"})
    assert "holds only labels, judging by its name; name the file of texts beside it" in sentence


def test_file_named_for_two_splits_is_refused_with_a_remedy_that_works(tmp_path: Path) -> None:
    write(tmp_path / "a.csv")
    sentence = refuse(tmp_path, splits={"train": "a.csv", "test": "a.csv"})
    assert "a.csv: is named for train and for test; name another file for one" in sentence
    assert load(tmp_path, splits={"train": "a.csv", "test": None}).held_out == (
        "validation",
        "test",
    )


def test_folder_that_may_not_be_read_matters_only_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all(tmp_path, "train.csv", "lost+found/x.csv")
    is_file = Path.is_file

    def deny(path: Path) -> bool:
        if "lost+found" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", deny)
    assert load(tmp_path).unused == ()
