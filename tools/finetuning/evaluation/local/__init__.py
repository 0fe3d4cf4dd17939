"""Local models, run in a child process: ``python -m finetuning.evaluation.local``.

Here: rows as token ids, the way training saw them, and a base with its adapters in memory. Only
functions of this package import torch, when they are called; no library code imports it.
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
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    import torch

BASE_ROWS = "__base__"
"""PEFT's name for rows of a mixed batch that no adapter touches."""

_HASHED_WHOLE_BYTES = 64 << 20


class CannotRunError(Exception):
    """The model cannot do what is asked.

    Its arguments are what was wrong, what was expected and the next step, in the words of the
    house's error template.
    """

    def __init__(self, what: str, expected: str, next_step: str) -> None:
        """Keep the three parts (row content never belongs in any of them)."""
        super().__init__(what, expected, next_step)


class Encoded(NamedTuple):
    """One row: its id, the ids of the prompt and those of the reference."""

    id: str
    prompt: list[int]
    reference: list[int]


def encode(tokenizer: Any, question: dict[str, Any]) -> Encoded:
    """Return the token ids of a question and of its reference.

    Raw rows are prompt + completion as one text, split where the prompt's own ids end, as TRL
    does in training; chat rows go through the tokenizer's template.

    Args:
        tokenizer: The base's tokenizer.
        question: id, prompt or messages, and reference.

    Raises:
        CannotRunError: A chat row meets a tokenizer without template.
    """
    reference: str = question["reference"]
    if question["messages"] is None:
        start = _raw(tokenizer, question["prompt"])
        both = _raw(tokenizer, question["prompt"] + reference)
    else:
        messages = question["messages"]
        answer = {"role": "assistant", "content": reference}
        start = _chat(tokenizer, messages, continued=True)
        both = _chat(tokenizer, [*messages, answer], continued=False)
    if both[: len(start)] == start and len(both) > len(start):
        rest = both[len(start) :]
    else:  # the border falls inside a token: score the answer's own ids
        rest = list(tokenizer(reference, add_special_tokens=False)["input_ids"])
    return Encoded(question["id"], start, _without_ending(tokenizer, rest))


def _raw(tokenizer: Any, text: str) -> list[int]:
    ids = list(tokenizer(text)["input_ids"])
    return _without_ending(tokenizer, ids)


def _without_ending(tokenizer: Any, ids: list[int]) -> list[int]:
    """Drop end-of-text ids at the end: how a text stops is not part of what it says."""
    while ids and ids[-1] == tokenizer.eos_token_id:
        ids = ids[:-1]
    return ids


def _chat(tokenizer: Any, messages: list[dict[str, Any]], *, continued: bool) -> list[int]:
    if not getattr(tokenizer, "chat_template", None):
        raise CannotRunError(
            "the rows are chats and this base's tokenizer has no chat template",
            "a base with a chat template, or rows of prompt and completion",
            "Convert the data: fine-tuning prepare-data FILE --target trl_prompt_completion"
            " --output-dir prepared",
        )
    found = tokenizer.apply_chat_template(
        messages, add_generation_prompt=continued, tokenize=True, return_dict=True
    )
    return list(found["input_ids"])


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

    template = getattr(model.tokenizer, "chat_template", None) or ""
    packages = ["torch", "transformers", "tokenizers"]
    packages += ["peft"] if any(model.folders.values()) else []
    return {
        "base_sha256": folder_digest(model.base),
        "adapter_sha256": {
            side: folder_digest(folder) for side, folder in model.folders.items() if folder
        },
        "chat_template_sha256": hashlib.sha256(str(template).encode()).hexdigest(),
        "tokenizer_sha256": _tokenizer_digest(Path(model.base)),
        "dtype": str(model.plain.dtype).removeprefix("torch."),
        "device": model.device.type,
        "threads": torch.get_num_threads(),
        "mixed_batches": model.mixed,
        "versions": {name: metadata.version(name) for name in packages},
    }


def _tokenizer_digest(folder: Path) -> str:
    state = hashlib.sha256()
    for path in sorted(folder.glob("tokenizer*")):
        state.update(path.name.encode() + path.read_bytes())
    return state.hexdigest()


def folder_digest(folder: str) -> str:
    """Return a digest of a model folder: names, sizes, and the content of files up to 64 MiB."""
    state = hashlib.sha256()
    for path in sorted(Path(folder).iterdir()):
        if path.is_file() and path.suffix in {".json", ".safetensors", ".model", ".jinja"}:
            size = path.stat().st_size
            state.update(f"{path.name}\0{size}\0".encode())
            if size <= _HASHED_WHOLE_BYTES:
                state.update(path.read_bytes())
    return state.hexdigest()
