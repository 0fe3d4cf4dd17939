"""The report of a preparation: counts in Markdown, no text of any row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from finetuning.data_prep.convert import NOTES
from finetuning.data_prep.prepared import PreparedData


def _table(headers: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    lines = ["| " + " | ".join(headers) + " |", "|" + " --- |" * len(headers)]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows] + [""]


def _counts(title: str, word: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    return [f"## {title}", "", *_table((word, "rows"), counts.items())]


def markdown(result: PreparedData, sources: Iterable[str]) -> str:
    """Return the report of a result."""
    rows, split = result.rows, result.split
    lines = ["# Prepared data", "", f"Target: {result.target}", ""]
    lines += ["Sources:", "", *(f"- {source}" for source in sources), ""]
    lines += ["## Rows", "", *_table(("what", "rows"), rows.model_dump().items())]
    lines += [
        "read = train + validation + test - replay - canaries + rejected + both kinds of "
        "duplicates.",
        "",
    ]
    lines += _counts("Left out, by reason", "reason", result.reasons)
    if result.repairs:
        lines += ["## Changed to fit the target", ""]
        table = [(code, count, NOTES[code]) for code, count in result.repairs.items()]
        lines += _table(("what", "rows", "meaning"), table)
    lines += _counts("Personal data replaced, by type", "type", result.redacted_types)
    lines += ["## Split", "", f"Method: {split.method}. {split.why}.", ""]
    shares = ", ".join(f"{share:.3f}" for share in split.shares)
    lines += [f"Shares of train, validation, test: {shares}; folds: {split.folds or 'none'}.", ""]
    seen = result.smallest_detectable_difference
    if seen is not None:
        lines += [f"The test part can show a difference of {seen:.3f} or more.", ""]
    leakage = result.leakage
    lines += [
        f"Held-out rows with a twin in train: {leakage.exact} exact, {leakage.near} near.",
        "",
        f"Largest clusters of near copies: {result.largest_clusters or 'none'}.",
        "",
    ]
    lines += _counts("Findings of the target's validator", "code", result.validation.counts)
    lines += [f"- {finding.code}: {finding.message}. {finding.fix}." for finding in result.findings]
    return "\n".join([*lines, f"Digest of the data: {result.data_sha256}", ""])
