"""What is said of a result: the report for a person, facts for other tools, the next calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from finetuning.data_prep.convert import NOTES
from finetuning.data_prep.convert.codes import HOLDS
from finetuning.data_prep.duplicates import Rows
from finetuning.data_prep.preparation.cleaning import Cleaned
from finetuning.data_prep.preparation.options import Options
from finetuning.data_prep.preparation.table import Table
from finetuning.data_prep.results import PARTS, PreparedData
from finetuning.files import atomic_write
from finetuning.records import Json, NextCall
from finetuning.settings import settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TRAINED_HERE: Final = {"trl_messages", "trl_prompt_completion"}
"""Targets whose rows the training on this machine reads."""

_SMALL_BASE: Final = "Qwen/Qwen3-0.6B"
"""A base model whose shape ``estimate`` knows, so that a plan can be made before a download."""


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


def fit_facts(result: PreparedData, table: Table, cleaned: Cleaned) -> dict[str, Json]:
    """Return the facts of the rows that stay (general rows and canaries not counted)."""
    n_rows = len(cleaned.kept)
    held_out = result.rows.validation + result.rows.test
    facts: dict[str, Json] = {"n_examples": n_rows, "split_method": result.split.method}
    if held_out:
        twins = result.leakage.exact + result.leakage.near
        facts["near_duplicate_test_fraction"] = round(twins / held_out, 4)
    if n_rows:
        facts["label_conflict_fraction"] = round(_conflicts(cleaned.rows), 4)
    form = HOLDS[result.target].form
    if form == "preference":
        facts["n_preference_pairs"] = n_rows
    if form == "binary":
        facts["n_binary_feedback"] = n_rows
    cells = table.cells.get("label")
    kept: list[int] = cleaned.kept.tolist()
    labels = {cells[row] for row in kept} - {None} if cells else set[str | None]()
    if labels:
        facts["n_classes"] = len(labels)
    return facts


def _conflicts(rows: Rows) -> float:
    """Return the share of rows whose prompt has another answer in another row, 0..1."""
    import numpy as np

    order = np.lexsort((rows.answered, rows.asked))
    asked, answered = rows.asked[order], rows.answered[order]
    new = np.concatenate([[True], asked[1:] != asked[:-1]])
    prompt = np.cumsum(new) - 1
    other = np.concatenate([[False], (answered[1:] != answered[:-1]) & ~new[1:]])
    clashing = np.bincount(prompt, weights=other) > 0
    return float(clashing[prompt].mean())


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
        ),
        NextCall(
            tool="assess_fit",
            args={"facts": facts},
            why="says whether these rows speak for fine-tuning",
        ),
    ]
    if result.target in _TRAINED_HERE:
        base, folder = _base_model(), str(Path(train).parent)
        calls.append(
            NextCall(
                tool="configure_training",
                args={"base_model": base, "data": folder},
                why="plans the training here; name the base model that you want to train",
            )
        )
    elif options.redact == "none":
        calls.append(
            NextCall(
                tool="scan_pii",
                args={"path": train},
                why="nothing was redacted; look for personal data before the rows leave",
            )
        )
    return calls


def _base_model() -> str:
    """Return the name of a base model on this machine, else of a small public one."""
    bases = settings().bases.glob("*/config.json")
    return min((path.parent.name for path in bases), default=_SMALL_BASE)


def write_review(
    folder: Path, table: Table, kept: NDArray[Any], parts: NDArray[Any], options: Options
) -> None:
    """Write ``review.html``, a sample of the rows for a person to look at."""
    import numpy as np

    from finetuning.data_prep.review import ReviewSampler

    sampler = ReviewSampler(options.review_sample, seed=options.seed)
    numbers: list[int] = parts.tolist()
    part_of: dict[int, int] = dict(zip(kept.tolist(), numbers, strict=True))
    labels = table.cells.get("label")
    chosen = np.zeros(len(table), dtype=bool)
    chosen[kept] = True
    for row, raw in table.raws(chosen):
        source, line = table.place(row)
        sampler.add(
            raw[:-1],
            source=source,
            line=line,
            part=PARTS[part_of[row]],
            notes=(*table.notes.get(row, ()), *table.warnings.get(row, ())),
            label=labels[row] if labels else None,
        )
    sampler.write(folder / "review.html", target=options.target)


def write_signatures(path: Path, table: Table, cleaned: Cleaned) -> None:
    """Write the MinHash signature and band keys of every row, so that any engine can cluster."""
    import numpy as np
    import polars as pl

    from finetuning.data_prep.duplicates.candidates import band_keys, n_bands, sign
    from finetuning.data_prep.duplicates.rows import Template

    rows = cleaned.rows
    template = Template(rows.words, np.empty(0, dtype=np.int64))
    signatures = sign(rows.words, template.constant)
    bands = [band_keys(signatures, rows.key, band) for band in range(n_bands(len(rows)))]
    places = [table.place(row) for row in cleaned.kept.tolist()]
    frame = pl.DataFrame(
        {
            "source": [place.source for place in places],
            "line": [place.line for place in places],
            "signature": pl.Series(signatures.tolist(), dtype=pl.List(pl.UInt32)),
            "bands": pl.Series(np.stack(bands, axis=1).tolist(), dtype=pl.List(pl.UInt64)),
        }
    )
    with atomic_write(path, binary=True) as stream:
        frame.write_parquet(stream)
