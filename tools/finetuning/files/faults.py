"""Faults that a reader can meet: the part of the closed list of codes that belongs to files.

``finetuning.data_prep.validate.CODES`` holds these and the ones of the validator.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from finetuning.records import Finding, Severity


class Code(NamedTuple):
    """One entry of the closed list of fault codes.

    Attributes:
        severity: ``error`` where a provider or trainer rejects it, else ``warning``.
        meaning: What is wrong, in one sentence.
        example: A short row or fragment that has the fault.
        fix: What mends it.
    """

    severity: Severity
    meaning: str
    example: str
    fix: str


READER_CODES: Final[dict[str, Code]] = {
    "invalid_utf8": Code(
        "error",
        "The line holds bytes that are not UTF-8.",
        '{"text": "caf\\xe9"} saved as Latin-1',
        "Save the file as UTF-8, for example: iconv -f latin1 -t utf-8 IN > OUT",
    ),
    "json_invalid": Code(
        "error",
        "The line is not valid JSON.",
        '{"text": "a" "b"}',
        "Write the row with a JSON library instead of by hand",
    ),
    "not_object": Code(
        "error",
        "The row is valid JSON but not an object.",
        '["a", "b"]',
        "Make each row an object, {…}",
    ),
    "line_too_long": Code(
        "error",
        "One line is longer than 160 MiB, more than ten base64 images of 10 MB.",
        "a whole data set without line ends",
        "Put each row on a line of its own",
    ),
    "nul_character": Code(
        "error",
        "The row holds a NUL byte.",
        "abc\\x00def",
        "Remove the NUL bytes, for example: tr -d '\\000' < IN > OUT",
    ),
    "csv_quotes": Code(
        "error",
        "A quoted field is not closed, or text follows its closing quote.",
        '"a" b,c',
        "Double every quote inside a quoted field, or export the table again",
    ),
    "column_count": Code(
        "error",
        "The row has more or fewer fields than the header.",
        "a,b,c under the header x,y",
        "Quote fields that hold the separator or a line end",
    ),
    "array_broken": Code(
        "error",
        "The JSON array breaks off or is malformed; the rows after this place were not read.",
        '[{"text": "a"}, {"text": ',
        "Repair the file at this row, or save it as JSON Lines",
    ),
    "empty_text_file": Code(
        "warning",
        "A file of the folder holds no text.",
        "an empty notes.md",
        "Remove the file or fill it",
    ),
}


def fault(code: str, *, line: int | None, message: str, field: str | None = None) -> Finding:
    """Return the finding of a reader's code at one place of the file."""
    entry = READER_CODES[code]
    return Finding(
        line=line,
        field=field,
        code=code,
        severity=entry.severity,
        message=message,
        fix=entry.fix,
    )
