"""Findings about a set of rows as a whole: a closed list, each with what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from finetuning.data_prep.convert import CONVERT_CODES
from finetuning.data_prep.validate import CODES
from finetuning.files import Code
from finetuning.records import Finding

QUALITY_CODES: Final[dict[str, Code]] = {
    "contradictory_answers": Code(
        "warning",
        "The same prompt has different answers in different rows.",
        "one question, two labels",
        "Decide which answer is right; the model can only learn their mixture",
    ),
    "copies": Code(
        "warning",
        "More than a tenth of the rows are exact or near copies of others.",
        "1,000 rows, 150 of them copies",
        "Let prepare_data leave them out; copies weigh more and leak into the test part",
    ),
    "class_imbalance": Code(
        "warning",
        "The commonest answer is more than ten times as frequent as the rarest.",
        "900 yes, 30 no",
        "Collect more rows of the rare answers, and score with a measure that counts classes alike",
    ),
    "language_mix": Code(
        "warning",
        "More than a tenth of the rows are in another language than most.",
        "800 rows in English, 200 in German",
        "Check that this is meant; split or label by language if it is not",
    ),
    "long_outliers": Code(
        "warning",
        "Some rows are more than ten times as long as the median and over 1,000 tokens.",
        "a pasted log among short questions",
        "Look at the longest rows; trainers cut what is beyond max_length",
    ),
    "personal_data": Code(
        "warning",
        "The rows hold personal data or secrets.",
        "an address in a question",
        "Pass redact=mask or redact=pseudonym, and read compliance.md",
    ),
    "several_shapes": Code(
        "warning",
        "The rows have more than one shape.",
        "chats and prompt/completion pairs in one file",
        "prepare_data brings them into one; check that they belong together",
    ),
    "replay_short": Code(
        "warning",
        "There are fewer general rows than the share asked for needs.",
        "fraction 0.25 of 1,000 rows, and 100 general rows",
        "Give a larger file of general rows, or ask for a smaller fraction",
    ),
}
"""Codes of inspect_data and prepare_data that speak of many rows at once."""

_ALL: Final = CODES | CONVERT_CODES | QUALITY_CODES


def quality_finding(code: str, message: str, *, line: int | None = None) -> Finding:
    """Return a finding of one of the closed lists."""
    entry = _ALL[code]
    return Finding(line=line, code=code, severity=entry.severity, message=message, fix=entry.fix)


def rows_finding(code: str, lines: Sequence[int | None]) -> Finding:
    """Return one finding for all the rows that have the same fault."""
    first = next((line for line in lines if line is not None), None)
    rows = "row" if len(lines) == 1 else "rows"
    where = f", the first at line {first}" if first is not None and len(lines) > 1 else ""
    return quality_finding(code, f"{len(lines)} {rows}{where}", line=first)
