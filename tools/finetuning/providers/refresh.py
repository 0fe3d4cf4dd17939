"""Keep the catalogue honest: check its rows, and ask the vendors' live signals for newer ones.

``refresh_catalogue`` never edits the catalogue: it writes proposed rows for a person to read.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal

from pydantic import ConfigDict, Field

from finetuning import audit
from finetuning.errors import UnknownNameError
from finetuning.providers.catalogue import FOLDER, Provider, file_of, load_provider, read_file
from finetuning.providers.pricing import STALE_DAYS
from finetuning.providers.signals import SIGNALS, Found, Signal, get_json
from finetuning.providers.terms import day_of
from finetuning.records import Json, Model, ToolResult
from finetuning.settings import VARIABLES, settings

WORKED_CASES: Final = Path(__file__).parents[3] / "tests" / "costs" / "worked_cases.toml"
"""Bills worked out by hand, where the tests are at hand (an installed bundle has none)."""


class RowFault(Model):
    """A row of the catalogue that cannot be relied on."""

    provider: str
    what: str
    code: Literal["no_source", "stale", "formula_without_test"]
    why: str


class CatalogueCheck(ToolResult):
    """Whether every row has a source, is young enough, and every billing rule has a test."""

    model_config = ConfigDict(defer_build=True)

    as_of: dt.date
    n_rows: int
    faults: list[RowFault]
    counts: dict[str, int]
    formulas_checked: bool = Field(description="False: the worked cases are not on this machine.")

    def exit_code(self) -> int:
        """Return 1 when a row is at fault."""
        return 1 if self.faults else 0

    def summary(self) -> str:
        """Count rows and faults."""
        if not self.faults:
            return f"All {self.n_rows} rows are sourced and younger than {STALE_DAYS} days."
        said = ", ".join(f"{n} {code}" for code, n in sorted(self.counts.items()))
        return f"{self.n_rows} rows on {self.as_of}: {said}."


def verify_catalogue(
    *, as_of: str | None = None, cases: Path | None = None, folder: Path = FOLDER
) -> CatalogueCheck:
    """Check that each row has a source younger than 90 days, and each formula a worked case.

    What is over (a closed service, a price with ``valid_to``, a past event) needs no new look.

    Args:
        as_of: The day ages are counted to; None means today.
        cases: File of worked cases; None: the one beside the source, where there is one.
        folder: Folder of the catalogue.
    """
    day = day_of(as_of, "catalogue")
    path = cases or WORKED_CASES
    tested = _tested_formulas(path) if path.is_file() else None
    faults: list[RowFault] = []
    n_rows = 0
    for file in sorted(folder.glob("*.toml")):
        for entry in read_file(file, strict=False):
            n_rows += len(entry.rows())
            faults += _row_faults(entry, day)
            for method, rule in entry.billing.items():
                if tested is not None and rule != "unknown" and rule not in tested:
                    what, why = f"billing of {method}", f"no worked case bills by {rule}"
                    faults.append(_fault(entry, what, "formula_without_test", why))
    codes = [fault.code for fault in faults]
    return CatalogueCheck(
        as_of=day,
        n_rows=n_rows,
        faults=faults,
        counts={code: codes.count(code) for code in sorted(set(codes))},
        formulas_checked=tested is not None,
    )


def _fault(
    entry: Provider,
    what: str,
    code: Literal["no_source", "stale", "formula_without_test"],
    why: str,
) -> RowFault:
    return RowFault(provider=entry.id, what=what, code=code, why=why)


def _row_faults(entry: Provider, day: dt.date) -> list[RowFault]:
    """Return rows without a source, and one fault for each source that is too old."""
    faults: list[RowFault] = []
    users: dict[str, list[str]] = {}
    for what, name, over in entry.rows():
        source = entry.sources.get(name)
        history = entry.service == "closed" or (over is not None and over <= day)
        if source is None or (not source.url and source.confidence != "memory"):
            faults.append(_fault(entry, what, "no_source", f"source {name!r} has no address"))
        elif not history and (day - source.checked_on).days > STALE_DAYS:
            users.setdefault(name, []).append(what)
    for name, rows in users.items():
        checked = entry.sources[name].checked
        more = "" if len(rows) == 1 else f" and {len(rows) - 1} more"
        faults.append(_fault(entry, rows[0] + more, "stale", f"{name} was read {checked}"))
    return faults


def _tested_formulas(path: Path) -> set[str]:
    """Return the billing rules that the worked cases of a file exercise."""
    import tomllib

    rules: set[str] = set()
    for case in tomllib.loads(path.read_text(encoding="utf-8")).get("case", []):
        call = case.get("call", {})
        try:
            billing = load_provider(call.get("provider", "")).billing
        except UnknownNameError:
            continue
        rules.add(str(billing.get(call.get("method"), "")))
    return rules


class Asked(Model):
    """What one live signal answered."""

    signal: str
    provider: str
    status: Literal["asked", "skipped", "failed"]
    why: str
    confirmed: int = 0
    proposed: int = 0


class CatalogueRefresh(ToolResult):
    """What the live signals say; the proposals stand in a file, the catalogue is unchanged."""

    model_config = ConfigDict(defer_build=True)

    as_of: dt.date
    signals: list[Asked]
    patch_file: str | None = Field(description="TOML with the proposed rows; null: none.")

    def exit_code(self) -> int:
        """Return 4 when something was asked and everything failed, else 0."""
        status = {row.status for row in self.signals}
        return 4 if "failed" in status and "asked" not in status else 0

    def summary(self) -> str:
        """Count what was asked, confirmed and proposed."""
        asked, failed = (sum(r.status == s for r in self.signals) for s in ("asked", "failed"))
        confirmed = sum(row.confirmed for row in self.signals)
        proposed = sum(row.proposed for row in self.signals)
        return (
            f"{asked} signals asked, {failed} failed: {confirmed} facts confirmed, "
            f"{proposed} rows proposed."
        )


def refresh_catalogue(
    *,
    signals: list[str] | None = None,
    addresses: Mapping[str, str] | None = None,
    as_of: str | None = None,
    output_dir: str | None = None,
) -> CatalogueRefresh:
    """Ask the vendors' live signals and propose dated rows in a TOML file.

    Each signal needs the key that a person set for it; one that fails is reported and the others
    go on. With FINE_TUNING_OFFLINE=1 nothing but this machine is asked.

    Args:
        signals: Names of the signals to ask; None asks all of them.
        addresses: Signal name → base address, for a proxy of one's own.
        as_of: Day the rows are dated with; None means today.
        output_dir: Folder of the proposals; None: a new one under the home folder.

    Raises:
        UnknownNameError: A signal that does not exist; the nearest are named.

    Source: the vendors' API references (checked 2026-11-20); knowledge: providers.md#live-signals
    """
    from finetuning.files import new_output_folder, write_text

    day = day_of(as_of, "catalogue")
    known = {signal.name: signal for signal in SIGNALS}
    for name in (*(signals or ()), *(addresses or {})):
        if name not in known:
            raise UnknownNameError("catalogue refresh", "signal", name, known)
    folder = new_output_folder(output_dir, where="output_dir", name="catalogue_refresh")
    audit.check_log()
    asked: list[Asked] = []
    parts = [_HEAD.format(day=day)]
    for signal in SIGNALS:
        if signals is None or signal.name in signals:
            address = (addresses or {}).get(signal.name, signal.url)
            answer, found = _ask(signal, address, day)
            asked.append(answer)
            parts += [_patch(signal, found, day)] if found.rows else []
    patch = folder / "catalogue_patch.toml"
    if len(parts) > 1:
        write_text(patch, "".join(parts))
    path = str(patch) if len(parts) > 1 else None
    outcome: dict[str, Json] = {one.signal: one.status for one in asked}
    audit.append("catalogue.refreshed", {"signals": outcome, "proposed": len(parts) - 1})
    return CatalogueRefresh(as_of=day, signals=asked, patch_file=path)


_HEAD: Final = (
    "# Rows proposed on {day} by `fine-tuning catalogue refresh`; the catalogue is unchanged.\n"
    "# Read each one, then append it to the provider's file; close an old price with valid_to.\n"
)


def _ask(signal: Signal, address: str, day: dt.date) -> tuple[Asked, Found]:
    """Ask one signal; whatever goes wrong with it is said in its row."""
    from http.client import HTTPException
    from urllib.error import HTTPError

    def told(status: Literal["asked", "skipped", "failed"], why: str, found: Found) -> Asked:
        return Asked(
            signal=signal.name,
            provider=signal.provider,
            status=status,
            why=why,
            confirmed=found.confirmed,
            proposed=len(found.rows),
        )

    nothing = Found()
    given = {name: os.environ.get(name, "").strip() for name in VARIABLES}
    missing = [name for name in signal.needs if not given[name]]
    if missing:
        return told("skipped", f"{' and '.join(missing)} not set", nothing), nothing
    base = address.format_map(given).rstrip("/")
    key = given[signal.needs[0]] if signal.needs else None
    if settings().offline and not _on_this_machine(base):
        return told("skipped", "FINE_TUNING_OFFLINE is set", nothing), nothing
    try:
        entry = load_provider(signal.provider)
        found = signal.read(lambda path: get_json(base + path, signal, key), entry, day)
    except HTTPError as error:
        return told("failed", f"the service answered {error.code}", nothing), nothing
    except (HTTPException, OSError) as error:
        return told("failed", f"no answer ({type(error).__name__})", nothing), nothing
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"an answer of an unknown shape ({type(error).__name__})"
        return told("failed", why, nothing), nothing
    return told("asked", "answered", found), found


def _on_this_machine(address: str) -> bool:
    from urllib.parse import urlsplit

    return (urlsplit(address).hostname or "") in {"localhost", "127.0.0.1", "::1"}


def _patch(signal: Signal, found: Found, day: dt.date) -> str:
    """Return proposed rows as TOML, with the source that they cite."""
    name = f"live_{day:%Y_%m_%d}"
    lines = [f"\n# {signal.provider} in {file_of(signal.provider)}, from {signal.name}"]
    for table, values in found.rows:
        lines.append(f"[[{signal.provider}.{table}]]")
        lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
        lines += [f'source = "{name}"', ""]
    lines += [f"[{signal.provider}.sources.{name}]", f"url = {_toml(signal.url)}"]
    lines += [f'checked = "{day}"', 'confidence = "read"', f'note = "{signal.name}"', ""]
    return "\n".join(lines)


def _toml(value: object) -> str:
    """Return a value in TOML; money is a string, as everywhere in the catalogue."""
    if isinstance(value, dt.date):
        return value.isoformat()
    return json.dumps(str(value) if isinstance(value, Decimal) else value, ensure_ascii=False)
