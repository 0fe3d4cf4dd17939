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
from finetuning.compliance import WHERE, Attestation, Attested, Memorisation, RowAuthors, Safety
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
        what, expected = f"{name}: {first['msg'].lower()}", "claim, by, date and evidence_file"
        step = "Correct that attestation"
        raise BadInputError(f"{WHERE}: attestations", what, expected, step) from error


def read_attestations(given: Sequence[Attestation | Mapping[str, Json]]) -> tuple[Attested, ...]:
    """Return what people vouch for, with the digests of their files.

    Raises:
        BadInputError: A part is missing, a date lies ahead, or a file cannot be read.
    """
    found: list[Attested] = []
    gates = tables()["gate"]
    for one in map(_read_attestation, given):
        if one.date > dt.datetime.now(tz=dt.UTC).date() + dt.timedelta(days=1):
            what, expected = f"the date {one.date} lies ahead", "the day on which it was attested"
            raise BadInputError(f"{WHERE}: attestations", what, expected, "Correct the date")
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
    return RowAuthors(n_rows=names.total(), **kinds, names=dict(shown.most_common(_MOST_NAMES)))


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
    return Rows(paths, sha256, scan, _count_authors(names), tokens, counter.name, tuple(fields))


class Measured(NamedTuple):
    """What was measured of the tuned model; ``source`` is the digest of a named result."""

    memorisation: Memorisation
    safety: Safety | None
    verdict: str | None
    source: str | None
    warnings: list[str]


def read_measurements(request: Request, run_id: str | None, paths: Mapping[str, Path]) -> Measured:
    """Return what is known of extraction, of refusals and of the comparison with the base."""
    folder = next((path.parent for path in paths.values()), None)
    planted = _canaries(folder / "canaries.jsonl") if folder else {}
    file = request["evaluation"]
    path = None if file is None else resolve_read(file, where=f"{WHERE}: evaluation")
    comparison, warnings = _comparison(path, f"run:{run_id}" if run_id else None)
    known: dict[str, Any] = {"planted": len(planted) if folder else None}
    if request["canary_outputs"] is not None:
        known["asked"], known["extracted"] = _extracted(planted, request["canary_outputs"])
    try:
        seen, safety = _seen(comparison)
    except (ValidationError, AttributeError, TypeError) as error:
        raise _no_comparison(path) from error
    done = any(value is not None for name, value in (known | seen).items() if name != "planted")
    plan = tables()["plan"]["again" if done else "ask" if planted else "plant"]
    memorisation = Memorisation(**known, **seen, plan=plan)
    source = sha256_file(path) if path and comparison else None
    return Measured(memorisation, safety, comparison.get("verdict"), source, warnings)


def _seen(comparison: Mapping[str, Any]) -> tuple[dict[str, Any], Safety | None]:
    """Return what a comparison says of memory and of refusals; the types are checked."""
    known, general = _part(comparison, "memorisation"), _part(comparison, "general")
    ranks, refused = _part(known, "canaries"), _part(general, "safety")
    found = {
        "ranked": ranks.get("planted"), "ranked_first": ranks.get("first"),
        "exposure_bits": ranks.get("exposure_bits"), "exposure_p": ranks.get("p"),
        "copies": _part(known, "verbatim").get("rows"),
        "auc": known.get("auc"), "auc_ci95": known.get("auc_ci95"),
    }  # fmt: skip
    Memorisation(planted=None, plan="", **found)
    return found, Safety.model_validate(refused) if refused else None


def _part(whole: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", whole.get(name) or {})


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
        what = f"no row's id is one of the {len(planted)} canaries beside the data"
        expected = "rows {id, output} with the numbers of canaries.jsonl"
        raise BadInputError(where, what, expected, "Name the prepared folder as data")
    return len(answers), sum(answers.values())


def _comparison(path: Path | None, target: str | None) -> tuple[Mapping[str, Any], list[str]]:
    """Return a result of compare_eval that speaks of this run, and what does not fit."""
    if path is None:
        stored = runs.list_runs(limit=200, tool="compare_eval") if target else []
        results = [row.result for row in stored if row.result]
        return next((one for one in results if _tuned(one) == target), dict[str, Any]()), []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or "verdict" not in found:
        raise _no_comparison(path)
    result = cast("dict[str, Any]", found)
    if target is not None and _tuned(result) != target:
        return {}, ["the evaluation speaks of another model than the run; it was not used"]
    return result, []


def _no_comparison(path: Path | None) -> BadInputError:
    what = f"{path.name if path else 'the stored result'} is no result of compare_eval"
    expected = "the result.json that it wrote"
    return BadInputError(f"{WHERE}: evaluation", what, expected, "Name that file")


def _tuned(result: Mapping[str, Any]) -> str | None:
    return _part(_part(result, "provenance"), "targets").get("tuned")
