"""Before the first step: what is looked at, what is refused, replay, and the rate that is tried."""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuning import runs
from finetuning.errors import BadInputError
from finetuning.training import get_run, preflight
from finetuning.training.config import TrainingConfig, read_tables
from finetuning.training.worker import job as work
from finetuning.training.worker import session
from finetuning.training.worker.job import Job

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning",  # the libraries among themselves; the worker silences them too
    "ignore::UserWarning",
    "ignore::DeprecationWarning",
)

Settings = Callable[..., dict[str, Any]]
PACK = Path(preflight.__file__).parents[1] / "evaluation" / "general_pack.jsonl"


def queue(config: dict[str, Any], **arguments: Any) -> str:
    return runs.create_run("launch_lora", arguments={"config": config, **arguments}).run_id


def job_of(config: dict[str, Any]) -> Job:
    run = runs.create_run("launch_lora", arguments={"config": config})
    runs.attach(run.run_id)
    return Job(run.run_id, TrainingConfig.model_validate(config), Path(run.folder), None)


def adapter_bytes(run_id: str) -> bytes:
    result = runs.read_run(run_id).result or {}
    return (Path(result["adapter_dir"]) / "adapter_model.safetensors").read_bytes()


def test_the_report_is_told_while_the_run_goes_on_and_its_example_stays_private(
    settings_for: Settings, prepared: Path, base: Path
) -> None:
    (base / "README.md").write_text("---\nlicense: apache-2.0\ntags: [x]\n---\n# A base\n")
    rows = [json.loads(line) for line in (prepared / "train.jsonl").read_text().splitlines()]
    rows[6]["completion"] = '{"city": "tables", "item": "Friday", "quantity": "Milan"}'
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (prepared / "train.jsonl").write_text("\n" + text)  # lines count from the file's beginning
    job = job_of(settings_for())
    job.prepare()
    job.look_ahead()
    report = get_run(job.run_id).preflight
    assert report is not None
    assert report["base"]["licence"] == "apache-2.0"
    assert re.fullmatch("[0-9a-f]{64}", report["base"]["sha256"])
    assert report["world_size"] == 1
    assert report["ends_with_stop_token_fraction"] == 1.0
    assert report["memory"]["needed_gb"] < report["memory"]["available_gb"]
    assert report["rows_scored"] == 32
    first, second, *_ = report["surprising_rows"]
    assert first["line"] == 8
    assert first["nll"] > second["nll"] > report["median_nll"]
    example = Path(report["example_file"])
    assert stat.S_IMODE(example.stat().st_mode) == 0o600
    lines = example.read_text().splitlines()[1:]
    marks = "".join(line[0] for line in lines)
    assert re.fullmatch(r" +\++", marks), "the prompt is not trained on, all of the answer is"
    assert lines[0] == "  'Please'"
    assert marks.count("+") == report["labelled_in_example"]
    assert not {"Milan", "Friday"} & set(json.dumps(report).split('"'))
    runs.finish(job.run_id, "cancelled")


def test_the_search_for_surprising_rows_disturbs_no_number_of_the_run(
    settings_for: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings_for(lora_dropout=0.1, num_train_epochs=1.0)
    plain = job_of(config)
    plain.prepare()
    plain.train()
    searched = job_of(config)
    searched.prepare()
    monkeypatch.setattr(preflight, "SURPRISE_ROWS", 10)
    searched.look_ahead()
    searched.train()
    assert runs.steps_of(searched.run_id) == runs.steps_of(plain.run_id)
    assert searched.result()["surprising_rows"]
    assert (get_run(searched.run_id).preflight or {})["rows_scored"] == 10
    for job in (plain, searched):
        runs.finish(job.run_id, "cancelled")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_processes": 2}, "the launcher started a world of 1; expected 2 processes"),
        ({"base_sha256": "0" * 64}, "have the digest"),
        ({"per_device_train_batch_size": 10**8}, "the run needs about"),
    ],
)
def test_a_run_that_would_go_wrong_ends_before_its_first_step(
    settings_for: Settings, changes: dict[str, Any], message: str
) -> None:
    job = job_of(settings_for(length_buckets=False, **changes))
    job.prepare()
    with pytest.raises(BadInputError, match=message):
        job.look_ahead()
    assert get_run(job.run_id).preflight is None
    runs.finish(job.run_id, "failed")


