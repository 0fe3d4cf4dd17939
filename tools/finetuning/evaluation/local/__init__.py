"""Local models, run in a child process: ``python -m finetuning.evaluation.local``.

Here: a base with its adapters in memory, and answers, kept so that the next adapter on the same
base costs half. Each file of ``<home>/answers/`` holds what one side answered to one job (mode
0600: it is row content), under a digest of all that shapes it: weights, adapter, precision, device,
versions, questions and limits. Only functions of this package import torch, when they are called.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from finetuning.files import digest, sha256_file
from finetuning.settings import settings

if TYPE_CHECKING:
    import torch

BASE_ROWS = "__base__"
"""PEFT's name for rows of a mixed batch that no adapter touches."""

MOST_KEPT: Final = 64
"""Files of answers that stay, the newest."""

_HASHED_WHOLE_BYTES: Final = 64 << 20
_PACKAGES: Final = ("torch", "transformers", "tokenizers", "peft")

Rows = dict[str, list[Any]]
Answers = dict[str, dict[str, Rows]]
"""Side → job → id → answer."""


class CannotRunError(Exception):
    """The model cannot do what is asked.

    Its arguments are what was wrong, what was expected and the next step, in the words of the
    house's error template.
    """

    def __init__(self, what: str, expected: str, next_step: str) -> None:
        """Keep the three parts (row content never belongs in any of them)."""
        super().__init__(what, expected, next_step)


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A base in memory.

    Attributes:
        model: The base, wrapped by PEFT if any side has an adapter.
        tokenizer: The base's tokenizer, for every side.
        base: Folder of the base.
        adapters: side → PEFT's name of its adapter (``__base__`` for none).
        folders: side → folder of its adapter, or None.
        mixed: Whether one batch may hold rows of several adapters.
        longest: Most tokens of prompt and answer together.
    """

    model: Any
    tokenizer: Any
    base: str
    adapters: Mapping[str, str]
    folders: Mapping[str, str | None]
    mixed: bool
    longest: int

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return cast("torch.device", next(iter(self.model.parameters())).device)

    @property
    def plain(self) -> Any:
        """The base model itself, without PEFT's wrapper."""
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    def merge(self, side: str) -> None:
        """Merge a side's adapter for good, where no other side is asked (exact in fp32 alone)."""
        import torch

        name = self.adapters[side]
        if name != BASE_ROWS and self.plain.dtype == torch.float32:
            self.model.set_adapter(name)
            self.model.merge_adapter(adapter_names=[name])

    @contextlib.contextmanager
    def rows_of(self, sides: Sequence[str]) -> Generator[dict[str, Any]]:
        """Give the keyword arguments that make each row use its side's adapter.

        Args:
            sides: One side per row; all the same unless :attr:`mixed`.
        """
        names = [self.adapters[side] for side in sides]
        if not hasattr(self.model, "peft_config"):
            yield {}
        elif self.mixed and len({*names}) > 1:
            yield {"adapter_names": names}
        elif names[0] == BASE_ROWS:
            with self.model.disable_adapter():
                yield {}
        else:
            if self.model.active_adapters != [names[0]]:  # setting one undoes a merge
                self.model.set_adapter(names[0])
            yield {}


