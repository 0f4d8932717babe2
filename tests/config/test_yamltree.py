"""YAML that is refused: repeated keys with both lines, and invalid YAML with its remedy."""

from pathlib import Path

import pytest

from sweep.config import load_config
from sweep.config.yaml_tree import parse_value, read_tree
from sweep.errors import ConfigError

GRID = "grid:\n  models: [{name: a, path: 'tiny:gpt2'}]\n  n_labels: [2]\n  n_samples: [8]\n"


def refuse(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "given.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        read_tree(path)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GRID + "name: x\ngrid: {}\n", "grid is given twice, at line 1 and at line 6; keep one of"),
        (GRID + "  n_labels: [4]\n", "n_labels is given twice, at line 3 and at line 5"),
        ("grid: {a: 1, b: 2, a: 3}\n", "a is given twice, at line 1 and at line 1"),
        ("grid:\n  models:\n  - {name: a, name: b}\n", "name is given twice, at line 3 and at"),
        ("'name': a\nname: b\n", "name is given twice, at line 1 and at line 2"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n  <<: *x\n", "<< is given twice, at line 3 and at line 4"),
        ("a: 1\n---\nb: 2\n", "keep one document, without a --- line"),
        ("a:\n\tb: 1\n", "invalid YAML at line 2: found character '\\t'"),
        ("a:\n\u00a0\u00a0b: 1\n  c: 2\n", "replace the non-breaking or other special spaces"),
        ('a: "C:\\data"\n', "put the value in single quotes"),
        (b"a: \xff\n", "is not UTF-8 text; save it as UTF-8"),
        ("a: \x07\n", "holds the character '\\x07', which YAML does not allow; delete it"),
    ],
)
def test_bad_yaml_is_refused_with_line_and_remedy(
    tmp_path: Path, text: str | bytes, sentence: str
) -> None:
    assert sentence in refuse(tmp_path, text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_with_a_mark_are_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "given.yaml"
    path.write_bytes("name: naïve\r\n".encode(encoding))
    assert read_tree(path) == {"name": "naïve"}


def test_own_key_beside_a_merged_one_is_no_repetition(tmp_path: Path) -> None:
    path = tmp_path / "given.yaml"
    path.write_text("a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  b: 3\n")
    assert read_tree(path)["d"] == {"b": 3, "c": 2}


def test_repeated_key_in_an_override_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "given.yaml"
    path.write_text(GRID)
    with pytest.raises(ConfigError, match=r"--set asha=.*max_epochs is given twice"):
        load_config(path, ["asha={max_epochs: 1, max_epochs: 2}"])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("train.batch_size=8", "train.batch_size=16"),
        ("asha.max_epochs=2", "asha={grace_epochs: 1}"),
    ],
)
def test_override_that_a_later_one_replaces_is_refused(
    tmp_path: Path, first: str, second: str
) -> None:
    path = tmp_path / "given.yaml"
    path.write_text(GRID)
    with pytest.raises(ConfigError, match=f"--set {first} has no effect"):
        load_config(path, [first, second])
    load_config(path, [first, first])


def test_values_are_plain_yaml() -> None:
    assert parse_value("{a: [1, null]}") == {"a": [1, None]}


def test_key_of_another_section_is_named(tmp_path: Path) -> None:
    path = tmp_path / "given.yaml"
    path.write_text(GRID + "epochs: 3\n")
    with pytest.raises(ConfigError, match=r"epochs is not a known key; did you mean .asha.max_ep"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "number"), [("040", "32"), ("-010", "-8"), ("1:30", "90"), ("1:30.5", "90.5")]
)
def test_number_that_is_not_what_it_seems_is_refused(
    tmp_path: Path, text: str, number: str
) -> None:
    sentence = refuse(tmp_path, f"a:\n- {text}\n")
    assert sentence.startswith(f"{text} at line 2 means {number} in YAML")
    path = tmp_path / "given.yaml"
    path.write_text(GRID)
    with pytest.raises(ConfigError, match=f"{text} at line 1 means {number}"):
        load_config(path, [f"train.batch_size={text}"])


@pytest.mark.parametrize("text", ["0", "00", "-0", "0x10", "1_000", "0.5", "12", "1e-4", "'010'"])
def test_other_numbers_are_read_as_they_look(tmp_path: Path, text: str) -> None:
    path = tmp_path / "given.yaml"
    path.write_text(f"a: {text}\n")
    assert float(read_tree(path)["a"]) == float(int(text, 16) if "x" in text else text.strip("'"))


def test_endless_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="/dev/zero: is too large for a configuration"):
        read_tree(Path("/dev/zero"))
