"""Faults of the file, its encoding and its JSON: each is a finding with its line."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from finetuning.data_prep.validate import CODES, TARGETS, ValidationResult, validate_jsonl
from finetuning.errors import BadInputError

GOOD: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "What is due?"},
        {"role": "assistant", "content": "Nothing."},
    ]
}
LINE = json.dumps(GOOD)

Check = Callable[..., ValidationResult]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Validate bytes or text as a file."""

    def run(
        content: bytes | str, target: str = "trl_messages", name: str = "a.jsonl", **options: Any
    ) -> ValidationResult:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        options = {"count_tokens": False, "max_findings": None, **options}
        return validate_jsonl(str(path), target, **options)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - tests pass names as text

    return run


def seen(result: ValidationResult) -> list[tuple[int | None, str]]:
    return [(item.line, item.code) for item in result.findings]


def test_a_good_file_has_no_finding(check: Check) -> None:
    result = check(f"{LINE}\n" * 3 + LINE)
    assert result.valid
    assert result.exit_code() == 0
    assert (result.n_rows, result.total, result.findings) == (4, 0, [])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", [(None, "empty_file")]),
        (b"\n \n", [(1, "blank_line"), (2, "blank_line"), (None, "empty_file")]),
        (bytes(range(256)) * 8, [(None, "binary_file")]),
        (LINE.encode("utf-16-le"), [(None, "utf16")]),
        (LINE.encode("utf-16"), [(None, "utf16")]),
        (LINE.encode("utf-32"), [(None, "utf16")]),
        (LINE.encode("utf-16")[:-1], [(None, "utf16"), (None, "damaged_file")]),
        (b"\xff\xfe\x00", [(None, "utf16"), (None, "damaged_file")]),
        (b"\xff\xfe\x00\xd8\x00\x00", [(None, "damaged_file")]),
        (b"\xef\xbb\xbf" + LINE.encode(), [(1, "utf8_bom")]),
        (f"{LINE}\n\ufeff{LINE}\n", [(2, "utf8_bom")]),
        (gzip.compress(LINE.encode()), [(None, "compressed_file")]),
        (gzip.compress(LINE.encode() * 9)[:20], [(None, "damaged_file")]),
        (f"{LINE}\r\n{LINE}\r\n", []),
        (f"{LINE}\r{LINE}\r", [(1, "cr_line_ends")]),
        (f"{LINE}\n\n{LINE}", [(2, "blank_line")]),
        (json.dumps([GOOD, GOOD]), [(1, "array_wrapped")]),
        (json.dumps([GOOD, 5]), [(1, "array_wrapped"), (2, "not_object")]),
        (json.dumps([GOOD])[:-1], [(1, "array_wrapped"), (2, "array_broken")]),
        (json.dumps(GOOD, indent=1), [(1, "pretty_printed")]),
        (LINE.replace("due", "due\\u2028"), []),
        (LINE.replace("due", "due\u2028"), [(1, "unicode_line_end")]),
        (LINE.replace("due", "due\u2029"), [(1, "unicode_line_end")]),
        (LINE.replace("due", "due\u0085"), [(1, "unicode_line_end")]),
        (f"{LINE}\u2028{LINE}\n", [(1, "unicode_line_end"), (1, "several_objects")]),
        (f"{LINE}\x0c{LINE}\n", [(1, "several_objects")]),
        (LINE.encode("utf-16-be") * 3, [(None, "utf16")]),
        (f"[\n{LINE},\n{LINE}\n]\n", [(1, "array_wrapped")]),
        (f"{json.dumps(GOOD, indent=2)}\n" * 3, [(1, "pretty_printed")]),
        (f"{LINE},\n" * 2, [(1, "trailing_comma"), (2, "trailing_comma")]),
        ('[{"role": "user"}]\n[{"role": "user"}]\n', [(1, "not_object"), (2, "not_object")]),
        (f"// rows\n{LINE}\n", [(1, "json_comment")]),
        (bz2.compress(LINE.encode()), [(None, "binary_file")]),
        (f'{LINE}\n{{"text": "x"}}\n', [(2, "wrong_format"), (None, "mixed_formats")]),
    ],
)
def test_a_fault_of_the_file_is_a_finding(
    check: Check, content: bytes | str, expected: list[tuple[int | None, str]]
) -> None:
    assert seen(check(content)) == expected


