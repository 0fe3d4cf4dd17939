"""compare_eval on local models: base, adapters and arms in one child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from finetuning import runs
from finetuning.errors import BadInputError, MissingExtraError, RunFailedError
from finetuning.evaluation import Arm, compare_eval


class Tiny(Protocol):
    """The models of this folder's conftest."""

    base: Path
    good: Path
    bad: Path
    rows: list[dict[str, str]]
    train: list[dict[str, str]]


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def data(tiny: Tiny, tmp_path: Path) -> str:
    return write(tmp_path / "test.jsonl", tiny.rows)


def test_the_whole_comparison_of_a_base_and_two_adapters(
    tiny: Tiny, data: str, tmp_path: Path
) -> None:
    general = [{"prompt": f"say {word}:", "completion": f" {word}"} for word in "abcdefgh"]
    seen: list[str] = []
    with runs.listen(lambda _done, _total, what: seen.append(what)):
        result = compare_eval(
            data,
            f"local:{tiny.base}",
            f"local:{tiny.base}+{tiny.good}",
            arms=[
                Arm(name="untrained", target=f"local:{tiny.base}+{tiny.bad}"),
                Arm(name="prompt", target=f"local:{tiny.base}", system="Animal or plant?"),
            ],
            train=write(tmp_path / "train.jsonl", tiny.train),
            general=write(tmp_path / "general.jsonl", general),
            max_tokens=16,
            output_dir=str(tmp_path / "out"),
        )
    assert (result.verdict, result.ship) == ("improved", "yes")
    accuracy, macro, nll = result.task
    assert (accuracy.metric, accuracy.base, accuracy.tuned) == ("accuracy", 0.0, 1.0)
    assert macro.tuned == 1.0
    assert nll.diff is not None
    assert nll.diff < -1
    general_found = result.general
    assert general_found is not None
    assert general_found.exact_match is not None
    assert (general_found.exact_match.base, general_found.exact_match.tuned) == (0.0, 0.0)
    untrained, prompt = result.arms
    assert untrained.general is not None
    assert untrained.general.delta_nll == 0.0
    assert prompt.general is None  # another prompt is no other model
    assert prompt.score == 0.0
    assert result.contamination is not None
    assert result.memorisation is not None
    assert result.memorisation.auc is not None
    assert result.memorisation.n_train is not None
    assert 0.3 < result.memorisation.auc < 0.7  # the task is learnt, the rows are not
    assert result.memorisation.n_train > 150
    (model,) = result.provenance["models"]
    assert model["mixed_batches"] is True
    assert model["adapter_sha256"].keys() == {"tuned", "untrained"}
    assert result.latency is not None
    assert result.latency.sides.keys() == {"base", "tuned", "untrained", "prompt"}
    assert {"loading the model", "answering test", "scoring general"} <= {*seen}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "answers_base.jsonl",
        "answers_prompt.jsonl",
        "answers_tuned.jsonl",
        "answers_untrained.jsonl",
        "report.html",
        "report.md",
        "result.json",
    ]
    again = compare_eval(
        data, f"recorded:{result.outputs['base']}", f"recorded:{result.outputs['tuned']}"
    )
    assert [entry.diff for entry in again.task] == pytest.approx(
        [entry.diff for entry in result.task]
    )


def test_a_training_run_is_a_target_with_its_curve(tiny: Tiny, data: str) -> None:
    run = runs.create_run("launch_lora", arguments={})
    runs.attach(run.run_id)
    steps = [{"step": k, "loss": 2.0 - k / 20, "epoch": k / 10} for k in range(1, 21)]
    runs.record_steps(run.run_id, steps)
    with pytest.raises(BadInputError, match="running"):
        compare_eval(data, f"local:{tiny.base}", f"run:{run.run_id}")
    made = {"base_model": str(tiny.base), "adapter_dir": str(tiny.good)}
    runs.finish(run.run_id, "succeeded", result=made)
    result = compare_eval(data, f"local:{tiny.base}", f"run:{run.run_id}", max_tokens=12)
    assert result.verdict == "improved"
    assert result.general is not None
    assert len(result.general.by_domain) == 6
    assert result.general.exact_match is None
    assert result.training is not None
    assert result.training.n_points == 20
    assert [call.tool for call in result.next] == ["diagnose_run", "assess_fit"]
    assert result.next[0].args == {"run_id": run.run_id}


