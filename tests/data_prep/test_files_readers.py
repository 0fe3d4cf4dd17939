"""Rows of every input format, with the line where each starts; bad rows are findings."""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning.errors import BadInputError
from finetuning.files import READER_CODES, read_records, sniff_format
from finetuning.files.chunks import split_lines
from finetuning.files.json_rows import json_elements, json_rows
from finetuning.files.text_rows import table_rows
from finetuning.records import Finding, Record


def rows(path: Path) -> list[tuple[int | None, Any]]:
    """Lines with data, or with the code of a finding."""
    found: list[tuple[int | None, Any]] = []
    for item in read_records(path):
        if isinstance(item, Finding):
            assert item.code in READER_CODES
            found.append((item.line, item.code))
        else:
            found.append((item.line, item.data))
    return found


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


Save = Callable[[str, str | bytes], Path]


def test_csv_rows_carry_the_physical_line_where_they_start(save: Save) -> None:
    path = save("a.csv", 'ask,reply\n"one\ntwo",x\n\n"a ""b""",y\r\n')
    assert sniff_format(path) == "csv"
    assert rows(path) == [
        (2, {"ask": "one\ntwo", "reply": "x"}),
        (5, {"ask": 'a "b"', "reply": "y"}),
    ]


def test_a_stray_quote_costs_one_row(save: Save) -> None:
    text = 'a,b\n1,"open\n2,x\n3,y\n'
    assert rows(save("a.csv", text)) == [
        (2, "csv_quotes"),
        (3, {"a": "2", "b": "x"}),
        (4, {"a": "3", "b": "y"}),
    ]
    assert rows(save("b.csv", 'a,b\n"x" y,1\n2,z\n')) == [
        (2, "csv_quotes"),
        (3, {"a": "2", "b": "z"}),
    ]


def test_rows_with_other_fields_than_the_header_are_findings(save: Save) -> None:
    assert rows(save("a.csv", "a,b\n1\n1,2,3\n1,2\n")) == [
        (2, "column_count"),
        (3, "column_count"),
        (4, {"a": "1", "b": "2"}),
    ]


def test_column_names_are_made_different(save: Save) -> None:
    assert rows(save("a.csv", "a,,a,a_2\n1,2,3,4\n")) == [
        (2, {"a": "1", "column_2": "2", "a_2": "3", "a_2_2": "4"})
    ]


@pytest.mark.parametrize(
    ("name", "text", "form"),
    [
        ("a.tsv", "a\tb\n1\t2\n", "tsv"),
        ("a.txt", "a\tb\n1\t2\n", "tsv"),
        ("a.csv", "a;b\n1;2\n", "csv"),
        ("a.csv", "a|b\n1|2\n", "csv"),
        ("a.data", '"a;x",b\n1,2\n', "csv"),
    ],
)
def test_the_separator_is_told_by_the_header(save: Save, name: str, text: str, form: str) -> None:
    path = save(name, text)
    assert sniff_format(path) == form
    assert [list(data.values()) for _, data in rows(path)] == [["1", "2"]]


def test_a_table_of_one_column_is_read(save: Save) -> None:
    assert rows(save("a.csv", "text\nhello\n")) == [(2, {"text": "hello"})]