def test_broken_archives_of_many_rows_keep_what_was_read(check: Check) -> None:
    packed = gzip.compress(f"{LINE}\n".encode() * 40_000)
    result = check(packed[: len(packed) // 2])
    assert result.n_rows > 0
    assert [code for _, code in seen(result)] == ["compressed_file", "damaged_file"]


def test_azure_wants_the_mark_that_others_do_not(check: Check) -> None:
    rows = f"{LINE}\n" * 60
    assert seen(check(rows, "azure_chat")) == [(1, "bom_missing")]
    assert check(rows, "azure_chat").valid
    assert seen(check("\ufeff" + rows, "azure_chat")) == []


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'{"messages": "caf\xe9"}', "invalid_utf8"),
        (b'{"messages": "\xc0\xaf"}', "overlong_utf8"),
        (b'{"messages": "\xed\xa0\xbd\xed\xb8\x80"}', "cesu8"),
        (b'{"messages": "a\x00b"}', "nul_character"),
        (b'{"messages": NaN}', "nan_literal"),
        (b'{"messages": [-Infinity]}', "nan_literal"),
        (b'{"messages": 1e999}', "number_too_large"),
        (b'{"messages": ' + b"1" * 5000 + b"}", "number_too_large"),
        (b'{"messages": [], "messages": []}', "duplicate_key"),
        (b'{"messages": "\\ud83d"}', "lone_surrogate"),
        (b'{"\\ud83d": 1}', "lone_surrogate"),
        (b'{"a": 1}{"a": 2}', "several_objects"),
        (b'{"a": 1}, {"a": 2}', "several_objects"),
        (b'{"a": 1},', "trailing_comma"),
        (b'{"a": 1,}', "trailing_comma"),
        (b'{"a": [1,]}', "trailing_comma"),
        (b'{"a": 1} x', "json_invalid"),
        (b'{"a": 1} // x', "json_comment"),
        (b'{"a": /* x */ 1}', "json_comment"),
        (b'{"a": # x', "json_comment"),
        (b"{'a': 1}", "single_quotes"),
        (b'{"a": None}', "python_literal"),
        (b'{"a": "x\ty"}', "control_character"),
        (b'{"a": "x', "truncated_json"),
        (b'{"a": ', "truncated_json"),
        (b'{"a" 1}', "json_invalid"),
        (b'{"a":' * 4000, "too_deep"),
        (b'{"a":' + b"[" * 101 + b"]" * 101 + b"}", "too_deep"),
        (b'["a"]', "not_object"),
        (b'"text"', "not_object"),
        (b"null", "not_object"),
        (b"a,b,c", "json_invalid"),
    ],
)
def test_a_broken_row_names_its_fault_and_reading_goes_on(
    check: Check, line: bytes, code: str
) -> None:
    result = check(LINE.encode() + b"\n" + line + b"\n" + LINE.encode())
    assert (2, code) in seen(result)
    assert {at for at, _ in seen(result) if at} == {2}
    assert result.n_rows == 3
    assert not result.valid
    assert result.exit_code() == 1


def test_the_place_of_a_repeated_key_is_a_pointer(check: Check) -> None:
    line = '{"messages": [{"role": "user", "role": "user", "content": "a"}]}'
    fields = {item.code: item.field for item in check(line).findings}
    assert fields["duplicate_key"] == "/messages/0/role"


