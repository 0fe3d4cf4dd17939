"""Limits of the file as a whole: its name, bytes and rows, and the length of its rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

from finetuning.data_prep.target_shape import Target
from finetuning.data_prep.validate.codes import finding
from finetuning.records import Finding

_BEDROCK_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")

_OPENAI_TARGETS: Final = frozenset({"openai_chat", "openai_preference", "azure_chat"})
_ROW_TOKENS_4O: Final = 65_536
"""Training context of gpt-4o and gpt-4o-mini: OpenAI's model pages (checked 2026-08-21)."""


class Limits(NamedTuple):
    """Limits that hold for one call, after the model has had its say."""

    min_rows: int | None
    advised_rows: int | None
    max_rows: int | None
    max_bytes: int | None
    row_tokens: int | None
    long_row_fails: bool


def limits_for(target: Target, model: str | None) -> Limits:
    """Return the limits of a target, changed where the model is known to differ.

    Llama 3.x on Bedrock: 100 to 10,000 rows of 16,000 tokens (90B: 10,000); OpenAI's 4o family:
    65,536 tokens. Sources: ``targets.TARGETS`` (checked 2026-11-20).
    """
    name = (model or "").lower()
    limits = Limits(
        target.min_rows,
        target.advised_rows,
        target.max_rows,
        target.max_bytes,
        target.max_row_tokens,
        target.long_row == "fails",
    )
    if target.name == "bedrock_converse" and "llama" in name:
        tokens = 10_000 if "90b" in name else 16_000
        return limits._replace(min_rows=100, max_rows=10_000, row_tokens=tokens)
    if target.name in _OPENAI_TARGETS and "gpt-4o" in name:
        return limits._replace(row_tokens=_ROW_TOKENS_4O)
    return limits


def check_before(path: Path, size: int, target: Target, limits: Limits) -> list[Finding]:
    """Return what can be said before the first row is read."""
    found: list[Finding] = []
    if target.closed:
        found.append(finding("service_closed", target.closed))
    if target.name.startswith("fireworks") and path.suffix != ".jsonl":
        found.append(finding("file_name", "the name does not end in .jsonl"))
    if target.name.startswith("bedrock") and not _BEDROCK_NAME.fullmatch(path.name):
        found.append(finding("file_name", "the name has other signs than letters, digits, _ - ."))
    if limits.max_bytes is not None and size > limits.max_bytes:
        message = f"{size} bytes; at most {limits.max_bytes}"
        found.append(finding("file_too_large", message))
    return found


def check_after(n_rows: int, limits: Limits) -> list[Finding]:
    """Return what can be said once all rows are counted."""
    least, advised, most = limits.min_rows, limits.advised_rows, limits.max_rows
    if least is not None and n_rows < least:
        return [finding("too_few_rows", f"{n_rows} rows; at least {least}")]
    if advised is not None and n_rows < advised:
        return [finding("few_rows", f"{n_rows} rows; {advised} or more are advised")]
    if most is not None and n_rows > most:
        return [finding("too_many_rows", f"{n_rows} rows; at most {most}")]
    return []


def check_length(line: int, tokens: int, limits: Limits, *, exact: bool) -> Finding | None:
    """Return a finding for a row over the model's limit.

    A count that is not exact fails a row only if it is over the limit by its whole band.
    """
    limit = limits.row_tokens
    if limit is None or tokens <= limit:
        return None
    sure = exact or tokens * 0.7 > limit
    return finding(
        "tokens_over_limit",
        f"{'' if exact else 'about '}{tokens} tokens; the limit is {limit}",
        line=line,
        severity="error" if limits.long_row_fails and sure else "warning",
    )
