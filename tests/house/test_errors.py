from __future__ import annotations

import importlib
import pickle
from pathlib import Path

import pytest

import finetuning
from finetuning.errors import (
    BadInputError,
    FineTuningError,
    MissingExtraError,
    NotAllowedError,
    RunFailedError,
    UnknownNameError,
    require,
)


def test_message_follows_the_template() -> None:
    error = BadInputError("a.jsonl:3", "the role is 'bot'", "user or assistant", "Rename it")
    assert str(error) == "a.jsonl:3: the role is 'bot'; expected user or assistant. Rename it."


@pytest.mark.parametrize(
    ("kind", "builtin", "code"),
    [
        (BadInputError, ValueError, 2),
        (MissingExtraError, ImportError, 2),
        (NotAllowedError, PermissionError, 2),
        (RunFailedError, RuntimeError, 4),
    ],
)
def test_each_error_is_also_the_builtin_it_replaces(
    kind: type[FineTuningError], builtin: type[Exception], code: int
) -> None:
    error = kind("where", "what", "that", "Do")
    assert isinstance(error, builtin)
    assert error.exit_code == code
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_unknown_name_names_the_nearest_and_survives_a_process_border() -> None:
    error = UnknownNameError("tool", "target", "openai_cht", ["openai_chat", "trl_text"])
    assert "unknown target 'openai_cht'" in str(error)
    assert "Use 'openai_chat'" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_nothing_near_and_nothing_known_still_gives_a_next_step() -> None:
    assert "Leave it out" in str(UnknownNameError("tool", "name", "x", []))
    assert "Use 'alpha'" in str(UnknownNameError("tool", "name", "zzz", ["alpha"]))


def test_a_present_package_is_returned() -> None:
    assert require("json", feature="x", extra="local").__name__ == "json"


@pytest.mark.parametrize("extra", ["local", "pii"])
def test_a_missing_package_names_the_pip_line(extra: str) -> None:
    with pytest.raises(MissingExtraError, match=rf"pip install 'fine-tuning-skill\[{extra}\]'"):
        require("no_such_package_here", feature="detector=x", extra=extra)


PACKAGES = sorted(
    path.parent.name for path in Path(finetuning.__file__).parent.glob("*/__init__.py")
)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_of_a_package_is_there_and_no_other(package: str) -> None:
    module = importlib.import_module(f"finetuning.{package}")
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    with pytest.raises(AttributeError, match=f"finetuning.{package}.*no_such_name"):
        _ = module.no_such_name
