from __future__ import annotations

import shlex

from finetuning.records import Finding, NextCall, ToolResult
from finetuning_skill import cli, dispatch, parser


class Nested(ToolResult):
    path: str
    share: float
    counts: dict[str, int]
    names: list[str]
    findings: list[Finding]
    nothing: str | None = None

    def summary(self) -> str:
        return "One line. " + "word " * 40


def finding(line: int) -> Finding:
    return Finding(line=line, code="empty", severity="error", message="m " * 60, fix="f")


def test_text_shows_fields_lists_and_the_next_command_within_the_width() -> None:
    path = "/a/" + "x" * 150 + "/file.jsonl"
    result = Nested(
        path=path,
        share=0.25,
        counts={"a": 1},
        names=["x", "y"],
        findings=[finding(i) for i in range(25)],
        next=[NextCall(tool="validate_jsonl", args={"path": "a b.jsonl"}, why="checks " * 30)],
    )
    text = cli.as_text(result)
    assert "counts.a  1" in text
    assert "names     x, y" in text
    assert "share     0.25" in text
    assert "nothing" not in text
    assert "findings (25):" in text
    assert "… 5 more; --json prints all" in text
    assert "fine-tuning validate-jsonl 'a b.jsonl'" in text
    long = [line for line in text.splitlines() if len(line) > cli.WIDTH]
    assert [line.strip().split()[-1] for line in long] == [path]


def test_next_calls_become_commands_that_the_parser_reads_back() -> None:
    call = NextCall(
        tool="prepare_data",
        args={
            "sources": ["a.csv", "b.csv"],
            "target": "openai_chat",
            "output_dir": "out",
            "near_duplicates": False,
            "overwrite": True,
            "exclude": ["x.jsonl", "y.jsonl"],
            "split": [0.8, 0.1, 0.1],
            "role_map": {"bot": "assistant"},
        },
        why="w",
    )
    words = shlex.split(dispatch.command_line(call))
    assert words[:2] == ["fine-tuning", "prepare-data"]
    values = vars(parser.command_parser("prepare-data").parse_args(words[2:]))
    assert values["sources"] == ["a.csv", "b.csv"]
    assert values["near_duplicates"] is False
    assert values["overwrite"] is True
    assert values["exclude"] == ["x.jsonl", "y.jsonl"]
    assert values["split"] == "[0.8, 0.1, 0.1]"
    assert values["role_map"] == '{"bot": "assistant"}'
