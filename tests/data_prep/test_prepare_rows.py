"""prepare_data accounts for every row and says what became of each."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetuning.data_prep import PreparedData, prepare_data, validate_jsonl
from finetuning.fit import assess_fit
from finetuning.training import configure_training

Write = Callable[..., Path]
WORDS = "river stone cloud paper lamp train garden window silver copper winter letter".split()


def lines_of(path: str | None) -> list[dict[str, Any]]:
    assert path is not None
    lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    return [json.loads(line) for line in lines if line]


def identity(result: PreparedData) -> None:
    rows = result.rows
    assert rows.read == (
        rows.train + rows.validation + rows.test - rows.replay - rows.canaries
        + rows.rejected + rows.exact_duplicates + rows.near_duplicates
    )  # fmt: skip
    for part in ("train", "validation", "test"):
        assert len(lines_of(result.files[part])) == getattr(rows, part)
    gone = Counter(row["reason"] for row in lines_of(result.rejected_file))
    assert gone == result.reasons
    assert gone["exact_duplicate"] == rows.exact_duplicates
    assert gone["near_duplicate"] == rows.near_duplicates


def rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    draw = random.Random(seed)
    return [
        {
            "prompt": f"case {number}: " + " ".join(draw.choices(WORDS, k=9)) + f" {number * 31}",
            "completion": " ".join(draw.choices(WORDS, k=8)) + f" {number * 17}",
        }
        for number in range(count)
    ]


def jsonl(write: Write, name: str, *items: Any) -> str:
    return str(
        write(name, *(item if isinstance(item, str) else json.dumps(item) for item in items))
    )


def prepare(source: str, out: Path, **more: Any) -> PreparedData:
    arguments: dict[str, Any] = {"target": "trl_prompt_completion", "output_dir": str(out), **more}
    result = prepare_data(sources=[source], **arguments)
    identity(result)
    return result


def test_each_kind_of_bad_row_is_rejected_with_line_and_reason(
    tmp_path: Path, write_lines: Write
) -> None:
    good = rows(30)
    source = jsonl(
        write_lines,
        "in.jsonl",
        *good,
        "{broken",
        {"prompt": "x", "completion": ""},
        good[3],
        {**good[4], "prompt": good[4]["prompt"] + " indeed"},
        {"something": "else", "entirely": 1},
    )
    result = prepare(source, tmp_path / "out")
    rejected = {row["line"]: row for row in lines_of(result.rejected_file)}
    assert {line: row["reason"] for line, row in rejected.items()} == {
        5: "near_duplicate",
        31: "json_invalid",
        32: "answer_missing",
        33: "exact_duplicate",
        35: "unknown_shape",
    }
    assert (rejected[5]["of"]["line"], rejected[5]["why"]) == (34, "longer_prompt")
    assert rejected[33]["of"] == {"source": source, "line": 4}
    assert all(row["source"] == source for row in rejected.values())
    assert result.rows.read == 35
    assert result.rows.rejected == 3


def test_longer_of_two_near_copies_stays_and_the_reason_is_said(
    tmp_path: Path, write_lines: Write
) -> None:
    good = rows(20)
    longer = {**good[0], "completion": good[0]["completion"] + " and thank you"}
    source = jsonl(write_lines, "in.jsonl", *good, longer)
    result = prepare(source, tmp_path / "out")
    (gone,) = lines_of(result.rejected_file)
    assert (gone["line"], gone["of"]["line"], gone["why"]) == (1, 21, "longer_answer")


def test_newest_copy_stays_where_a_time_column_says_which(
    tmp_path: Path, write_lines: Write
) -> None:
    table = ["day,question,answer"]
    table += [
        f"2026-01-{day:02},{row['prompt']},{row['completion']}"
        for day, row in enumerate(rows(25), start=1)
    ]
    table += [f"2026-02-01,{rows(25)[0]['prompt']},{rows(25)[0]['completion']}"]
    source = str(write_lines("in.csv", *table))
    result = prepare(source, tmp_path / "out", time_column="day")
    (gone,) = lines_of(result.rejected_file)
    assert (gone["line"], gone["of"]["line"], gone["why"]) == (2, 27, "newer")
    assert result.split.method == "by_time"
    assert result.fit_facts["split_method"] == "by_time"
    newest = {row["prompt"] for row in lines_of(result.files["test"])}
    assert rows(25)[0]["prompt"] in newest


def test_times_of_a_table_of_turns_order_turns_and_split_nothing(
    tmp_path: Path, write_lines: Write
) -> None:
    table = ["thread,who,body,at"]
    for number, row in enumerate(rows(30)):
        table += [
            f"{number},agent,{row['completion']},2026-01-{1 + number % 28:02}T12:00",
            f"{number},customer,{row['prompt']},2026-01-{1 + number % 28:02}T11:00",
        ]
    source = str(write_lines("in.csv", *table))
    named = {
        "conversation_column": "thread", "role_column": "who", "content_column": "body",
        "time_column": "at",
    }  # fmt: skip
    for number, columns in enumerate((named, {k: named[k] for k in list(named)[1:]})):
        result = prepare(source, tmp_path / str(number), split=[0.8, 0.1, 0.1], **columns)
        assert result.split.method == "by_cluster"
        assert result.rows.read == 30
        assert result.reasons == {}


def test_two_runs_are_the_same_and_more_rows_move_no_old_ones(
    tmp_path: Path, write_lines: Write
) -> None:
    before = jsonl(write_lines, "a.jsonl", *rows(300))
    after = jsonl(write_lines, "b.jsonl", *rows(420))
    split = [0.7, 0.1, 0.2]
    first = prepare(before, tmp_path / "1", split=split)
    again = prepare(before, tmp_path / "2", split=split)
    more = prepare(after, tmp_path / "3", split=split)
    assert first.data_sha256 == again.data_sha256
    assert first.data_sha256 != more.data_sha256
    for part in ("train", "validation", "test"):
        old = {row["prompt"] for row in lines_of(first.files[part])}
        new = {row["prompt"] for row in lines_of(more.files[part])}
        assert old <= new
    other = prepare(before, tmp_path / "4", split=split, seed=1)
    assert other.data_sha256 != first.data_sha256


def test_near_copies_that_stay_are_on_one_side(tmp_path: Path, write_lines: Write) -> None:
    base = rows(120)
    copies = [{**row, "prompt": row["prompt"] + " indeed"} for row in base]
    source = jsonl(write_lines, "in.jsonl", *base, *copies)
    kept = prepare(source, tmp_path / "kept", near_duplicates=False, split=[0.6, 0.2, 0.2])
    assert kept.rows.near_duplicates == 0
    assert kept.rows.read == kept.rows.train + kept.rows.validation + kept.rows.test
    assert (kept.leakage.exact, kept.leakage.near) == (0, 0)
    assert set(kept.largest_clusters) == {2}
    gone = prepare(source, tmp_path / "gone", split=[0.6, 0.2, 0.2])
    assert gone.rows.near_duplicates == 120


def test_rows_of_one_group_are_on_one_side(tmp_path: Path, write_lines: Write) -> None:
    table = ["client,question,answer"]
    table += [
        f"c{number % 40},{row['prompt']},{row['completion']}"
        for number, row in enumerate(rows(400))
    ]
    source = str(write_lines("in.csv", *table))
    result = prepare(source, tmp_path / "out", group_column="client", split="0.6,0.2,0.2")
    assert result.split.method == "by_group"
    part_of: dict[int, set[str]] = {}
    for part in ("train", "validation", "test"):
        for row in lines_of(result.files[part]):
            number = int(row["prompt"].split(":")[0].removeprefix("case "))
            part_of.setdefault(number % 40, set()).add(part)
    assert all(len(parts) == 1 for parts in part_of.values())
    assert len(part_of) == 40


def test_every_label_is_in_every_part(tmp_path: Path, write_lines: Write) -> None:
    table = ["text,kind"]
    table += [
        f"{row['prompt']},{'rare' if number % 12 == 0 else 'often'}"
        for number, row in enumerate(rows(360))
    ]
    source = str(write_lines("in.csv", *table))
    result = prepare(source, tmp_path / "out", label_column="kind", split=[0.8, 0.1, 0.1])
    shares = {
        part: Counter(row["completion"] for row in lines_of(result.files[part]))
        for part in result.files
    }
    for part, share in (("validation", 0.1), ("test", 0.1)):
        assert abs(shares[part]["rare"] - 30 * share) <= 1
        assert abs(shares[part]["often"] - 330 * share) <= 4
    assert result.fit_facts["n_classes"] == 2


def test_few_rows_are_folded_and_every_row_is_tested_once(
    tmp_path: Path, write_lines: Write
) -> None:
    source = jsonl(write_lines, "in.jsonl", *rows(90))
    result = prepare(source, tmp_path / "out")
    assert result.split.folds == 5
    assert "folds" in result.split.why
    tested: Counter[str] = Counter()
    for fold in result.folds:
        assert fold.leakage.near == 0
        tested.update(row["prompt"] for row in lines_of(fold.files["test"]))
        assert len(lines_of(fold.files["train"])) == fold.train
    assert len(tested) == 90
    assert set(tested.values()) == {1}
    assert result.folds[0].files == result.files
    assert Path(result.folds[1].files["test"]).parent.name == "fold_1"
    assert result.smallest_detectable_difference is not None
    assert result.all_folds_detectable_difference is not None
    assert result.all_folds_detectable_difference < result.smallest_detectable_difference


def test_folds_can_be_asked_for_and_must_fit(tmp_path: Path, write_lines: Write) -> None:
    source = jsonl(write_lines, "in.jsonl", *rows(30))
    assert len(prepare(source, tmp_path / "out", split="kfold:3").folds) == 3


def test_row_that_stands_alone_trains(tmp_path: Path, write_lines: Write) -> None:
    result = prepare(jsonl(write_lines, "in.jsonl", rows(1)[0]), tmp_path / "out")
    assert (result.rows.train, result.rows.test) == (1, 0)
    assert result.smallest_detectable_difference is None
    assert "near_duplicate_test_fraction" not in result.fit_facts


def test_file_without_any_usable_row_says_no_and_why(tmp_path: Path, write_lines: Write) -> None:
    source = jsonl(write_lines, "in.jsonl", {"a": 1}, {"b": 2})
    result = prepare(source, tmp_path / "out")
    assert result.exit_code() == 1
    assert result.reasons == {"unknown_shape": 2}
    (call,) = result.next
    assert call.tool == "inspect_data"
    assert "2 rejected" in result.summary()


def test_next_calls_check_the_rows_weigh_them_and_plan_the_training(
    tmp_path: Path, write_lines: Write, isolated_environment: Path
) -> None:
    source = jsonl(write_lines, "in.jsonl", *rows(40))
    result = prepare(source, tmp_path / "out")
    assert [call.tool for call in result.next] == [
        "validate_jsonl",
        "assess_fit",
        "configure_training",
    ]
    check, weigh, plan = result.next
    assert validate_jsonl(**check.args).valid
    assert assess_fit(**weigh.args).verdict
    assert configure_training(**plan.args).config["train_file"] == result.files["train"]
    base = isolated_environment / "bases" / "mine"
    base.mkdir(parents=True)
    (base / "config.json").write_text("{}", encoding="utf-8")
    *_, plan = prepare(source, tmp_path / "again").next
    assert plan.args == {"base_model": "mine", "data": str(tmp_path / "again")}


def test_rows_for_a_provider_are_looked_through_before_they_leave(
    tmp_path: Path, write_lines: Write
) -> None:
    source = jsonl(write_lines, "in.jsonl", *rows(40))
    bare = prepare(source, tmp_path / "bare", target="openai_chat")
    assert [call.tool for call in bare.next] == ["validate_jsonl", "assess_fit", "scan_pii"]
    masked = prepare(source, tmp_path / "masked", target="openai_chat", redact="mask")
    assert [call.tool for call in masked.next] == ["validate_jsonl", "assess_fit"]


def test_votes_decide_and_ties_are_left_out(tmp_path: Path, write_lines: Write) -> None:
    table = ["text,label,annotator"]
    for number, row in enumerate(rows(12)):
        votes = "aab" if number % 2 else "ab"
        table += [f"{row['prompt']},{vote},person{who}" for who, vote in enumerate(votes)]
    source = str(write_lines("in.csv", *table))
    result = prepare(
        source, tmp_path / "out", annotator_column="annotator", split=[0.5, 0.25, 0.25]
    )
    assert result.reasons == {"annotators_disagree": 12, "outvoted": 6, "exact_duplicate": 6}
    assert result.fit_facts["label_conflict_fraction"] == 0
    kept = [row for part in result.files.values() for row in lines_of(part)]
    assert {row["completion"] for row in kept} == {"a"}


def test_excluded_rows_are_in_no_part(tmp_path: Path, write_lines: Write) -> None:
    base = rows(60)
    long = " ".join(f"unusual{number}" for number in range(14))
    base.append({"prompt": f"something else: {long}", "completion": "an answer of its own, no"})
    bench = [
        base[0],
        {"prompt": base[1]["prompt"], "completion": "quite another answer than the one we have"},
        {**base[2], "prompt": base[2]["prompt"] + " really", "completion": base[2]["completion"]},
        {"prompt": f"what does this say? {long}", "completion": "it says nothing at all to me"},
        {"nothing": "of use"},
    ]
    source = jsonl(write_lines, "in.jsonl", *base)
    other = jsonl(write_lines, "bench.jsonl", *bench)
    result = prepare(source, tmp_path / "out", exclude=[other], split=[0.8, 0.1, 0.1])
    gone = {row["line"]: row["of"] for row in lines_of(result.rejected_file)}
    assert gone == {
        line: {"source": other, "line": of} for line, of in ((1, 1), (2, 2), (3, 3), (61, 4))
    }
    assert result.reasons == {"excluded": 4}
    assert result.rows.rejected == 4
    for number, items in enumerate((rows(5, seed=9), [{"nothing": "of use"}])):
        unrelated = jsonl(write_lines, f"none{number}.jsonl", *items)
        again = prepare(source, tmp_path / f"again{number}", exclude=[unrelated])
        assert again.rows.rejected == 0


def test_general_rows_go_to_train_only_and_never_repeat_held_out_rows(
    tmp_path: Path, write_lines: Write
) -> None:
    base = rows(200)
    general = [{"prompt": f"add {n} and {n * n}", "completion": f"{n + n * n}"} for n in range(90)]
    source = jsonl(write_lines, "in.jsonl", *base)
    mixed = jsonl(write_lines, "general.jsonl", *general, *base[:150], general[0])
    replay: Any = {"path": mixed, "fraction": 0.2}
    result = prepare(source, tmp_path / "out", replay=replay, split=[0.7, 0.1, 0.2])
    own = {row["prompt"] for row in base}
    train = [row["prompt"] for row in lines_of(result.files["train"])]
    added = [prompt for prompt in train if prompt not in own]
    assert len(added) == result.rows.replay
    assert abs(result.rows.replay / result.rows.train - 0.2) < 0.01
    assert len(set(train)) == len(train)
    assert (result.leakage.exact, result.leakage.near) == (0, 0)
    again = prepare(source, tmp_path / "again", replay=replay, split=[0.7, 0.1, 0.2])
    assert again.data_sha256 == result.data_sha256
    assert result.findings == []
    none = prepare(source, tmp_path / "none", replay={"path": mixed, "fraction": 0.0})
    assert none.rows.replay == 0


def test_too_few_general_rows_are_a_finding(tmp_path: Path, write_lines: Write) -> None:
    source = jsonl(write_lines, "in.jsonl", *rows(100))
    general = jsonl(write_lines, "g.jsonl", {"prompt": "one plus one", "completion": "two"})
    result = prepare(
        source, tmp_path / "out", replay={"path": general, "fraction": 0.5}, split=[1, 0, 0]
    )
    (finding,) = result.findings
    assert finding.code == "replay_short"
    assert result.rows.replay == 1
    assert "replay_short" in Path(result.report_file).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("target", "row"),
    [
        ("trl_prompt_completion", {"prompt": "q {}", "completion": "a {}"}),
        ("openai_chat", {"prompt": "q {}", "completion": "a {}"}),
        ("trl_text", {"text": "once upon a time there were {}"}),
        ("trl_preference", {"prompt": "q {}", "chosen": "yes {}", "rejected": "no {}"}),
        ("trl_kto", {"prompt": "q {}", "completion": "a {}", "label": True}),
        ("openai_rft", {"prompt": "q {}", "completion": "a {}"}),
    ],
)
def test_canaries_are_planted_in_train_and_recorded(
    target: str, row: dict[str, Any], tmp_path: Path, write_lines: Write
) -> None:
    filled = [
        {key: value.format(number * 7919) if isinstance(value, str) else value
         for key, value in row.items()}
        for number in range(30)
    ]  # fmt: skip
    source = jsonl(write_lines, "in.jsonl", *filled)
    result = prepare(source, tmp_path / "out", target=target, canaries=3, split=[0.6, 0.2, 0.2])
    planted = lines_of(result.canaries_file)
    train = Path(result.files["train"]).read_text(encoding="utf-8")
    held_out = Path(result.files["test"]).read_text(encoding="utf-8")
    assert [canary["canary"] for canary in planted] == [1, 2, 3]
    assert len({canary["completion"] for canary in planted}) == 3
    for canary in planted:
        assert len(canary["completion"]) == 10
        assert canary["prompt"] in train
        assert canary["completion"] in train
        assert canary["completion"] not in held_out
    assert result.rows.canaries == 3


def test_personal_data_are_replaced_before_copies_are_sought(
    tmp_path: Path, write_lines: Write
) -> None:
    base = [
        {
            "prompt": f"{row['prompt']} write to user{number}@example.com",
            **{"completion": row["completion"]},
        }
        for number, row in enumerate(rows(30))
    ]
    twin = {**base[0], "prompt": base[0]["prompt"].replace("user0@", "someone@")}
    source = jsonl(write_lines, "in.jsonl", *base, twin)
    result = prepare(source, tmp_path / "out", redact="mask", split=[0.8, 0.1, 0.1])
    assert result.rows.redacted == 31
    assert result.redacted_types == {"email": 31}
    assert result.rows.exact_duplicates == 1
    text = "".join(Path(path).read_text(encoding="utf-8") for path in result.files.values())
    assert "example.com" not in text
    assert "[EMAIL]" in text
    assert "scan_pii" not in [call.tool for call in result.next]


def test_signatures_can_be_clustered_by_any_engine(tmp_path: Path, write_lines: Write) -> None:
    import polars as pl

    source = jsonl(write_lines, "in.jsonl", *rows(25))
    path = tmp_path / "signatures.parquet"
    result = prepare(source, tmp_path / "out", signatures_file=str(path))
    assert result.signatures_file == str(path)
    frame = pl.read_parquet(path)
    assert frame.columns == ["source", "line", "signature", "bands"]
    assert len(frame) == 25
    assert set(frame["signature"].list.len()) == {128}
    assert set(frame["bands"].list.len()) == {42}


def test_report_and_result_hold_counts_and_no_text(tmp_path: Path, write_lines: Write) -> None:
    base = rows(40)
    secret = "xylophone"
    base[7]["prompt"] += f" {secret}"
    turns = [
        {"role": "Human", "content": f"the {secret} is broken"},
        {"role": "bot", "content": "then mend it, please"},
    ]
    source = jsonl(write_lines, "in.jsonl", *base, {"messages": turns}, {"x": secret, "y": 1})
    result = prepare(source, tmp_path / "out")
    report = Path(result.report_file).read_text(encoding="utf-8")
    assert result.repairs == {"role_renamed": 1}
    (repair,) = lines_of(result.repairs_file)
    assert repair == {"source": source, "line": 41, "repairs": ["role_renamed"]}
    assert "| role_renamed | 1 |" in report
    assert "| unknown_shape | 1 |" in report
    rejected = Path(result.rejected_file).read_text(encoding="utf-8")
    for text in (report, rejected, result.model_dump_json(), result.summary()):
        assert secret not in text
        assert "river" not in text


def test_content_column_is_the_text_of_a_text_target(tmp_path: Path, write_lines: Write) -> None:
    items = [{"headline": "x", "story": row["prompt"]} for row in rows(20)]
    source = jsonl(write_lines, "in.jsonl", *items)
    result = prepare(
        source, tmp_path / "out", target="trl_text", content_column="story", split=[1, 0, 0]
    )
    assert lines_of(result.files["train"]) == [{"text": item["story"]} for item in items]


def test_several_sources_of_several_shapes_become_one_data_set(
    tmp_path: Path, write_lines: Write
) -> None:
    base = rows(40)
    table = str(
        write_lines("a.csv", "question,answer", *(f"{r['prompt']},{r['completion']}" for r in base))
    )
    other = jsonl(write_lines, "b.jsonl", *rows(30, seed=2), base[0])
    result = prepare_data(
        sources=[table, other], target="openai_chat", output_dir=str(tmp_path / "out")
    )
    identity(result)
    assert result.rows.read == 71
    (gone,) = lines_of(result.rejected_file)
    assert (gone["source"], gone["line"]) == (other, 31)
    assert gone["of"] == {"source": table, "line": 2}
    again = prepare_data(
        sources=[str(tmp_path / "out")], target="trl_messages", output_dir=str(tmp_path / "again")
    )
    identity(again)
    assert again.rows.read == 70
    assert again.rows.near_duplicates == 0


def test_folder_of_question_and_answer_files_is_a_source(tmp_path: Path) -> None:
    folder = tmp_path / "faq"
    folder.mkdir()
    for number, row in enumerate(rows(12)):
        text = f"Q: {row['prompt']}\nA: {row['completion']}\n"
        (folder / f"{number}.md").write_text(text, encoding="utf-8")
    (folder / "empty.txt").write_text("", encoding="utf-8")
    result = prepare(str(folder), tmp_path / "out", split=[0.6, 0.2, 0.2])
    assert result.rows.read == 13
    assert result.reasons == {"empty_text_file": 1}


CELL = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=12),
    st.lists(st.text(max_size=3), max_size=2),
)
ROW = st.one_of(
    st.fixed_dictionaries({"prompt": st.text(max_size=30), "completion": st.text(max_size=30)}),
    st.dictionaries(st.sampled_from(["prompt", "completion", "messages", "text", "chosen"]), CELL),
    st.fixed_dictionaries(
        {"messages": st.lists(st.fixed_dictionaries({"role": CELL, "content": CELL}), max_size=3)}
    ),
)


@given(
    items=st.lists(ROW, min_size=1, max_size=12),
    target=st.sampled_from(["trl_prompt_completion", "openai_chat", "trl_text", "vertex_sft"]),
    folds=st.booleans(),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_row_is_ever_lost(
    items: list[dict[str, Any]], target: str, folds: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    source = Path("in.jsonl")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.chdir(folder)
    try:
        text = "".join(json.dumps(item) + "\n" for item in items)
        source.write_text(text, encoding="utf-8")
        result = prepare(
            str(source), Path("out"), target=target, split="auto" if folds else [0.5, 0.25, 0.25]
        )
    finally:
        monkeypatch.undo()
    assert result.rows.read == len(items)
