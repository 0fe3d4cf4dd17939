"""The command line on a real terminal: progress, following a run to its end, Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import finetuning_skill
from finetuning import runs

PROGRAM = str(Path(sys.executable).parent / "fine-tuning")
BASE = Path(finetuning_skill.__file__).parent / "demo" / "base"
pytestmark = pytest.mark.slow


def read_all(descriptor: int) -> str:
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(descriptor, 65_536)
        except OSError:  # the other side of a closed terminal
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode(errors="replace")


def on_terminal(*words: str) -> tuple[int, str, str]:
    """Run a command whose stderr is a terminal; return exit code, stdout and that terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen([PROGRAM, *words], stdout=subprocess.PIPE, stderr=follower)
    os.close(follower)
    shown = read_all(leader)
    os.close(leader)
    out, _ = process.communicate(timeout=120)
    return process.returncode, out.decode(), shown


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Return a training config of a few steps on the shipped base."""
    lines = [
        json.dumps({"prompt": f"Send {i} red lamps to Oslo.", "completion": str(i)})
        for i in range(2, 24)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    words = ["configure-training", "--base-model", str(BASE), "--method", "sft"]
    words += ["--data", str(tmp_path / "train.jsonl"), "--output-dir", str(tmp_path / "config")]
    words += ["--overrides", '{"num_train_epochs": 1}', "--json"]
    done = subprocess.run([PROGRAM, *words], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    found: str = json.loads(done.stdout)["files"][0]
    return found


def test_launch_is_followed_to_its_end_with_progress(config: str) -> None:
    code, out, shown = on_terminal("launch-lora", config, "--json")
    result = json.loads(out)
    assert (code, result["status"]) == (0, "succeeded"), shown
    assert "training" in shown
    assert Path(result["adapter_dir"]).is_dir()


def test_no_wait_returns_while_the_run_goes_on(config: str) -> None:
    code, out, _ = on_terminal("launch-lora", config, "--no-wait", "--json")
    run_id = json.loads(out)["run_id"]
    assert code == 0
    assert runs.wait(run_id, 90).status == "succeeded"


def test_detached_work_of_a_cli_shows_progress_on_a_terminal(tmp_path: Path) -> None:
    rows = "".join(f'{{"prompt": "p {i}", "completion": "c {i}"}}\n' for i in range(2_000))
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    words = ["validate-jsonl", str(tmp_path / "rows.jsonl"), "--target", "trl_prompt_completion"]
    code, out, _ = on_terminal(*words, "--json")
    assert code == 0
    assert json.loads(out)["n_rows"] == 2_000


def test_ctrl_c_while_following_leaves_the_run_going(config: str) -> None:
    process = subprocess.Popen(
        [PROGRAM, "launch-lora", config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not any(run.status == "running" for run in runs.list_runs()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (run,) = runs.list_runs()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert f"fine-tuning cancel-run {run.run_id}".encode() in err
    assert runs.wait(run.run_id, 90).status == "succeeded"
