"""What a person reads in the terminal: one line in words, the main fields, the next calls."""

from __future__ import annotations

import shlex
import textwrap
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from finetuning.records import NextCall, ToolResult

WIDTH: Final = 100
"""Columns of a line; paths and commands are never broken."""

_ROWS: Final = 20
_HIDDEN: Final = frozenset({"next", "fit_facts"})


def command_line(call: NextCall) -> str:
    """Return a next call as a command that can be pasted into a shell."""
    from finetuning_skill import dispatch

    row = dispatch.tool(call.tool)
    words = ["fine-tuning", row.command]
    for name, value in call.args.items():
        flag = "--" + name.replace("_", "-")
        if name == row.positional:
            words.extend(_words(value))
        elif isinstance(value, bool):
            words.append(flag if value else "--no-" + flag.removeprefix("--"))
        elif isinstance(value, list) and all(isinstance(v, str) for v in cast("list[Any]", value)):
            for item in cast("list[str]", value):
                words.extend([flag, item])
        else:
            words.extend([flag, *_words(value)])
    return shlex.join(words)


def _words(value: Any) -> list[str]:
    import json

    if isinstance(value, list) and all(isinstance(item, str) for item in cast("list[Any]", value)):
        return list(cast("list[str]", value))
    return [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)]


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _wrapped(text: str, first: str, rest: str) -> str:
    """Return text in lines of at most WIDTH, words and paths whole."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _pairs(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if name in _HIDDEN or value is None or value in ([], {}, ""):
            continue
        if isinstance(value, dict):
            yield from _pairs(cast("dict[str, Any]", value), f"{prefix}{name}.")
        elif isinstance(value, list):
            items = cast("list[Any]", value)
            if not any(isinstance(item, dict) for item in items):
                yield f"{prefix}{name}", ", ".join(_shown(item) for item in items)
        else:
            yield f"{prefix}{name}", _shown(value)


def _tables(values: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for name, value in values.items():
        if name not in _HIDDEN and isinstance(value, list):
            items = cast("list[Any]", value)
            rows = [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]
            if rows:
                yield name, rows


def as_text(result: ToolResult) -> str:
    """Return a result as plain text for the terminal (no colours, no box drawing)."""
    values = result.model_dump(mode="json")
    lines = [_wrapped(result.summary(), "", ""), ""]
    pairs = list(_pairs(values))
    width = max((len(name) for name, _ in pairs), default=0)
    lines.extend(_wrapped(text, f"  {name:<{width}}  ", " " * (width + 4)) for name, text in pairs)
    for name, rows in _tables(values):
        lines.extend(["", f"  {name} ({len(rows)}):"])
        for row in rows[:_ROWS]:
            cells = "  ".join(f"{key}: {text}" for key, text in _pairs(row))
            lines.append(_wrapped(cells, "    - ", "      "))
        if len(rows) > _ROWS:
            lines.append(f"    … {len(rows) - _ROWS} more; --json prints all")
    if result.next:
        lines.extend(["", "  next:"])
        for call in result.next:
            lines.extend([f"    {command_line(call)}", _wrapped(call.why, "      ", "      ")])
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"
