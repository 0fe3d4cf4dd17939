"""A call that cannot be made changes nothing on disk and says what to do."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuning.data_prep import prepare_data
from finetuning.data_prep.preparation.writing import old_results
from finetuning.errors import (
    BadInputError,
    FineTuningError,
    MissingExtraError,
    NotAllowedError,
    UnknownNameError,
)
from finetuning.files import whole_folder

Write = Callable[..., Path]
TABLE = [
    "question,answer,note",
    *(f"what is {n} and {n * 7}?,it is {n * 13} or so,soon" for n in range(30)),
]


@pytest.fixture
def table(write_lines: Write) -> str:
    return str(write_lines("table.csv", *TABLE))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
        if "home" not in path.parts  # where the tokenizer's ranks are kept
    }


def call(source: str, folder: Path, **more: Any) -> Any:
    arguments: dict[str, Any] = {"target": "openai_chat", "output_dir": str(folder / "out"), **more}
    return prepare_data(sources=[source], **arguments)


def refused(
    source: str, folder: Path, kind: type[FineTuningError] = BadInputError, **more: Any
) -> str:
    before = snapshot(folder)
    with pytest.raises(kind) as error:
        call(source, folder, **more)
    assert snapshot(folder) == before
    assert error.value.exit_code == 2
    assert "; expected " in str(error.value)
    return str(error.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refused(str(tmp_path / "none.csv"), tmp_path)


def test_folder_without_text_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "holds no .txt or .md file" in refused(str(tmp_path / "folder"), tmp_path)


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_empty_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_bytes(content)
    assert "empty" in refused(str(tmp_path / "empty.csv"), tmp_path)


def test_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(range(256)) * 8)
    assert "binary" in refused(str(tmp_path / "data.bin"), tmp_path)


def test_table_without_rows_is_refused(tmp_path: Path, write_lines: Write) -> None:
    assert "no rows" in refused(str(write_lines("head.csv", "question,answer")), tmp_path)


def test_column_that_does_not_exist_is_refused_with_the_nearest(tmp_path: Path, table: str) -> None:
    text = refused(table, tmp_path, UnknownNameError, prompt_column="questoin")
    assert "prompt_column: unknown column 'questoin'; expected one of question" in text
    assert "Use 'question'" in text


@pytest.mark.parametrize(
    "argument",
    ["completion_column", "conversation_column", "role_column", "content_column", "time_column",
     "label_column", "annotator_column", "group_column", "context_column"],
)  # fmt: skip
def test_every_column_argument_is_checked(argument: str, tmp_path: Path, table: str) -> None:
    assert argument in refused(table, tmp_path, UnknownNameError, **{argument: "nowhere"})


def test_folder_that_holds_results_is_refused_until_overwrite(tmp_path: Path, table: str) -> None:
    first = call(table, tmp_path)
    (tmp_path / "out" / "mine.txt").write_text("keep me", encoding="utf-8")
    assert "already holds files" in refused(table, tmp_path)
    again = call(table, tmp_path, overwrite=True, split=[1, 0, 0])
    assert again.rows.train == 30 > first.rows.train
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        "mine.txt", "rejected.jsonl", "report.md", "test.jsonl", "train.jsonl", "validation.jsonl",
    ]  # fmt: skip


def test_results_go_into_an_empty_folder_that_exists(tmp_path: Path, table: str) -> None:
    (tmp_path / "out").mkdir()
    assert Path(call(table, tmp_path).files["train"]).is_file()
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize(
    "more",
    [
        {"target": "openai_chats"},
        {"examples": "per_turn"},
        {"redact": "hide"},
        {"engine": "spark"},
        {"role_map": {"pat": "helper"}},
    ],
)
def test_unknown_names_are_refused_with_the_nearest(
    more: dict[str, Any], tmp_path: Path, table: str
) -> None:
    refused(table, tmp_path, UnknownNameError, **more)


@pytest.mark.parametrize(
    "more",
    [
        {"near_threshold": 0},
        {"near_threshold": 1.5},
        {"canaries": -1},
        {"canaries": 10_001},
        {"seed": -1},
        {"split": "random"},
        {"split": [0.9, 0.2, 0.1]},
        {"split": "kfold:400"},
        {"split": "kfold:3", "time_column": "note"},
        {"time_column": "note"},
        {"exclude": ["none.jsonl"]},
        {"replay": {"path": "none.jsonl", "fraction": 0.2}},
        {"replay": {"path": "none.jsonl"}},
    ],
)
def test_values_that_cannot_be_used_are_refused(
    more: dict[str, Any], tmp_path: Path, table: str
) -> None:
    refused(table, tmp_path, **more)


@pytest.mark.parametrize(
    "more",
    [
        {"conversation_column": "note"},
        {"role_column": "note", "content_column": "answer"},
        {"conversation_column": "note", "role_column": "question", "content_column": "answer",
         "prompt_column": "question"},
    ],
)  # fmt: skip
def test_columns_of_turns_that_nothing_uses_are_refused(
    more: dict[str, Any], tmp_path: Path, table: str
) -> None:
    assert "Name all three" in refused(table, tmp_path, **more)


def test_percent_as_replay_fraction_is_refused_with_the_fraction(
    tmp_path: Path, table: str
) -> None:
    text = refused(table, tmp_path, replay={"path": table, "fraction": 25})
    assert "Pass fraction=0.25" in text


def test_no_source_or_one_named_twice_is_refused(tmp_path: Path, table: str) -> None:
    for sources in ([], [table, table]):
        with pytest.raises(BadInputError, match="sources"):
            prepare_data(sources=sources, target="trl_text", output_dir=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "extra"), [({"engine": "daft"}, "scale"), ({"semantic_duplicates": True}, "semantic")]
)
def test_missing_extra_is_named_with_the_pip_line(
    more: dict[str, Any],
    extra: str,
    tmp_path: Path,
    table: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "daft", None)
    monkeypatch.setitem(sys.modules, "semhash", None)
    text = refused(table, tmp_path, MissingExtraError, **more)
    assert f"Run: pip install 'fine-tuning-skill[{extra}]'." in text


def test_paths_outside_the_roots_are_refused(
    tmp_path: Path, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.setenv("FINE_TUNING_ROOTS", str(inside))
    monkeypatch.chdir(inside)
    refused(table, tmp_path, NotAllowedError)
    copy = inside / "table.csv"
    copy.write_text(Path(table).read_text(encoding="utf-8"), encoding="utf-8")
    refused(str(copy), tmp_path, NotAllowedError)
    refused(str(copy), tmp_path, NotAllowedError, output_dir=str(inside / "out"),
            signatures_file=str(tmp_path / "s.parquet"))  # fmt: skip


def test_template_that_would_lose_most_rows_is_refused_without_force(
    tmp_path: Path, write_lines: Write
) -> None:
    base = [f"{name} wants to know when the parcel number {name * 3} is coming to town"
            for name in (f"n{number}" for number in range(60))]  # fmt: skip
    rows = [
        json.dumps({"prompt": prompt + tail, "completion": "tracking"})
        for prompt in base
        for tail in ("", " please", " please sir")
    ]
    source = str(write_lines("in.jsonl", *rows))
    text = refused(source, tmp_path)
    assert "near_duplicates" in text
    assert "force=true" in text
    for number, more in enumerate(({"force": True}, {"near_duplicates": False})):
        result = call(source, tmp_path, output_dir=str(tmp_path / f"out{number}"), **more)
        assert (result.rows.near_duplicates > 90) == ("force" in more)


def _break_off(folder: Path, error: type[BaseException]) -> None:
    with whole_folder(folder, old_results) as built:
        (built / "train.jsonl").write_text("half", encoding="utf-8")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_failure_while_writing_leaves_no_folder(error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error):
        _break_off(tmp_path / "new" / "deeper" / "out", error)
    assert not (tmp_path / "new").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train.jsonl").write_text("old", encoding="utf-8")
    before = snapshot(tmp_path)
    with pytest.raises(error):
        _break_off(tmp_path / "out", error)
    assert snapshot(tmp_path) == before


def test_failure_while_moving_in_puts_the_old_results_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    (folder / "fold_1").mkdir(parents=True)
    (folder / "train.jsonl").write_text("old", encoding="utf-8")
    (folder / "fold_1" / "test.jsonl").write_text("old", encoding="utf-8")
    before = snapshot(tmp_path)
    move = Path.replace
    moves: list[str] = []

    def fails(self: Path, target: Path) -> Path:
        moves.append(self.name)
        if len(moves) == 4:
            raise OSError(28, "No space left on device")
        return move(self, target)

    def overwrite() -> None:
        with whole_folder(folder, old_results) as built:
            for name in ("train.jsonl", "test.jsonl"):
                (built / name).write_text("new", encoding="utf-8")
            monkeypatch.setattr(Path, "replace", fails)

    with pytest.raises(BadInputError, match="No space left"):
        overwrite()
    assert len(moves) > 4
    assert snapshot(tmp_path) == before


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path, table: str) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    refused(table, tmp_path, output_dir=str(tmp_path / "file" / "out"))


@pytest.mark.parametrize("step", ["reading rows", "looking for duplicates", "writing"])
def test_interrupt_of_the_process_leaves_nothing(
    step: str, tmp_path: Path, write_lines: Write
) -> None:
    """The process interrupts itself at a step, so nothing hangs on how fast the machine is."""
    rows = [
        json.dumps({"prompt": f"question {n} of {n * 37}", "completion": f"answer {n} {n * 11} x"})
        for n in range(400)
    ]
    source = write_lines("in.jsonl", *rows)
    program = textwrap.dedent(
        f"""
        import os, signal
        from finetuning import runs
        from finetuning.data_prep import prepare_data
        signal.signal(signal.SIGINT, signal.default_int_handler)
        def interrupt(done, total, what):
            if what == {step!r}:
                os.kill(os.getpid(), signal.SIGINT)
        with runs.listen(interrupt):
            prepare_data(sources=[{str(source)!r}], target="openai_chat",
                         output_dir={str(tmp_path / "out")!r})
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "KeyboardInterrupt" in done.stderr
    left = {path.name for path in tmp_path.iterdir()} - {"home"}
    assert left == {"in.jsonl"}


def test_server_start_loads_only_the_shapes_of_the_tools() -> None:
    code = (
        "import sys; from finetuning.data_prep import inspect_data, prepare_data; print(*sorted("
        "n for n in sys.modules if n.startswith(('finetuning.data_prep.', 'polars', 'numpy'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["finetuning.data_prep.targets"]


def test_package_gives_each_of_its_public_names_and_no_other() -> None:
    from finetuning import data_prep

    assert [name for name in data_prep.__all__ if not hasattr(data_prep, name)] == []
    assert not hasattr(data_prep, "unheard_of")
