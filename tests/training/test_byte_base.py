"""A base model made on the spot: it learns, loads, repeats, and leaves nothing half-done."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from finetuning import runs
from finetuning.errors import BadInputError, MissingExtraError, RunFailedError
from finetuning.training import weights as base_module
from finetuning.training.weights import build_byte_base
from finetuning.training.worker import byte_base

TEXT = "Zürich ≠ 東京: the quick brown fox\n\tjumps over \U0001f98a the lazy dog."


@pytest.fixture
def texts_file(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps({"text": f"{TEXT} {number}"}) for number in range(40)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"home"}


def test_the_base_loads_and_its_tokenizer_gives_every_text_back(
    texts_file: Path, tmp_path: Path
) -> None:
    heard: list[tuple[int, int | None, str]] = []
    (tmp_path / "base").mkdir()  # an empty folder is filled
    with runs.listen(lambda done, total, what: heard.append((done, total, what))):
        made = build_byte_base(texts_file, tmp_path / "base", steps=3)
    transformers: Any = importlib.import_module("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(made.folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(made.folder)
    for text in (TEXT, "unseen Ωμέγα \x00 bytes", '{"json": [1, 2]}'):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.eos_token_id == model.config.eos_token_id == byte_base.END
    assert made.steps == 3
    assert model.config.vocab_size == made.vocabulary == len(tokenizer)
    assert heard[-1] == (100, 100, "training a base model")
    assert left_in(tmp_path) == {"texts.jsonl", "base"}


def test_the_same_steps_and_seed_give_the_same_weights(texts_file: Path, tmp_path: Path) -> None:
    options = byte_base.Options(
        texts_file, tmp_path / "one", seconds=None, steps=2, vocabulary=300, seed=5
    )
    texts = byte_base.read_texts(texts_file)
    assert len(texts) == 40
    stream, vocabulary = byte_base.torch.arange(400) % 300, 300
    one, steps = byte_base.train_model(stream, vocabulary, options)
    two, _ = byte_base.train_model(stream, vocabulary, options)
    assert steps == 2
    for left, right in zip(one.parameters(), two.parameters(), strict=True):
        assert byte_base.torch.equal(left, right)


def test_training_lowers_the_loss_within_its_seconds(
    texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--texts", str(texts_file), "--output", str(tmp_path / "base")]
    assert byte_base.main([*words, "--seconds", "4", "--vocabulary", "300"]) == 0
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    losses = [report["loss"] for report in reports if "loss" in report]
    assert losses[-1] < losses[0]
    assert reports[-1]["done"] is True
    assert reports[-1]["steps"] >= 1


def test_a_single_short_text_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text('{"text": "ab"}\n', encoding="utf-8")
    options = byte_base.Options(
        path, tmp_path / "base", seconds=None, steps=1, vocabulary=300, seed=0
    )
    assert byte_base.build(options)["tokens"] > byte_base.WINDOW_TOKENS


def test_texts_without_any_text_are_refused_with_the_next_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "numbers.jsonl"
    path.write_text('{"n": 1}\n{"n": 2}\n', encoding="utf-8")
    words = ["--texts", str(path), "--output", str(tmp_path / "base"), "--steps", "1"]
    assert byte_base.main(words) == 2
    assert "no row holds a text; expected rows with a text" in capsys.readouterr().err
    with pytest.raises(RunFailedError, match=r"code 2 \(byte_base\)"):
        build_byte_base(path, tmp_path / "base", steps=1)
    assert left_in(tmp_path) == {"numbers.jsonl"}


@pytest.mark.parametrize(("seconds", "steps"), [(0.0, None), (5.0, 0)])
def test_a_budget_of_nothing_is_refused(
    texts_file: Path, tmp_path: Path, seconds: float, steps: int | None
) -> None:
    with pytest.raises(BadInputError, match="a budget above 0"):
        build_byte_base(texts_file, tmp_path / "base", seconds, steps=steps)


def test_a_folder_that_holds_files_is_left_as_it_is(texts_file: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "kept.txt").write_text("kept", encoding="utf-8")
    with pytest.raises(BadInputError):
        build_byte_base(texts_file, tmp_path / "base", steps=1)
    assert left_in(tmp_path / "base") == {"kept.txt"}


def test_a_child_that_says_nothing_is_a_failed_run() -> None:
    with pytest.raises(RunFailedError, match=r"code 0 \(no message\)"):
        base_module._follow([sys.executable, "-c", "pass"])  # pyright: ignore[reportPrivateUsage] # a child no public call starts


def test_a_child_that_ignores_the_request_to_end_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base_module, "_STOP_SECONDS", 0.2)
    deaf = (
        "import json, os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(json.dumps({'pid': os.getpid()}), flush=True); time.sleep(60)"
    )
    seen: list[int] = []

    def stop(done: int, total: int | None, what: str) -> None:
        seen.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), runs.listen(stop):
        base_module._follow([sys.executable, "-c", deaf])  # pyright: ignore[reportPrivateUsage] # a child no public call starts
    assert seen == [100]


def test_an_interrupt_ends_the_child_and_leaves_no_folder(texts_file: Path, tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        from finetuning import runs
        from finetuning.training.weights import build_byte_base
        with runs.listen(lambda done, total, what: print("working", flush=True)):
            build_byte_base({str(texts_file)!r}, {str(tmp_path / "base")!r}, 600)
        """
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "working\n"
    parent.send_signal(signal.SIGINT)
    parent.communicate(timeout=60)
    assert parent.returncode != 0
    assert left_in(tmp_path) == {"texts.jsonl"}
    with pytest.raises(ProcessLookupError):
        os.killpg(parent.pid, 0)


def test_without_the_extra_the_pip_line_is_named(
    texts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"fine-tuning-skill\[local\]"):
        build_byte_base(texts_file, tmp_path / "base")
