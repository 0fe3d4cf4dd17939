"""compare_eval on recorded answers: the verdict follows from the rows, and nothing leaks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from finetuning.errors import BadInputError, FineTuningError, UnknownNameError
from finetuning.evaluation import Arm, EvalComparison, compare_eval

SECRET = "zanzibar"
Rows = Sequence[Mapping[str, Any]]


def write(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class Bench:
    """Writes data and recorded answers, and compares them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = 0

    def data(self, count: int, **extra: Any) -> Path:
        rows = [
            {"prompt": f"{SECRET} question {k}:", "completion": f"answer {k} {SECRET}", **extra}
            for k in range(count)
        ]
        return write(self.folder / "data.jsonl", rows)

    def recorded(self, name: str, right: Sequence[bool], **extra: Any) -> str:
        rows = [
            {"id": k, "output": f"answer {k - 1} {SECRET}" if ok else f"{SECRET} wrong", **extra}
            for k, ok in enumerate(right, 1)
        ]
        return f"recorded:{write(self.folder / f'{name}.jsonl', rows)}"

    def compare(
        self, base: Sequence[bool], tuned: Sequence[bool] | None, **options: Any
    ) -> EvalComparison:
        self.number += 1
        path = self.data(len(base))
        return compare_eval(
            str(path),
            self.recorded("base", base),
            None if tuned is None else self.recorded("tuned", tuned),
            output_dir=str(self.folder / f"out{self.number}"),
            **options,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def first(count: int, right: int) -> list[bool]:
    return [k < right for k in range(count)]


@pytest.mark.parametrize(
    ("base", "tuned", "margin", "verdict", "ship", "code"),
    [
        (first(100, 40), first(100, 80), 0.02, "improved", "yes", 0),
        (first(100, 80), first(100, 40), 0.02, "worse", "no", 1),
        (first(10, 6), first(10, 10), 0.02, "underpowered", "needs_more_data", 3),
        (first(300, 200), first(300, 200), 0.02, "tied", "no", 0),
        (first(100, 50), first(100, 50), 0.02, "underpowered", "needs_more_data", 3),
        (first(100, 50), first(100, 50), 0.05, "tied", "no", 0),
    ],
)
def test_the_verdict_follows_from_the_rows(
    bench: Bench,
    base: list[bool],
    tuned: list[bool],
    margin: float,
    verdict: str,
    ship: str,
    code: int,
) -> None:
    result = bench.compare(base, tuned, margin=margin, metrics="exact_match")
    assert (result.verdict, result.ship, result.exit_code()) == (verdict, ship, code)
    entry = result.task[0]
    low, high = entry.ci95
    assert entry.p is not None
    assert (low > 0 or high < 0) == (entry.p < 0.05)
    assert entry.n == len(base)
    assert result.summary().startswith(verdict)
    assert result.general is None


def test_without_tuned_the_base_is_measured_and_gives_facts(bench: Bench) -> None:
    result = bench.compare(first(50, 30), None)
    assert (result.verdict, result.ship, result.exit_code()) == ("baseline", None, 0)
    assert result.task[0].metric == "exact_match"
    assert result.task[0].base == pytest.approx(0.6)
    assert result.task[0].ci95[0] < 0.6 < result.task[0].ci95[1]
    assert result.headroom == pytest.approx(0.4)
    assert result.fit_facts == {"has_eval": True, "base_task_score": 0.6, "prompt_score": 0.6}
    assert result.next[0].tool == "assess_fit"
    assert result.next[0].args == {"facts": result.fit_facts}


def test_a_missing_or_empty_answer_counts_as_wrong_on_either_side(bench: Bench) -> None:
    data = bench.data(4)
    base = bench.recorded("base", [True] * 4)
    rows = [
        {"id": 1, "output": f"answer 0 {SECRET}"},
        {"id": 2, "output": ""},
        {"id": 3, "output": None},
        {"id": 99, "output": "belongs to no row"},
    ]
    tuned = f"recorded:{write(bench.folder / 'tuned.jsonl', rows)}"
    result = compare_eval(str(data), base, tuned, metrics="exact_match")
    assert result.task[0].n == 4
    assert result.task[0].tuned == pytest.approx(0.25)
    assert result.format["tuned"].missing_fraction == pytest.approx(0.75)
    assert any("belong to no row" in caution for caution in result.cautions)


def test_ids_come_from_the_row_or_from_the_line_and_only_sample_zero_counts(
    bench: Bench,
) -> None:
    data = write(
        bench.folder / "data.jsonl",
        [{"id": "a", "prompt": "p", "completion": "x"}, {"prompt": "q", "completion": "y"}],
    )
    answers = [
        {"id": "a", "output": "x"},
        {"output": "y"},
        {"id": "a", "output": "other", "sample": 1},
    ]
    side = f"recorded:{write(bench.folder / 'side.jsonl', answers)}"
    result = compare_eval(str(data), side, metrics="exact_match")
    assert result.verdict == "baseline"
    assert result.task[0].base == 1.0


@pytest.mark.parametrize(
    ("data", "answers", "reason"),
    [
        ([{"id": 1}, {"id": 1}], [{"id": 1, "output": "x"}], "1 ids stand on more than one row"),
        ([{"id": 1}, {"id": 2}], [{"id": 1, "output": "x"}] * 2, "repeat an id"),
        ([{"id": 1}], [{"id": 5, "output": "x"}], "no recorded answer belongs"),
    ],
)
def test_a_comparison_that_is_not_fair_is_invalid_and_says_why(
    bench: Bench, data: list[dict[str, Any]], answers: list[dict[str, Any]], reason: str
) -> None:
    rows = [{"prompt": "p", "completion": "x", **row} for row in data]
    path = write(bench.folder / "data.jsonl", rows)
    side = f"recorded:{write(bench.folder / 'side.jsonl', answers)}"
    result = compare_eval(str(path), side, side, metrics="exact_match")
    assert (result.verdict, result.exit_code()) == ("invalid", 4)
    assert any(reason in text for text in result.reasons)
    assert result.fit_facts == {}
    assert result.ship == "needs_more_data"


def test_broken_lines_of_data_and_answers_are_counted_and_said(bench: Bench) -> None:
    data, side = bench.data(3), bench.recorded("base", [True] * 3)
    for path in (data, bench.folder / "base.jsonl"):
        path.write_text(path.read_text(encoding="utf-8") + "{broken\n", encoding="utf-8")
    result = compare_eval(str(data), side)
    assert result.unusable_rows == {"json_invalid": 1}
    assert any("1 rows of the data" in text for text in result.cautions)
    assert any("1 lines of the recorded file" in text for text in result.cautions)


def test_another_metric_that_got_worse_stops_shipping(bench: Bench) -> None:
    count = 60
    rows = [{"prompt": f"p{k}", "completion": json.dumps({"v": k})} for k in range(count)]
    data = write(bench.folder / "data.jsonl", rows)
    before = [{"id": k + 1, "output": json.dumps({"v": -1})} for k in range(count)]
    # the tuned side is right more often but often writes what is no JSON at all
    after = [
        {"id": k + 1, "output": json.dumps({"v": k}) if k % 2 else "oops"} for k in range(count)
    ]
    base = f"recorded:{write(bench.folder / 'b.jsonl', before)}"
    tuned = f"recorded:{write(bench.folder / 't.jsonl', after)}"
    result = compare_eval(str(data), base, tuned)
    assert [entry.metric for entry in result.task] == [
        "json_match",
        "json_field_f1",
        "json_schema_valid",
        "json_parse_rate",
    ]
    assert (result.verdict, result.ship) == ("improved", "no")
    assert result.reasons == ["json_schema_valid is worse", "json_parse_rate is worse"]
    assert result.fit_facts["invalid_syntax_fraction"] == 0
    assert compare_eval(str(data), tuned).fit_facts["invalid_syntax_fraction"] == 0.5


def test_labels_are_scored_by_accuracy_and_macro_f1(bench: Bench) -> None:
    labels = ["red", "blue", "red", "green"] * 15
    rows = [{"prompt": f"p{k}", "completion": label} for k, label in enumerate(labels)]
    data = write(bench.folder / "data.jsonl", rows)
    base_rows = [{"id": k + 1, "output": "red"} for k in range(60)]
    tuned_rows = [{"id": k + 1, "output": label.upper()} for k, label in enumerate(labels)]
    base = f"recorded:{write(bench.folder / 'b.jsonl', base_rows)}"
    tuned = f"recorded:{write(bench.folder / 't.jsonl', tuned_rows)}"
    result = compare_eval(str(data), base, tuned)
    accuracy, macro = result.task
    assert (accuracy.metric, macro.metric) == ("accuracy", "macro_f1")
    assert accuracy.base == 0.5
    assert macro.base == pytest.approx(2 / 3 / 3)  # F1 of red alone, over three gold labels
    assert macro.tuned == 1.0
    assert macro.ci95[0] > 0
    assert result.fit_facts["n_classes"] == 3
    decided_by_macro = compare_eval(str(data), base, tuned, metrics=["macro_f1"])
    assert decided_by_macro.total == 30  # flips are those of accuracy
    same = compare_eval(str(data), base, base, metrics="macro_f1", cluster_column=None)
    assert same.task[0].diff == 0
    assert same.task[0].ci95[0] < 0 < same.task[0].ci95[1]


def test_rows_of_one_customer_are_not_counted_as_independent(bench: Bench) -> None:
    rows = [{"prompt": f"p{k}", "completion": f"c{k}", "customer": k // 20} for k in range(80)]
    data = write(bench.folder / "data.jsonl", rows)
    before = [{"id": k + 1, "output": "x"} for k in range(80)]
    after = [{"id": k + 1, "output": f"c{k}" if k < 40 else "x"} for k in range(80)]
    base = f"recorded:{write(bench.folder / 'b.jsonl', before)}"
    tuned = f"recorded:{write(bench.folder / 't.jsonl', after)}"
    alone = compare_eval(str(data), base, tuned, metrics="exact_match")
    grouped = compare_eval(str(data), base, tuned, metrics="exact_match", cluster_column="customer")
    assert alone.verdict == "improved"
    assert (grouped.verdict, grouped.task[0].clusters) == ("underpowered", 4)


def test_recorded_likelihoods_are_compared_and_lower_is_better(bench: Bench) -> None:
    data = bench.data(30)
    base = bench.recorded("base", [True] * 30, nll=2.0)
    tuned = bench.recorded("tuned", [True] * 30, nll=1.5)
    result = compare_eval(str(data), base, tuned, metrics="nll")
    entry = result.task[0]
    assert (entry.metric, entry.better, entry.diff) == ("nll", "lower", -0.5)
    assert (entry.wins, entry.losses) == (30, 0)
    assert result.verdict == "improved"
    assert result.headroom is None
    assert result.fit_facts == {}
    worse = compare_eval(str(data), tuned, base, metrics="nll")
    assert (worse.verdict, worse.flips[0].to) == ("worse", 2.0)


def test_a_metric_that_no_side_supports_makes_the_comparison_invalid(bench: Bench) -> None:
    result = bench.compare([True] * 5, [True] * 5, metrics="nll")
    assert result.verdict == "invalid"
    assert result.reasons == ["no metric can be computed for the targets given"]
    alone = bench.compare([True] * 5, None, metrics="nll")
    assert alone.verdict == "invalid"


def test_arms_are_compared_with_base_and_with_tuned(bench: Bench) -> None:
    data = bench.data(50)
    base = bench.recorded("base", first(50, 10))
    tuned = bench.recorded("tuned", first(50, 40))
    arm = Arm(name="few-shot", target=bench.recorded("arm", first(50, 38)))
    result = compare_eval(str(data), base, tuned, arms=[arm], metrics="exact_match")
    (found,) = result.arms
    assert (found.name, found.verdict, found.score) == ("few-shot", "improved", 0.76)
    assert found.tuned_diff == pytest.approx(0.04)
    assert found.tuned_ci95 is not None
    assert found.tuned_ci95[0] < 0 < found.tuned_ci95[1]
    baseline = compare_eval(str(data), base, arms=[arm], metrics="exact_match")
    assert baseline.arms[0].tuned_diff is None


def test_flips_list_the_harm_first_and_are_paged(bench: Bench) -> None:
    base = [True] * 30 + [False] * 70
    tuned = [False] * 5 + [True] * 95
    result = bench.compare(base, tuned, metrics="exact_match", limit=10)
    assert (result.total, len(result.flips), result.next_offset) == (75, 10, 10)
    assert [flip.id for flip in result.flips[:6]] == ["1", "2", "3", "4", "5", "31"]
    assert (result.flips[0].from_, result.flips[0].to) == (1.0, 0.0)
    dumped = result.model_dump(mode="json")
    assert dumped["flips"][0] == {"id": "1", "line": 1, "from": 1.0, "to": 0.0}
    assert EvalComparison.model_validate(dumped) == result
    rest = bench.compare(base, tuned, metrics="exact_match", limit=None, offset=70)
    assert (len(rest.flips), rest.next_offset) == (5, None)


def test_every_look_at_a_test_file_is_counted(bench: Bench) -> None:
    looks = [bench.compare([True] * 3, None).test_looks for _ in range(3)]
    assert looks == [1, 2, 3]
    assert bench.compare([True] * 3, None, dry_run=True).test_looks == 0


def test_no_row_text_stands_in_the_result_or_the_report(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = bench.compare(first(20, 5), first(20, 15), metrics="exact_match")
    assert result.report_file
    assert result.result_file
    page = Path(result.report_file).read_text(encoding="utf-8")
    saved = Path(result.result_file).read_text(encoding="utf-8")
    assert SECRET not in result.model_dump_json() + page + saved
    monkeypatch.setenv("FINE_TUNING_SHOW_CONTENT", "1")
    shown = bench.compare(first(20, 5), first(20, 15), metrics="exact_match")
    assert SECRET in Path(str(shown.report_file)).read_text(encoding="utf-8")
    assert SECRET not in shown.model_dump_json()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_report_says_the_verdict_in_the_wanted_language(
    bench: Bench, language: Literal["en", "zh"]
) -> None:
    result = bench.compare(first(60, 5), first(60, 55), language=language)
    page = Path(str(result.report_file)).read_text(encoding="utf-8")
    assert ("Improved" if language == "en" else "有提升") in page
    assert len(page) < 300_000
    assert result.provenance["sha256"]["recorded:base"] != result.provenance["sha256"]["data"]


def test_the_training_log_is_drawn_and_named(bench: Bench) -> None:
    losses = [{"step": k, "loss": 2.0 - 0.05 * k} for k in range(1, 31)]
    state = {"log_history": losses, "global_step": 30, "max_steps": 30}
    log = bench.folder / "trainer_state.json"
    log.write_text(json.dumps(state), encoding="utf-8")
    result = bench.compare(first(40, 5), first(40, 35), log=str(log))
    assert result.training is not None
    assert result.training.n_points == 30
    page = Path(str(result.report_file)).read_text(encoding="utf-8")
    assert "loss (nats per token)" in page


def test_training_rows_among_the_test_rows_are_found_and_taken_out(bench: Bench) -> None:
    data = bench.data(40)
    lines = data.read_text(encoding="utf-8").splitlines()
    seen = [json.loads(line) for line in lines[:30]]
    train = write(bench.folder / "train.jsonl", seen)
    base, tuned = bench.recorded("base", first(40, 0)), bench.recorded("tuned", first(40, 30))
    result = compare_eval(str(data), base, tuned, train=str(train), metrics="exact_match")
    found = result.contamination
    assert found is not None
    assert found.exact == 30
    assert found.fraction >= 0.75
    assert result.verdict == "improved"
    assert result.ship == "needs_more_data"
    assert "training did not see" in result.reasons[0]
    assert result.fit_facts["near_duplicate_test_fraction"] >= 0.75
    assert result.memorisation is not None
    assert result.memorisation.auc is None  # recorded answers have no likelihood
    assert result.memorisation.verbatim is not None
    assert result.memorisation.verbatim.rows == 0


def test_rows_that_training_saw_are_counted_in_a_baseline_too(bench: Bench) -> None:
    data = bench.data(5)
    result = compare_eval(str(data), bench.recorded("b", [True] * 5), train=str(data))
    assert result.contamination is not None
    assert result.contamination.fraction == 1.0
    assert result.contamination.without is None


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"margin": -0.1}, BadInputError, "margin=-0.1"),
        ({"alpha": 1.0}, BadInputError, "alpha=1.0"),
        ({"max_tokens": 0}, BadInputError, "max_tokens"),
        ({"limit": 0}, BadInputError, "limit=0"),
        ({"metrics": "accurracy"}, UnknownNameError, "accuracy"),
        ({"general": "no/such/file"}, BadInputError, "does not exist"),
        ({"cluster_column": "nope"}, BadInputError, "nope"),
        ({"train": "no-train.jsonl"}, BadInputError, "does not exist"),
        ({"log": "no-log.json"}, BadInputError, "does not exist"),
        ({"tuned": "openly:x"}, UnknownNameError, "target"),
        ({"tuned": "recorded:"}, UnknownNameError, "target"),
        ({"tuned": "recorded:none.jsonl"}, BadInputError, "does not exist"),
        ({"tuned": "run:none"}, FineTuningError, "none"),
        ({"tuned": "http://host/v1"}, BadInputError, "model"),
        ({"tuned": "http://user:pw@host/v1#m"}, BadInputError, "login"),
        ({"tuned": "http://host:99999/v1#m"}, BadInputError, "address"),
    ],
)
def test_arguments_that_cannot_be_used_change_nothing_on_disk(
    bench: Bench, options: dict[str, Any], error: type[Exception], named: str
) -> None:
    data, base = bench.data(3), bench.recorded("base", [True] * 3)
    before = sorted(bench.folder.rglob("*"))
    with pytest.raises(error, match=named) as caught:
        compare_eval(str(data), base, output_dir=str(bench.folder / "new"), **options)
    assert "pw" not in str(caught.value)
    after = [path for path in sorted(bench.folder.rglob("*")) if "home" not in path.parts]
    assert [path for path in before if "home" not in path.parts] == after


