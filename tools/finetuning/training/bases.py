"""Which base model is meant: its folder or its commit on the hub, its digest and its licence."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Final, cast

from finetuning import files
from finetuning.errors import FineTuningError
from finetuning.records import Finding, Model
from finetuning.settings import settings
from finetuning.training.config import finding, refusal

HUB: Final = "https://huggingface.co"
_ASK_SECONDS: Final = 5.0
_HASHED_BYTES: Final = 2 << 30
_ANSWER_BYTES: Final = 8 * 2**20
_SNAPSHOT: Final = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<sha>\w+)")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_AWAY: Final = ("hf_jobs",)
"""Engines that run where a folder of this machine cannot be read."""
_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")


class Base(Model, defer_build=True):
    """A base model as it will be used; what is not known is null."""

    name: str
    folder: str | None
    revision: str | None = None
    sha256: str | None = None
    licence: str | None = None
    licence_note: str = ""
    licence_source: str | None = None
    gated: bool = False
    not_pinned_because: str | None = None

    def download(self, home: Path) -> str:
        """Return the command that fetches the model into the folder where it is looked for."""
        pinned = f" --revision {self.revision}" if self.revision else ""
        return f"hf download {self.name}{pinned} --local-dir {home / self.name.rpartition('/')[2]}"


def find_out(base_model: str, revision: str | None = None) -> Base:
    """Return what is known of a base model, from its folder, the hub's cache or the hub.

    The hub is asked for the commit of a name that is not on this machine where somebody wants it:
    a branch or tag is named, or a mirror is set (``HF_ENDPOINT``). Nothing but the model's name is
    sent, and nothing at all with ``FINE_TUNING_OFFLINE`` or ``HF_HUB_OFFLINE`` at 1.

    Args:
        base_model: Folder, name in ``<home>/bases`` or id on the hub.
        revision: Commit, tag or branch on the hub; None: whatever is here.

    Raises:
        BadInputError: The folder came from another commit than the one named.
    """
    from finetuning.training.weights import demo_base, find_base

    folder = find_base(base_model) or _cached(base_model, revision)
    if folder is None and base_model == "demo":
        folder = demo_base()  # as inspect_environment names it
    if folder is None:
        return _with_licence(_asked(base_model, revision))
    name, commit = _origin(folder)
    if revision and commit and _COMMIT.fullmatch(revision) and commit != revision:
        facts = {"there": commit[:12], "wanted": revision[:12], "revision": revision}
        where = {"folder": str(folder), "name": name or base_model}
        raise refusal("base_revision", "other_commit", **facts, **where)
    known = name or (base_model if _ID.fullmatch(base_model) else folder.name)
    base = Base(
        name=known, folder=str(folder), revision=commit or revision, sha256=digest_of(folder)
    )
    return _with_licence(base)


def digest_of(folder: Path) -> str | None:
    """Return one digest of a model's files, as the pre-flight of a run checks it.

    None above 2 GiB, where the commit says which files they are and hashing would take long.
    """
    parts = sorted(p for p in folder.glob("*") if p.suffix in {".json", ".safetensors"})
    if sum(path.stat().st_size for path in parts) > _HASHED_BYTES:
        return None
    return files.digest({path.name: files.sha256_file(path) for path in parts})


def _origin(folder: Path) -> tuple[str | None, str | None]:
    """Return the hub id and the commit that a folder was downloaded from, where it says so."""
    if match := _SNAPSHOT.search(folder.resolve().as_posix()):
        return f"{match['owner']}/{match['name']}", match["sha"]
    noted = folder / ".cache" / "huggingface" / "download" / "config.json.metadata"
    if noted.is_file():  # written by `hf download --local-dir`: commit, etag, time
        commit = noted.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
        return None, commit if _COMMIT.fullmatch(commit) else None
    return None, None


def _cached(name: str, revision: str | None) -> Path | None:
    """Return the snapshot of a model in the hub's cache, where it may be read."""
    if not _ID.fullmatch(name):
        return None
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
    folder = cache / f"models--{name.replace('/', '--')}"
    try:
        noted = (folder / "refs" / (revision or "main")).read_text(encoding="utf-8").strip()
    except OSError:
        noted = revision or ""
    snapshot = folder / "snapshots" / noted
    if not _COMMIT.fullmatch(noted) or not (snapshot / "config.json").is_file():
        return None
    try:
        return files.resolve_read(str(snapshot), where="base_model", kind="folder")
    except FineTuningError:
        return None  # outside the folders that may be read: the download command copies it


