"""Everything a machine without network needs: wheels, a base model, digests, an install script."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final, cast

from finetuning import files, settings
from finetuning.errors import BadInputError, NotAllowedError, RunFailedError, UnknownNameError
from finetuning.records import ToolResult

WHERE: Final = "bundle"
DISTRIBUTION: Final = "fine-tuning-skill"
SUMS: Final = "SHA256SUMS"
_PICKLES: Final = frozenset({".bin", ".pt", ".pth", ".pkl", ".ckpt"})
_INSTALL: Final = """#!/bin/sh
# Installs the bundle beside this script; opens no connection. sh install.sh [FOLDER]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${1:-"$here/venv"}
python=${PYTHON:-python3}
cd "$here"
if command -v sha256sum >/dev/null 2>&1; then check="sha256sum"; else check="shasum -a 256"; fi
$check -c SHA256SUMS >/dev/null || {
  echo "install.sh: a file differs from SHA256SUMS; expected the files as they were bundled." \\
    "Copy the bundle again." >&2
  exit 1
}
found=$("$python" -c 'import platform, sys; print("%d.%d %s %s" % (*sys.version_info[:2],
platform.system(), platform.machine()))')
[ "$found" = "@@MADE_FOR@@" ] || {
  echo "install.sh: $python is $found; expected @@MADE_FOR@@." \\
    "Run: PYTHON=/path/to/that/python sh install.sh" >&2
  exit 1
}
"$python" -m venv "$target"
"$target/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps \\
  --find-links wheels --require-hashes -r requirements.txt
"$target/bin/fine-tuning" --version
if [ -d base ]; then
  echo "the base model is in $here/base; name that folder in FINE_TUNING_ROOTS"