def test_the_base_is_known_again_by_its_digest(settings_for: Settings, base: Path) -> None:
    config = TrainingConfig.model_validate(settings_for())
    (base / "LICENSE").write_text("\n  The MIT Licence\n")
    facts = preflight.base_facts(config)
    assert facts["licence"] == "The MIT Licence"
    again = config.model_copy(update={"base_sha256": facts["sha256"], "base_revision": "abc"})
    assert preflight.base_facts(again)["revision"] == "abc"


def test_answers_that_never_end_raise_an_alert(settings_for: Settings, base: Path) -> None:
    job = job_of(settings_for())
    job.prepare()
    job.trainer.processing_class.eos_token = "red"
    job.trainer.model.generation_config.eos_token_id = None
    job.look_ahead()
    assert [alert["code"] for alert in runs.alerts_of(job.run_id)] == ["answers_do_not_end"]
    runs.finish(job.run_id, "cancelled")


# --- replay -------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def test_the_shipped_prompts_are_many_and_none_is_in_the_evaluation_pack() -> None:
    prompts = session.general_prompts()
    assert len(set(prompts)) == len(prompts) >= 200
    assert len(read_tables()["replay"]) >= 10
    pack = [json.loads(line)["text"] for line in PACK.read_text(encoding="utf-8").splitlines()]
    runs_of_five = {tuple(w[i : i + 5]) for w in map(words, pack) for i in range(len(w) - 4)}
    for prompt in prompts:
        found = words(prompt)
        shared = {tuple(found[i : i + 5]) for i in range(len(found) - 4)} & runs_of_five
        assert not shared, prompt
        assert all(prompt not in text and text not in prompt for text in pack)


def test_the_base_answers_general_prompts_and_a_resumed_run_keeps_its_answers(
    settings_for: Settings,
) -> None:
    config = settings_for(num_train_epochs=0.5, replay_fraction=0.7, validation_file=None)
    run_id = queue(config)
    assert session.main(run_id) == 0
    folder = Path(runs.read_run(run_id).folder)
    replay = folder / preflight.REPLAY
    assert stat.S_IMODE(replay.stat().st_mode) == 0o600
    rows = [json.loads(line) for line in replay.read_text().splitlines()]
    known = set(session.general_prompts())
    assert {row["prompt"] for row in rows} <= known
    assert all(row["completion"] for row in rows)
    told = {alert["code"]: alert["message"] for alert in runs.alerts_of(run_id)}
    assert told["replay_made"].startswith(f"{len(rows)} general prompts")
    result = runs.read_run(run_id).result or {}
    assert {row["line"] for row in result["surprising_rows"]} <= set(range(1, 33))
    resumed = queue(config, resume_from=str(folder / "checkpoints"))
    assert session.main(resumed) == 0
    kept = Path(runs.read_run(resumed).folder) / preflight.REPLAY
    assert kept.read_bytes() == replay.read_bytes()
    assert "replay_made" not in {alert["code"] for alert in runs.alerts_of(resumed)}


def test_rows_that_are_no_answers_get_no_replay(settings_for: Settings) -> None:
    config = TrainingConfig.model_validate(
        settings_for(method="dpo", row_format="trl_preference", replay_fraction=0.5)
    )
    assert session.answer_prompts(config, Path("nowhere")) == 0


CHAT = "{% for turn in messages %}{{ turn['content'] }} {% endfor %}"


