"""Which paths may be read and written, and what a refusal says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import finetuning
from finetuning.errors import BadInputError, NotAllowedError
from finetuning.files import data_files, new_output_folder, resolve_read, resolve_write
from finetuning.settings import settings


def test_a_file_under_the_roots_is_returned_as_its_real_path(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("{}\n", encoding="utf-8")
    link = tmp_path / "link.jsonl"
    link.symlink_to(file)
    assert resolve_read(str(link), where="path") == file.resolve()
    assert resolve_read(tmp_path, where="path", kind="folder") == tmp_path.resolve()
    assert resolve_read(file, where="path", kind="any") == file.resolve()


def test_the_working_directory_is_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINE_TUNING_ROOTS", "")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("x", encoding="utf-8")
    assert resolve_read("a.txt", where="path") == (tmp_path / "a.txt").resolve()
    assert resolve_write("new/b.txt", where="path") == (tmp_path / "new" / "b.txt").resolve()


def test_package_assets_may_be_read_but_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = Path(finetuning.__file__)
    monkeypatch.setenv("FINE_TUNING_ROOTS", "")
    monkeypatch.chdir(tmp_path)
    assert resolve_read(asset, where="path") == asset.resolve()
    with pytest.raises(NotAllowedError, match="FINE_TUNING_ROOTS"):
        resolve_write(asset, where="output")


def test_a_link_that_leaves_the_roots_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    secret = tmp_path / "secret.txt"
    secret.write_text("x", encoding="utf-8")
    (inside / "link.txt").symlink_to(secret)
    monkeypatch.setenv("FINE_TUNING_ROOTS", str(inside))
    monkeypatch.chdir(inside)
    with pytest.raises(NotAllowedError, match="outside the folders"):
        resolve_read("link.txt", where="path")
    with pytest.raises(NotAllowedError, match="outside the folders"):
        resolve_read("../secret.txt", where="path")


def test_whether_something_exists_outside_the_roots_is_not_told() -> None:
    with pytest.raises(NotAllowedError):
        resolve_read("/no/such/file", where="path")


@pytest.mark.parametrize("path", ["", "  ", "a\0b"])
def test_paths_without_a_name_or_with_nul_are_bad_input(path: str) -> None:
    with pytest.raises(BadInputError, match="empty or holds a NUL"):
        resolve_read(path, where="path")


def test_links_in_a_circle_are_bad_input(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(BadInputError, match=r"cannot be resolved|does not exist|cannot be opened"):
        resolve_read(tmp_path / "a", where="path")


def test_a_name_longer_than_the_system_takes_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be"):
        resolve_read(tmp_path / ("x" * 5000), where="path")


def test_missing_things_and_things_of_the_wrong_kind_are_bad_input(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("x", encoding="utf-8")
    none = tmp_path / "none"
    with pytest.raises(BadInputError, match=r"does not exist; expected a file\."):
        resolve_read(none, where="path")
    with pytest.raises(BadInputError, match=r"does not exist; expected a folder\."):
        resolve_read(none, where="path", kind="folder")
    with pytest.raises(BadInputError, match=r"does not exist; expected a file or folder\."):
        resolve_read(none, where="path", kind="any")
    with pytest.raises(BadInputError, match="is a folder"):
        resolve_read(tmp_path, where="path")
    with pytest.raises(BadInputError, match="is a file"):
        resolve_read(file, where="path", kind="folder")
    with pytest.raises(BadInputError, match="does not exist"):
        resolve_read(file / "below", where="path")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInputError, match="device or pipe"):
        resolve_read(tmp_path / "pipe", where="path")


def test_an_unreadable_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.txt"
    file.write_text("x", encoding="utf-8")

    def refuse(_path: object, _mode: int) -> bool:
        return False

    monkeypatch.setattr(os, "access", refuse)  # the superuser may read everything
    with pytest.raises(BadInputError, match="may not be read"):
        resolve_read(file, where="path")


def test_writing_needs_a_file_name_below_folders(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("x", encoding="utf-8")
    assert resolve_write(file, where="output") == file.resolve()
    with pytest.raises(BadInputError, match="is a folder"):
        resolve_write(tmp_path, where="output")
    with pytest.raises(BadInputError, match="nothing can be written below it"):
        resolve_write(file / "b.txt", where="output")


def test_an_output_folder_is_new_named_or_emptied_on_purpose(tmp_path: Path) -> None:
    first = new_output_folder(None, where="output_dir", name="demo")
    second = new_output_folder(None, where="output_dir", name="demo")
    assert first != second
    assert first.parent == settings().reports.resolve()
    assert not first.exists()
    full = tmp_path / "full"
    full.mkdir()
    assert new_output_folder(full, where="output_dir", name="x") == full.resolve()
    (full / "a").write_text("x", encoding="utf-8")
    with pytest.raises(BadInputError, match="already holds files"):
        new_output_folder(full, where="output_dir", name="x")
    assert new_output_folder(full, where="output_dir", name="x", overwrite=True) == full.resolve()
    with pytest.raises(BadInputError, match="is a file"):
        new_output_folder(full / "a", where="output_dir", name="x")


def test_a_data_argument_is_a_file_or_a_prepared_folder(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("{}\n", encoding="utf-8")
    assert data_files(file, where="data") == {"data": file.resolve()}
    with pytest.raises(BadInputError, match=r"none of train\.jsonl"):
        data_files(tmp_path, where="data")
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("{}\n", encoding="utf-8")
    assert list(data_files(tmp_path, where="data")) == ["train", "test"]
