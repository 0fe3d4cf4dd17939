"""What servers need beside the weights, and what they refuse.

Prompts to compare models with, the texts a chat template puts around turns, Ollama's Modelfile,
vLLM's command line and its limits, and the call of llama.cpp's converter.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from finetuning.records import Finding, Json, Severity
from finetuning.training.config import TrainingConfig, read_tables

VLLM_RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of vLLM's ``--max-lora-rank`` (docs.vllm.ai, vllm.config.lora 0.22.1, read 2026-11-20)."""
CONVERTER: Final = "convert_hf_to_gguf.py"
"""Of https://github.com/ggml-org/llama.cpp (its arguments checked 2026-11-20)."""
_GGUF_TYPES: Final = {"float32": "f32", "bfloat16": "bf16"}
_MOST_CONTEXT: Final = 8192


def finding(code: str, **facts: Json) -> Finding:
    """Return a finding in the words of tables.toml."""
    severity, message, fix = read_tables()["export"][code]
    return Finding(
        code=code,
        severity=cast("Severity", severity),
        message=message.format(**facts),
        fix=fix.format(**facts),
    )


# --- the chat template as fixed pieces of text --------------------------------------------------

_TURNS: Final = tuple(
    {"role": role, "content": f"⟦{number}⟧"}
    for number, role in enumerate(("system", *("user", "assistant") * 2, "user"))
)
"""A conversation with marks in the place of contents, so that the texts between them show."""


def pieces_of(tokenizer: Any) -> dict[str, str] | None:
    """Return the texts that a chat template puts around turns, or None where they are not fixed.

    The pieces found in short conversations must explain longer ones too. A beginning-of-text token
    at the start is left out: servers add it themselves.

    Args:
        tokenizer: The tokenizer with its template.
    """
    try:
        head, tail = _between(tokenizer, _TURNS[1:2])
        before_system, after_system, rest = _between(tokenizer, _TURNS[:2])
        _, after_user, after_reply, _ = _between(tokenizer, _TURNS[1:4])
        pieces = {
            "head": head,
            "before_system": before_system,
            "after_system": after_system,
            "after_user": after_user,
            "after_reply": after_reply,
            "tail": tail,
        }
        fixed = rest == tail and all(
            _between(tokenizer, turns) == _expected(pieces, turns)
            for turns in (_TURNS[1:4], _TURNS[:4], _TURNS[1:], _TURNS)
        )
    except ValueError:
        return None
    return pieces if fixed else None


def _between(tokenizer: Any, turns: Sequence[dict[str, str]]) -> list[str]:
    """Return the texts before, between and after the contents of a rendered conversation.

    Raises:
        ValueError: The template refuses the conversation or drops a content.
    """
    try:
        text = tokenizer.apply_chat_template(
            list(turns), add_generation_prompt=True, tokenize=False
        )
    except Exception as error:  # templates raise what they like, for example on a system turn
        raise ValueError(len(turns)) from error
    parts: list[str] = []
    for turn in turns:
        part, found, text = text.partition(turn["content"])
        if not found:
            raise ValueError(len(turns))
        parts.append(part)
    parts[0] = parts[0].removeprefix(tokenizer.bos_token or "")
    return [*parts, text]


def _expected(pieces: Mapping[str, str], turns: Sequence[dict[str, str]]) -> list[str]:
    with_system = turns[0]["role"] == "system"
    start = ("before_system", "after_system") if with_system else ("head",)
    exchanges = (len(turns) - len(start)) // 2
    names = (*start, *("after_user", "after_reply") * exchanges, "tail")
    return [pieces[name] for name in names]


# --- Ollama -------------------------------------------------------------------------------------