@pytest.mark.parametrize(
    ("row_format", "template", "keys"),
    [
        ("trl_text", None, {"text"}),
        ("trl_messages", None, {"messages"}),
        ("trl_messages", CHAT, {"messages"}),
    ],
)
def test_replay_is_written_in_the_format_of_the_rows(
    settings_for: Settings,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    row_format: str,
    template: str | None,
    keys: set[str],
) -> None:
    monkeypatch.setattr(session, "REPLAY_TOKENS", 8)
    if template is not None:
        (base / "chat_template.jinja").write_text(template)
    path = base / "tokenizer_config.json"
    plain = {**json.loads(path.read_text()), "pad_token": None}
    path.write_text(json.dumps(plain))
    method = "cpt" if row_format == "trl_text" else "sft"
    config = TrainingConfig.model_validate(
        settings_for(method=method, row_format=row_format, replay_fraction=0.85)
    )
    count = session.answer_prompts(config, tmp_path / "replay.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "replay.jsonl").read_text().splitlines()]
    assert len(rows) == count > 0
    assert {frozenset(row) for row in rows} == {frozenset(keys)}


def test_a_base_that_answers_nothing_in_time_gives_no_replay_and_that_is_said(
    settings_for: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "REPLAY_SECONDS", -1.0)
    job = job_of(settings_for(replay_fraction=0.5))
    session.add_replay(job)
    assert [alert["code"] for alert in runs.alerts_of(job.run_id)] == ["replay_empty"]
    assert job.config.replay_file is None
    runs.finish(job.run_id, "cancelled")


@pytest.mark.parametrize(
    ("answer", "ended", "kept"),
    [
        (" A whole answer", True, "A whole answer"),
        ("One. Two! And a thi", False, "One. Two!"),
        ("never a full stop", False, ""),
        ("第一句。第二", False, "第一句。"),
    ],
)
def test_an_answer_that_was_cut_off_loses_its_last_sentence(
    answer: str, ended: bool, kept: str
) -> None:
    assert session.finished(answer, ended=ended) == kept


# --- learning rates -----------------------------------------------------------------------------


def test_the_rate_that_is_best_on_held_out_rows_is_used_and_the_run_is_as_without_trying(
    settings_for: Settings,
) -> None:
    config = settings_for(num_train_epochs=2.0, lora_dropout=0.1, learning_rate=1e-4)
    probed = queue({**config, "probe_learning_rates": [1e-4, 1e-2, 0.9]})
    assert session.main(probed) == 0
    result = runs.read_run(probed).result or {}
    tried = {each["rate"]: each["held_out_loss"] for each in result["probe"]}
    assert list(tried) == [1e-4, 1e-2, 0.9]
    assert result["learning_rate"] == min(tried, key=lambda rate: tried[rate]) == 1e-2
    assert {each["steps"] for each in result["probe"]} == {4}
    (alert,) = [a for a in runs.alerts_of(probed) if a["code"] == "learning_rate_probed"]
    assert "0.01 → " in alert["message"]
    direct = queue({**config, "learning_rate": 1e-2})
    assert session.main(direct) == 0
    assert runs.steps_of(probed) == runs.steps_of(direct)
    assert adapter_bytes(probed) == adapter_bytes(direct)

    folder = Path(runs.read_run(probed).folder) / "checkpoints"
    resumed = queue({**config, "probe_learning_rates": [1e-4, 1e-2, 0.9]}, resume_from=str(folder))
    assert session.main(resumed) == 0
    assert (runs.read_run(resumed).result or {})["learning_rate"] == 1e-2
    assert runs.alerts_of(resumed) == [], "what was found before is not tried again"


def test_a_rate_that_blows_up_is_never_the_best_and_a_slow_machine_tries_fewer_steps(
    settings_for: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(settings_for(num_train_epochs=40.0, max_grad_norm=1e9))
    job.prepare()
    before = [weight.clone() for weight in job.trainer.trained]
    monkeypatch.setattr(work, "_PROBE_SECONDS", 0.0)
    good, bad = work.try_rates(job.trainer, [1e-3, 1e20])
    assert good["steps"] == 5, "a tenth of the 48 steps warms up; then the time was over"
    assert bad["held_out_loss"] == math.inf
    assert good["held_out_loss"] < 6.0
    for weight, was in zip(job.trainer.trained, before, strict=True):
        assert weight.equal(was)
    runs.finish(job.run_id, "cancelled")


def test_without_held_out_rows_no_rate_is_tried_and_that_is_said(settings_for: Settings) -> None:
    job = job_of(settings_for(validation_file=None, probe_learning_rates=[1e-3, 1e-2]))
    job.prepare()
    session.probe_rates(job)
    assert [alert["code"] for alert in runs.alerts_of(job.run_id)] == ["probe_skipped"]
    assert job.trainer.args.learning_rate == 4e-3
    runs.finish(job.run_id, "cancelled")
