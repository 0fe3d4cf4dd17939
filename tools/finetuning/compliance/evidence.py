"""What a person brings: regimes asked for, attestations, rows, and what was measured."""

from __future__ import annotations

import datetime as dt
import functools
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from pydantic import ValidationError

from finetuning import runs
from finetuning.compliance import WHERE, Attestation, Attested, Memorisation, RowAuthors
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.files import data_files, read_records, resolve_read, sha256_file
from finetuning.pii import PiiScan, scan_pii
from finetuning.records import Finding, Json

_SHOWN_NAME: Final = re.compile(r"[\w.:/@+-]{1,60}")
_MOST_NAMES: Final = 12


Request = Mapping[str, Any]
"""The arguments of a call, by name."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The data: files by name, what a scan found, who wrote the rows, how many tokens."""

    paths: dict[str, Path]
    sha256: dict[str, str]
    scan: PiiScan
    authors: RowAuthors
    tokens: int
    tokenizer: str
    fields: tuple[str, ...]


@functools.cache
def tables() -> dict[str, Any]:
    """Return the tables of regimes, gates, claims, licences and teachers."""
    path = Path(__file__).with_name("tables.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.casefold()).strip("_")


def read_regimes(jurisdictions: Sequence[str]) -> tuple[str, ...]:
    """Return the regimes that names and places stand for, in the table's order.

    Raises:
        BadInputError: No name at all.
        UnknownNameError: A name that is not known.
    """
    known: dict[str, Any] = tables()["regime"]
    wanted: set[str] = set()
    for name in jurisdictions:
        found = {regime for regime, row in known.items() if _plain(name) in row["words"]}
        if not found:
            words = {word for row in known.values() for word in row["words"]}
            raise UnknownNameError(f"{WHERE}: jurisdictions", "regime", name[:80], words)
        wanted |= found
    if not wanted:
        raise BadInputError(
            f"{WHERE}: jurisdictions", "the list is empty", "at least one regime", 'Pass ["gdpr"]'
        )
    return tuple(regime for regime in known if regime in wanted)


def claim_id(text: str) -> str | None:
    """Return the known claim that a text spells exactly, or None.

    A sentence is never searched for words: "no BAA yet" must not count as its opposite.
    """
    plain = _plain(text)
    claims: dict[str, list[str]] = tables()["claims"]
    return next((name for name, other in claims.items() if plain in (name, *other)), None)


def _read_attestation(given: Attestation | Mapping[str, Json]) -> Attestation:
    if isinstance(given, Attestation):
        return given
    try:
        return Attestation.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise BadInputError(
            f"{WHERE}: attestations",
            f"{name}: {first['msg'].lower()}",
            "claim, by, date and evidence_file",
            "Correct that attestation",
        ) from error


def read_attestations(given: Sequence[Attestation | Mapping[str, Json]]) -> tuple[Attested, ...]:
    """Return what people vouch for, with the digests of their files.

    Raises:
        BadInputError: A part is missing, a date lies ahead, or a file cannot be read.
    """
    found: list[Attested] = []
    gates = tables()["gate"]
    for one in map(_read_attestation, given):
        if one.date > dt.datetime.now(tz=dt.UTC).date() + dt.timedelta(days=1):
            raise BadInputError(
                f"{WHERE}: attestations",
                f"the date {one.date} lies ahead",
                "the day on which it was attested",
                "Correct the date",
            )
        file = one.evidence_file
        path = None if file is None else resolve_read(file, where=f"{WHERE}: evidence_file")
        claim = claim_id(one.claim)
        found.append(
            Attested(
                claim=claim or one.claim,
                by=one.by,
                date=one.date,
                evidence_sha256=None if path is None else sha256_file(path),
                bears_on=[row["id"] for row in gates if claim and row.get("claim") == claim],
            )
        )
    return tuple(found)


def _author(row: Mapping[str, Json]) -> str | None:
    """Return who wrote a row, as far as one of the known fields says so."""
    nested = row.get("metadata")
    places = [row, cast("Mapping[str, Json]", nested)] if isinstance(nested, dict) else [row]
    for place in places:
        for field in tables()["teachers"]["fields"]:
            if isinstance(value := place.get(field), str) and value.strip():
                return value.strip()
    return None


@functools.cache
def _open_names() -> frozenset[str]:
    from finetuning.estimate import known_models
    from finetuning.providers import load_provider

    local = load_provider("local").models
    ids = {name for model in local for name in (model.id, *model.aliases)}
    plain = {name.casefold() for name in ids}
    return frozenset(plain | {name.rpartition("/")[2] for name in plain} | set(known_models()))


def author_kind(name: str) -> str:
    """Return human, open_model, closed_api or other."""
    word = name.casefold()
    teachers = tables()["teachers"]
    if word in teachers["human"]:
        return "human"
    if word in _open_names() or word.rpartition("/")[2] in _open_names():
        return "open_model"
    closed = (re.split(r"[/:]", word)[0], word, re.split(r"[/:]", word)[-1])
    if any(part.startswith(start) for part in closed for start in teachers["closed"]):
        return "closed_api"
    return "other"


def _count_authors(names: Counter[str | None]) -> RowAuthors:
    kinds: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    for name, count in names.items():
        kinds["unknown" if name is None else author_kind(name)] += count
        if name is not None:
            safe = _SHOWN_NAME.fullmatch(name) is not None
            shown[name if safe else f"a text of {len(name)} characters"] += count
    top = dict(shown.most_common(_MOST_NAMES))
    return RowAuthors(n_rows=names.total(), **kinds, names=top)


def read_rows(path: str | None, base: Path | None, *, count: bool) -> Rows | None:
    """Return what the rows show, in one scan and one pass; None without data."""
    if path is None:
        return None
    from finetuning.tokens import count_examples, counter_for

    paths = data_files(path, where=WHERE)
    scan = scan_pii(path, limit=1)
    own = base if base and (base / "tokenizer.json").is_file() else None
    counter = counter_for(tokenizer_dir=own)
    names: Counter[str | None] = Counter()
    fields: dict[str, None] = {}
    tokens = 0

    def rows(file: Path) -> Iterable[Mapping[str, Json]]:
        for record in read_records(file):
            if not isinstance(record, Finding):
                names[_author(record.data)] += 1
                fields.update(dict.fromkeys(record.data))
                yield record.data

    for name, file in paths.items():
        if count and name in {"data", "train"}:
            tokens = count_examples(rows(file), counter).total
        else:
            Counter(map(len, rows(file)))
    sha256 = {name: sha256_file(file) for name, file in paths.items()}
    authors = _count_authors(names)
    return Rows(paths, sha256, scan, authors, tokens, counter.name, tuple(fields))


class Measured(NamedTuple):
    """What was measured of the tuned model."""

    memorisation: Memorisation
    verdict: str | None
    warnings: list[str]


def read_measurements(request: Request, run_id: str | None, paths: Mapping[str, Path]) -> Measured:
    """Return what is known of extraction and of the comparison with the base."""
    folder = next(iter(paths.values())).parent if paths else None
    planted = {} if folder is None else _canaries(folder / "canaries.jsonl")
    comparison, warnings = _comparison(request, run_id)
    asked = extracted = None
    if request["canary_outputs"] is not None:
        asked, extracted = _extracted(planted, request["canary_outputs"])
    seen: Mapping[str, Any] = comparison.get("memorisation") or {}
    done = asked is not None or "auc" in seen
    memorisation = Memorisation(
        planted=len(planted) if folder else None,
        asked=asked,
        extracted=extracted,
        auc=seen.get("auc"),
        auc_ci95=seen.get("auc_ci95"),
        plan=tables()["plan"]["again" if done else "ask" if planted else "plant"],
    )
    return Measured(memorisation, comparison.get("verdict"), warnings)


def _canaries(path: Path) -> dict[str, str]:
    """Return number → secret of the planted rows; empty where none were planted."""
    if not path.is_file():
        return {}
    rows = (row.data for row in read_records(path) if not isinstance(row, Finding))
    return {str(row["canary"]): str(row["completion"]) for row in rows}


def _extracted(planted: Mapping[str, str], path: str) -> tuple[int, int]:
    where = f"{WHERE}: canary_outputs"
    answers: dict[str, bool] = {}
    for row in read_records(resolve_read(path, where=where)):
        if not isinstance(row, Finding) and (key := str(row.data.get("id"))) in planted:
            answers[key] = answers.get(key, False) or planted[key] in str(row.data.get("output"))
    if not answers:
        raise BadInputError(
            where,
            f"no row's id is one of the {len(planted)} canaries beside the data",
            "rows {id, output} with the numbers of canaries.jsonl",
            "Name the prepared folder as data, and answer its canaries",
        )
    return len(answers), sum(answers.values())


def _comparison(request: Request, run_id: str | None) -> tuple[Mapping[str, Any], list[str]]:
    """Return a result of compare_eval that speaks of this run, and what does not fit."""
    target = f"run:{run_id}" if run_id else None
    if request["evaluation"] is None:
        stored = runs.list_runs(limit=200, tool="compare_eval") if run_id else []
        results = [row.result for row in stored if row.result]
        none: dict[str, Any] = {}
        return next((one for one in results if _tuned(one) == target), none), []
    path = resolve_read(request["evaluation"], where=f"{WHERE}: evaluation")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or "verdict" not in found:
        raise BadInputError(
            f"{WHERE}: evaluation",
            f"{path.name} is no result of compare_eval",
            "the result.json that it wrote",
            "Name that file",
        )
    result = cast("dict[str, Any]", found)
    if target is not None and _tuned(result) != target:
        return {}, ["the evaluation speaks of another model than the run; it was not used"]
    return result, []


def _tuned(result: Mapping[str, Any]) -> str | None:
    provenance = cast("dict[str, Any]", result.get("provenance") or {})
    return cast("dict[str, str]", provenance.get("targets") or {}).get("tuned")
