from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

from finetuning.settings import settings


def test_home_comes_from_the_environment(isolated_environment: Path) -> None:
    current = settings()
    assert current.home == isolated_environment
    assert current.reports == isolated_environment / "reports"
    assert current.runs == isolated_environment / "runs"
    assert current.audit_log == isolated_environment / "audit.jsonl"
    assert current.pseudonym_key == isolated_environment / "keys" / "pseudonym.key"


def test_home_defaults_to_the_users_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FINE_TUNING_HOME")
    assert settings().home == platformdirs.user_data_path("fine-tuning")


def test_roots_are_split_and_resolved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FINE_TUNING_ROOTS", os.pathsep.join([str(tmp_path / "a" / ".."), ""]))
    assert settings().roots == (tmp_path.resolve(),)


def test_switches_are_on_only_for_1(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (settings().offline, settings().show_content, settings().max_usd) == (False, False, None)
    monkeypatch.setenv("FINE_TUNING_OFFLINE", "1")
    monkeypatch.setenv("FINE_TUNING_SHOW_CONTENT", "yes")
    monkeypatch.setenv("FINE_TUNING_MAX_USD", " 5 ")
    current = settings()
    assert (current.offline, current.show_content, current.max_usd) == (True, False, "5")


CONNECT = """
import socket, sys
from finetuning.settings import enforce_offline
enforce_offline()
enforce_offline()
try:
    {action}
except PermissionError as error:
    print("refused", error)
except OSError as error:
    print("tried", type(error).__name__)
"""


@pytest.mark.parametrize(
    ("action", "offline", "answer"),
    [
        ("socket.create_connection(('192.0.2.1', 9), timeout=0.01)", "1", "refused"),
        ("socket.getaddrinfo('example.invalid', 80)", "1", "refused"),
        ("socket.getaddrinfo(b'example.invalid', 80)", "1", "refused"),
        ("socket.gethostbyname('example.invalid')", "1", "refused"),
        ("socket.create_connection(('127.0.0.1', 1), timeout=1)", "1", "tried"),
        ("socket.create_connection(('::1', 1), timeout=1)", "1", "tried"),
        ("socket.create_connection(('localhost', 1), timeout=1)", "1", "tried"),
        ("socket.socket(socket.AF_UNIX).connect('/nonexistent/socket')", "1", "tried"),
        ("socket.create_connection(('127.0.0.1', 1), timeout=1)", "0", "tried"),
    ],
)
def test_offline_mode_refuses_connections_to_other_machines(
    action: str, offline: str, answer: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CONNECT.format(action=action)],
        env={**os.environ, "FINE_TUNING_OFFLINE": offline},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(answer), done.stdout
    if answer == "refused":
        assert "Unset FINE_TUNING_OFFLINE" in done.stdout


def test_the_guard_works_in_this_process_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from finetuning.settings import enforce_offline

    enforce_offline()
    monkeypatch.setenv("FINE_TUNING_OFFLINE", "1")
    with pytest.raises(PermissionError, match="offline mode"):
        socket.getaddrinfo("example.invalid", 80)
    assert socket.getaddrinfo("127.0.0.1", 80)
