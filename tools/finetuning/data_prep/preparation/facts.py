"""What a preparation measured, in the names that ``assess_fit`` knows, and what comes next."""

from __future__ import annotations

from collections.abc import Sequence

from finetuning.data_prep.convert.codes import HOLDS
from finetuning.data_prep.measures import answer_conflicts
from finetuning.data_prep.preparation.items import Item
from finetuning.data_prep.preparation.options import Options
from finetuning.data_prep.prepared import PreparedData
from finetuning.records import Json, NextCall


def fit_facts(result: PreparedData, items: Sequence[Item]) -> dict[str, Json]:
    """Return the facts of the rows that stay (general rows and canaries not counted)."""
    held_out = result.rows.validation + result.rows.test
    facts: dict[str, Json] = {"n_examples": len(items), "split_method": result.split.method}
    if held_out:
        twins = result.leakage.exact + result.leakage.near
        facts["near_duplicate_test_fraction"] = round(twins / held_out, 4)
    if items:
        conflicts = answer_conflicts([item.content for item in items])
        facts["label_conflict_fraction"] = round(conflicts, 4)
    form = HOLDS[result.target].form
    if form == "preference":
        facts["n_preference_pairs"] = len(items)
    if form == "binary":
        facts["n_binary_feedback"] = len(items)
    labels = {item.example.label for item in items if item.example.label is not None}
    if labels:
        facts["n_classes"] = len(labels)
    return facts


def next_calls(result: PreparedData, options: Options, facts: dict[str, Json]) -> list[NextCall]:
    """Return the calls that make sense after a preparation."""
    if not result.rows.train:
        return [
            NextCall(
                tool="inspect_data",
                args={"path": options.sources[0]},
                why="no row could be used; it says what the file holds and which columns to name",
            )
        ]
    train = result.files["train"]
    calls = [
        NextCall(
            tool="validate_jsonl",
            args={"path": train, "target": result.target},
            why="checks the rows against the provider's rules and counts their tokens",
        )
    ]
    if options.redact == "none":
        calls.append(
            NextCall(
                tool="scan_pii",
                args={"path": train},
                why="nothing was redacted; it looks for personal data and secrets",
            )
        )
    calls.append(
        NextCall(
            tool="assess_fit",
            args={"facts": facts},
            why="says whether these rows speak for fine-tuning",
        )
    )
    return calls
