"""What became of the rows of a corpus: counted, written down, and said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.config import DataConfig
from sweep.data import Corpus, Row, SplitSource, Subsets, build_account, load_corpus
from sweep.run import main
from sweep.storage.account import (
    DataAccount,
    LeftOut,
    Reason,
    SplitAccount,
    format_account,
    parse_account,
)

Pairs = list[tuple[str, str]]
WriteConfig = Callable[..., Path]


def pairs(count: int, labels: tuple[str, ...] = ("joy", "fear"), tag: str = "text") -> Pairs:
    return [(f"{tag} number {i}", labels[i % len(labels)]) for i in range(count)]


def write(folder: Path, **splits: Pairs) -> Path:
    for name, rows in splits.items():
        lines = ["text,label", *(f'{text},"{label}"' for text, label in rows)]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def account_of(corpus: Corpus, config: DataConfig) -> DataAccount:
    return build_account(corpus, Subsets(corpus, config.exclude_labels, config.label_order), config)


def take(folder: Path, **settings: Any) -> DataAccount:
    config = DataConfig(source="files", path=str(folder), **settings)
    return account_of(load_corpus(config), config)


def sentences(account: DataAccount) -> list[str]:
    return [remark.sentence for remark in account.remarks]


def line_of(account: DataAccount, split: str) -> str:
    (line,) = (line for line in format_account(account) if line.startswith(f"  {split}: "))
    return line


def left_out(account: DataAccount, split: str) -> dict[str, int]:
    (found,) = (each for each in account.splits if each.split == split)
    return {str(each.reason): each.rows for each in found.left_out}


def test_line_of_a_split_names_file_columns_and_rows(tmp_path: Path) -> None:
    account = take(write(tmp_path, train=pairs(20), test=pairs(8, tag="held")))
    assert line_of(account, "test") == (
        f"  test: {tmp_path}/test.csv (columns text and label): 8 rows read, all usable"
    )


def test_line_of_a_cut_split_names_fraction_and_seed(tmp_path: Path) -> None:
    account = take(write(tmp_path, train=pairs(40)), validation_fraction=0.2, split_seed=7)
    assert line_of(account, "validation") == (
        "  validation: held out from training (data.validation_fraction=0.2, data.split_seed=7): "
        "8 rows, all usable"
    )
    assert "40 rows read; 12 held out for validation and test; 28 usable" in line_of(
        account, "train"
    )


def test_columns_found_by_look_are_named(tmp_path: Path) -> None:
    lines = [f"{text},{label}" for text, label in pairs(20)]
    (tmp_path / "train.csv").write_text("\n".join(["body,kind", *lines]) + "\n")
    assert "(columns body and kind)" in line_of(take(tmp_path), "train")


def test_every_reason_is_counted_and_said(tmp_path: Path) -> None:
    odd = [("", "joy"), ("no label", ""), ("both", "['joy', 'fear']"), ("calm", "neutral")]
    odd += [("twice", "joy"), ("twice", "joy"), ("torn", "joy"), ("torn", "fear")]
    odd += [("in validation", "joy"), ("in test", "joy")]
    held = {
        split: [*pairs(4, tag=split), (f"in {split}", "joy")] for split in ("validation", "test")
    }
    account = take(write(tmp_path, train=pairs(20) + odd, **held))
    assert left_out(account, "train") == {
        "without_text": 1,
        "without_label": 1,
        "several_labels": 1,
        "excluded_label": 1,
        "in_test": 1,
        "in_validation": 1,
        "conflicting_labels": 2,
        "repeated": 1,
    }
    assert line_of(account, "train").endswith(
        "30 rows read; left out: 1 without text, 1 without a label, 1 with several labels, "
        "1 excluded by data.exclude_labels (neutral), 1 also in the test split, 1 also in the "
        "validation split, 2 with conflicting labels for the same text and 1 repeated; 21 usable"
    )


def test_labels_left_out_by_the_order_are_named(tmp_path: Path) -> None:
    rows = pairs(40, ("joy", "fear", "calm", "rage"))
    account = take(write(tmp_path, train=rows), label_order=["joy", "fear"])
    assert "16 with a label outside data.label_order (calm 8, rage 8)" in line_of(account, "train")


def test_labels_that_training_lacks_are_named(tmp_path: Path) -> None:
    account = take(
        write(tmp_path, train=pairs(20), test=pairs(6, ("joy", "fear", "Joy"), tag="held"))
    )
    assert left_out(account, "test") == {"label_not_in_training": 2}
    assert "2 with a label that training does not have (Joy)" in line_of(account, "test")


def test_several_files_and_text_columns_are_named() -> None:
    source = SplitSource(
        files=tuple(f"data/{i}.parquet" for i in range(5)),
        text_columns=("title", "body"),
        label_column="kind",
        rows=8,
    )
    corpus = Corpus({split: [] for split in ("train", "validation", "test")})
    corpus.splits["train"] += [Row(text, (label,)) for text, label in pairs(8)]
    account = account_of(
        Corpus(corpus.splits, {"train": source}), DataConfig(source="files", path="data")
    )
    assert line_of(account, "train") == (
        "  train: data/0.parquet, data/1.parquet, data/2.parquet and 2 more "
        "(columns title and body for the text, kind for the label): 8 rows read, all usable"
    )


def test_synthetic_corpus_takes_two_lines() -> None:
    config = DataConfig()
    account = account_of(load_corpus(config), config)
    first, second = format_account(account)
    assert first.startswith("data: the built-in synthetic corpus; usable rows: train 9,615 of")
    assert "1,478 excluded by data.exclude_labels (neutral)" in second
    assert account.remarks == ()


def test_hostile_names_stay_on_their_line(tmp_path: Path) -> None:
    rows = pairs(20) + [(text, "bad\x1b[31m\u2028") for text, _ in pairs(4, tag="odd")]
    account = take(write(tmp_path, train=rows), exclude_labels=["bad\x1b[31m\u2028"])
    text = "".join(format_account(account) + sentences(account))
    assert "bad\\x1b[31m\\u2028" in text
    assert "\x1b" not in text
    assert "\u2028" not in text


def test_unused_files_are_named_with_the_keys_that_take_them() -> None:
    rows = {"train": pairs(20), "validation": pairs(4, tag="v"), "test": pairs(4, tag="t")}
    splits = {name: [Row(text, (label,)) for text, label in part] for name, part in rows.items()}
    corpus = Corpus(splits, held_out=("validation",), unused=("/data/eval.csv", "/data/notes.csv"))
    account = account_of(corpus, DataConfig(source="files", path="/data"))
    assert sentences(account) == [
        "data.splits: eval.csv, notes.csv are not used; name what a split should use in "
        "data.splits.validation"
    ]


def test_label_left_out_by_default_is_said_aloud(tmp_path: Path) -> None:
    write(tmp_path, train=pairs(60, ("joy", "fear", "neutral")))
    (sentence,) = sentences(take(tmp_path))
    assert "neutral is left out by default (16 rows of training)" in sentence
    assert "set data.exclude_labels=[] to keep it" in sentence


@pytest.mark.parametrize("chosen", [[], ["neutral"], ["fear"]])
def test_label_that_the_user_left_out_or_in_is_not(tmp_path: Path, chosen: list[str]) -> None:
    write(tmp_path, train=pairs(90, ("joy", "fear", "neutral")))
    assert sentences(take(tmp_path, exclude_labels=chosen)) == []


def test_excluded_label_that_no_row_has_is_named_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, train=pairs(30, ("joy", "fear", "Neutral")))
    assert sentences(take(tmp_path, exclude_labels=["neutral.", "zzz"])) == [
        "data.exclude_labels: no row has the label 'neutral.'; did you mean 'Neutral'?",
        "data.exclude_labels: no row has the label 'zzz'; remove it; the labels are Neutral, "
        "fear, joy",
    ]


def test_large_share_left_out_is_one_warning_for_training_and_what_was_cut_from_it(
    tmp_path: Path,
) -> None:
    write(tmp_path, train=pairs(40) * 2)
    assert sentences(take(tmp_path)) == [
        "data: 40 of the 80 rows of train, validation and test (50 %) are left out: 40 repeated; "
        "one copy of each counts; delete the others, or ignore this"
    ]


def test_small_share_left_out_is_no_warning(tmp_path: Path) -> None:
    assert sentences(take(write(tmp_path, train=pairs(40) + pairs(8)))) == []


def test_share_with_several_labels_is_no_warning(tmp_path: Path) -> None:
    both = [(f"both {i}", "['joy', 'fear']") for i in range(60)]
    assert sentences(take(write(tmp_path, train=pairs(40) + both))) == []


def test_file_without_labels_is_named_where_its_split_is_held_out(tmp_path: Path) -> None:
    write(tmp_path, train=pairs(40), test=[(text, "") for text, _ in pairs(9, tag="bare")])
    account = take(tmp_path)
    (sentence,) = sentences(account)
    assert (
        "test.csv has no row with a text and a label, so test is held out from training" in sentence
    )
    assert (
        "9 rows read; held out from training (data.test_fraction=0.1, data.split_seed=0): 4 rows; "
        in (line_of(account, "test"))
    )


def test_account_is_the_same_after_json() -> None:
    config = DataConfig()
    account = account_of(load_corpus(config), config)
    assert parse_account(json.loads(json.dumps(account.to_dict()))) == account


@pytest.mark.parametrize(
    "change",
    [
        {"source": "web"},
        {"splits": [{"split": "dev"}]},
        {"splits": [{"split": "train", "usable": -1}]},
        {"splits": [{"split": "train", "usable": "many"}]},
        {"splits": [{"split": "train", "left_out": [{"reason": "dull", "rows": 1}]}]},
        {"splits": [{"split": "test", "fraction": float("nan")}]},
        {"remarks": [{"level": "loud", "key": "data", "sentence": "x"}]},
        {"unused": [1]},
    ],
)
def test_account_of_another_shape_is_none(change: dict[str, Any]) -> None:
    sound = {"source": "files", "split_seed": 0, "splits": [{"split": "train"}]}
    assert parse_account(sound).splits
    with pytest.raises(ValueError, match="validation error"):
        parse_account(sound | change)


def test_rows_of_a_split_are_the_usable_and_those_left_out() -> None:
    split = SplitAccount(
        "train", read=9, cut_off=2, usable=4, left_out=(LeftOut(Reason.REPEATED, 3),)
    )
    assert split.rows == 7


def arguments(write_config: WriteConfig, folder: Path) -> list[str]:
    data = {"source": "files", "path": str(folder)}
    grid = {
        "models": [{"name": "tiny", "path": "tiny:llama"}],
        "n_labels": [2],
        "n_samples": [16],
    }
    return [str(write_config(data=data, grid=grid)), "--dry-run"]


def test_dry_run_tells_of_the_data_also_where_they_do_not_suffice(
    write_config: WriteConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    rows = pairs(40)
    folder = write(tmp_path / "data", train=rows, test=rows)
    assert main(arguments(write_config, folder)) == 2
    text = capsys.readouterr().out
    assert f"  test: {folder}/test.csv (columns text and label): 40 rows read, all usable" in text
    assert "has 0 (not counted: 18 also in the test split" in text


def test_dry_run_as_json_holds_the_account(
    write_config: WriteConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    folder = write(tmp_path / "data", train=pairs(40))
    assert main([*arguments(write_config, folder), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["preflight"]["data"]
    assert [(each["split"], each["usable"]) for each in data["splits"]] == [
        ("train", 32),
        ("validation", 4),
        ("test", 4),
    ]
    assert parse_account(data).splits[0].files == (f"{folder}/train.csv",)


def test_every_shortage_is_told_and_that_of_a_split_first(
    write_config: WriteConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    folder = write(tmp_path / "data", train=pairs(2))
    assert main(arguments(write_config, folder)) == 2
    errors = [line for line in capsys.readouterr().out.splitlines() if "error: " in line]
    assert "the validation split has no text" in errors[0]
    assert "give each label three or more texts" in errors[0]
    assert errors[-1].endswith("use at most 2")


def test_column_that_tells_splits_apart_is_named_where_they_are_cut(tmp_path: Path) -> None:
    rows = [f"{text},{label},{('train', 'dev')[i % 3 == 0]}" for i, (text, label) in
            enumerate(pairs(30))]  # fmt: skip
    (tmp_path / "all.csv").write_text("\n".join(["text,label,fold", *rows]))
    (sentence,) = sentences(take(tmp_path / "all.csv"))
    assert "the column 'fold' says which split each row is for, but is not read" in sentence
    assert "validation and test are held out from all rows" in sentence


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (("Joy", "joy", "fear"), "'Joy' and 'joy'"),
        (("caf\u00e9", "cafe\u0301"), r"'cafe\u0301' and"),
    ],
)
def test_labels_that_look_alike_are_named(
    tmp_path: Path, labels: tuple[str, ...], shown: str
) -> None:
    (sentence,) = sentences(take(write(tmp_path, train=pairs(30, labels))))
    assert shown in sentence
    assert sentence.endswith(
        "count as different labels; if they are the same, write them the same way"
    )
