"""Create runs: one row, one private folder, and one run per idempotency key."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from finetuning import files
from finetuning.errors import BadInputError
from finetuning.records import Json
from finetuning.runs import processes, store
from finetuning.runs.models import RunRow
from finetuning.runs.rows import read_run


def create_run(
    tool: str,
    *,
    arguments: Mapping[str, Json],
    parent_run_id: str | None = None,
    idempotency_key: str | None = None,
) -> RunRow:
    """Record a new run in state ``queued`` and make its folder.

    The arguments go to ``args.json`` in that folder (mode 0600), never into the store.

    Args:
        tool: Name of the tool the run belongs to.
        arguments: JSON-able arguments of the call.
        parent_run_id: Run this one continues or repeats.
        idempotency_key: A second call with the same key gets the first run back.

    Returns:
        The new run, or the one that already holds the key.

    Raises:
        BadInputError: The key belongs to a run of another tool or with other arguments.
        UnknownNameError: ``parent_run_id`` is not in the store.
    """
    digest = files.digest(dict(arguments))
    if parent_run_id is not None:
        read_run(parent_run_id)
    if idempotency_key is not None and (known := _by_key(tool, idempotency_key, digest)):
        return known
    run_id = f"run-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
    folder = store.run_folder(run_id)
    store.private_folder(folder)
    _write_private(folder / "args.json", json.dumps(dict(arguments), ensure_ascii=False))
    if not _insert(run_id, tool, digest, parent_run_id, idempotency_key):
        (folder / "args.json").unlink()  # another process took the key in between
        folder.rmdir()
    return (idempotency_key and _by_key(tool, idempotency_key, digest)) or read_run(run_id)


def _insert(
    run_id: str, tool: str, digest: str, parent_run_id: str | None, key: str | None
) -> bool:
    me = processes.owner()
    with store.connect() as connection:
        added = connection.execute(
            "INSERT INTO runs (run_id, tool, status, created_at, updated_at, parent_run_id,"
            " config_digest, idempotency_key, owner_pid, owner_started, owner_machine, heartbeat)"
            " VALUES (:run_id, :tool, 'queued', :now, :now, :parent,"
            " :digest, :key, :pid, :started, :machine, :heartbeat)"
            " ON CONFLICT (idempotency_key) DO NOTHING",
            {
                "run_id": run_id,
                "tool": tool,
                "now": store.now(),
                "parent": parent_run_id,
                "digest": digest,
                "key": key,
                "pid": me.pid,
                "started": me.started,
                "machine": me.machine,
                "heartbeat": time.time(),
            },
        ).rowcount
    return bool(added)


def _write_private(path: os.PathLike[str], text: str) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _by_key(tool: str, key: str, digest: str) -> RunRow | None:
    with store.connect() as connection:
        found = connection.execute(
            "SELECT run_id, tool, config_digest FROM runs WHERE idempotency_key = ?", (key,)
        ).fetchone()
    if found is None:
        return None
    if found["tool"] != tool or found["config_digest"] != digest:
        raise BadInputError(
            tool,
            f"idempotency_key of {len(key)} characters already names {found['run_id']}, "
            "which was started with other arguments",
            "the same arguments, or a new key",
            "Leave idempotency_key out, or use another one",
        )
    return read_run(found["run_id"])
