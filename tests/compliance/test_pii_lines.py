"""JSON Lines searched in blocks: one process, several or survivors find the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest

from finetuning import Work, copied
from finetuning.pii import PiiScan, find_personal_data, lines, scan_pii, triggers
from finetuning.pii.search import read_pieces


def mail(name: str) -> str:
    return f"{name}@" + "example.org"


def chat(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hello"}, {"role": "user", "content": text}]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rows: list[bytes] = []
    for number in range(200):
        rows.append(orjson.dumps(chat(f"write to {mail(f'anna{number}')} please")))
        if number % 7 == 0:
            rows.append(orjson.dumps({"phone": "030 123456", mail("key"): number, "tags": ["x"]}))
        if number % 11 == 0:
            rows.append(b"")
            rows.append(b'{"messages": [ broken ' + mail("raw").encode())
            rows.append(b'["' + mail("list").encode() + b'"]')
        if number % 13 == 0:
            rows.append(b'{"text": "\\u0061nna\\u0040example.org \\ud83d\\ude00"}')
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"\r\n".join(rows))
    return file


def scan(path: Path) -> PiiScan:
    return scan_pii(str(path), limit=None)


def test_several_processes_find_what_one_finds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 700)
    alone = scan(path)
    monkeypatch.setattr(lines, "_SHARED_BYTES", 0)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    assert scan(path) == alone
    assert alone.by_type["email"] == 200 + 16 + 2 * 19 + 1  # rows, texts, raw lines, one key
    assert (alone.n_unreadable, alone.unreadable[0].line) == (38, 4)
    assert alone.n_rows == 200 + 29 + 38 + 16


def test_a_process_that_dies_leaves_its_blocks_to_the_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 700)
    alone = scan(path)
    monkeypatch.setattr(lines, "_SHARED_BYTES", 0)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    asked: list[Work] = []

    def dying(work: Work) -> Any:
        asked.append(work)
        return copied(lambda _, answers: answers.close())

    monkeypatch.setattr(lines, "copied", dying)
    assert scan(path) == alone
    assert asked


def test_blocks_hold_what_the_reader_of_records_yields(path: Path) -> None:
    tally = lines.Tally(None, 0)
    pieces = list(read_pieces(path, tally))
    seen = list(lines.LineSearch(["email"]).file(path))
    rows = sum(one.rows for one in seen)
    assert rows == len([piece for piece in pieces if hasattr(piece, "data")])
    assert [one.line for block in seen for one in block.unread][:2] == [4, 5]
    assert tally.n_unreadable == sum(len(block.unread) for block in seen)


def test_a_file_of_blank_lines_holds_no_rows(tmp_path: Path) -> None:
    file = tmp_path / "blank.jsonl"
    file.write_bytes(b"\n \n")
    with pytest.raises(ValueError, match=r"no rows|empty"):
        scan(file)
    folder = tmp_path / "prepared"  # also where another file of the folder has rows
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(orjson.dumps(chat("hello")))
    (folder / "validation.jsonl").write_bytes(b"\n \n")
    with pytest.raises(ValueError, match=r"no rows|empty"):
        scan(folder)


def test_the_same_tools_in_many_rows_are_searched_once_and_told_wherever_they_hold_something(
    tmp_path: Path,
) -> None:
    def row(note: str, text: str) -> bytes:
        tools = [{"type": "function", "function": {"name": "find", "description": note}}]
        return orjson.dumps({"messages": [{"role": "user", "content": text}], "tools": tools})

    rows: list[bytes] = []
    for number in range(40):
        rows.append(row("looks it up", f"ask {mail('bob')}" if number % 4 == 0 else "ask"))
        rows.append(row(f"ask {mail('owner')}", "hello"))
        rows.append(row("looks it up", "x")[:-9])
    file = tmp_path / "tools.jsonl"
    file.write_bytes(b"\n".join(rows))
    blocks = [rows[:60], rows[60:]]
    search = lines.LineSearch(["email"])
    seen = [search.block(1, blocks[0]), search.block(61, blocks[1])]
    hits = [(hit.line, hit.field) for one in seen for hit in one.hits]
    asked = [(3 * n + 1, "/messages/0/content") for n in range(0, 40, 4)]
    told = [(3 * n + 2, "/tools/0/function/description") for n in range(40)]
    assert sorted(hits) == sorted(asked + told)
    assert [one.line for block in seen for one in block.unread] == list(range(3, 121, 3))
    assert {one.message for block in seen for one in block.unread} == {
        finding.message for finding in scan(file).unreadable
    }


def test_compiled_triggers_are_kept_and_a_damaged_file_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINE_TUNING_HOME", str(tmp_path / "home"))
    groups = [("ab+c",), ("[0-9]{3}", "é")]

    def found() -> list[list[int]]:
        made = triggers.Automaton(groups).scan(triggers.Block(["abbc 12", "x 123", "é", ""]))
        return [made.of(group).tolist() for group in range(2)]

    assert found() == [[0], [1, 2]]
    (file,) = (tmp_path / "home" / "cache").iterdir()
    kept = file.read_bytes()
    assert found() == [[0], [1, 2]]
    for damaged in (b"", kept[:-9], kept[:40] + b"x" + kept[41:], kept[:200] + bytes(len(kept))):
        file.write_bytes(damaged)
        assert found() == [[0], [1, 2]]
        assert file.read_bytes() == kept
    monkeypatch.setenv("FINE_TUNING_HOME", str(file))  # no folder can be made there
    assert found() == [[0], [1, 2]]


def test_a_key_is_told_once_in_each_file(tmp_path: Path) -> None:
    for name in ("train", "validation"):
        rows = [orjson.dumps({mail("key"): number}) for number in range(3)]
        (tmp_path / f"{name}.jsonl").write_bytes(b"\n".join(rows))
    found = scan_pii(str(tmp_path), limit=1)
    assert (found.findings_total, found.by_type) == (2, {"email": 2})
    assert [one.file for one in scan(tmp_path).findings] == ["train.jsonl", "validation.jsonl"]


def test_several_threads_may_search_at_the_same_time() -> None:
    texts = [f"call 555-123-4567 or write to {mail('anna')} " * 40] * 120
    wanted = find_personal_data(texts)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(find_personal_data, [texts] * 24):
            assert found == wanted