def test_a_line_over_the_limit_is_skipped(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetuning.data_prep.validate.scan.MAX_LINE_BYTES", 200)
    long = LINE.replace("Nothing", "x" * 300)
    assert seen(check(f"{LINE}\n{long}\n{LINE}\n")) == [(2, "line_too_long")]


def test_a_file_that_changes_while_it_is_read_stops_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetuning.runs import listen

    path = tmp_path / "a.jsonl"
    path.write_text(f"{LINE}\n" * 3000, encoding="utf-8")
    monkeypatch.setattr("finetuning.data_prep.validate.whole._PROGRESS_BYTES", 1000)

    def append(_done: int, _total: int | None, _what: str) -> None:
        with path.open("a", encoding="utf-8") as stream:
            stream.write("x")

    with (
        listen(append),
        pytest.raises(BadInputError, match="changed while it was read"),
    ):
        validate_jsonl(str(path), "trl_messages", count_tokens=False)


def test_a_row_of_many_unknown_keys_names_some_and_counts_the_rest(check: Check) -> None:
    keys = {f"k{at}": 1 for at in range(2_000)}
    found = check(json.dumps(json.loads(LINE) | keys), "openai_chat").findings
    named = [item for item in found if item.code == "unknown_key"]
    assert len(named) == 51
    assert named[-1].message == "nor 1950 more keys of this object"


def test_many_repeated_keys_are_counted_in_linear_time(check: Check) -> None:
    twins = ",".join(f'"k{at}":1' for at in range(3_000))
    result = check(f'{{"text":"a",{twins},{twins}}}', "trl_text", max_findings=None)
    assert result.counts["duplicate_key"] == 3_000


MARKS = [b'{"messages":', b'[{"role":"user"', b'"content"', b"\\ud800", b"\n", b"\r", b"{}", b"]"]


@given(st.sampled_from(sorted(TARGETS)), st.lists(st.binary(max_size=30) | st.sampled_from(MARKS)))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_a_result(check: Check, target: str, parts: list[bytes]) -> None:
    result = check(b"".join(parts), target)
    assert result.counts.keys() <= CODES.keys()
    assert sum(result.counts.values()) == result.total == len(result.findings)
    assert result.valid is (result.n_errors == 0)


@given(st.binary(max_size=20))
@example(b"[\r")
@example(b"\0" * 20)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_inside_a_row_give_a_result(check: Check, raw: bytes) -> None:
    before, after = LINE.encode().split(b"Nothing")
    result = check(b"\n".join([before + raw + after, *[LINE.encode()] * 4]))
    assert result.n_rows >= 4
    assert sum(result.counts.values()) == result.total


rows = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("messages", "role", "content", "tool_calls", "function", "arguments", "id"),
                    *("name", "type", "text", "image_url", "weight", "parts", "system", "input"),
                    *(
                        "candidates",
                        "completion",
                        "score",
                        "tools",
                        "from",
                        "value",
                        "tool_call_id",
                    ),
                ]
            ),
            inner
            | st.sampled_from(["user", "assistant", "system", "tool", "model", "gpt", "image_url"]),
            max_size=5,
        )
    ),
    max_leaves=12,
)
KEYS = [
    *("messages", "input", "preferred_output", "non_preferred_output", "prompt", "completion"),
    *("chosen", "rejected", "label", "text", "contents", "completions", "systemInstruction"),
    *("system", "schemaVersion", "conversations", "instruction", "output", "history", "tools"),
    *("weight", "functions", "system_instruction"),
]


@given(
    st.sampled_from(sorted(TARGETS)),
    st.lists(st.dictionaries(st.sampled_from(KEYS), rows, max_size=4), max_size=3),
)
@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300
)
def test_any_json_gives_a_result(check: Check, target: str, data: list[dict[str, Any]]) -> None:
    result = check("\n".join(map(json.dumps, data)), target)
    assert result.counts.keys() <= CODES.keys()
    assert result.n_rows == len(data)
