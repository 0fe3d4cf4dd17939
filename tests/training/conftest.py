"""Fixtures for the tests of training: the shipped tiny base and a few rows it can read."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finetuning.training import demo_base

ORDERS = [
    {
        "prompt": f"Please send {number} {colour} {item} to {city} by {day}.",
        "completion": json.dumps(
            {"item": item, "colour": colour, "quantity": number, "city": city, "day": day}
        ),
    }
    for number, colour, item, city, day in [
        (2 + i, colours, items, cities, days)
        for i, (colours, items, cities, days) in enumerate(
            zip(
                ["red", "green", "white", "grey"] * 12,
                ["tables", "vases", "frames"] * 16,
                ["Milan", "Porto", "Rome", "Madrid"] * 12,
                ["Friday", "Monday", "Sunday"] * 16,
                strict=True,
            )
        )
    ]
]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return a copy of the base model that ships with the demo."""
    shipped = demo_base()
    assert shipped is not None
    return Path(shutil.copytree(shipped, tmp_path / "base"))


@pytest.fixture
def orders() -> list[dict[str, str]]:
    """Return 48 rows of the demo's kind."""
    return [dict(row) for row in ORDERS]


@pytest.fixture
def prepared(tmp_path: Path, orders: list[dict[str, str]]) -> Path:
    """Return a folder as prepare_data writes it: 32 rows to train on, 8 and 8 held out."""
    folder = tmp_path / "prepared"
    folder.mkdir()
    for name, rows in (
        ("train", orders[:32]),
        ("validation", orders[32:40]),
        ("test", orders[40:]),
    ):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)
    return folder


@pytest.fixture
def settings_for(base: Path, prepared: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that builds a small training configuration."""

    def build(**changes: Any) -> dict[str, Any]:
        return {
            "base_model": str(base),
            "train_file": str(prepared / "train.jsonl"),
            "validation_file": str(prepared / "validation.jsonl"),
            "test_file": str(prepared / "test.jsonl"),
            "row_format": "trl_prompt_completion",
            "r": 4,
            "learning_rate": 4e-3,
            "num_train_epochs": 3.0,
            "per_device_train_batch_size": 8,
            "max_length": 96,
            "save_steps": 2,
            **changes,
        }

    return build


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """Put the handlers back that a session replaces."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