def test_bytes_that_are_no_text_are_findings_of_their_row(save: Save) -> None:
    assert rows(save("a.csv", b"a,b\n1,caf\xe9\n2,x\n3,y\0z\n" + b"5,ok\n" * 9)) == [
        (2, "invalid_utf8"),
        (3, {"a": "2", "b": "x"}),
        (4, "nul_character"),
        *((line, {"a": "5", "b": "ok"}) for line in range(5, 14)),
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-32"])
def test_marked_encodings_are_read_as_text(save: Save, encoding: str) -> None:
    assert rows(save("a.csv", "a,b\né,2\n".encode(encoding))) == [(2, {"a": "é", "b": "2"})]


def test_a_long_utf16_file_is_converted_piece_by_piece(save: Save) -> None:
    text = '{"a":"üä"}\n' * 60_000
    assert len(rows(save("a.jsonl", text.encode("utf-16")))) == 60_000


def test_json_lines_keep_their_line_through_any_line_end(save: Save) -> None:
    path = save("a.jsonl", b'\xef\xbb\xbf{"a":1}\r\n\r\n{"a":2}\r{"a":3}\n\n{"a":4}')
    assert sniff_format(path) == "jsonl"
    assert rows(path) == [(1, {"a": 1}), (3, {"a": 2}), (4, {"a": 3}), (6, {"a": 4})]


def test_broken_json_lines_are_findings(save: Save) -> None:
    text = b'{"a":1}\n{bad\n[1]\n{"a":"\xff"}\n{"a":NaN}\n{"a":"x\0"}\n{"a":"\\ud800"}\n{"a":2}\n'
    assert rows(save("a.jsonl", text)) == [
        (1, {"a": 1}),
        (2, "json_invalid"),
        (3, "not_object"),
        (4, "invalid_utf8"),
        (5, "json_invalid"),
        (6, "nul_character"),
        (7, "json_invalid"),
        (8, {"a": 2}),
    ]


def test_a_line_over_the_limit_is_a_finding(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetuning.files.json_rows.MAX_LINE_BYTES", 50)
    path = save("a.jsonl", '{"a":1}\n{"a":"' + "x" * 100 + '"}\n{"a":2}\n')
    assert rows(path) == [(1, {"a": 1}), (2, "line_too_long"), (3, {"a": 2})]


def test_a_json_array_is_numbered_by_row(save: Save) -> None:
    data = [{"a": "é" * 10, "n": n} for n in range(5)]
    for indent in (None, 2):
        path = save("a.json", json.dumps(data, indent=indent, ensure_ascii=False))
        assert sniff_format(path) == "json"
        assert rows(path) == list(enumerate(data, start=1))


def test_a_long_json_array_is_read_piece_by_piece(save: Save) -> None:
    data = [{"n": n, "text": "ü" * (n % 700)} for n in range(5000)]
    path = save("a.json", json.dumps(data, ensure_ascii=False, indent=1))
    assert [row for _, row in rows(path)] == data


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[{"a":1},{"a":2', [(1, {"a": 1}), (2, "array_broken")]),
        ('[{"a":1},]', [(1, {"a": 1}), (2, "array_broken")]),
        ('[{"a":1} {"a":2}]', [(1, {"a": 1}), (2, "array_broken")]),
        ('[{"a":1}] x', [(1, {"a": 1}), (2, "array_broken")]),
        ('[{"a":1},{"a":@}]', [(1, {"a": 1}), (2, "array_broken")]),
        ('[1, {"a":1}]', [(1, "not_object"), (2, {"a": 1})]),
        ('[{"a":NaN}]', [(1, "json_invalid")]),
        ("[" * 100_000, [(1, "array_broken")]),
        ('[{"n":' + "1" * 5000 + "}]", [(1, "array_broken")]),
        ('{\n"a": 1', [(1, "array_broken")]),
    ],
)
def test_a_broken_array_says_where_it_ends(
    save: Save, text: str, expected: list[tuple[int, Any]]
) -> None:
    assert rows(save("a.json", text)) == expected


def test_an_export_object_gives_the_rows_of_its_only_list(save: Save) -> None:
    listed = [{"id": 1}, {"id": 2}]
    for indent in (None, 1):
        path = save("a.json", json.dumps({"tickets": listed, "count": 2}, indent=indent))
        assert rows(path) == [(1, {"id": 1}), (2, {"id": 2})]
    two_lists = {"tickets": listed, "users": listed}
    assert rows(save("b.json", json.dumps(two_lists, indent=1))) == [(1, two_lists)]
    chat = {"messages": [{"role": "user"}]}
    assert rows(save("c.json", json.dumps(chat, indent=1))) == [(1, chat)]


def test_pretty_printed_objects_one_after_the_other_are_rows(save: Save) -> None:
    text = json.dumps({"a": 1}, indent=1) + "\n" + json.dumps({"a": 2}, indent=1)
    assert rows(save("a.jsonl", text)) == [(1, {"a": 1}), (2, {"a": 2})]
    assert rows(save("b.jsonl", text + "\n{")) == [
        (1, {"a": 1}),
        (2, {"a": 2}),
        (3, "array_broken"),
    ]


def test_arrays_on_lines_are_json_lines(save: Save) -> None:
    assert rows(save("a.jsonl", '[1]\n[2]\n{"a":1}\n')) == [
        (1, "not_object"),
        (2, "not_object"),
        (3, {"a": 1}),
    ]


def test_parquet_cells_become_json_values(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame(
        {
            "messages": [[{"role": "user", "name": "x"}], [{"role": "user", "name": None}]],
            "day": [datetime.date(2026, 1, 2), None],
            "score": [float("nan"), 0.5],
            "price": [decimal.Decimal("1.50"), None],
            "raw": [b"ab", None],
            "took": [datetime.timedelta(seconds=90), None],
        }
    ).write_parquet(path)
    assert sniff_format(path) == "parquet"
    assert rows(path) == [
        (
            1,
            {
                "messages": [{"role": "user", "name": "x"}],
                "day": "2026-01-02",
                "score": None,
                "price": "1.50",
                "raw": "YWI=",
                "took": 90.0,
            },
        ),
        (
            2,
            {
                "messages": [{"role": "user"}],
                "day": None,
                "score": 0.5,
                "price": None,
                "raw": None,
                "took": None,
            },
        ),
    ]


def test_a_damaged_parquet_file_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"a": list(range(1000))}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInputError, match="Parquet data are damaged"):
        list(read_records(path))


def test_compressed_files_are_looked_through(save: Save, tmp_path: Path) -> None:
    lines = '{"a":"é"}\n{"a":"x"}\n'
    assert rows(save("a.jsonl.gz", gzip.compress(lines.encode()))) == [
        (1, {"a": "é"}),
        (2, {"a": "x"}),
    ]
    packed = tmp_path / "a.jsonl.zst"
    pl.DataFrame({"a": ["é", "x"]}).lazy().sink_ndjson(packed, compression="zstd")
    assert sniff_format(packed) == "jsonl"
    assert rows(packed) == [(1, {"a": "é"}), (2, {"a": "x"})]


def test_cut_off_compressed_files_are_clear_errors(save: Save, tmp_path: Path) -> None:
    lines = "".join(f'{{"a":{n}}}\n' for n in range(20_000)).encode()
    with pytest.raises(BadInputError, match="gzip data are cut off"):
        list(read_records(save("a.gz", gzip.compress(lines)[:-9])))
    packed = tmp_path / "a.zst"
    pl.DataFrame({"a": ["x" * 99] * 999}).lazy().sink_ndjson(packed, compression="zstd")
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(BadInputError, match="zstd data are cut off"):
        list(read_records(packed))
    with pytest.raises(BadInputError, match="UTF-16 but is malformed"):
        list(read_records(save("a.txt", "ab".encode("utf-16")[:-1])))


def test_questions_and_answers_of_a_folder_become_pairs(save: Save, tmp_path: Path) -> None:
    save("faq/a.txt", "Q: one?\nmore\nA: first\nanswer\n\nQ2: two?\nAnswer: second\n")
    save(
        "faq/b.md",
        "# FAQ\n\n## Why?\nBecause.\n```\n# no heading?\n```\n## How?\nSo.\n## Notes\nNo pair.\n",
    )
    save("faq/c.md", "**Question:** three?\n\n**Answer:** third\n")
    save("faq/sub/d.txt", "问：四？\n答：第四\n")
    save("faq/e.txt", "Just a text.\n")
    save("faq/f.txt", " \n")
    save("faq/g.md", b"caf\xe9\n")
    save("faq/.hidden.md", "Q: no\nA: no\n")
    save("faq/h.txt", "Q: without answer\n")
    folder = tmp_path / "faq"
    assert sniff_format(folder) == "text_folder"
    found = list(read_records(folder, source="faq"))
    records = [item for item in found if isinstance(item, Record)]
    assert [(item.source, item.line, item.data) for item in records] == [
        ("faq/a.txt", 1, {"prompt": "one?\nmore", "completion": "first\nanswer"}),
        ("faq/a.txt", 6, {"prompt": "two?", "completion": "second"}),
        ("faq/b.md", 3, {"prompt": "Why?", "completion": "Because.\n```\n# no heading?\n```"}),
        ("faq/b.md", 8, {"prompt": "How?", "completion": "So."}),
        ("faq/c.md", 1, {"prompt": "three?", "completion": "third"}),
        ("faq/e.txt", 1, {"text": "Just a text."}),
        ("faq/h.txt", 1, {"text": "Q: without answer"}),
        ("faq/sub/d.txt", 1, {"prompt": "四？", "completion": "第四"}),
    ]
    faults = [item for item in found if isinstance(item, Finding)]
    assert [item.code for item in faults] == ["empty_text_file", "invalid_utf8"]
    assert rows(tmp_path / "faq" / "a.txt")[0][0] == 1


def test_files_without_rows_are_bad_input(save: Save, tmp_path: Path) -> None:
    for name, content in (
        ("empty.csv", b""),
        ("blank.jsonl", b" \n\n"),
        ("bom.csv", b"\xef\xbb\xbf"),
        ("header.csv", b"a,b\n"),
        ("array.json", b"[ ]"),
    ):
        with pytest.raises(BadInputError, match=r"is empty|holds no rows"):
            read_records(save(name, content))
    pl.DataFrame({"a": []}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(BadInputError, match="holds no rows"):
        read_records(tmp_path / "a.parquet")
    (tmp_path / "none").mkdir()
    with pytest.raises(BadInputError, match=r"no \.txt or \.md"):
        read_records(tmp_path / "none")


def test_files_that_are_no_text_say_what_they_are(save: Save) -> None:
    with pytest.raises(BadInputError, match="Excel workbook"):
        read_records(save("a.csv", b"PK\x03\x04" + bytes(50)))
    with pytest.raises(BadInputError, match="control bytes"):
        read_records(save("b.csv", bytes(range(256))))


@pytest.mark.parametrize("change", ["append", "replace", "remove"])
def test_a_file_that_changes_under_the_reader_is_an_error(save: Save, change: str) -> None:
    path = save("a.jsonl", '{"a":"0123456789"}\n' * 100_000)
    reader = read_records(path)
    next(reader)
    if change == "append":
        with path.open("a", encoding="utf-8") as stream:
            stream.write('{"a":1}\n')
    elif change == "replace":
        other = path.with_suffix(".new")
        other.write_text('{"a":1}\n', encoding="utf-8")
        other.replace(path)
    else:
        path.unlink()
    with pytest.raises(BadInputError, match="changed while it was read"):
        list(reader)


@given(st.lists(st.binary(max_size=12), max_size=12), st.binary(max_size=40))
def test_lines_do_not_depend_on_how_the_bytes_arrive(parts: list[bytes], more: bytes) -> None:
    whole = b"\r\n".join(parts) + more
    pieces = [bytes([byte]) for byte in whole]
    assert list(split_lines(pieces)) == whole.splitlines(keepends=True)
    assert list(split_lines([whole])) == whole.splitlines(keepends=True)


def test_an_endless_line_is_one_byte_over_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("finetuning.files.chunks.MAX_LINE_BYTES", 10)
    lines = list(split_lines([b"x" * 8] * 5 + [b"y\nz"]))
    assert lines == [bytes(11), b"z"]
    assert list(split_lines([b"x" * 8, b"x" * 8])) == [bytes(11)]
    assert list(split_lines([b"x" * 9, b"x", b"\r", b"\n", b"z\r"])) == [
        b"x" * 10 + b"\r\n",
        b"z\r",
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(st.dictionaries(st.text(), json_values, max_size=3), min_size=1, max_size=6),
    st.integers(1, 30),
    st.booleans(),
)
def test_arrays_are_read_the_same_however_they_arrive(
    data: list[dict[str, Any]], size: int, ascii_only: bool
) -> None:
    try:
        raw = json.dumps(data, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return
    chunks = [raw[start : start + size] for start in range(0, len(raw), size)]
    elements = list(json_elements(chunks))
    assert [json.loads(item[1]) for item in elements if isinstance(item, tuple)] == data
    assert all(isinstance(item, tuple) for item in elements)


@given(st.binary(max_size=300))
def test_no_bytes_make_a_reader_raise(raw: bytes) -> None:
    for chunks in ([raw], [bytes([byte]) for byte in raw]):
        for item in (*json_rows(chunks, "x"), *table_rows(chunks, "x", ",")):
            assert isinstance(item, Record | Finding)