@pytest.mark.parametrize(
    "arm",
    [
        {"name": "base", "target": "recorded:x"},
        {"name": "tuned", "target": "recorded:x"},
        {"name": "a@b", "target": "recorded:x"},
    ],
)
def test_an_arm_needs_a_name_of_its_own(bench: Bench, arm: dict[str, str]) -> None:
    with pytest.raises(BadInputError, match="name"):
        bench.compare([True], None, arms=[Arm.model_validate(arm)])


def test_recorded_answers_cannot_be_asked_with_another_prompt(bench: Bench) -> None:
    target = bench.recorded("arm", [True])
    with pytest.raises(BadInputError, match="another prompt"):
        bench.compare([True], None, arms=[Arm(name="a", target=target, system="Be brief.")])


def test_results_are_replaced_only_when_asked(bench: Bench) -> None:
    data, base = bench.data(3), bench.recorded("base", [True] * 3)
    folder = str(bench.folder / "out")
    compare_eval(str(data), base, output_dir=folder)
    with pytest.raises(BadInputError, match="already holds"):
        compare_eval(str(data), base, output_dir=folder)
    again = compare_eval(str(data), base, output_dir=folder, overwrite=True)
    assert again.report_file == str(Path(folder) / "report.html")


def test_a_dry_run_on_this_machine_says_what_would_run(bench: Bench) -> None:
    result = bench.compare([True] * 3, [True] * 3, dry_run=True)
    assert (result.verdict, result.exit_code(), result.plan_id) == (None, 0, None)
    assert result.plan is not None
    assert not result.plan.data_leaves_machine
    assert "recorded" in result.summary()
    assert result.next[0].args["dry_run"] is False
    assert not (bench.folder / "out1").exists()


