"""The steps of ``prepare_data``: gather, clean, split, write, report.

Here: what a person asked for, checked; how large the parts of a split are; the report.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from finetuning.data_prep import Engine, ExamplesMode, PreparedData, RedactChoice, Replay
from finetuning.data_prep.convert import Columns
from finetuning.data_prep.targets import TargetName, find_target
from finetuning.errors import BadInputError, UnknownNameError, require

WHERE: Final = "prepare_data"

ROLES: Final = ("system", "user", "assistant", "tool")
USUAL: Final = (0.8, 0.1, 0.1)
FEWEST_TEST_ROWS: Final = 160
"""So many rows see a difference of 10 points between two models (paired, 20 % discordance)."""
MOST_TEST_ROWS: Final = 2_000
"""So many rows see 3 points; more cost evaluation time and training rows for little."""
LARGEST_TEST_SHARE: Final = 0.25
"""Where 160 test rows would be more than this share, folds use the rows better."""
DEFAULT_FOLDS: Final = 5
VALIDATION_OF_REST: Final = 0.1
"""Share of a fold's remaining rows that becomes its validation part."""

_STEP: Final = 0.025
"""Shares between the usual and the largest go in steps, so that a few new rows change none."""

_FOLDS: Final = re.compile(r"kfold:(\d{1,4})")


@dataclass(frozen=True, slots=True)
class Sizes:
    """The parts of a split: shares of train, validation and test, or a number of folds."""

    shares: tuple[float, float, float]
    folds: int | None
    why: str


def _auto(n_rows: int, n_units: int, *, foldable: bool) -> Sizes:
    """Size the test part by the difference it must see."""
    if n_units < len(USUAL):
        return Sizes((1.0, 0.0, 0.0), None, f"{n_units} rows that differ leave none to hold out")
    usual_test = n_rows * USUAL[2]
    if FEWEST_TEST_ROWS <= usual_test <= MOST_TEST_ROWS:
        why = f"80/10/10 gives {FEWEST_TEST_ROWS} to {MOST_TEST_ROWS} test rows"
        return Sizes(USUAL, None, why)
    if usual_test > MOST_TEST_ROWS:
        share = 1 / math.ceil(n_rows / MOST_TEST_ROWS)
        why = f"about {MOST_TEST_ROWS} test rows see 3 points, so the rest goes to training"
        return Sizes((1 - 2 * share, share, share), None, why)
    if n_rows * LARGEST_TEST_SHARE >= FEWEST_TEST_ROWS or not foldable:
        share = math.ceil(FEWEST_TEST_ROWS / n_rows / _STEP - 1e-9) * _STEP
        share = min(share, LARGEST_TEST_SHARE)
        why = f"about {FEWEST_TEST_ROWS} test rows are needed to see a difference of 10 points"
        return Sizes((1 - share - USUAL[1], USUAL[1], share), None, why)
    why = (
        f"{n_rows} rows are too few for {FEWEST_TEST_ROWS} test rows beside training, so "
        f"{min(DEFAULT_FOLDS, n_units)} folds take turns: together they test every row"
    )
    return _folds(min(DEFAULT_FOLDS, n_units), why)


def _folds(count: int, why: str) -> Sizes:
    test = 1 / count
    validation = (1 - test) * VALIDATION_OF_REST
    return Sizes((1 - test - validation, validation, test), count, why)


def _asked_folds(count: int, n_units: int, *, where: str, foldable: bool) -> Sizes:
    if not foldable:
        raise BadInputError(
            where,
            f"split='kfold:{count}' with a time_column",
            "auto or three shares where rows are split by time",
            "Leave time_column or split out",
        )
    if not 2 <= count <= n_units:
        raise BadInputError(
            where,
            f"split='kfold:{count}' of {n_units} clusters of rows",
            "2 folds or more, and at least one cluster per fold",
            "Pass split=auto",
        )
    return _folds(count, "the folds asked for")


def _given(shares: Sequence[float], *, where: str) -> Sizes:
    if len(shares) != 3 or min(shares) < 0 or not abs(sum(shares) - 1) <= 1e-6 or shares[0] == 0:
        raise BadInputError(
            where,
            f"split={list(shares)}",
            "three shares 0..1 of train, validation and test that add up to 1, train above 0",
            "Pass split=[0.8,0.1,0.1]",
        )
    train, validation, test = shares
    return Sizes((train, validation, test), None, "the shares asked for")


