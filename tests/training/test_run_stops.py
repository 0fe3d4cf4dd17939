"""How a stop of this process takes effect in a block, and how another process is seen off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from finetuning import runs
from finetuning.runs import rows

HOLD_STILL = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


def test_a_stop_takes_effect_when_the_short_block_is_done() -> None:
    done: list[str] = []

    def short_block() -> None:
        with runs.unstoppable():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        short_block()
    assert done == ["all of it"]


def test_in_another_thread_signals_stay_as_they_are() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def work() -> None:
        with runs.stop_like_ctrl_c():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_kill_or_a_closed_terminal_stops_a_block_like_ctrl_c(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), runs.stop_like_ctrl_c():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_process_that_stays_is_ended_and_one_that_left_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rows, "LEAVING_SECONDS", 0.1)
    child = subprocess.Popen([sys.executable, "-c", HOLD_STILL], start_new_session=True)
    runs.wait_until_gone(child.pid)
    assert child.wait(timeout=30) == -signal.SIGKILL
    runs.wait_until_gone(child.pid)