fi
"""


class Bundle(ToolResult, defer_build=True):
    """A folder to carry over, or with dry_run what it would hold.

    ``sha256`` is that of ``SHA256SUMS``: carry it by another way and compare it first.
    """

    dry_run: bool
    output_dir: str
    made_for: str
    wheels: list[str]
    base_files: list[str]
    total_bytes: int | None
    sha256: str | None

    def summary(self) -> str:
        """Say in one line what was bundled."""
        what = f"{len(self.wheels)} wheels and {len(self.base_files)} files of a base"
        if self.dry_run:
            return f"Nothing was downloaded: a bundle for {self.made_for} would hold {what}."
        return f"Wrote {what} for {self.made_for}; on the other side run: sh install.sh"


def bundle(
    output_dir: str = "fine-tuning-bundle",
    extras: list[str] | None = None,
    base: str | None = None,
    dry_run: bool = False,
) -> Bundle:
    """Collect wheels, a base model and digests for a machine without network.

    The folder appears when all is there; an interrupted call goes on where it was. It fits the
    Python and the platform it is made with.

    Args:
        output_dir: New folder for the bundle.
        extras: Extra whose packages are included, repeatable; absent: local; none: no extra.
        base: Folder of a base model to include.
        dry_run: List what would be included and download nothing.

    Raises:
        NotAllowedError: Offline mode is on.
        UnknownNameError: An extra that does not exist.
        BadInputError: The base or the folder cannot be used.
        RunFailedError: pip could not get or build a package.
    """
    if settings.settings().offline:
        raise NotAllowedError(
            WHERE,
            "offline mode is on (FINE_TUNING_OFFLINE=1)",
            "a connection to the package index",
            "Run it on a machine with a network, without FINE_TUNING_OFFLINE",
        )
    requirement = _requirement(["local"] if extras is None else extras)
    target = files.new_output_folder(output_dir, where=WHERE, name="bundle")
    parts = _base_files(base)
    if dry_run:
        names = _resolve(requirement)
        return _result(target, names, [str(path) for path, _ in parts], dry_run=True)
    half_done = target.parent / f".{target.name}.partial"
    (half_done / "wheels").mkdir(parents=True, exist_ok=True)
    _pip("wheel", "--wheel-dir", str(half_done / "wheels"), requirement)
    for source, name in parts:
        _copy(source, half_done / "base" / name)
    _write_texts(half_done)
    if target.exists():
        target.rmdir()
    half_done.rename(target)
    wheels = sorted(path.name for path in (target / "wheels").iterdir())
    done = _result(target, wheels, [name for _, name in parts], dry_run=False)
    from finetuning import audit

    audit.append("bundle.written", {"sha256": done.sha256, "wheels": len(wheels)})
    return done


def _requirement(extras: list[str]) -> str:
    """Return what pip is asked for: the folder this runs from, else the published version."""
    from importlib import metadata

    known = set(metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or ())
    chosen = [name for name in extras if name != "none"]
    for name in chosen:
        if name not in known:
            raise UnknownNameError(WHERE, "extra", name, known)
    suffix = f"[{','.join(chosen)}]" if chosen else ""
    root = Path(__file__).resolve().parents[2]
    if (root / "pyproject.toml").is_file():
        return f"{DISTRIBUTION}{suffix} @ {root.as_uri()}"
    return f"{DISTRIBUTION}{suffix}=={metadata.version(DISTRIBUTION)}"


def _base_files(base: str | None) -> list[tuple[Path, str]]:
    """Return the files of a base with their names in the bundle, pickles left out."""
    if base is None:
        return []
    from finetuning.training.weights import find_base

    folder = find_base(base)
    if folder is None or not (folder / "config.json").is_file():
        raise BadInputError(
            "base",
            f"{base!r} is no base model on this machine",
            "a folder with config.json, tokenizer and safetensors",
            "Download the model into a folder first",
        )
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        (path, f"{folder.name}/{path.relative_to(folder).as_posix()}")
        for path in found
        if path.suffix not in _PICKLES and not path.name.startswith(".")
    ]


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq", *arguments]
    environment = {**os.environ, "PIP_NO_INPUT": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise RunFailedError(
            WHERE,
            f"pip {arguments[0]} ended with code {done.returncode}; its reason stands above",
            "every package, as a wheel",
            "Run it again: what is there already is kept",
        )


def _resolve(requirement: str) -> list[str]:
    """Return ``name==version`` of all packages that pip would fetch."""
    with tempfile.TemporaryDirectory(prefix="fine-tuning-") as folder:
        report = Path(folder) / "report.json"
        _pip("install", "--dry-run", "--ignore-installed", "--report", str(report), requirement)
        found = json.loads(report.read_text(encoding="utf-8"))
    packages = [cast("dict[str, Any]", each["metadata"]) for each in found["install"]]
    return sorted(f"{each['name']}=={each['version']}" for each in packages)


def _copy(source: Path, target: Path) -> None:
    """Copy a file unless an interrupted call has copied it already (same size and time)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_file():
        old, new = target.stat(), source.stat()
        if (old.st_size, int(old.st_mtime)) == (new.st_size, int(new.st_mtime)):
            return
    partial = target.with_name(f".{target.name}.partial")
    shutil.copy2(source, partial)
    partial.rename(target)


def _made_for() -> str:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"{version} {platform.system()} {platform.machine()}"


def _write_texts(folder: Path) -> None:
    """Write requirements with digests, the install script, and last of all the sums."""
    pinned: dict[str, Path] = {}
    found = (folder / "wheels").glob("*.whl")
    for path in sorted(found, key=lambda each: each.stat().st_mtime_ns):
        name = re.sub(r"[-_.]+", "-", path.name.split("-")[0]).lower()
        if name in pinned:  # an interrupted call had got another version
            pinned[name].unlink()
        pinned[name] = path
    lines = [
        f"{name}=={path.name.split('-')[1]} --hash=sha256:{files.sha256_file(path)}\n"
        for name, path in sorted(pinned.items())
    ]
    (folder / "requirements.txt").write_text("".join(lines), encoding="utf-8")
    script = _INSTALL.replace("@@MADE_FOR@@", _made_for())
    (folder / "install.sh").write_text(script, encoding="utf-8")
    (folder / SUMS).unlink(missing_ok=True)
    listed = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = [
        f"{files.sha256_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in listed
    ]
    files.write_text(folder / SUMS, "".join(sums))


def _result(target: Path, wheels: list[str], base_files: list[str], *, dry_run: bool) -> Bundle:
    whole = [path for path in target.rglob("*") if path.is_file()] if not dry_run else []
    return Bundle(
        dry_run=dry_run,
        output_dir=str(target),
        made_for=_made_for(),
        wheels=wheels,
        base_files=base_files,
        total_bytes=None if dry_run else sum(path.stat().st_size for path in whole),
        sha256=None if dry_run else files.sha256_file(target / SUMS),
    )
