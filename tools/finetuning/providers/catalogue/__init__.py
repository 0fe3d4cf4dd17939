"""The catalogue: ``providers.toml``, checked against a schema and read on first use.

Every row names its source, the day it was read and how sure it is. Each provider is a
``[[provider]]`` entry; ``local``, the last one, is one's own machines and all open bases. An entry
is a TOML document of its own, so that one provider is read without its neighbours.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from finetuning.errors import RunFailedError, UnknownNameError
from finetuning.providers import Tuning
from finetuning.providers.catalogue.schema import (
    UNPRICED,
    Confidence,
    DataHandling,
    Event,
    Exchange,
    Formula,
    Limits,
    ModelEntry,
    Price,
    PriceKind,
    Provider,
    Region,
    Serving,
    Setting,
    Source,
)

__all__ = [
    "FOLDER",
    "UNPRICED",
    "Confidence",
    "DataHandling",
    "Event",
    "Exchange",
    "Formula",
    "Limits",
    "ModelEntry",
    "Price",
    "PriceKind",
    "Provider",
    "Region",
    "Serving",
    "Setting",
    "Source",
    "all_providers",
    "base_of",
    "byo_hosts",
    "file_of",
    "find_model",
    "gpu_size",
    "load_provider",
    "memory_gb",
    "model_at",
    "params_of",
    "provider_ids",
    "read_file",
    "read_provider",
]

BYTES_PER_PARAMETER: Final[dict[Tuning, Decimal]] = {
    "lora": Decimal(2),
    "qlora": Decimal("0.56"),
    "full": Decimal(16),
}
"""Weights, and for full tuning gradient and optimiser too (training.md#memory); a tenth and 2 GB
come on top. A rough size: configure_training and estimate_cost know better."""
FOLDER: Final = Path(__file__).parent
ENTRY: Final = "\n[[provider]]"
"""The line that starts each entry of a file with several providers."""


@functools.cache
def _texts() -> dict[str, tuple[Path, str]]:
    """Return provider id → the file that holds it and the text of its entry."""
    texts: dict[str, tuple[Path, str]] = {}
    for path in FOLDER.glob("*.toml"):
        alone, *entries = f"\n{path.read_text('utf-8')}".split(ENTRY)
        if not entries:
            texts[path.stem] = path, alone
        for entry in entries:
            name = entry.partition('\nid = "')[2].partition('"')[0]
            texts[name] = path, ENTRY + entry
    return texts


@functools.cache
def provider_ids() -> tuple[str, ...]:
    """Return the ids of the providers of the catalogue, sorted."""
    return tuple(sorted(_texts()))


def file_of(provider: str) -> str:
    """Return the name of the catalogue file that holds a provider."""
    return _texts()[provider][0].name


@functools.cache
def load_provider(provider: str) -> Provider:
    """Return the catalogue entry of a provider, checked against the schema.

    Raises:
        UnknownNameError: No entry for that id; the nearest ids are named.
        RunFailedError: The file breaks the schema (only an edited catalogue can).
    """
    if provider not in _texts():
        raise UnknownNameError("provider", "provider", provider, provider_ids())
    return _read(*_texts()[provider])[0]


def read_provider(path: Path) -> Provider:
    """Read and check a catalogue file of one provider.

    Raises:
        RunFailedError: It is not TOML, or it breaks the schema.
    """
    return read_file(path)[0]


def read_file(path: Path, *, strict: bool = True) -> list[Provider]:
    """Read and check one catalogue file; ``[[provider]]`` tables stand for several providers.

    Args:
        path: The file.
        strict: False accepts rows that cite a missing source, for a check that lists them.

    Raises:
        RunFailedError: It is not TOML, or it breaks the schema.
    """
    return _read(path, path.read_text(encoding="utf-8"), strict=strict)


def _read(path: Path, text: str, *, strict: bool = True) -> list[Provider]:
    """Return the entries of a text of a catalogue file, checked."""
    import tomli

    try:
        table: dict[str, Any] = tomli.loads(text)
        tables = table.get("provider", [table])
        entries = msgspec.convert(tables, list[Provider])
    except (tomli.TOMLDecodeError, msgspec.ValidationError) as error:
        raise _broken(path, str(error)) from error
    faults = [fault for entry in entries for fault in entry.faults()]
    if "provider" not in table and entries[0].id != path.stem:
        faults.append(f"id {entries[0].id!r} in the file of {path.stem!r}")
    if faults and strict:
        raise _broken(path, "; ".join(faults))
    return entries


def _broken(path: Path, what: str) -> RunFailedError:
    return RunFailedError(
        f"catalogue {path.name}",
        what,
        "a file as finetuning.providers.catalogue.schema describes it",
        "Undo the last edit of that file",
    )


def all_providers(mentioning: str = "") -> Iterator[Provider]:
    """Yield every provider of the catalogue, by id.

    Args:
        mentioning: A key or value; entries without it anywhere are not parsed, which takes most
            of the time of a first look.
    """
    for provider in provider_ids():
        if not mentioning or mentioning in _texts()[provider][1]:
            yield load_provider(provider)


@functools.cache
def _names(provider: str) -> dict[str, ModelEntry]:
    """Return every id and alias of a provider's models, in lower case; ids win."""
    models = load_provider(provider).models
    names = {alias.casefold(): model for model in models for alias in model.aliases}
    return names | {model.id.casefold(): model for model in models}


def find_model(provider: str, model: str) -> ModelEntry:
    """Return a provider's model by exact id or alias, whatever its case.

    Providers that take any base (rented and own machines), and closed ones of which no model was
    kept, accept every name.

    Raises:
        UnknownNameError: The provider or the model is not in the catalogue.
    """
    entry = load_provider(provider)
    found = _names(provider).get(model.casefold())
    if found is not None:
        return found
    if entry.any_model or not entry.models:
        return ModelEntry(id=model, methods=tuple(entry.billing), source=next(iter(entry.sources)))
    names = [name for known in entry.models for name in (known.id, *known.aliases)]
    raise UnknownNameError("model", f"model of {provider}", model, names)


def base_of(model: ModelEntry) -> ModelEntry | None:
    """Return the open base that a provider's model is, with size, licence and languages.

    None where the model is a vendor's own, or its base is not listed by ``local``.
    """
    return _open_base(model.base, model.id, model.aliases)


@functools.cache
def _open_base(base: str | None, model: str, aliases: tuple[str, ...]) -> ModelEntry | None:
    known = _names("local")
    for name in (base, model, *aliases):
        if name is not None and (found := known.get(name.casefold())) is not None:
            return found
    return None


def params_of(model: ModelEntry) -> Decimal | None:
    """Return billions of parameters of a model: its own row's, else its open base's."""
    if model.params_b is not None:
        return model.params_b
    base = base_of(model)
    return None if base is None else base.params_b


def memory_gb(model: ModelEntry, tuning: Tuning) -> Decimal | None:
    """Return roughly the memory that training a base takes; None where its size is not known."""
    params = params_of(model)
    if params is None:
        return None
    return params * BYTES_PER_PARAMETER[tuning] * Decimal("1.1") + 2


def model_at(host: Provider, model: ModelEntry) -> ModelEntry | None:
    """Return the same base under the name that a host has for it, or None."""
    for known in host.models:
        base = base_of(known)
        if known.id == model.id or (base is not None and base.id == model.id):
            return known
    return None


@functools.cache
def byo_hosts() -> tuple[Provider, ...]:
    """Return the providers that serve adapters or weights trained elsewhere, but for one's own."""
    found = (entry for entry in all_providers(mentioning="byo = true") if entry.id != "local")
    return tuple(entry for entry in found if any(way.byo for way in entry.serving))


@functools.cache
def gpu_size(name: str) -> tuple[Decimal, Decimal] | None:
    """Return the peak and the memory of a GPU, or None for one that the table lacks."""
    from finetuning.estimate import find_gpu

    try:
        found = find_gpu(name)
    except UnknownNameError:
        return None
    return Decimal(found.flops), Decimal(str(found.memory_gb))
