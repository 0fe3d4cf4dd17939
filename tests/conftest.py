"""Fixtures for every test: a home of its own, no network, no keys of the person."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from finetuning.settings import SECRET_VARIABLES

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def isolated_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test its own FINE_TUNING_HOME and roots; the network stays shut."""
    home = tmp_path / "home"
    monkeypatch.setenv("FINE_TUNING_HOME", str(home))
    monkeypatch.setenv("FINE_TUNING_ROOTS", os.pathsep.join([str(tmp_path), str(DATA.parent)]))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    for name in ("FINE_TUNING_SHOW_CONTENT", "FINE_TUNING_MAX_USD", "FINE_TUNING_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in SECRET_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes text lines to a file below ``tmp_path``."""

    def write(name: str, *lines: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return path

    return write


def pytest_configure() -> None:
    """Let interrupts through when the suite runs in the background.

    A shell starts background jobs with SIGINT ignored, every child inherits that, and a program
    that a test interrupts would never see it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip browser and client tests where their program is missing, unless they must run."""
    if os.environ.get("FINE_TUNING_TESTS_MUST_RUN") == "1":
        return
    needs = {"browser": "chromium", "clients": "npm"}
    missing = {marker: program for marker, program in needs.items() if not shutil.which(program)}
    for item in items:
        for marker, program in missing.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"{program} is not installed here"))