def sizes_for(
    split: str | Sequence[float], n_rows: int, n_units: int, *, where: str, foldable: bool = True
) -> Sizes:
    """Return the parts of a split.

    Args:
        split: ``auto``, three shares (a list, or a text such as ``0.8,0.1,0.1``) or ``kfold:K``.
        n_rows: Rows to split.
        n_units: Clusters or groups that they form; a unit stays in one part.
        where: Name of the argument, for the error text.
        foldable: Folds may be made; not where rows are split by time.

    Raises:
        BadInputError: It is none of these, or K does not fit.
    """
    if not isinstance(split, str):
        return _given(split, where=where)
    if split == "auto":
        return _auto(n_rows, n_units, foldable=foldable)
    if found := _FOLDS.fullmatch(split):
        return _asked_folds(int(found[1]), n_units, where=where, foldable=foldable)
    try:
        return _given([float(part) for part in split.strip("[] ").split(",")], where=where)
    except ValueError as error:
        if isinstance(error, BadInputError):
            raise
        raise BadInputError(
            where,
            f"split={split[:40]!r}",
            "auto, three shares such as [0.8,0.1,0.1], or kfold:K with K of at least 2",
            "Pass split=auto",
        ) from error


@dataclass(frozen=True, slots=True)
class Options:
    """The arguments of ``prepare_data`` after checking; paths are resolved later."""

    sources: tuple[str, ...]
    target: TargetName
    columns: Columns
    examples: ExamplesMode
    near_duplicates: bool
    semantic_duplicates: bool
    near_threshold: float
    redact: RedactChoice
    split: str | Sequence[float]
    exclude: tuple[str, ...]
    signatures_file: str | None
    replay: Replay | None
    canaries: int
    review_sample: int
    reviews_file: str | None
    engine: Engine
    force: bool
    seed: int
    turn_table: bool = False

    @property
    def by_time(self) -> bool:
        """Rows are split by time; in a table of turns the times only order the turns."""
        turns = self.turn_table or self.columns.conversation is not None
        return self.columns.time is not None and not turns


def check_options(options: Options) -> Options:
    """Return the options if every value can be used.

    Raises:
        BadInputError: A number is out of range, or there are no sources.
        UnknownNameError: The target, a mode or a role is not known.
        MissingExtraError: The engine or the semantic search needs a package that is missing.
    """
    find_target(options.target, where=f"{WHERE}: target")
    _known("examples", options.examples, ("per_conversation", "per_reply"))
    _known("engine", options.engine, ("local", "daft"))
    if options.engine == "daft":
        require("daft", feature=f"{WHERE}: engine=daft", extra="scale")
    if options.semantic_duplicates:
        require("semhash", feature=f"{WHERE}: semantic_duplicates=true", extra="semantic")
    _known("redact", options.redact, ("none", "mask", "pseudonym"))
    for role in options.columns.role_map.values():
        _known("role_map", role, ROLES)
    if not options.sources:
        raise BadInputError(
            f"{WHERE}: sources", "the list is empty", "at least one file", "Name the data file"
        )
    if len(set(options.sources)) < len(options.sources):
        raise BadInputError(
            f"{WHERE}: sources",
            "a file is named twice",
            "each file once",
            "Leave the second one out",
        )
    if not 0 < options.near_threshold <= 1:
        raise BadInputError(
            f"{WHERE}: near_threshold",
            f"the value is {options.near_threshold}",
            "a Jaccard similarity above 0 and up to 1",
            "Leave it out to use 0.5",
        )
    for name, value, most in (
        ("canaries", options.canaries, 10_000),
        ("review_sample", options.review_sample, 2_000),
        ("seed", options.seed, 2**63),
    ):
        if not 0 <= value <= most:
            raise BadInputError(
                f"{WHERE}: {name}", f"the value is {value}", f"0..{most}", "Leave it out to use 0"
            )
    foldable = not options.by_time
    sizes_for(options.split, 1_000_000, 1_000_000, where=f"{WHERE}: split", foldable=foldable)
    return options


def _known(argument: str, value: str, values: Sequence[str]) -> None:
    if value not in values:
        raise UnknownNameError(f"{WHERE}: {argument}", "value", str(value)[:80], values)


def read_replay(value: object) -> Replay | None:
    """Return the replay argument as a model; the library takes a plain dict, too.

    Raises:
        BadInputError: A key is missing or unknown, or the fraction is out of range.
    """
    if value is None or isinstance(value, Replay):
        return value
    try:
        return Replay.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        percent = first["type"] == "less_than" and 1 < first["input"] <= 100
        raise BadInputError(
            f"{WHERE}: replay",
            f"{place}: {first['msg']}",
            "an object with path and fraction, a share from 0 to below 1",
            f"Pass fraction={first['input'] / 100:g}"
            if percent
            else 'Pass replay={"path": "general.jsonl", "fraction": 0.05}',
        ) from None


def _table(headers: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    lines = ["| " + " | ".join(headers) + " |", "|" + " --- |" * len(headers)]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows] + [""]


def _counts(title: str, word: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    return [f"## {title}", "", *_table((word, "rows"), counts.items())]


def markdown(result: PreparedData, sources: Iterable[str], notes: Mapping[str, str]) -> str:
    """Return the report of a result, for a person; ``notes`` says what each repair means."""
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
        table = [(code, count, notes[code]) for code, count in result.repairs.items()]
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