def modelfile(weights: str, template: str | None, *, stops: Sequence[str], longest: int) -> str:
    """Return the text of a Modelfile.

    Args:
        weights: GGUF file or folder of safetensors, relative to the Modelfile.
        template: Template of a prompt in Go's language; None leaves it to Ollama.
        stops: Tokens that end an answer.
        longest: Most tokens the model was made for.

    Source: https://docs.ollama.com/modelfile (checked 2026-11-20)
    """
    lines = [
        f"FROM {weights}",
        *([] if template is None else [f'TEMPLATE """{template}"""']),
        *(f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops),
        f"PARAMETER num_ctx {min(longest, _MOST_CONTEXT)}",
        "PARAMETER temperature 0",
    ]
    return "\n".join(lines) + "\n"


def go_template(pieces: Mapping[str, str]) -> str:
    """Return a chat template in Go's language from the texts around turns."""
    text = {name: _go(piece) for name, piece in pieces.items()}
    last = "eq (len (slice $.Messages $i)) 1"
    return (
        f"{{{{ if .System }}}}{text['before_system']}{{{{ .System }}}}{text['after_system']}"
        f"{{{{ else }}}}{text['head']}{{{{ end }}}}{{{{ range $i, $_ := .Messages }}}}"
        f'{{{{ if eq .Role "user" }}}}{{{{ .Content }}}}{{{{ if {last} }}}}{text["tail"]}'
        f"{{{{ else }}}}{text['after_user']}{{{{ end }}}}"
        f'{{{{ else if eq .Role "assistant" }}}}{{{{ .Content }}}}{text["after_reply"]}'
        "{{ end }}{{ end }}"
    )


def _go(piece: str) -> str:
    """Write a text so that Go's template language and the Modelfile's quotes leave it alone."""
    if "{{" in piece or '"""' in piece:
        return "{{ " + json.dumps(piece, ensure_ascii=False) + " }}"
    return piece


# --- vLLM ---------------------------------------------------------------------------------------


def lint_for_vllm(settings: Mapping[str, Any], vocabulary: Mapping[str, int]) -> list[Finding]:
    """Return what vLLM would refuse about an adapter.

    Args:
        settings: The content of ``adapter_config.json``.
        vocabulary: Tokens of the tokenizer, and rows of the base's embeddings.

    Source: vLLM's checks of PEFT adapters (modules_to_save, DoRA, bias, rank), read 2026-11-20;
        vllm issues 9280, 4186, 2847
    """
    rank, highest = rank_of(settings), VLLM_RANKS[-1]
    heads = {"embed_tokens", "lm_head", "wte"}
    refused = {
        "not_lora": settings.get("peft_type") != "LORA",
        "modules_to_save": settings.get("modules_to_save"),
        "dora": settings.get("use_dora"),
        "bias": settings.get("bias", "none") != "none",
        "trained_tokens": settings.get("trainable_token_indices"),
        "unsupported_target": heads & set(_targets(settings)),
        "resized_vocabulary": vocabulary["tokenizer"] > vocabulary["embeddings"],
        "rank_too_high": rank > highest,
    }
    facts = {**vocabulary, "rank": rank, "highest": highest}
    return [finding(f"vllm_{code}", **facts) for code, bad in refused.items() if bad]


def _targets(settings: Mapping[str, Any]) -> list[str]:
    named: Any = settings.get("target_modules") or ()
    several = [named] if isinstance(named, str) else cast("list[str]", named)
    return [name.rpartition(".")[2] for name in several]


def rank_of(settings: Mapping[str, Any]) -> int:
    """Return the highest rank of an adapter's matrices."""
    pattern = cast("dict[str, int]", settings.get("rank_pattern") or {})
    return max(int(settings.get("r") or 0), *(int(rank) for rank in pattern.values()), 0)


def vllm_script(base: str, name: str, settings: Mapping[str, Any] | None, dtype: str) -> str:
    """Return a script that serves the folder ``model`` beside it.

    Args:
        base: Folder of the base.
        name: What the tuned model is called in requests.
        settings: The adapter's own; None for a whole model.
        dtype: Precision to serve in.
    """
    command = f"vllm serve {shlex.quote(base)} --tokenizer" + ' "$here/model"'
    if settings is None:
        command = f'vllm serve "$here/model" --served-model-name {shlex.quote(name)}'
    else:
        rank = next(each for each in VLLM_RANKS if each >= rank_of(settings))
        command += f" --enable-lora --max-lora-rank {rank}"
        command += f' --lora-modules {shlex.quote(name)}="$here/model"'
    return (
        '#!/bin/sh\nset -eu\nhere=$(cd "$(dirname "$0")" && pwd)\n'
        f"# ask for the model {name!r}\n"
        f'exec {command} --dtype {dtype} "$@"\n'
    )


