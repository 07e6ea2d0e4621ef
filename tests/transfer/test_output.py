"""Files are whole or not there."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from dds_transfer.output import write_json, write_records, writing, writing_folder


def test_a_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "result.csv"
    path.write_text("old")

    def fail() -> None:
        with writing(path) as file:
            file.write("half")
            file.flush()
            assert path.read_text() == "old"  # not even seen while it is written
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_success_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "result.csv"
    path.write_text("old")
    write_records(path, [{"a": 1, "b": 0.1}, {"a": None, "b": 1e-300}])
    assert path.read_text() == "a,b\n1,0.1\n,1e-300\n"
    assert list(tmp_path.iterdir()) == [path]


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "result.json", {"x": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "store"
    for content in ("old", "new"):
        with writing_folder(path) as folder:
            (folder / content).write_text(content)
            assert not (path / content).exists()
        assert [file.name for file in path.iterdir()] == [content]

    def fail() -> None:
        with writing_folder(path) as folder:
            (folder / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_errors_name_the_file_that_was_asked_for(tmp_path: Path) -> None:
    """Not the temporary one: that a folder takes its place is found out when it is moved."""

    def taken() -> None:
        with writing(tmp_path / "result.csv"):
            (tmp_path / "result.csv").mkdir()

    def nowhere() -> None:
        with writing(tmp_path / "no" / "result.csv"):
            pass

    for fail, path in ((taken, tmp_path / "result.csv"), (nowhere, tmp_path / "no" / "result.csv")):
        with pytest.raises(OSError) as caught:
            fail()
        assert caught.value.filename == str(path)
    assert [file.name for file in tmp_path.iterdir()] == ["result.csv"]
