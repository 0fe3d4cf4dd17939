from __future__ import annotations

import argparse
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from finetuning.errors import BadInputError, UnknownNameError
from finetuning_skill import dispatch, parser


class Shape(BaseModel):
    a: int = 0


@pytest.mark.parametrize(
    ("raw", "annotation", "value"),
    [
        ("5", int | None, "5"),
        ("a.jsonl", str, "a.jsonl"),
        ("[1]", str, "[1]"),
        ("[0.8, 0.1, 0.1]", str | list[float], [0.8, 0.1, 0.1]),
        ("auto", str | list[float], "auto"),
        ("[.8,.1,.1]", str | list[float], "[.8,.1,.1]"),
        ('{"a": 1}', Shape | None, {"a": 1}),
        ('{"a": 1}', dict[str, Any], {"a": 1}),
        ('[{"a": 1}]', list[Shape] | None, [{"a": 1}]),
        ("x", Literal["x", "y"], "x"),
        ("0.5", Annotated[float, Field(ge=0)], "0.5"),
        (["a", "b"], list[str], ["a", "b"]),
        (True, bool, True),
    ],
)
def test_strings_become_the_json_their_argument_wants(
    raw: object, annotation: Any, value: object
) -> None:
    assert parser.read_value(raw, annotation, "x") == value


def test_objects_come_from_a_file_after_an_at_sign(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text('{"a": 2}', encoding="utf-8")
    assert parser.read_value(f"@{tmp_path / 'f.json'}", Shape, "x") == {"a": 2}


@pytest.mark.parametrize("raw", ["{a: 1}", "nonsense"])
def test_text_that_is_not_json_is_named(raw: str) -> None:
    with pytest.raises(BadInputError, match="the value is not JSON"):
        parser.read_value(raw, Shape, "fine-tuning x: --shape")


def test_a_missing_at_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read"):
        parser.read_value(f"@{tmp_path / 'none.json'}", Shape, "x")


def test_every_tool_is_a_command_with_help_and_an_example() -> None:
    whole = parser.build_parser()
    text = whole.format_help()
    for row in dispatch.TOOLS.values():
        assert row.command in text
        single = parser.command_parser(row.command)
        assert f"fine-tuning {row.command}" in (single.epilog or "")
        assert len(single.description or "") > 20


@pytest.mark.parametrize("row", dispatch.TOOLS.values(), ids=lambda row: row.name)
def test_every_argument_of_every_tool_is_documented(row: dispatch.Tool) -> None:
    fields = dispatch.arguments_of(row.name).model_fields
    assert [name for name, field in fields.items() if not field.description] == []


@pytest.mark.parametrize("row", dispatch.TOOLS.values(), ids=lambda row: row.name)
def test_table_rows_name_arguments_that_exist(row: dispatch.Tool) -> None:
    fields = set(dispatch.arguments_of(row.name).model_fields)
    named = {*row.inputs, *filter(None, [row.positional, row.page])}
    assert named <= fields


@pytest.mark.parametrize("command", parser.commands())
def test_the_example_of_every_command_parses(command: str) -> None:
    import shlex

    single = parser.command_parser(command)
    lines = [line for line in (single.epilog or "").splitlines() if "fine-tuning" in line]
    assert lines
    for line in lines:
        words = shlex.split(line)
        assert words[:2] == ["fine-tuning", command]
        assert isinstance(single.parse_args(words[2:]), argparse.Namespace)


def test_unknown_command_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="validate-jsonl"):
        parser.command_parser("validate")
    with pytest.raises(UnknownNameError, match="Use 'validate-jsonl'"):
        parser.command_parser("validate_jsonl")


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="--target"):
        parser.command_parser("validate-jsonl").parse_args(["a.jsonl", "--targets", "x"])


def test_missing_value_follows_the_error_template() -> None:
    with pytest.raises(BadInputError, match="Run: fine-tuning validate-jsonl --help"):
        parser.command_parser("validate-jsonl").parse_args(["a.jsonl", "--target"])
