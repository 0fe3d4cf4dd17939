"""A sealed folder is whole or not there, and the newest undamaged checkpoint is found."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from finetuning.training import weights


def write_checkpoint(folder: Path, step: int) -> Path:
    target = folder / f"checkpoint-{step}"
    with weights.whole_folder(target) as inside:
        (inside / "adapter.safetensors").write_bytes(bytes([step]) * 100)
        (inside / "part").mkdir()
        (inside / "part" / "state.json").write_text("{}")
    return target


def test_a_sealed_folder_lists_its_files_and_has_no_fault(tmp_path: Path) -> None:
    target = write_checkpoint(tmp_path, 3)
    assert weights.fault_of(target) is None
    assert "part/state.json" in (target / weights.MANIFEST).read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_a_later_folder_of_the_same_name_replaces_the_first(tmp_path: Path) -> None:
    target = write_checkpoint(tmp_path, 3)
    with weights.whole_folder(target) as inside:
        (inside / "other").touch()
    assert sorted(path.name for path in target.iterdir()) == [weights.MANIFEST, "other"]


def test_a_block_that_fails_leaves_the_older_folder_alone(tmp_path: Path) -> None:
    target = write_checkpoint(tmp_path, 3)

    def fill_the_disk() -> None:
        with weights.whole_folder(target) as inside:
            (inside / "half").touch()
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fill_the_disk()
    assert weights.fault_of(target) is None
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_a_process_killed_inside_a_save_leaves_no_checkpoint(tmp_path: Path) -> None:
    good = write_checkpoint(tmp_path, 3)
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from finetuning.training import weights\n"
        "with weights.whole_folder(Path(sys.argv[1]) / 'checkpoint-4') as inside:\n"
        "    (inside / 'adapter.safetensors').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    assert weights.newest_valid(tmp_path) == (good, {})
    weights.keep_newest(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("adapter.safetensors", b"cut", "has changed"),
        ("adapter.safetensors", None, "adapter.safetensors is missing"),
        (weights.MANIFEST, None, "manifest.json is missing"),
        (weights.MANIFEST, b"[1]", "missing or damaged"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_and_named(
    tmp_path: Path, name: str, content: bytes | None, fault: str
) -> None:
    good, bad = write_checkpoint(tmp_path, 9), write_checkpoint(tmp_path, 10)
    (bad / name).unlink()
    if content is not None:
        (bad / name).write_bytes(content)
    found, skipped = weights.newest_valid(tmp_path)
    assert found == good
    assert fault in skipped["checkpoint-10"]


def test_checkpoints_are_ordered_by_step_not_by_name(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        write_checkpoint(tmp_path, step)
    (tmp_path / "notes").mkdir()
    assert [weights.step_of(path) for path in weights.list_checkpoints(tmp_path)] == [
        9,
        10,
        100,
    ]
    weights.keep_newest(tmp_path, 1)
    assert weights.newest_valid(tmp_path)[0] == tmp_path / "checkpoint-100"


def test_a_folder_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert weights.list_checkpoints(tmp_path / "missing") == []
    assert weights.newest_valid(tmp_path) == (None, {})