# --- llama.cpp ----------------------------------------------------------------------------------


def gguf_script(dtype: str) -> str:
    """Return a script that converts the merged model beside it where llama.cpp is installed."""
    return (
        '#!/bin/sh\nset -eu\nhere=$(cd "$(dirname "$0")" && pwd)\n'
        f"converter=${{FINE_TUNING_GGUF_CONVERTER:-$(command -v {CONVERTER} || true)}}\n"
        '[ -n "$converter" ] || { echo "convert_to_gguf.sh: llama.cpp\'s converter was not found; '
        f"expected {CONVERTER} on PATH. Clone llama.cpp and set FINE_TUNING_GGUF_CONVERTER "
        'to it." >&2; exit 1; }\n'
        'exec python3 "$converter" "$here/merged" --outfile "$here/model.gguf" '
        f"--outtype {_GGUF_TYPES[dtype]}\n"
    )


def make_gguf(folder: Path, dtype: str) -> Finding:
    """Turn ``folder/merged`` into ``model.gguf`` where the converter is found, else write a script.

    The converter is what FINE_TUNING_GGUF_CONVERTER names, or the one on PATH.
    """
    converter = os.environ.get("FINE_TUNING_GGUF_CONVERTER") or shutil.which(CONVERTER)
    if converter is None:
        write_script(folder / "convert_to_gguf.sh", gguf_script(dtype))
        return finding("gguf_converter_missing")
    merged, target = folder / "merged", folder / "model.gguf"
    command = [sys.executable, converter, str(merged), "--outfile", str(target)]
    command += ["--outtype", _GGUF_TYPES[dtype]]
    ended: int | str
    try:
        ended = subprocess.run(command, capture_output=True, timeout=3600, check=False).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        ended = type(error).__name__
    if ended != 0 or not target.is_file():
        return finding("gguf_conversion_failed", ended=ended, converter=converter)
    shutil.rmtree(merged)
    return finding("gguf_not_compared")


def write_script(path: Path, text: str) -> None:
    """Write a script that its owner and group may run."""
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP)


# --- the card -----------------------------------------------------------------------------------


def card(
    config: TrainingConfig,
    result: Mapping[str, Any],
    reply: Mapping[str, Any],
    parity: Mapping[str, Any],
) -> str:
    """Return the README of an export: what it is, how it was trained, what was checked."""
    versions = ", ".join(f"{k} {v}" for k, v in cast("Any", result.get("versions") or {}).items())
    rows = {
        "base": Path(config.base_model).name,
        "method": f"{config.method}, {config.tuning}, r {config.r}, alpha {config.lora_alpha}",
        "learning rate": f"{config.learning_rate:g}",
        "steps": result.get("steps"),
        "training loss": result.get("train_loss"),
        "validation loss": result.get("eval_loss"),
        "training data (SHA-256)": result.get("data_sha256"),
        "architecture": reply["architecture"],
        "precision": parity["dtype"],
        "trained with": versions,
        "same answers as the trained model": f"{parity['prompts']} prompts, {parity['tokens']} "
        f"tokens, logits within {parity['max_logit_difference']:.3g}",
    }
    lines = "".join(f"| {name} | {value} |\n" for name, value in rows.items())
    return (
        f"---\nbase_model: {json.dumps(Path(config.base_model).name)}\n"
        f"pipeline_tag: text-generation\n---\n\n# A tuned model\n\n| what | value |\n|---|---|\n"
        f"{lines}\nThe licence of the base applies. `manifest.json` lists each file's SHA-256.\n"
    )
