"""The closed list of finding codes, with those of the file, its encoding and its JSON in full.

Each says what it means, gives an example, and the fix. Codes of the rows: ``codes_rows``.
"""

from __future__ import annotations

from typing import Final

from finetuning.data_prep.validate.codes_rows import ROW_CODES
from finetuning.files import READER_CODES, Code
from finetuning.records import Finding, Severity

_RESAVE: Final = "Save the file as UTF-8 without byte-order mark"
_REWRITE: Final = "Write each row with a JSON library, one row a line"

FILE_CODES: Final[dict[str, Code]] = {
    **READER_CODES,
    "empty_file": Code("error", "The file holds no rows.", "0 bytes", "Check how it was exported"),
    "binary_file": Code(
        "error",
        "The file is not text.",
        "an Excel workbook named .jsonl",
        "Export it as JSON Lines in UTF-8",
    ),
    "compressed_file": Code(
        "error",
        "The file is compressed; providers read plain JSON Lines.",
        "train.jsonl that is really gzip",
        "Unpack it, for example: gunzip -c IN > OUT.jsonl",
    ),
    "utf16": Code("error", "The file is UTF-16 or UTF-32.", "Windows 'Unicode' text", _RESAVE),
    "damaged_file": Code(
        "error",
        "A compressed or UTF-16 file breaks off; the rows after this place were not read.",
        "a download that stopped half-way",
        "Make or download the file again",
    ),
    "utf8_bom": Code(
        "warning",
        "A byte-order mark stands before a row; strict JSON readers refuse it.",
        '\\ufeff{"messages": …}',
        _RESAVE,
    ),
    "bom_missing": Code(
        "warning",
        "Azure asks for UTF-8 with a byte-order mark.",
        '{"messages": …} at byte 0',
        "Save the file as UTF-8 with BOM, for example with Python's encoding utf-8-sig",
    ),
    "cr_line_ends": Code(
        "error",
        "Lines end in a lone carriage return, so other readers see one long line.",
        "{…}\\r{…}\\r",
        "Convert the line ends, for example: tr '\\r' '\\n' < IN > OUT",
    ),
    "unicode_line_end": Code(
        "warning",
        "The line holds a raw U+2028, U+2029 or U+0085, at which some readers break it.",
        "a paragraph separator pasted from a web page",
        "Replace it by a space or by \\n",
    ),
    "blank_line": Code("warning", "The line is blank.", "two line ends in a row", "Remove it"),
    "array_wrapped": Code(
        "error",
        "The file is one JSON array instead of one object per line.",
        "[{…}, {…}]",
        "Convert it, for example: jq -c '.[]' IN > OUT.jsonl",
    ),
    "pretty_printed": Code(
        "error",
        "Rows are spread over several lines.",
        '{\\n  "messages": …',
        "Convert it, for example: jq -c . IN > OUT.jsonl",
    ),
    "mixed_formats": Code(
        "error",
        "Some rows of the file have the shape of another format.",
        '{"messages": …} and {"text": …} in one file',
        "Split the file by format, or convert it with prepare_data",
    ),
    "file_name": Code(
        "error",
        "The provider refuses a file of this name.",
        "train data.json",
        "Name it with letters, digits, _ - . only and the ending .jsonl",
    ),
    "too_few_rows": Code(
        "error",
        "The file has fewer rows than the provider accepts.",
        "9 rows for openai_chat",
        "Add rows",
    ),
    "few_rows": Code(
        "warning",
        "The file has fewer rows than the provider advises.",
        "20 rows for openai_chat",
        "Add rows, or compare with the untuned model before you pay",
    ),
    "too_many_rows": Code(
        "error",
        "The file has more rows than the provider accepts.",
        "20,001 rows for bedrock_converse",
        "Keep the best rows, or split the job",
    ),
    "file_too_large": Code(
        "error",
        "The file is larger than the provider accepts.",
        "600 MB for openai_chat",
        "Keep fewer rows, or split the job",
    ),
    "service_closed": Code(
        "warning",
        "The service behind this target takes no new training jobs.",
        "mistral_chat",
        "Choose another target, for example trl_messages",
    ),
    "overlong_utf8": Code(
        "error", "A character is written with too many bytes.", "C0 AF for '/'", _RESAVE
    ),
    "cesu8": Code(
        "error",
        "A character is written as two 3-byte surrogates (CESU-8).",
        "ED A0 BD ED B8 80 for an emoji",
        "Export again as UTF-8; MySQL needs utf8mb4",
    ),
    "nan_literal": Code(
        "error", "NaN or Infinity, which JSON does not have.", '{"weight": NaN}', "Write null"
    ),
    "duplicate_key": Code(
        "error",
        "A key stands twice in one object; readers keep only one of them.",
        '{"role": "user", "role": "assistant"}',
        "Keep one of the two",
    ),
    "lone_surrogate": Code(
        "error",
        "Half of a surrogate pair, which no UTF-8 text can hold.",
        '"\\\\ud83d"',
        "Cut texts between characters, not inside an emoji",
    ),
    "several_objects": Code(
        "error", "More than one value on a line.", '{"a": 1}{"b": 2}', _REWRITE
    ),
    "truncated_json": Code(
        "error", "The row breaks off.", '{"messages": [{"role": ', "Export the row again"
    ),
    "single_quotes": Code(
        "error", "Python or JavaScript quotes.", "{'role': 'user'}", "Use json.dumps, not str()"
    ),
    "python_literal": Code(
        "error", "None, True or False.", '{"weight": None}', "Use json.dumps, not str()"
    ),
    "json_comment": Code("error", "A comment.", '{"a": 1} // note', "Remove it"),
    "trailing_comma": Code("error", "A comma before the end.", '{"a": 1,}', "Remove the comma"),
    "control_character": Code(
        "error",
        "A raw control character inside a JSON string.",
        "a tab typed into a text",
        "Write it as an escape; a JSON library does",
    ),
    "too_deep": Code("error", "Nested too deeply to be read.", "[[[[…]]]]", "Flatten the row"),
    "number_too_large": Code(
        "error", "A number that does not fit a double.", '{"id": 1e999}', "Write it as a string"
    ),
}

CODES: Final[dict[str, Code]] = FILE_CODES | ROW_CODES
"""Every code that ``validate_jsonl`` and the readers can return, in the order of the docs.

The severity is the usual one; a target whose provider is stricter or laxer sets its own.
"""


def finding(
    code: str,
    message: str,
    *,
    line: int | None = None,
    field: str | None = None,
    severity: Severity | None = None,
) -> Finding:
    """Return a finding of the closed list, with the list's severity and fix."""
    entry = CODES[code]
    return Finding(
        line=line,
        field=field,
        code=code,
        severity=severity or entry.severity,
        message=message,
        fix=entry.fix,
    )