def load_model(
    base: str, adapters: Mapping[str, str | None], precision: str | None = None
) -> LocalModel:
    """Load a base and the adapters of its sides.

    Args:
        base: Folder of the base.
        adapters: side → adapter folder, or None for the plain base.
        precision: ``float32`` or ``bfloat16``; None takes what suits the device.

    Raises:
        CannotRunError: A folder does not hold what it should.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    models = cast("Any", AutoModelForCausalLM)  # partly untyped in transformers 5.23
    tokenizers = cast("Any", AutoTokenizer)
    if threads := os.environ.get("OMP_NUM_THREADS", ""):
        torch.set_num_threads(max(1, int(threads)))
    gpu = torch.cuda.is_available()
    dtype = torch.float32 if precision is None else getattr(torch, precision)
    if gpu and precision is None:
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    try:
        tokenizer = tokenizers.from_pretrained(base, local_files_only=True)
        model = models.from_pretrained(
            base, dtype=dtype, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise CannotRunError(
            f"the base in {base!r} cannot be loaded ({type(error).__name__})",
            "config.json, tokenizer files and safetensors weights that transformers can read",
            f"Run: ls -l {base}",
        ) from error
    if gpu:
        model = model.to("cuda")
    longest = int(getattr(model.config.get_text_config(), "max_position_embeddings", 0) or 1 << 20)
    names = {
        side: BASE_ROWS if folder is None else f"side_{number}"
        for number, (side, folder) in enumerate(adapters.items())
    }
    mixed = True
    for side, folder in adapters.items():
        if folder is not None:
            model = _add_adapter(model, folder, names[side])
            mixed = mixed and _may_mix(folder)
    model.eval()
    return LocalModel(model, tokenizer, base, names, dict(adapters), mixed, longest)


def _add_adapter(model: Any, folder: str, name: str) -> Any:
    from peft import PeftModel

    wrapper = cast("Any", PeftModel)  # partly untyped in peft 0.21
    try:
        if hasattr(model, "peft_config"):
            model.load_adapter(folder, adapter_name=name, is_trainable=False)
            return model
        return wrapper.from_pretrained(model, folder, adapter_name=name, is_trainable=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CannotRunError(
            f"the adapter in {folder!r} does not fit this base ({type(error).__name__})",
            "an adapter that was trained on the base it is evaluated with",
            "Compare base_model_name_or_path in its adapter_config.json with the base",
        ) from error


def _may_mix(folder: str) -> bool:
    """Say whether PEFT can run this adapter in a batch with others (plain LoRA only)."""
    config = json.loads((Path(folder) / "adapter_config.json").read_text(encoding="utf-8"))
    special = ("use_dora", "modules_to_save", "trainable_token_indices", "alora_invocation_tokens")
    return config.get("peft_type") == "LORA" and not any(config.get(name) for name in special)


def describe(model: LocalModel) -> dict[str, Any]:
    """Return what ran, for the report: versions, digests, precision."""
    import torch

    folder, template = Path(model.base), getattr(model.tokenizer, "chat_template", None) or ""
    packages = _PACKAGES if any(model.folders.values()) else _PACKAGES[:-1]
    return {
        "base_sha256": folder_digest(model.base),
        "adapter_sha256": {
            side: folder_digest(folder) for side, folder in model.folders.items() if folder
        },
        "chat_template_sha256": hashlib.sha256(str(template).encode()).hexdigest(),
        "tokenizer_sha256": digest({p.name: sha256_file(p) for p in folder.glob("tokenizer*")}),
        "dtype": str(model.plain.dtype).removeprefix("torch."),
        "device": model.device.type,
        "threads": torch.get_num_threads(),
        "mixed_batches": model.mixed,
        "versions": {name: metadata.version(name) for name in packages},
    }


def folder_digest(folder: str, *, times: bool = False) -> str:
    """Return a digest of a model folder: names, sizes, and the content of files up to 64 MiB.

    Args:
        folder: The folder of a base or of an adapter.
        times: Take in when the larger files were written.
    """
    state = hashlib.sha256()
    for path in sorted(Path(folder).iterdir()):
        if path.is_file() and path.suffix in {".json", ".safetensors", ".model", ".jinja"}:
            found = path.stat()
            state.update(f"{path.name}\0{found.st_size}\0".encode())
            if found.st_size <= _HASHED_WHOLE_BYTES:
                state.update(path.read_bytes())
            elif times:
                state.update(f"{found.st_mtime_ns}\0".encode())
    return state.hexdigest()


def recall(
    model: LocalModel, jobs: Mapping[str, Mapping[str, Any]], max_tokens: int, *, remember: bool
) -> tuple[Answers, dict[tuple[str, str], str]]:
    """Return what is kept, and the key of each job and side that must be asked.

    The arguments are those of ``answer_jobs``; nothing is found where ``remember`` is false.
    """
    answers: Answers = {side: {} for side in model.adapters}
    keys: dict[tuple[str, str], str] = {}
    for name, job in jobs.items():
        for side in job["sides"]:
            key = key_of(model, side, job, max_tokens) if remember else ""
            rows = read_kept(key) if remember else None
            if rows is None:
                keys[name, side] = key
            else:
                answers[side][name] = rows
    return answers, keys


def key_of(model: LocalModel, side: str, job: Mapping[str, Any], max_tokens: int) -> str:
    """Return the digest under which a side's answers to a job are kept."""
    adapter = model.folders[side]
    return digest(
        {
            "base": folder_digest(model.base, times=True),
            "adapter": None if adapter is None else folder_digest(adapter, times=True),
            "dtype": str(model.plain.dtype),
            "device": str(model.device),
            "versions": [_version(name) for name in _PACKAGES],
            "generate": max_tokens if job["generate"] else None,
            "nll": job["nll"],
            "questions": job["questions"],
        }
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def read_kept(key: str) -> Rows | None:
    """Return kept answers, or None."""
    try:
        return cast("Rows", json.loads(_path(key).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def keep(key: str, rows: Rows) -> None:
    """Keep answers; a disk that is full or a folder that is shut only costs the time saved."""
    path = _path(key)
    temporary = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            json.dump(rows, file)
        temporary.replace(path)
        files = sorted(path.parent.glob("*.json"), key=lambda each: each.stat().st_mtime_ns)
        for old in files[:-MOST_KEPT]:
            old.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def _path(key: str) -> Path:
    return settings().home / "answers" / f"{key}.json"