def _asked(name: str, revision: str | None) -> Base:
    """Ask the hub for the commit of a name."""
    if not _ID.fullmatch(name):
        return Base(name=name, folder=None, revision=revision, not_pinned_because="no hub id")
    if revision and _COMMIT.fullmatch(revision):
        return Base(name=name, folder=None, revision=revision)
    mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    why = None
    if settings().offline or os.environ.get("HF_HUB_OFFLINE", "") in {"1", "true", "TRUE", "YES"}:
        why = "offline mode is on"
    elif not (revision or mirror):
        why = "nobody asked the hub"
    if why:
        return Base(name=name, folder=None, revision=revision, not_pinned_because=why)
    endpoint = mirror or HUB
    try:
        told = _get(f"{endpoint}/api/models/{name}/revision/{revision or 'main'}")
    except (OSError, ValueError) as error:
        why = f"{endpoint.partition('://')[2]}: {type(error).__name__}"
        status = getattr(error, "code", None)
        gone = status in {401, 403}
        why += f" {status}" if status else ""
        return Base(name=name, folder=None, revision=revision, gated=gone, not_pinned_because=why)
    sha = told.get("sha")
    card = cast("dict[str, Any]", told.get("cardData") or {})
    return Base(
        name=name,
        folder=None,
        revision=sha if isinstance(sha, str) and _COMMIT.fullmatch(sha) else revision,
        gated=bool(told.get("gated")),
        licence=str(card["license"]) if isinstance(card.get("license"), str) else None,
        licence_source=f"{endpoint}/{name}" if card.get("license") else None,
        not_pinned_because=None if sha else "the answer names no commit",
    )


def _get(url: str) -> dict[str, Any]:
    """Return a JSON object from the hub.

    Raises:
        OSError: No connection, or a status that is no success.
        ValueError: The answer is no JSON object, or the address is no http(s) one.
    """
    from urllib.request import Request, urlopen

    if not url.startswith(("https://", "http://")):
        raise ValueError("HF_ENDPOINT is no http address")
    request = Request(url, headers={"User-Agent": "fine-tuning-skill"})  # noqa: S310 - checked above
    with urlopen(request, timeout=_ASK_SECONDS) as reply:  # noqa: S310 - checked above
        told: Any = json.loads(reply.read(_ANSWER_BYTES))
    if not isinstance(told, dict):
        raise ValueError("no JSON object")
    return cast("dict[str, Any]", told)


def _with_licence(base: Base) -> Base:
    """Add the licence that the catalogue knows; it decides over a model card."""
    from finetuning.providers.catalogue import find_model, load_provider

    entry = find_model("local", base.name)
    if not entry.licence:
        return base
    source = load_provider("local").sources[entry.source]
    return base.model_copy(
        update={
            "licence": entry.licence,
            "licence_note": entry.licence_note,
            "licence_source": f"{source.url or source.note} (checked {source.checked})",
        }
    )


def findings_of(base: Base, engine: str, *, elsewhere: bool) -> list[Finding]:
    """Return what is to be done or known before a base model is used.

    Args:
        base: The base model.
        engine: Who trains.
        elsewhere: The run is written down for another program.
    """
    from finetuning.training.weights import bases_folder

    found: list[Finding] = []
    command = base.download(bases_folder())
    if base.folder is None and not elsewhere:
        found.append(finding("base_not_here", base=base.name, command=command))
    if base.gated:
        page = f"https://huggingface.co/{base.name}"
        found.append(finding("base_gated", base=base.name, page=page, command=command))
    elif base.not_pinned_because:
        why = base.not_pinned_because
        found.append(finding("base_not_pinned", base=base.name, why=why))
    if base.folder is not None and engine in _AWAY:
        found.append(finding("base_stays_here", base=base.name, engine=engine))
    if base.licence is None and base.folder is None:
        found.append(finding("licence_unknown", base=base.name))
    elif base.licence not in {None, "apache-2.0", "mit"}:
        note = f" ({base.licence_note})" if base.licence_note else ""
        found.append(finding("licence_terms", base=base.name, licence=base.licence, note=note))
    return found