def test_the_next_call_of_a_dry_run_works_as_it_stands(bench: Bench) -> None:
    function: Callable[..., EvalComparison] = compare_eval
    plan = bench.compare([True] * 3, [True] * 3, dry_run=True, general="none")
    assert function(**plan.next[0].args).verdict in {"tied", "underpowered"}


def test_a_gate_compares_with_the_answers_that_were_accepted(bench: Bench) -> None:
    count = 400
    rows = [{"prompt": f"p{k}", "completion": f"c{k}"} for k in range(count)]
    data = str(write(bench.folder / "data.jsonl", rows))

    def answers(name: str, wrong: int) -> str:
        said = [{"id": k + 1, "output": "no" if k < wrong else f"c{k}"} for k in range(count)]
        return str(write(bench.folder / name, said))

    base = f"recorded:{answers('base.jsonl', 390)}"
    accepted = answers("accepted.jsonl", 20)
    first = compare_eval(data, base, f"recorded:{accepted}")
    assert first.gate is None
    same = compare_eval(data, base, f"recorded:{accepted}", baseline=accepted)
    assert same.gate is not None
    assert (same.gate.verdict, same.gate.diff, same.exit_code()) == ("not_worse", 0, 0)
    worse = compare_eval(data, base, f"recorded:{answers('w.jsonl', 60)}", baseline=accepted)
    assert worse.gate is not None
    assert (worse.verdict, worse.gate.verdict, worse.ship) == ("improved", "worse", "no")
    assert worse.exit_code() == 1
    assert worse.reasons == [f"{accepted} had better answers"]
    slightly = compare_eval(data, base, f"recorded:{answers('s.jsonl', 24)}", baseline=accepted)
    assert slightly.gate is not None
    assert (slightly.gate.verdict, slightly.exit_code()) == ("unclear", 3)
    result = bench.folder / "kept_result.json"
    result.write_text(json.dumps({"outputs": {"tuned": accepted}}), encoding="utf-8")
    again = compare_eval(data, base, f"recorded:{accepted}", baseline=str(result))
    assert again.gate is not None
    assert again.gate.verdict == "not_worse"
    for other in (write(bench.folder / "strange.jsonl", [{"id": 9999, "output": "x"}]),):
        with pytest.raises(BadInputError, match="no recorded answer belongs"):
            compare_eval(data, base, f"recorded:{accepted}", baseline=str(other))


