"""Entry point of the child: reads REQUEST.json, writes RESULT.json, reports on stderr.

The request groups jobs by base model; each base is loaded once with all its adapters, from disk
and without pickle. The child ends when the process that started it is gone, which it watches
before it imports torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from finetuning import settings
from finetuning.evaluation.local import CannotRunError

if TYPE_CHECKING:
    from finetuning.evaluation.local.answering import LocalModel

_HASHED_WHOLE_BYTES = 64 << 20


def load_model(base: str, adapters: Mapping[str, str | None]) -> LocalModel:
    """Load a base and the adapters of its sides.

    Args:
        base: Folder of the base.
        adapters: side → adapter folder, or None for the plain base.

    Raises:
        CannotRunError: A folder does not hold what it should.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from finetuning.evaluation.local.answering import BASE_ROWS, LocalModel

    models = cast("Any", AutoModelForCausalLM)  # partly untyped in transformers 5.23
    tokenizers = cast("Any", AutoTokenizer)
    if threads := os.environ.get("OMP_NUM_THREADS", ""):
        torch.set_num_threads(max(1, int(threads)))
    gpu = torch.cuda.is_available()
    dtype = torch.float32
    if gpu:
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


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Return the reply to one request: answers by side and job, and what ran."""
    started = time.perf_counter()
    from finetuning.evaluation.local.answering import answer_jobs

    answers: dict[str, Any] = {}
    models: list[dict[str, Any]] = []
    for entry in request["models"]:
        _report(0, 1, "loading the model")
        model = load_model(entry["base"], entry["adapters"])
        loaded = time.perf_counter() - started
        answers |= answer_jobs(model, entry["jobs"], request["max_tokens"], _report)
        models.append({**describe(model), "load_seconds": round(loaded, 2)})
        started = time.perf_counter()
    return {"answers": answers, "provenance": {"models": models}}


def _report(done: int, total: int, what: str) -> None:
    sys.stderr.write(f"progress {done} {total} {what}\n")
    sys.stderr.flush()


def main(arguments: list[str]) -> int:
    """Read the request, answer it, and leave the reply whole or not at all."""
    settings.enforce_offline()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    source, target = map(Path, arguments)
    _report(0, 1, "loading the libraries")
    try:
        reply = run(json.loads(source.read_text(encoding="utf-8")))
    except CannotRunError as error:
        reply = {"error": list(error.args)}
    temporary = target.with_suffix(".tmp")
    temporary.write_text(json.dumps(reply, allow_nan=False), encoding="utf-8")
    temporary.replace(target)
    return 0


def _end_with_parent() -> None:
    """End this process once its standard input closes: then nobody waits for the answer."""
    while os.read(0, 1):
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
