"""What is known of run, base, provider and measurements, joined with what a person brings.

Nothing is written here. What is not found is None, and stays unknown.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from finetuning import runs
from finetuning.compliance import (
    AS_OF,
    WHERE,
    Attested,
    Compute,
    Handling,
    Licence,
    Sure,
)
from finetuning.compliance.evidence import (
    Measured,
    Request,
    Rows,
    claim_id,
    read_attestations,
    read_measurements,
    read_regimes,
    read_rows,
    tables,
)
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.files import resolve_read, sha256_file
from finetuning.providers import Tuning, load_provider
from finetuning.providers.catalogue import ModelEntry
from finetuning.records import page
from finetuning.settings import settings

UNKNOWN_THRESHOLD_FLOP: Final = 1e23 / 3
"""Where the original's compute is not known: C(2025) 7719, points 57-63 (checked 2026-11-20)."""
_FLOP_PER_PARAMETER: Final[dict[Tuning, float]] = {"full": 6.0, "lora": 4.0, "qlora": 4.5}
_DEFAULT_EPOCHS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Run:
    """One training run of this machine: its settings, digests and adapter."""

    run_id: str
    status: str
    facts: dict[str, Any]
    config: dict[str, Any]
    data_sha256: str | None
    tokens: int | None
    adapter: dict[str, str]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings without the paths of this machine."""
        hidden = "base_model train_file validation_file test_file goal".split()
        return {name: value for name, value in self.config.items() if name not in hidden}


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was found; None means that nothing was."""

    request: Request
    regimes: tuple[str, ...]
    attested: tuple[Attested, ...]
    rows: Rows | None
    run: Run | None
    compute: Compute
    flop: float | None
    licence: Licence
    handling: Handling | None
    measured: Measured
    warnings: tuple[str, ...]

    @property
    def share(self) -> float | None:
        """Share of the modifier threshold, 1 = at it; None where the compute is not known."""
        return None if self.flop is None else self.flop / self.compute.threshold_flop

    def names(self) -> list[str]:
        """Return the digests and ids under which the audit log speaks of data and run."""
        known = list(self.rows.sha256.values()) if self.rows else []
        return [*known, self.run.run_id] if self.run else known

    def vouched(self, claim: str) -> Attested | None:
        """Return the newest attestation of a claim, one with a file before one without."""
        found = [one for one in self.attested if claim_id(one.claim) == claim]
        return max(found, key=lambda one: (one.evidence_sha256 is not None, one.date), default=None)

    def shown(self, claim: str) -> bool:
        """Say whether somebody attested a claim with a file."""
        one = self.vouched(claim)
        return one is not None and one.evidence_sha256 is not None


def _read_run(run_id: str | None) -> Run | None:
    """Return a training run of the store, or None for None.

    Raises:
        UnknownNameError: No such run.
        BadInputError: It is not a training run.
    """
    if run_id is None:
        return None
    row = runs.read_run(run_id)
    if row.tool != "launch_lora":
        what, step = f"{run_id} is a run of {row.tool}", "Name a run of launch_lora"
        raise BadInputError(f"{WHERE}: run_id", what, "a training run", step)
    config: dict[str, Any] = runs.arguments_of(run_id)["config"]
    result = row.result or {}
    folder = Path(row.folder) / "adapter"
    adapter = {file.name: sha256_file(file) for file in sorted(folder.glob("adapter_*"))}
    facts: dict[str, Any] = {
        "run_id": run_id, "status": row.status, "created_at": row.created_at,
        "finished_at": row.finished_at, "config_digest": row.config_digest,
        "data_sha256": result.get("data_sha256") or config.get("train_sha256"),
        "adapter_sha256": adapter, "versions": result.get("versions", {}),
    }  # fmt: skip
    labels = cast("dict[str, int]", result.get("labels") or {})
    digest = cast("str | None", facts["data_sha256"])
    return Run(run_id, row.status, facts, config, digest, labels.get("tokens"), adapter)


def _base_folder(base_model: str, run: Run | None) -> Path | None:
    """Return the base's folder on this machine, or None."""
    places = [settings().bases / base_model]
    if run is not None and Path(str(run.config["base_model"])).name == Path(base_model).name:
        places.append(Path(str(run.config["base_model"])))
    known = next((place for place in places if (place / "config.json").is_file()), None)
    if known is None and Path(base_model).expanduser().is_dir():
        known = Path(base_model)
    return None if known is None else resolve_read(known, where=f"{WHERE}: base_model", kind="any")


def _choose_data(request: Request, run: Run | None) -> tuple[str | None, list[str]]:
    """Return the data to look at, and what does not fit together."""
    warnings: list[str] = []
    if (
        run is not None
        and Path(str(run.config["base_model"])).name != Path(request["base_model"]).name
    ):
        warnings.append("the run's base has another name than base_model; the run's is trained")
    if request["data"] is not None or run is None:
        return request["data"], warnings
    file = Path(str(run.config["train_file"]))
    if file.is_file():
        return str(file), warnings
    return None, [*warnings, "the run's training file is no longer there; name data"]


def _handling(provider: str | None) -> Handling | None:
    """Return the catalogue's row on a provider's handling of data, or None."""
    if provider is None:
        return None
    entry = load_provider(provider)
    if entry.data is None:
        return None
    row, source = entry.data, entry.sources[entry.data.source]
    return Handling(
        provider=provider, own_machines=entry.service == "own", trains_on_data=row.trains_on_data,
        retention=row.retention or "not known", residency=row.residency or "not known",
        regions=list(row.regions), baa=row.baa, zero_retention=row.zero_retention,
        source=source.url or "from memory", as_of=source.checked, sure=source.confidence,
    )  # fmt: skip


