"""Whatever is in the files of the splits: every row that was read is counted once."""

import json
import tempfile
from pathlib import Path
from typing import Any

from cases import REACHED, cases
from hypothesis import strategies as st

from sweep.config import DataConfig
from sweep.data import SPLITS, Subsets, build_account, load_corpus
from sweep.errors import DataError
from sweep.storage.account import format_account, parse_account

few_texts = st.integers(0, 30).map(lambda number: f"text {number}") | st.sampled_from(["", " "])
labels = st.lists(st.sampled_from(["joy", "fear", "neutral", "rage"]), max_size=2, unique=True)
rows = st.lists(st.tuples(few_texts, labels | st.just(["joy"])), min_size=1, max_size=40)


@cases(
    300,
    train=rows,
    held=st.dictionaries(st.sampled_from(["validation", "test"]), rows),
    excluded=st.sampled_from([[], ["neutral"], ["fear", "absent"]]),
    order=st.sampled_from([None, None, ["joy"]]),
    seed=st.integers(0, 3),
)
def test_rows_read_are_the_rows_used_and_left_out(
    train: list[tuple[str, list[str]]],
    held: dict[str, list[tuple[str, list[str]]]],
    excluded: list[str],
    order: list[str] | None,
    seed: int,
) -> None:
    files = {"train": train, **held}
    with tempfile.TemporaryDirectory() as name:
        for split, part in files.items():
            lines = [json.dumps({"text": text, "labels": names}) for text, names in part]
            (Path(name) / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
        config = DataConfig(
            source="files", path=name, exclude_labels=excluded, label_order=order, split_seed=seed
        )
        try:
            corpus = load_corpus(config)
            subsets = Subsets(corpus, excluded, order)
        except DataError:
            return
        account = build_account(corpus, subsets, config)
    check_account(account.to_dict(), files)
    assert parse_account(json.loads(json.dumps(account.to_dict()))) == account
    assert len(format_account(account)) == 4
    REACHED["accounts"] += 1


def check_account(tree: dict[str, Any], files: dict[str, list[Any]]) -> None:
    assert [each["split"] for each in tree["splits"]] == list(SPLITS)
    for each in tree["splits"]:
        left_out = sum(part["rows"] for part in each["left_out"])
        read = each["read"] + each["from_training"]
        assert read == each["cut_off"] + each["usable"] + left_out
        assert each["read"] == len(files.get(each["split"], []))
        for part in each["left_out"]:
            assert part["rows"] > 0
            assert not part["labels"] or sum(part["labels"].values()) == part["rows"]
    cut = sum(each["from_training"] for each in tree["splits"])
    assert cut == sum(each["cut_off"] for each in tree["splits"])
