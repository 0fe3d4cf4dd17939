"""The tool ``inspect_data``: what a raw file holds, and the call that prepares it."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from finetuning.data_prep.targets import TargetName
from finetuning.records import Finding, Json, Model, NextCall, ToolResult
from finetuning.tokens import TokenStats

_WHERE: Final = "inspect_data"


class DuplicateCounts(Model):
    """Copies in the file (rows that could go)."""

    exact: int = Field(description="Rows that repeat another but for white space.")
    near: int = Field(description="Further rows whose words repeat another's, Jaccard .5 or more.")


class DataInspection(ToolResult):
    """What was measured; no text of any row."""

    format: str = Field(description="csv, tsv, json, jsonl, parquet, text_folder or prepared.")
    shape: str = Field(description="Commonest shape of the rows, or table, turns or unknown.")
    n_rows: int = Field(description="Rows in the file, faulty ones included.")
    n_examples: int = Field(description="Rows or conversations that could be read as examples.")
    columns: list[str]
    tokens: TokenStats = Field(description="Per example of the suggested target.")
    duplicates: DuplicateCounts
    label_conflict_fraction: float = Field(
        description="Share of examples whose prompt has another answer elsewhere, 0..1."
    )
    label_agreement: float | None = Field(
        description="How often two annotators agree, 0..1; None without several annotators."
    )
    n_classes: int | None = Field(description="Different answers, where they look like classes.")
    languages: dict[str, int] = Field(description="Examples by language (a rough guess).")
    pii: dict[str, int] = Field(description="Personal data and secrets by type.")
    empty: int = Field(description="Rows without a prompt or without an answer.")
    quality_findings: list[Finding]
    suggested_target: TargetName | None = Field(description="None: the columns must be named.")
    suggested_args: dict[str, Json] = Field(description="Arguments of prepare_data, as they are.")

    def exit_code(self) -> int:
        """Return 0: a measurement has no wrong answer."""
        return 0

    def summary(self) -> str:
        """Say how much there is and what is wrong with it."""
        found = ", ".join(f"{item.code}" for item in self.quality_findings[:5]) or "none"
        return (
            f"{self.format}: {self.n_rows} rows, {self.n_examples} examples, "
            f"{self.tokens.total} tokens; duplicates {self.duplicates.exact} exact and "
            f"{self.duplicates.near} near; findings: {found}; "
            f"suggested target: {self.suggested_target or 'none'}"
        )


def inspect_data(path: str) -> DataInspection:
    """Measure a raw data file and propose the call that prepares it.

    Nothing is changed and no text is shown: rows, columns, tokens, duplicates, contradictory
    answers, languages, personal data by type, and faults by code and line. The suggested
    arguments can be passed to prepare_data as they are.

    Args:
        path: Data file of any input shape, text folder, or folder that prepare_data wrote.
    """
    from finetuning.data_prep.measuring import measure
    from finetuning.data_prep.suggesting import fit_facts, suggest
    from finetuning.data_prep.survey import survey_source

    path = str(path)
    survey = survey_source(path, where=_WHERE)
    measured = measure(survey)
    target, arguments = suggest(path, survey, measured)
    follow = NextCall(
        tool="prepare_data", args=arguments, why="converts, cleans and splits these rows"
    )
    return DataInspection(
        format=survey.format,
        shape=survey.shape,
        n_rows=survey.n_rows,
        n_examples=len(measured.items),
        columns=survey.names,
        tokens=measured.tokens,
        duplicates=DuplicateCounts(exact=measured.exact, near=measured.near),
        label_conflict_fraction=measured.conflicts,
        label_agreement=measured.agreement,
        n_classes=measured.n_classes,
        languages=measured.languages,
        pii=measured.personal_data,
        empty=measured.empty,
        quality_findings=measured.findings,
        suggested_target=target,
        suggested_args=arguments,
        next=[follow] if target else [],
        fit_facts=fit_facts(survey, measured),
    )
