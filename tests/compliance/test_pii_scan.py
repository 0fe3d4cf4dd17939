"""The tool scan_pii: every input format, one page of findings, copies without the values."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from finetuning.errors import BadInputError, NotAllowedError, UnknownNameError
from finetuning.pii import PiiScan, scan_pii
from finetuning.settings import settings
from finetuning.tokens import counter_for

Write = Callable[..., Path]
MAIL, PHONE, CARD = "a.person@example.org", "+1 415-555-0123", "4111 1111 1111 1111"
CHAT = {
    "messages": [
        {"role": "user", "content": f"mail {MAIL}"},
        {"role": "assistant", "content": f"call {PHONE} or pay {CARD}"},
    ]
}
CLEAN = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok"}]}


def places(result: PiiScan) -> list[tuple[int, str, int, int, str]]:
    return [(f.line, f.field, f.start, f.end, f.type) for f in result.findings]


def test_a_scan_names_line_field_place_and_type_and_ends_with_1(write_lines: Write) -> None:
    path = write_lines("chat.jsonl", json.dumps(CLEAN), "", json.dumps(CHAT))
    result = scan_pii(str(path))
    assert places(result) == [
        (3, "/messages/0/content", 5, 5 + len(MAIL), "email"),
        (3, "/messages/1/content", 5, 5 + len(PHONE), "phone"),
        (3, "/messages/1/content", 28, 28 + len(CARD), "credit_card"),
    ]
    assert (result.n_rows, result.findings_total, result.total) == (2, 3, 3)
    assert result.by_type == {"email": 1, "phone": 1, "credit_card": 1}
    assert result.exit_code() == 1
    assert result.summary().startswith("3 findings in 2 rows")
    assert result.fit_facts == {"data_sensitivity": "personal", "identified": True}
    assert result.next[0].args == {"path": str(path), "mode": "redact"}


def test_nothing_found_ends_with_0_and_claims_nothing(write_lines: Write) -> None:
    result = scan_pii(str(write_lines("chat.jsonl", json.dumps(CLEAN))))
    assert (result.exit_code(), result.findings, result.next) == (0, [], [])
    assert result.fit_facts == {}
    assert "No personal data found in 1 rows" in result.summary()


def test_health_and_secrets_set_the_facts_they_prove(write_lines: Write) -> None:
    health = write_lines("h.jsonl", json.dumps({"text": "MRN: 00123456"}))
    assert scan_pii(str(health)).fit_facts["data_sensitivity"] == "health"
    secret = write_lines("s.jsonl", json.dumps({"text": "password: hunter2"}))
    assert scan_pii(str(secret)).fit_facts == {}


def test_findings_are_paged_and_the_file_takes_them_all(write_lines: Write, tmp_path: Path) -> None:
    path = write_lines("m.jsonl", *(json.dumps({"t": f"m{i}@example.org"}) for i in range(50)))
    listing = tmp_path / "all.jsonl"
    first = scan_pii(str(path), findings_file=str(listing))
    assert len(first.findings) == 20
    assert first.next_offset == 20
    second = scan_pii(str(path), limit=40, offset=20)
    assert [f.line for f in second.findings] == list(range(21, 51))
    assert second.next_offset is None
    rows = [json.loads(line) for line in listing.read_text().splitlines()]
    assert [row["line"] for row in rows] == list(range(1, 51))
    assert rows[20:] == [f.model_dump() for f in second.findings]
    assert len(scan_pii(str(path), limit=None).findings) == 50


def test_the_default_result_stays_within_2000_tokens(write_lines: Write) -> None:
    row = {"messages": [{"role": "user", "content": f"{MAIL} {PHONE} {CARD}"}] * 4}
    path = write_lines("m.jsonl", *[json.dumps(row)] * 50)
    words = scan_pii(str(path)).model_dump_json()
    (count,) = counter_for().count([words])
    assert count <= 2000


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit": 0},
        {"offset": -1},
        {"types": ["emial"]},
        {"output": "x.jsonl"},
        {"mode": "redact", "output": "x.parquet"},
        {"mode": "redact", "output": "x.csv"},
    ],
)
def test_arguments_that_cannot_be_used_are_errors_and_change_nothing(
    write_lines: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
) -> None:
    path = write_lines("chat.jsonl", json.dumps(CHAT))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((BadInputError, UnknownNameError)):
        scan_pii(str(path), **arguments)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_empty_or_binary_file_is_an_error(tmp_path: Path) -> None:
    for name, data in (("empty.jsonl", b""), ("binary.bin", bytes(range(32)) * 9)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadInputError):
            scan_pii(str(tmp_path / name))
    with pytest.raises(BadInputError, match="does not exist"):
        scan_pii(str(tmp_path / "missing.jsonl"))
    (tmp_path / "nothing").mkdir()
    with pytest.raises(BadInputError):
        scan_pii(str(tmp_path / "nothing"))
    with pytest.raises(NotAllowedError):
        scan_pii("/etc/hostname")


def test_a_redacted_copy_holds_the_rows_without_the_values(
    write_lines: Write, tmp_path: Path
) -> None:
    path = write_lines("chat.jsonl", json.dumps(CLEAN), json.dumps(CHAT))
    out = tmp_path / "out.jsonl"
    result = scan_pii(str(path), mode="redact", output=str(out))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows[0] == CLEAN
    assert [m["content"] for m in rows[1]["messages"]] == [
        "mail [EMAIL]",
        "call [PHONE] or pay [CREDIT_CARD]",
    ]
    assert (result.exit_code(), result.output_file) == (0, str(out))
    assert result.summary().startswith("3 values replaced in 2 rows")
    assert result.fit_facts == {}
    assert scan_pii(**result.next[0].args).findings_total == 0


def test_findings_of_a_redaction_point_into_the_original(write_lines: Write) -> None:
    text = f"{MAIL}{MAIL} and 4111111111111111john@example.org"
    path = write_lines("x.jsonl", json.dumps({"t": text}))
    result = scan_pii(str(path), mode="redact", limit=None)
    assert result.findings == sorted(result.findings, key=lambda f: f.start)
    covered = "".join(text[f.start : f.end] for f in result.findings)
    assert "john@example.org" in covered
    assert MAIL in covered


def test_tables_stay_tables(write_lines: Write, tmp_path: Path) -> None:
    path = write_lines(
        "t.csv", "question,email,phone", f'"hi,\nyou",{MAIL},4155550123', "x,,", f"{MAIL},a,b,c"
    )
    result = scan_pii(str(path))
    assert places(result)[:2] == [
        (2, "/email", 0, len(MAIL), "email"),
        (2, "/phone", 0, 10, "phone"),
    ]
    assert (result.n_rows, result.n_unreadable, result.n_unsearched) == (3, 1, 0)
    assert places(result)[2] == (5, "", 0, len(MAIL), "email")  # the row of four fields, as text
    for name, mark in (("o.csv", ","), ("o.tsv", "\t")):
        scan_pii(str(path), mode="redact", output=str(tmp_path / name))
        with (tmp_path / name).open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream, delimiter=mark))
        assert rows == [
            ["question", "email", "phone"],
            ["hi,\nyou", "[EMAIL]", "[PHONE]"],
            ["x", "", ""],
        ]


def test_arrays_compressed_files_and_parquet_are_read_and_written(tmp_path: Path) -> None:
    rows = [{"text": f"mail {MAIL}"}, {"text": "ok"}]
    array = tmp_path / "a.json"
    array.write_text(json.dumps(rows))
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows).encode()))
    table = tmp_path / "c.parquet"
    pl.DataFrame(rows).write_parquet(table)
    for path, name in ((array, "a.json"), (packed, "b.jsonl"), (table, "c.jsonl")):
        assert places(scan_pii(str(path))) == [(1, "/text", 5, 5 + len(MAIL), "email")]
        result = scan_pii(str(path), mode="redact")
        assert result.output_file is not None
        out = Path(result.output_file)
        assert out.name == name
        assert out.is_relative_to(settings().reports)
        text = out.read_text()
        written = (
            json.loads(text) if name == "a.json" else [json.loads(x) for x in text.split("\n") if x]
        )
        assert written == [{"text": "mail [EMAIL]"}, {"text": "ok"}]


def test_a_text_file_is_searched_whole_and_stays_text(tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_text(f"# Notes\nbefore any question {MAIL}\n# What is it?\nmail {MAIL} now\n")
    result = scan_pii(str(path))
    assert places(result) == [
        (2, "", 20, 20 + len(MAIL), "email"),
        (4, "", 5, 5 + len(MAIL), "email"),
    ]
    out = scan_pii(str(path), mode="redact").output_file
    assert out is not None
    assert Path(out).name == "notes.md"
    assert Path(out).read_text().count("[EMAIL]") == 2


def test_folders_are_searched_file_by_file(tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    for split in ("train", "test"):
        (prepared / f"{split}.jsonl").write_text(json.dumps({"text": MAIL}) + "\n")
    result = scan_pii(str(prepared))
    assert [(f.file, f.line) for f in result.findings] == [("train.jsonl", 1), ("test.jsonl", 1)]
    out = tmp_path / "clean"
    scan_pii(str(prepared), mode="redact", output=str(out))
    assert sorted(file.name for file in out.iterdir()) == ["test.jsonl", "train.jsonl"]
    notes = tmp_path / "notes"
    (notes / "deep").mkdir(parents=True)
    (notes / "a.md").write_text(MAIL)
    (notes / "deep" / "b.txt").write_text(f"x\n{MAIL}")
    result = scan_pii(str(notes), mode="redact", output=str(tmp_path / "clean_notes"))
    assert [(f.file, f.line) for f in result.findings] == [("a.md", 1), ("deep/b.txt", 2)]
    assert (tmp_path / "clean_notes" / "deep" / "b.txt").read_text() == "x\n[EMAIL]"


def test_lines_that_no_reader_can_decode_are_searched_raw_and_never_copied(
    write_lines: Write, tmp_path: Path
) -> None:
    path = write_lines(
        "b.jsonl",
        json.dumps({"t": "one"}),
        f'{{"broken": "{MAIL}',
        f"[1, {PHONE}]",
        json.dumps({"t": "four"}),
        f'{{"last": "{CARD}"',
    )
    result = scan_pii(str(path))
    assert [(f.line, f.type) for f in result.findings] == [
        (2, "email"),
        (3, "phone"),
        (5, "credit_card"),
    ]
    assert (result.n_rows, result.n_unreadable, len(result.unreadable)) == (5, 3, 3)
    out = tmp_path / "out.jsonl"
    redacted = scan_pii(str(path), mode="redact", output=str(out))
    assert out.read_text() == '{"t":"one"}\n{"t":"four"}\n'
    assert (redacted.findings_total, redacted.n_unreadable) == (0, 3)
    assert "3 rows could not be decoded" in redacted.summary()


def test_many_broken_lines_are_searched_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    filler = "x" * 1000
    path.write_text(
        json.dumps({"t": "ok"})
        + "\n"
        + "".join(f"{{{filler} m{i}@example.org\n" for i in range(600))
    )
    result = scan_pii(str(path), limit=None)
    assert [f.line for f in result.findings] == list(range(2, 602))
    assert len(result.unreadable) == 5


def test_a_part_that_cannot_be_searched_leaves_the_answer_open(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text('[{"t": "fine"}, {"t": ')
    result = scan_pii(str(path))
    assert (result.findings_total, result.n_unsearched, result.exit_code()) == (0, 1, 3)


def test_personal_data_in_a_field_name_is_a_finding_and_not_in_the_pointer(
    write_lines: Write,
) -> None:
    path = write_lines(
        "k.jsonl", json.dumps({"deep": {MAIL: "x", "b/c~d": MAIL}}), json.dumps({MAIL: 1})
    )
    result = scan_pii(str(path))
    assert places(result) == [
        (1, "/deep/[EMAIL]", 0, len(MAIL), "email"),
        (1, "/deep/b~1c~0d", 0, len(MAIL), "email"),
    ]


def test_an_output_that_exists_is_replaced_only_when_told_to(
    write_lines: Write, tmp_path: Path
) -> None:
    path = write_lines("chat.jsonl", json.dumps(CHAT))
    out = write_lines("out.jsonl", "precious")
    with pytest.raises(BadInputError, match="exists"):
        scan_pii(str(path), mode="redact", output=str(out))
    with pytest.raises(BadInputError, match="exists"):
        scan_pii(str(path), findings_file=str(out))
    assert out.read_text() == "precious\n"
    scan_pii(str(path), mode="redact", output=str(out), overwrite=True)
    assert "[EMAIL]" in out.read_text()
    with pytest.raises(BadInputError, match="used twice"):
        scan_pii(str(path), mode="redact", output=str(path), overwrite=True)
    with pytest.raises(BadInputError, match="used twice"):
        scan_pii(str(path), mode="redact", output=str(out), findings_file=str(out), overwrite=True)


def test_an_error_in_the_middle_leaves_no_output(
    write_lines: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cut.jsonl.gz"
    whole = gzip.compress(b"".join(json.dumps(CHAT).encode() + b"\n" for _ in range(4000)))
    path.write_bytes(whole[: len(whole) // 2])
    out, listing = tmp_path / "out.jsonl", tmp_path / "all.jsonl"
    with pytest.raises(BadInputError):
        scan_pii(str(path), mode="redact", output=str(out), findings_file=str(listing))
    assert [file.name for file in tmp_path.iterdir() if file.name != "home"] == ["cut.jsonl.gz"]


def test_long_files_go_through_in_batches(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    filler = "word " * 5000
    with path.open("w") as stream:
        for number in range(200):
            stream.write(json.dumps({"t": f"{filler} m{number}@example.org"}) + "\n")
    assert scan_pii(str(path)).findings_total == 200


def test_the_hipaa_matrix_names_18_identifiers_and_is_modest(write_lines: Write) -> None:
    path = write_lines("chat.jsonl", json.dumps(CLEAN))
    every = scan_pii(str(path)).hipaa18
    assert len(every) == 18
    assert every["names"] == every["geographic_subdivisions"] == "partly"
    assert every["email_addresses"] == "covered"
    assert every["full_face_photographs"] == "no"
    some = scan_pii(str(path), types=["email", "iban"]).hipaa18
    assert (some["email_addresses"], some["account_numbers"], some["names"]) == (
        "covered",
        "partly",
        "no",
    )
    other = scan_pii(str(path), detector="scrubadub").hipaa18
    assert "covered" not in other.values()


def test_no_raw_value_is_in_anything_written_or_returned(
    write_lines: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    values = [MAIL, PHONE, CARD, "hunter2", "Zorblax Quux", "1985-03-04"]
    row = {
        "messages": [{"role": "user", "content": f"{MAIL} {PHONE} {CARD} my name is {values[4]}"}],
        "password": values[3],
        "dob": values[5],
        MAIL: json.dumps({"to": MAIL}),
    }
    path = write_lines("chat.jsonl", json.dumps(row), f'{{"broken {MAIL} {PHONE}', "plain text")
    returned = [scan_pii(str(path), limit=None, findings_file=str(tmp_path / "f.jsonl"))]
    for mode in ("mask", "pseudonym"):
        out = str(tmp_path / f"{mode}.jsonl")
        returned.append(scan_pii(str(path), mode="redact", redact=mode, output=out, limit=None))
    returned.append(scan_pii(str(path), mode="redact"))
    seen = "".join(result.model_dump_json() + result.summary() for result in returned)
    seen += "".join(capfd.readouterr())
    for file in tmp_path.rglob("*"):
        if file.is_file() and file != path:
            seen += file.name + file.read_bytes().decode("utf-8", "replace")
    assert len(seen) > 5000
    for value in values:
        assert value not in seen
    assert "a.person" not in seen