def test_the_general_pack_holds_six_domains_of_texts() -> None:
    from finetuning.evaluation.material import PACK, general_job

    job = general_job("builtin")
    assert job is not None
    assert len(job.questions) >= 200
    per_domain = Counter(question.group for question in job.questions)
    assert min(per_domain.values()) >= 30
    assert len({question.group for question in job.questions}) == 6
    assert not job.generate
    assert len({question.id for question in job.questions}) == len(job.questions)
    assert PACK.stat().st_size < 1 << 20


def test_chat_rows_without_a_template_are_refused_with_the_way_out(
    tiny: Tiny, tmp_path: Path
) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path = write(tmp_path / "chat.jsonl", [{"messages": turns}])
    with pytest.raises(BadInputError, match="no chat template") as caught:
        compare_eval(path, f"local:{tiny.base}", general="none")
    assert "prepare-data" in str(caught.value)


def test_a_folder_that_is_no_model_is_refused_before_anything_starts(
    tiny: Tiny, data: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match=r"no config\.json"):
        compare_eval(data, f"local:{tmp_path}")
    with pytest.raises(BadInputError, match=r"no adapter_config\.json"):
        compare_eval(data, f"local:{tiny.base}+{tmp_path}")
    with pytest.raises(BadInputError, match=r"no train\.jsonl"):
        compare_eval(data, f"local:{tiny.base}", train=_only_test(tmp_path))
    arm = Arm(name="shots", target=f"local:{tiny.base}", few_shot=2)
    with pytest.raises(BadInputError, match="no training rows"):
        compare_eval(data, f"local:{tiny.base}", arms=[arm])


def _only_test(folder: Path) -> str:
    (folder / "only").mkdir()
    write(folder / "only" / "test.jsonl", [{"prompt": "a", "completion": "b"}])
    return str(folder / "only")


def test_a_child_that_breaks_is_a_broken_run(
    tiny: Tiny, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RunFailedError, match="exit code 1") as caught:
        compare_eval(data, f"local:{tiny.base}", general="none")
    assert caught.value.exit_code == 4


def test_an_adapter_of_another_base_is_refused_by_the_child(
    tiny: Tiny, data: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    with pytest.raises(BadInputError, match="does not fit this base"):
        compare_eval(data, f"local:{tiny.base}+{other}", general="none", max_tokens=1)


def test_an_interrupt_ends_the_child_too(
    tiny: Tiny, data: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sleeper = tmp_path / "sleeper"
    pid_file = tmp_path / "pid"
    sleeper.write_text(
        f"#!/bin/sh\necho $$ > {pid_file}\necho 'progress 0 1 x' >&2\nexec sleep 600\n",
        encoding="utf-8",
    )
    sleeper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeper))

    def interrupt(_done: int, _total: int | None, _what: str) -> None:
        raise KeyboardInterrupt

    with runs.listen(interrupt), pytest.raises(KeyboardInterrupt):
        compare_eval(data, f"local:{tiny.base}", general="none", output_dir=str(tmp_path / "o"))
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text(encoding="utf-8")), 0)
    assert not (tmp_path / "o").exists()


def test_without_the_extra_the_pip_line_is_named(
    tiny: Tiny, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as blocked:  # undone before plug-ins that use torch clean up
        blocked.setitem(sys.modules, "torch", None)
        with pytest.raises(MissingExtraError, match=r"fine-tuning-skill\[local\]"):
            compare_eval(data, f"local:{tiny.base}")


def test_two_models_without_adapters_are_compared_one_after_the_other(
    tiny: Tiny, data: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tiny.base.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    tokenizer = copy / "tokenizer_config.json"
    text = tokenizer.read_text(encoding="utf-8")
    tokenizer.write_text(text + "\n", encoding="utf-8")
    result = compare_eval(data, f"local:{tiny.base}", f"local:{copy}", max_tokens=4)
    assert [entry.diff for entry in result.task] == [0.0, 0.0]  # no likelihood is compared
    assert len(result.provenance["models"]) == 2
    assert result.general is None
    assert any("different tokenizers" in caution for caution in result.cautions)


def test_importing_the_tool_loads_nothing_heavy() -> None:
    code = (
        "import sys, finetuning.evaluation; heavy = {'torch', 'transformers', 'numpy', 'polars',"
        " 'peft', 'http.client', 'concurrent.futures'}; print(sorted(heavy & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert done.stdout.strip() == "[]"
