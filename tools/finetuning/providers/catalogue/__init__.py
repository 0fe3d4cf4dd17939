"""The catalogue: one TOML file per provider, read on first use and kept."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from finetuning.errors import RunFailedError, UnknownNameError
from finetuning.providers.schema import ModelEntry, Provider

FOLDER: Final = Path(__file__).parent


@functools.cache
def provider_ids() -> tuple[str, ...]:
    """Return the ids of the providers that have a catalogue file, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@functools.cache
def load_provider(provider: str) -> Provider:
    """Return the catalogue entry of a provider, checked against the schema.

    Raises:
        UnknownNameError: No file for that id; the nearest ids are named.
        RunFailedError: The file breaks the schema (only an edited catalogue can).
    """
    if provider not in provider_ids():
        raise UnknownNameError("provider", "provider", provider, provider_ids())
    return read_provider(FOLDER / f"{provider}.toml")


def read_provider(path: Path) -> Provider:
    """Read and check one catalogue file.

    Raises:
        RunFailedError: It is not TOML, or it breaks the schema.
    """
    import tomllib

    try:
        entry = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Provider)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise _broken(path, str(error)) from error
    faults = entry.faults()
    if entry.id != path.stem:
        faults.append(f"id {entry.id!r} in the file of {path.stem!r}")
    if faults:
        raise _broken(path, "; ".join(faults))
    return entry


def _broken(path: Path, what: str) -> RunFailedError:
    return RunFailedError(
        f"catalogue {path.name}",
        what,
        "a file as finetuning.providers.schema describes it",
        "Undo the last edit of that file",
    )


def all_providers() -> Iterator[Provider]:
    """Yield every provider of the catalogue, by id."""
    for provider in provider_ids():
        yield load_provider(provider)


def find_model(provider: str, model: str) -> ModelEntry:
    """Return a provider's model by exact id or alias, whatever its case.

    Providers that take any base (rented and own machines), and closed ones of which no model was
    kept, accept every name.

    Raises:
        UnknownNameError: The provider or the model is not in the catalogue.
    """
    entry = load_provider(provider)
    wanted = model.casefold()
    for candidate in entry.models:
        if wanted in {candidate.id.casefold(), *(alias.casefold() for alias in candidate.aliases)}:
            return candidate
    if entry.any_model or not entry.models:
        return ModelEntry(id=model, methods=tuple(entry.billing), source=next(iter(entry.sources)))
    names = [name for known in entry.models for name in (known.id, *known.aliases)]
    raise UnknownNameError("model", f"model of {provider}", model, names)
