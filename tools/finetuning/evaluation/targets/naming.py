"""Target texts such as ``local:DIR+ADAPTER``, turned into what they name."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from finetuning import runs
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.evaluation.targets.protocol import (
    HttpTarget,
    LocalTarget,
    RecordedTarget,
    Target,
)
from finetuning.files import resolve_read

_KINDS = ("local:DIR", "local:DIR+ADAPTER", "run:RUN_ID", "recorded:FILE", "http://HOST/v1#MODEL")


def parse_target(spec: str, *, where: str) -> Target:
    """Return the target that a text names; files and runs are looked up at once.

    Args:
        spec: ``local:DIR``, ``local:DIR+ADAPTER`` (after the last ``+``), ``run:RUN_ID``,
            ``recorded:FILE`` or ``http://HOST/v1#MODEL``.
        where: Name of the argument, for the error text.

    Raises:
        UnknownNameError: The kind of target is not known.
        BadInputError: The folder, file, run or address cannot be used.
    """
    kind, _, rest = spec.partition(":")
    if kind in {"http", "https"}:
        return _http(spec, where)
    if kind not in {"local", "run", "recorded"} or not rest.strip():
        raise UnknownNameError(where, "target", spec[:80], _KINDS)
    if kind == "recorded":
        return RecordedTarget(spec, str(resolve_read(rest, where=where)))
    if kind == "run":
        return _run(spec, rest, where)
    return _local(spec, rest, where)


def _local(spec: str, rest: str, where: str) -> LocalTarget:
    base, plus, adapter = rest.rpartition("+")
    if plus and adapter and base:
        return LocalTarget(spec, _base_folder(base, where), _adapter_folder(adapter, where))
    return LocalTarget(spec, _base_folder(rest, where))


def _run(spec: str, run_id: str, where: str) -> LocalTarget:
    row = runs.read_run(run_id)
    result: dict[str, Any] = row.result or {}
    base, adapter = result.get("base_model"), result.get("adapter_dir")
    if row.status != "succeeded" or not isinstance(base, str):
        raise BadInputError(
            where,
            f"run {run_id} ({row.tool}) is {row.status} and names no trained model",
            "a training run that succeeded",
            f"Run: fine-tuning get-run {run_id}",
        )
    folder = _adapter_folder(adapter, where) if isinstance(adapter, str) else None
    return LocalTarget(spec, _base_folder(base, where), folder)


def _base_folder(path: str, where: str) -> str:
    folder = resolve_read(path, where=where, kind="folder")
    if not (folder / "config.json").is_file():
        raise BadInputError(
            where,
            f"{path!r} has no config.json",
            "the folder of a model in Hugging Face format",
            "Name the folder that holds config.json, tokenizer.json and the weights",
        )
    return str(folder)


def _adapter_folder(path: str, where: str) -> str:
    folder = resolve_read(path, where=where, kind="folder")
    if not (folder / "adapter_config.json").is_file():
        raise BadInputError(
            where,
            f"{path!r} has no adapter_config.json",
            "the folder of a PEFT adapter",
            "Name the adapter folder after the last '+'",
        )
    return str(folder)


def _http(spec: str, where: str) -> HttpTarget:
    try:
        parts = urlsplit(spec)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, port = urlsplit("http://"), 0
    if not parts.hostname or not parts.fragment or parts.username or parts.query:
        raise BadInputError(
            where,
            "the address lacks a host or a model, or holds a login or a query",
            "http://HOST:PORT/v1#MODEL",
            "Write the model's name after '#', for example http://localhost:8000/v1#my-model",
        )
    path = parts.path.rstrip("/")
    secure = parts.scheme == "https"
    return HttpTarget(spec, secure, parts.hostname, port, path, parts.fragment)
