"""Files and folders that appear complete or not at all."""

from pathlib import Path

import pytest

from sweep.storage.atomic import create_folder, replace_file


def test_file_is_replaced_when_all_of_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_text("old")
    with replace_file(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), replace_file(path) as file:
        file.write(b"ne")
        raise OSError("full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_of_another_process_that_was_first_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "models" / "tiny"
    with create_folder(path) as folder:
        (folder / "weights").write_text("mine")
        path.mkdir()
        (path / "weights").write_text("theirs")
    assert (path / "weights").read_text() == "theirs"
    assert list(path.parent.iterdir()) == [path]


def test_failure_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), create_folder(tmp_path / "tiny") as folder:
        (folder / "weights").write_text("half")
        raise OSError("full")
    assert not list(tmp_path.iterdir())