def _compute(
    request: Request, run: Run | None, rows: Rows | None, base: Path | None
) -> tuple[Compute, float | None]:
    from finetuning.estimate import read_architecture, training_flops

    tuning: Tuning = request["tuning"] or (run.config.get("tuning") if run else None) or "lora"
    planned: float | None = run.config.get("num_train_epochs") if run else None
    epochs: float = request["n_epochs"] or planned or _DEFAULT_EPOCHS
    counted = rows.tokens if rows and rows.tokens else None
    tokens = request["training_tokens"] or (run.tokens if run else None) or counted
    whole = None if tokens is None else round(tokens * epochs)
    try:
        shape = read_architecture(base or request["base_model"])
        size: int | None = shape.multiplied_parameters
        where = shape.source if base is None else "config.json"
        flop = None if whole is None else training_flops(shape, tokens=whole, tuning=tuning)
    except (UnknownNameError, BadInputError):
        known = _catalogue_row(request["base_model"])
        billions = known and (known.active_params_b or known.params_b)
        size, where = (int(billions * 10**9) if billions else None), "the catalogue"
        flop = size * whole * _FLOP_PER_PARAMETER[tuning] if size and whole else None
    missing = [n for n, v in (("the base's size", size), ("training tokens", tokens)) if v is None]
    basis = f"N from {where}; D = {tokens} tokens x {epochs:g} epochs; {tuning}"
    basis = f"not known: {', '.join(missing)}" if missing else basis
    original = request["original_compute_flop"]
    compute = Compute(
        parameters=size,
        tokens=whole,
        flop_per_parameter_token=_FLOP_PER_PARAMETER[tuning],
        threshold_flop=original / 3 if original else UNKNOWN_THRESHOLD_FLOP,
        threshold_source="C(2025) 7719, points 57-63: a third of the original's compute, "
        + ("as given" if original else "10^23 / 3 where that is unknown"),
        basis=basis,
    )
    return compute, flop


def _catalogue_row(base_model: str) -> ModelEntry | None:
    wanted = base_model.casefold()
    for model in load_provider("local").models:
        if wanted in {name.casefold() for name in (model.id, *model.aliases)}:
            return model
    return None


def _read_licence(base_model: str, folder: Path | None) -> Licence:
    """Return the base's licence: its own text, else the catalogue's row, else the table's."""
    asked = (_from_text(folder), _from_catalogue(base_model), _from_name(base_model))
    found = [one for one in asked if one is not None]
    unknown = _licence(None, "no licence text beside the base, no row in the catalogue", "none")
    return next((one for one in found if one.sure == "read"), (found or [unknown])[0])


def _licence(name: str | None, source: str, sure: Sure, as_of: str = AS_OF) -> Licence:
    row = tables()["licence"].get(name, {})
    return Licence(
        id=name, obligations=row.get("obligations", []), source=source, as_of=as_of, sure=sure
    )


def _from_text(folder: Path | None) -> Licence | None:
    files = sorted(folder.glob("LICEN[CS]E*")) if folder else []
    for file in files:
        with file.open(encoding="utf-8", errors="replace") as stream:
            text = " ".join(stream.read(1 << 16).casefold().split())
        for name, row in tables()["licence"].items():
            hits = [part in text for part in row.get("text", [])]
            if hits and (any(hits) if row.get("any_text") else all(hits)):
                return _licence(name, f"{file.name} beside the base", "read")
    return None


def _from_catalogue(base_model: str) -> Licence | None:
    known = _catalogue_row(base_model)
    if known is None or known.licence is None:
        return None
    source = load_provider("local").sources[known.source]
    return _licence(known.licence, source.url or "from memory", source.confidence, source.checked)


def _from_name(base_model: str) -> Licence | None:
    from finetuning.estimate.architecture import plain_name

    name = plain_name(base_model)
    row = next((row for row in tables()["base"] if re.search(row["pattern"], name)), None)
    return None if row is None else _licence(row["licence"], row["source"], row["sure"])


def gather(request: Request) -> Evidence:
    """Collect what can be shown, before anything is written.

    Raises:
        UnknownNameError: An unknown regime, provider or run.
        BadInputError: A file cannot be used.
        NotAllowedError: A path lies outside the readable folders.
    """
    page([], request["limit"], request["offset"], where=WHERE)
    regimes = read_regimes(request["jurisdictions"])
    attested = read_attestations(request["attestations"] or [])
    run = _read_run(request["run_id"])
    provider = request["provider"] or ("local" if run else None)
    handling = _handling(provider)
    base = _base_folder(request["base_model"], run)
    data, warnings = _choose_data(request, run)
    counted = request["training_tokens"] is None and not (run and run.tokens)
    rows = read_rows(data, base, count=counted)
    compute, flop = _compute(request, run, rows, base)
    measured = read_measurements(request, request["run_id"], rows.paths if rows else {})
    unmatched = [one.claim for one in attested if not one.bears_on]
    if unmatched:
        near: list[str] = difflib.get_close_matches(
            unmatched[0], list(tables()["claims"]), n=3, cutoff=0.3
        )
        hint = f"; nearest: {', '.join(near)}" if near else ""
        warnings.append(f"{len(unmatched)} attestations bear on no gate{hint}")
    return Evidence(
        request, regimes, attested, rows, run, compute, flop,
        _read_licence(request["base_model"], base), handling,
        measured, (*warnings, *measured.warnings),
    )  # fmt: skip