def test_the_benchmark_of_recorded_answers_runs_without_a_socket() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "recorded_report.py"
    run = subprocess.run(
        [sys.executable, str(script), "--quick"], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("improved\n")


def test_the_page_says_what_would_settle_it_and_marks_the_words_that_differ(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINE_TUNING_SHOW_CONTENT", "1")
    rows = [{"prompt": f"p{k}", "completion": f"the {k} blue cat"} for k in range(40)]
    data = str(write(bench.folder / "data.jsonl", rows))

    def side(name: str, wrong: set[int]) -> str:
        said = [
            {"id": k + 1, "output": f"the {k} red <b>cat" if k in wrong else f"the {k} blue cat"}
            for k in range(40)
        ]
        return f"recorded:{write(bench.folder / name, said)}"

    result = compare_eval(data, side("b.jsonl", {1, 2, 3}), side("t.jsonl", {4}))
    assert result.verdict == "underpowered"
    assert result.report_file is not None
    page = Path(result.report_file).read_text(encoding="utf-8")
    assert "rows would settle it; here are 40" in page
    assert "<mark>red &lt;b&gt;cat</mark>" in page
    text = Path(result.report_file).with_suffix(".md").read_text(encoding="utf-8")
    assert "# Is the tuned model better?" in text
    assert "**red \\<b>cat**" in text
