from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import random
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetuning import runs
from finetuning.errors import BadInputError
from finetuning.evaluation.diagnose import RunDiagnosis, diagnose_run

Row = dict[str, float]
Shape = Callable[[float, random.Random], tuple[float, float | None]]


def make_run(
    shape: Shape, seed: int, *, steps: int = 300, epochs: float = 3, noise: float = 0.03
) -> list[Row]:
    """Log a run as Trainer does: a row every step, an evaluation row every tenth of the run."""
    rng = random.Random(seed)
    rows: list[Row] = []
    for step in range(1, steps + 1):
        share = step / steps
        train, held_out = shape(share, rng)
        noisy = train * math.exp(rng.gauss(0, noise)) if math.isfinite(train) else train
        epoch = round(share * epochs, 4)
        row: Row = {"step": step, "epoch": epoch, "loss": noisy, "grad_norm": rng.uniform(0.8, 1.4)}
        rows.append({**row, "learning_rate": 2e-4})
        if held_out is not None and step % (steps // 10) == 0:
            held = held_out * math.exp(rng.gauss(0, noise / 4))
            rows.append({"step": step, "epoch": epoch, "eval_loss": held})
    return rows


def decay(share: float, start: float = 2.5, end: float = 0.8, speed: float = 6) -> float:
    return end + (start - end) * math.exp(-speed * share)


SHAPES: dict[str, tuple[Shape, float]] = {
    "healthy": (lambda s, _: (decay(s), decay(s, end=0.9)), 3),
    "divergence": (
        lambda s, _: (
            decay(s) if s < 0.5 else decay(s) + 3 * (s - 0.5),
            decay(s) if s < 0.5 else decay(s) + 3 * (s - 0.5),
        ),
        3,
    ),
    "overfitting": (lambda s, _: (decay(s, end=0.1, speed=4), 1.2 + 1.5 * (s - 0.4) ** 2), 5),
    "not_learning": (lambda _, r: (2.4 * math.exp(r.gauss(0, 0.02)), 2.4), 3),
    "undertrained": (lambda s, _: (2.5 - 1.2 * s, 2.6 - 1.2 * s), 1),
    "staircase_memorisation": (lambda s, _: (2.0 - 0.55 * min(3, int(s * 4 - 1e-9)), None), 4),
    "memorised_no_eval": (lambda s, _: (decay(s, end=0.01, speed=8), None), 6),
    "loss_to_zero_leak": (lambda s, _: (decay(s, end=0.002, speed=60), 0.003), 3),
    "plateau_stop_early": (
        lambda s, _: (decay(s, end=0.2, speed=2), 1.0 + 0.8 * math.exp(-12 * s)),
        5,
    ),
    "train_loss_scaled": (lambda s, _: (8 * decay(s), decay(s)), 3),
    "worse_than_random_start": (lambda s, _: (decay(s, start=18, speed=9), decay(s, end=0.9)), 3),
}


def save(tmp_path: Path, rows: list[Row]) -> Path:
    path = tmp_path / "trainer_state.json"
    summary = {"train_loss": 1.0, "train_runtime": 3.0, "step": len(rows)}
    path.write_text(json.dumps({"log_history": [*rows, summary]}), encoding="utf-8")
    return path


def diagnosed(tmp_path: Path, rows: list[Row]) -> RunDiagnosis:
    return diagnose_run(str(save(tmp_path, rows)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("label", SHAPES)
def test_each_planted_fault_is_the_top_label(tmp_path: Path, label: str, seed: int) -> None:
    shape, epochs = SHAPES[label]
    result = diagnosed(tmp_path, make_run(shape, seed, epochs=epochs))
    assert result.diagnosis == label, result.labels
    assert result.exit_code() == (0 if label == "healthy" else 1)
    assert Path(str(result.curve_file)).stat().st_size > 2_000


@pytest.mark.parametrize("seed", range(10))
def test_healthy_runs_of_many_lengths_raise_no_alarm(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    end = rng.uniform(0.5, 1.2)
    speed = rng.uniform(7, 12)
    rows = make_run(
        lambda s, _: (decay(s, end=end, speed=speed), decay(s, end=end * 1.1, speed=speed)),
        seed,
        steps=rng.choice([60, 200, 1000]),
        epochs=rng.choice([1, 2, 3]),
        noise=rng.choice([0.01, 0.05, 0.1]),
    )
    assert diagnosed(tmp_path, rows).diagnosis == "healthy"


def test_a_format_task_that_ends_at_zero_with_a_falling_held_out_loss_is_healthy(
    tmp_path: Path,
) -> None:
    def shape(s: float, _: random.Random) -> tuple[float, float | None]:
        return decay(s, end=0.0005, speed=14), decay(s, end=0.0005, speed=14)

    assert diagnosed(tmp_path, make_run(shape, 1, epochs=6)).diagnosis == "healthy"


def test_a_held_out_loss_that_rises_within_a_thousandth_of_the_first_is_no_overfitting(
    tmp_path: Path,
) -> None:
    def shape(s: float, _: random.Random) -> tuple[float, float | None]:
        return decay(s, end=0.0005, speed=14), 0.001 + 0.002 * s

    assert diagnosed(tmp_path, make_run(shape, 1, epochs=6)).diagnosis == "healthy"


def nan_run(zero: bool) -> list[Row]:
    rows = make_run(SHAPES["healthy"][0], 3)
    for row in rows:
        if row["step"] > 200 and "loss" in row:
            row["loss"] = 0.0 if zero else math.nan
            row["grad_norm"] = math.nan
    return rows


@pytest.mark.parametrize("zero", [True, False])
def test_nan_is_found_whether_the_log_shows_it_or_hides_it_as_zero(
    tmp_path: Path, zero: bool
) -> None:
    result = diagnosed(tmp_path, nan_run(zero))
    assert result.diagnosis == "nan"
    assert result.labels[0].evidence.steps[0] == 201
    assert "from 0.0002 to 2e-05" in result.labels[0].fix
    assert result.best_checkpoint is not None


def test_a_non_finite_held_out_loss_at_the_end_is_nan(tmp_path: Path) -> None:
    rows = make_run(SHAPES["healthy"][0], 3)
    rows[-1]["eval_loss"] = math.inf
    assert diagnosed(tmp_path, rows).diagnosis == "nan"


def test_infinite_norms_in_the_first_steps_of_fp16_are_no_fault(tmp_path: Path) -> None:
    rows = make_run(SHAPES["healthy"][0], 4)
    for row in rows[:4]:
        row["grad_norm"] = math.inf
    assert diagnosed(tmp_path, rows).diagnosis == "healthy"


def test_wild_gradient_norms_are_reported_beside_progress(tmp_path: Path) -> None:
    rows = make_run(SHAPES["healthy"][0], 5)
    rng = random.Random(5)
    for row in rows:
        if "grad_norm" in row:
            row["grad_norm"] = 10 ** rng.uniform(-2, 3)
    assert diagnosed(tmp_path, rows).diagnosis == "grad_norm_unstable"


def test_a_known_vocabulary_sharpens_the_check_of_the_first_loss(tmp_path: Path) -> None:
    rows = make_run(SHAPES["healthy"][0], 6)
    path = str(save(tmp_path, rows))
    assert diagnose_run(path, vocab_size=5).diagnosis == "worse_than_random_start"
    assert diagnose_run(path, vocab_size=50_000).diagnosis == "healthy"


def test_a_preference_run_starts_at_ln_2_without_fault(tmp_path: Path) -> None:
    rows = make_run(lambda s, _: (decay(s, start=0.693, end=0.3), decay(s, 0.693, 0.35)), 7)
    for row in rows:
        row["rewards/chosen"] = 0.1
    result = diagnose_run(str(save(tmp_path, rows)), vocab_size=2)
    assert result.diagnosis == "healthy"


def test_a_reinforcement_run_is_not_judged_by_its_loss(tmp_path: Path) -> None:
    rows = [{"step": i, "loss": 0.01 * (-1) ** i, "reward": i / 50, "kl": 0.01} for i in range(50)]
    result = diagnosed(tmp_path, rows)
    assert result.diagnosis == "rl_loss_not_interpretable"
    assert result.labels[0].evidence.numbers["reward_last"] == pytest.approx(47 / 50)


def test_overfitting_names_the_best_checkpoint_and_the_epochs(tmp_path: Path) -> None:
    shape, epochs = SHAPES["overfitting"]
    result = diagnosed(tmp_path, make_run(shape, 0, epochs=epochs, noise=0.001))
    assert result.best_checkpoint == 120
    assert "step 120" in result.labels[0].fix
    assert "num_train_epochs 2 instead of 5" in result.labels[0].fix


def test_too_few_points_give_no_label_and_exit_3(tmp_path: Path) -> None:
    result = diagnosed(tmp_path, make_run(SHAPES["healthy"][0], 1)[:3])
    assert (result.diagnosis, result.exit_code()) == (None, 3)
    assert "Too few points" in result.summary()


def test_a_short_run_lowers_the_confidence(tmp_path: Path) -> None:
    rows = make_run(SHAPES["healthy"][0], 1, steps=200)[::32]
    assert diagnosed(tmp_path, rows).labels[0].confidence < 0.6


def load_formats() -> ModuleType:
    """Return the writers of every format, which import nothing of the readers."""
    script = Path(__file__).parents[2] / "benchmarks" / "log_formats.py"
    spec = importlib.util.spec_from_file_location("log_formats", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WRITERS = load_formats()
READ_AS = {
    "trainer_state": "trainer_state", "llama_factory": "log lines", "openai": "csv",
    "openai_base64": "csv", "bedrock": "csv", "wandb_csv": "csv", "wandb_history": "log lines",
    "tensorboard": "tensorboard", "trackio": "trackio", "console": "console",
    "console_quoted": "console", "vertex": "log lines",
}  # fmt: skip


@pytest.mark.parametrize("label", ["healthy", "overfitting", "divergence"])
@pytest.mark.parametrize("log_format", READ_AS)
def test_every_format_of_one_run_gives_the_same_diagnosis(
    tmp_path: Path, log_format: str, label: str
) -> None:
    shape, epochs = SHAPES[label]
    path = WRITERS.FORMATS[log_format](make_run(shape, 2, epochs=epochs), tmp_path)
    result = diagnose_run(str(path))
    assert (result.diagnosis, result.format) == (label, READ_AS[log_format])
    expected = diagnosed(tmp_path, make_run(shape, 2, epochs=epochs))
    assert result.best_checkpoint == expected.best_checkpoint


@pytest.mark.parametrize("log_format", ["console", "console_quoted", "trackio", "tensorboard"])
def test_nan_is_read_in_every_spelling(tmp_path: Path, log_format: str) -> None:
    path = WRITERS.FORMATS[log_format](nan_run(zero=True), tmp_path)
    result = diagnose_run(str(path))
    assert result.diagnosis == "nan"
    assert result.labels[0].evidence.steps[0] == 201


def test_evidence_names_file_and_row(tmp_path: Path) -> None:
    shape, epochs = SHAPES["overfitting"]
    path = WRITERS.openai(make_run(shape, 0, epochs=epochs, noise=0.001), tmp_path)
    result = diagnose_run(str(path))
    assert result.labels[0].evidence.steps[0] == 120
    assert result.labels[0].evidence.places[0] == "step_metrics.csv:121"  # below the header


def test_a_damaged_event_file_is_read_up_to_the_damage(tmp_path: Path) -> None:
    path = WRITERS.tensorboard(make_run(SHAPES["healthy"][0], 2), tmp_path)
    raw = bytearray(path.read_bytes())
    raw[len(raw) * 3 // 4] ^= 1
    path.write_bytes(raw)
    result = diagnose_run(str(path))
    assert "is damaged (checksum)" in result.notes[0]
    assert 200 < result.n_points < 300
    path.write_bytes(raw[: len(raw) // 2])
    assert "is cut off" in diagnose_run(str(path)).notes[0]


def test_checkpoint_objects_take_the_whole_held_out_set(tmp_path: Path) -> None:
    data = [
        {"step_number": k, "metrics": {"train_loss": 2 / k, "valid_loss": 9, "full_valid_loss": k}}
        for k in range(1, 9)
    ]
    path = tmp_path / "checkpoints.json"
    path.write_text(json.dumps({"object": "list", "data": data}), encoding="utf-8")
    result = diagnose_run(str(path))
    assert (result.diagnosis, result.best_checkpoint) == ("overfitting", 1)


def test_snapshots_and_plain_lines_and_scalar_tables_are_read(tmp_path: Path) -> None:
    snapshots = [{"step": k, "epoch": 1, "meanLoss": 2 - k / 9} for k in range(9)]
    files = {
        "job.json": json.dumps({"tuningTask": {"snapshots": snapshots}}),
        "plain.log": "\n".join(f"Step {k} | loss: {2 - k / 9:.3f} lr: 2e-4" for k in range(9)),
        "run-a-tag-train_loss.csv": "Wall time,Step,Value\n"
        + "\n".join(f"1.7e9,{k},{2 - k / 9}" for k in range(9)),
    }
    for name, text in files.items():
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        assert diagnose_run(str(path)).n_points == 9, name
    wide = tmp_path / "powershell.txt"
    wide.write_bytes(files["plain.log"].encode("utf-16"))
    assert diagnose_run(str(wide)).n_points == 9


def test_a_vocabulary_beside_the_log_sharpens_the_check_of_the_first_loss(tmp_path: Path) -> None:
    path = save(tmp_path, make_run(SHAPES["healthy"][0], 6))
    (tmp_path / "config.json").write_text('{"vocab_size": 5}', encoding="utf-8")
    assert diagnose_run(str(path)).diagnosis == "worse_than_random_start"


def test_stairs_do_no_harm_while_the_held_out_loss_falls(tmp_path: Path) -> None:
    def shape(s: float, _: random.Random) -> tuple[float, float | None]:
        return 2.0 - 0.3 * min(3, int(s * 4 - 1e-9)), 2.1 - 0.9 * (1 - math.exp(-6 * s))

    found = diagnosed(tmp_path, make_run(shape, 1, epochs=4)).labels
    assert "staircase_memorisation" not in [label.label for label in found]


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
def test_any_bytes_give_a_result_or_an_error_of_the_house(content: bytes) -> None:
    from finetuning.evaluation.diagnose.readers import read_log

    heads = (b"", b'{"loss": 1}\n', b"step,loss\n", b"{'loss': ", b"SQLite format 3\0", WHOLE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        for head in heads:
            path.write_bytes(head + content)
            with contextlib.suppress(BadInputError):
                assert read_log(path, where="x").n_points > 0


WHOLE = WRITERS.record(WRITERS.scalar(1, "train/loss", 2.0))


def test_the_benchmark_runs(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "diagnosis.py"
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--part", "developed"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "4 of 4 named right" in done.stdout


def test_a_resumed_log_is_read_once_and_the_rewind_is_noted(tmp_path: Path) -> None:
    rows = make_run(SHAPES["healthy"][0], 8)
    half = [row for row in rows if row["step"] <= 160]
    rest = [row for row in rows if row["step"] > 120]
    result = diagnosed(tmp_path, [*half, *rest])
    assert result.diagnosis == "healthy"
    assert result.n_points == len(rows)
    assert result.notes == ["the log goes back to step 121: resumed; the later rows are used"]


def test_a_run_of_the_run_store_is_read_by_its_id() -> None:
    run = runs.create_run("launch_lora", arguments={})
    runs.record_steps(run.run_id, make_run(SHAPES["overfitting"][0], 1, epochs=5))
    result = diagnose_run(run_id=run.run_id)
    assert (result.diagnosis, result.format) == ("overfitting", "run store")
    failing = runs.create_run("launch_lora", arguments={})
    runs.record_steps(failing.run_id, nan_run(zero=False))
    assert diagnose_run(run_id=failing.run_id).next[0].args == {"run_id": failing.run_id}


def test_a_trainers_folder_is_searched_for_its_newest_state(tmp_path: Path) -> None:
    inner = tmp_path / "out" / "checkpoint-300"
    inner.mkdir(parents=True)
    save(inner, make_run(SHAPES["healthy"][0], 1))
    assert diagnose_run(str(tmp_path / "out")).diagnosis == "healthy"
    (tmp_path / "bare").mkdir()
    with pytest.raises(BadInputError, match="holds no training log"):
        diagnose_run(str(tmp_path / "bare"))


def test_twenty_four_thousand_rows_are_quick(tmp_path: Path) -> None:
    rows = make_run(SHAPES["healthy"][0], 1, steps=24_000)
    started = time.process_time()
    assert diagnosed(tmp_path, rows).diagnosis == "healthy"
    assert time.process_time() - started < 20  # catches quadratic work, not slowness


@pytest.mark.parametrize("arguments", [{}, {"path": "a", "run_id": "b"}])
def test_exactly_one_source_is_wanted(arguments: dict[str, str]) -> None:
    with pytest.raises(BadInputError, match="exactly one of them"):
        diagnose_run(**arguments)  # pyright: ignore[reportArgumentType] - only str values here


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\n",
        b"[1, 2]",
        b"3",
        b"\xff\xfe\x00\x01",
        b'{"a": 1}',
        b'{"loss": true}',
        b"{'loss': broken}",
        b"QUJDREVGR0hJSktMTU5PUA==",
        b"abcdefghijklmnopqrstuvwx",
    ],
)
def test_a_file_without_a_training_log_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(content)
    with pytest.raises(BadInputError):
        diagnose_run(str(path))


def test_the_page_speaks_chinese_when_asked(tmp_path: Path) -> None:
    path = save(tmp_path, make_run(SHAPES["overfitting"][0], 1, epochs=5))
    result = diagnose_run(str(path), language="zh")
    assert "留出集损失" in Path(str(result.curve_file)).read_text(encoding="utf-8")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.floats(), st.none() | st.floats()), min_size=1, max_size=60))
def test_any_numbers_give_a_result(values: list[tuple[float, float | None]]) -> None:
    from finetuning.evaluation.diagnose.curve import to_curve
    from finetuning.evaluation.diagnose.labels import diagnose

    rows = [
        {"step": i, "loss": loss, "grad_norm": norm, "epoch": i / 10}
        for i, (loss, norm) in enumerate(values)
    ]
    labels = diagnose(to_curve(rows, "test"))
    assert all(0 <= label.confidence <= 1 for label in labels)


def test_strings_blanks_and_flags_in_a_log_are_not_numbers() -> None:
    from finetuning.evaluation.diagnose.curve import number, to_curve

    assert [number(v) for v in ("1e-4", " ", "x", None, True, 3)] == [
        1e-4,
        None,
        None,
        None,
        None,
        3,
    ]
    curve = to_curve([{"epoch": 1}, {"loss": "0.5"}, {"loss": math.nan, "step": math.nan}], "t")
    assert curve.series("loss")[0] == (1, 0.5)
    assert [step for step, _ in curve.series("loss")] == [1, 2]


def test_a_log_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, make_run(SHAPES["healthy"][0], 1))
    monkeypatch.setattr("finetuning.evaluation.diagnose.readers.MAX_BYTES", 10)
    with pytest.raises(BadInputError, match="at most 10"):
        diagnose_run(str(path))


def test_damaged_and_foreign_databases_are_refused(tmp_path: Path) -> None:
    path = WRITERS.trackio(make_run(SHAPES["healthy"][0], 2, steps=20), tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        store.execute("UPDATE metrics SET metrics = 'x' WHERE step = 3")
        store.execute("UPDATE metrics SET metrics = '[1]' WHERE step = 4")
    assert 0 < diagnose_run(str(path)).n_points < 40
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        store.execute("ALTER TABLE metrics RENAME TO other")
    with pytest.raises(BadInputError, match="without Trackio's table"):
        diagnose_run(str(path))


def test_events_with_tensors_negative_steps_and_rubbish_are_read(tmp_path: Path) -> None:
    def tensor(step: int, value: float) -> bytes:
        held = struct.pack("<f", value)
        inner = b"\x0a\x0atrain/loss" + b"\x42" + bytes([2 + len(held)]) + b"\x22\x04" + held
        summary = b"\x0a" + bytes([len(inner)]) + inner
        return b"\x10" + bytes([step]) + b"\x2a" + bytes([len(summary)]) + summary

    path = tmp_path / "events.out.tfevents.1"
    rubbish = WRITERS.record(b"\x2b\x01") + WRITERS.record(b"\x12\x7f")
    path.write_bytes(b"".join(WRITERS.record(tensor(k, 2 - k / 9)) for k in range(1, 9)) + rubbish)
    assert diagnose_run(str(path)).n_points == 8


def test_a_vocabulary_of_one_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="2 or more"):
        diagnose_run(str(save(tmp_path, make_run(SHAPES["healthy"][0], 1))), vocab_size=1)
