"""Logs of other tools as data and as answers: read by content, paired by id."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuning.errors import BadInputError, UnknownNameError
from finetuning.evaluation import compare_eval
from finetuning.evaluation.inputs import read_recording

Write = Callable[..., Path]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def plain_data(path: Path, count: int = 4, **more: Any) -> Path:
    return lines(
        path, [{"prompt": f"say w{k}", "completion": f"w{k}", **more} for k in range(count)]
    )


# --- lm-evaluation-harness ------------------------------------------------------------------------


def harness_row(number: int, output: str, name: str = "none") -> dict[str, Any]:
    return {
        "doc_id": number,
        "doc": {"question": f"say w{number}"},
        "target": f"w{number}",
        "arguments": {"gen_args_0": {"arg_0": f"say w{number}", "arg_1": {"until": ["\n"]}}},
        "resps": [[output]],
        "filtered_resps": [output],
        "filter": name,
        "exact_match": 0.0,
    }


def harness_choice(number: int, scores: list[float]) -> dict[str, Any]:
    pairs = [[str(score), "False"] for score in scores]
    return {
        "doc_id": number,
        "doc": {},
        "target": str(number % 2),
        "arguments": {
            f"gen_args_{k}": {"arg_0": "is it?", "arg_1": f" {word}"}
            for k, word in enumerate(("yes", "no"))
        },
        "resps": [[pair] for pair in pairs],
        "filtered_resps": pairs,
        "filter": "none",
        "acc": 1.0,
    }


def test_samples_of_the_harness_are_data_and_answers_paired_by_document(tmp_path: Path) -> None:
    base = lines(tmp_path / "a.jsonl", [harness_row(k, "no") for k in range(8)])
    tuned = lines(tmp_path / "b.jsonl", [harness_row(k, f"w{k}") for k in reversed(range(8))])
    result = compare_eval(str(base), f"recorded:{base}", f"recorded:{tuned}")
    assert (result.verdict, result.task[0].base, result.task[0].tuned) == ("improved", 0.0, 1.0)
    assert result.task[0].n == 8


def test_a_task_with_two_filters_counts_each_document_once(tmp_path: Path) -> None:
    rows = [harness_row(k, f"w{k}", name) for k in range(3) for name in ("strict", "loose")]
    found = read_recording(lines(tmp_path / "a.jsonl", rows)).rows
    assert [row.id for row in found] == ["0", "1", "2"]


def test_a_multiple_choice_task_answers_with_its_likeliest_choice(tmp_path: Path) -> None:
    rows = [harness_choice(0, [-0.1, -2.0]), harness_choice(1, [-0.1, -2.0])]
    found = read_recording(lines(tmp_path / "a.jsonl", rows)).rows
    assert [(row.output, row.reference) for row in found] == [("yes", "yes"), ("yes", "no")]


def test_rows_that_are_only_counted_belong_to_the_row_of_that_number(tmp_path: Path) -> None:
    data = plain_data(tmp_path / "data.jsonl")
    rows = [harness_row(k, f"w{k}") for k in (3, 1, 0, 2)]
    log = lines(tmp_path / "log.jsonl", rows)
    assert compare_eval(str(data), f"recorded:{log}").task[0].base == 1.0


def test_rows_of_another_order_make_the_comparison_invalid(tmp_path: Path) -> None:
    data = plain_data(tmp_path / "data.jsonl")
    log = lines(tmp_path / "log.jsonl", [harness_row(k + 1, f"w{k + 1}") for k in range(3)])
    shifted = [{**row, "doc_id": number} for number, row in enumerate(read(log))]
    result = compare_eval(str(data), f"recorded:{lines(log, shifted)}")
    assert result.verdict == "invalid"
    assert "base: 3 recorded rows have another right answer than the data" in result.reasons


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- Inspect --------------------------------------------------------------------------------------


def sample(number: int, text: str, epoch: int = 1, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": [{"type": "text", "text": text}]}
    return {
        "id": f"q{number}",
        "epoch": epoch,
        "input": [{"role": "user", "content": f"say w{number}"}],
        "target": [f"w{number}", "another"],
        "output": {"choices": [{"message": message, "stop_reason": "stop"}], "time": 1.5},
        **more,
    }


def log_file(path: Path, samples: list[dict[str, Any]], packing: int) -> Path:
    with zipfile.ZipFile(path, "w", packing) as packed:
        packed.writestr("header.json", "{}")
        for entry in samples:
            name = f"samples/{entry['id']}_epoch_{entry['epoch']}.json"
            packed.writestr(name, json.dumps(entry, indent=1))
    return path


def test_an_inspect_log_is_read_packed_or_as_json(tmp_path: Path) -> None:
    samples = [sample(k, f"w{k}" if k else "no") for k in range(4)]
    samples.append(sample(0, "second epoch", epoch=2))
    packed = log_file(tmp_path / "a.eval", samples, zipfile.ZIP_DEFLATED)
    document: dict[str, Any] = {"version": 2, "status": "success", "eval": {}, "samples": samples}
    as_json = tmp_path / "a.json"
    as_json.write_text(json.dumps(document, indent=2))
    assert read_recording(packed) == read_recording(as_json)
    result = compare_eval(str(packed), f"recorded:{as_json}")
    assert (result.task[0].n, result.task[0].base) == (4, 0.75)
    assert result.latency is not None
    assert result.latency.p50_ms == 1500


def test_a_sample_that_failed_or_was_cut_is_known_as_such(tmp_path: Path) -> None:
    failed = sample(0, "w0", error={"message": "x"})
    cut = sample(1, "w1")
    cut["output"]["choices"][0]["stop_reason"] = "max_tokens"
    rows = read_recording(log_file(tmp_path / "a.eval", [failed, cut], zipfile.ZIP_STORED)).rows
    assert (rows[0].output, rows[1].output, rows[1].cut) == (None, "w1", True)
    assert [row.reference for row in rows] == ["w0", "w1"]


def zstandard(text: bytes) -> bytes:
    """Return a valid Zstandard frame of one raw block (RFC 8878)."""
    header = b"\x28\xb5\x2f\xfd\xa0" + len(text).to_bytes(4, "little")
    return header + (1 | len(text) << 3).to_bytes(3, "little") + text


def test_a_log_packed_with_zstandard_is_read(tmp_path: Path) -> None:
    path = tmp_path / "z.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        text = json.dumps(sample(0, "w0")).encode()
        packed.writestr("samples/q0_epoch_1.json", zstandard(text))
    raw = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        raw[raw.index(mark) + at] = 93  # the method, in the local header and in the directory
    path.write_bytes(raw)
    assert [row.output for row in read_recording(path).rows] == ["w0"]
    raw[raw.index(b"\x28\xb5\x2f\xfd")] = 0
    path.write_bytes(raw)
    with pytest.raises(BadInputError, match="cannot be unpacked"):
        read_recording(path)


def test_a_zip_without_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="without samples/"):
        read_recording(log_file(tmp_path / "a.eval", [], zipfile.ZIP_STORED))


# --- promptfoo ------------------------------------------------------------------------------------


def result_row(number: int, output: Any, provider: str = "p", **more: Any) -> dict[str, Any]:
    return {
        "promptIdx": 0,
        "testIdx": number,
        "vars": {"question": f"w{number}"},
        "testCase": {"assert": [{"type": "equals", "value": f"w{number}"}]},
        "prompt": {"raw": f"say w{number}", "label": "q"},
        "provider": {"id": provider, "label": ""},
        "response": {"output": output},
        "latencyMs": 250,
        **more,
    }


def results_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    whole: dict[str, Any] = {
        "evalId": "e",
        "results": {"version": 3, "results": rows, "stats": {}},
        "config": {},
    }
    path.write_text(json.dumps(whole, indent=2))
    return path


def test_results_of_promptfoo_are_compared_provider_by_provider(tmp_path: Path) -> None:
    rows = [result_row(k, f"w{k}" if k else "no", "first") for k in range(4)]
    rows += [result_row(k, "no", "second") for k in range(3)]
    rows.append(result_row(3, None, "second", response={"error": "timeout"}))
    file = results_file(tmp_path / "out.json", rows)
    target = f"recorded:{file}"
    result = compare_eval(str(file), f"{target}#second", f"{target}#first")
    assert (result.task[0].n, result.task[0].base, result.task[0].tuned) == (4, 0.0, 0.75)
    assert result.format["base"].missing_fraction == 0.25
    with pytest.raises(BadInputError, match="holds 2 models: first, second"):
        compare_eval(str(file), target)
    with pytest.raises(UnknownNameError, match="first"):
        compare_eval(str(file), f"{target}#frist")


def test_promptfoo_lines_objects_and_repeats_are_read(tmp_path: Path) -> None:
    rows = [result_row(0, {"a": 1}), result_row(0, "again"), result_row(1, "b", vars={"id": "x"})]
    found = read_recording(lines(tmp_path / "out.jsonl", rows)).rows
    assert [(row.id, row.sample, row.output) for row in found] == [
        ("0", 0, '{"a": 1}'),
        ("0", 1, "again"),
        ("x", 0, "b"),
    ]
    assert found[0].seconds == 0.25


def test_several_prompts_of_one_provider_are_told_apart(tmp_path: Path) -> None:
    rows = [result_row(0, "a"), result_row(0, "b", promptIdx=1)]
    recording = read_recording(results_file(tmp_path / "out.json", rows))
    assert recording.parts == ["p@0", "p@1"]


def test_a_file_name_with_a_mark_is_still_a_file(tmp_path: Path) -> None:
    data = plain_data(tmp_path / "data.jsonl", 2)
    answers = lines(tmp_path / "a#b.jsonl", [{"output": "w0"}, {"output": "w1"}])
    assert compare_eval(str(data), f"recorded:{answers}").task[0].base == 1.0


@pytest.mark.parametrize("text", ['{"a": [1, 2}', '{\n "samples": 5\n}', "[1, 2]"])
def test_a_document_of_no_known_tool_holds_no_answers(tmp_path: Path, text: str) -> None:
    data = plain_data(tmp_path / "data.jsonl", 2)
    path = tmp_path / "odd.json"
    path.write_text(text)
    result = compare_eval(str(data), f"recorded:{path}")
    assert result.verdict == "invalid"
