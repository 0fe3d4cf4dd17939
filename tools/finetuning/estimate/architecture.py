"""What a base model is made of, from its config.json or a table of public ones."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from finetuning.errors import BadInputError, UnknownNameError
from finetuning.files import resolve_read
from finetuning.records import Model

CHECKED: Final = "2026-11-20"
_HUB: Final = "https://huggingface.co/{}/blob/main/config.json"
_FAMILIES: Final = {
    "llama": (128_256, 131_072),
    "qwen3": (151_936, 40_960),
    "gemma3_text": (262_144, 131_072),
}
"""Vocabulary and longest context of a family."""


def _shape(family: str, hub_id: str, *sizes: int, tied: bool) -> dict[str, Any]:
    """Return a row in the words of ``config.json``, with its source and the day it was checked."""
    hidden, layers, ffn, heads, kv_heads, head_dim = sizes
    vocabulary, context = _FAMILIES[family]
    return {
        "model_type": family,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": ffn,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        "max_position_embeddings": context,
        "source": _HUB.format(hub_id),
        "as_of": CHECKED,
    }


_llama = functools.partial(_shape, "llama")
_qwen3 = functools.partial(_shape, "qwen3")
_gemma3 = functools.partial(_shape, "gemma3_text", tied=True)

KNOWN_MODELS: Final[dict[str, dict[str, Any]]] = {
    "llama-3.2-1b": _llama("meta-llama/Llama-3.2-1B", 2048, 16, 8192, 32, 8, 64, tied=True),
    "llama-3.2-3b": _llama("meta-llama/Llama-3.2-3B", 3072, 28, 8192, 24, 8, 128, tied=True),
    "llama-3.1-8b": _llama("meta-llama/Llama-3.1-8B", 4096, 32, 14_336, 32, 8, 128, tied=False),
    "llama-3.1-70b": _llama("meta-llama/Llama-3.1-70B", 8192, 80, 28_672, 64, 8, 128, tied=False),
    "llama-3.3-70b": _llama(
        "meta-llama/Llama-3.3-70B-Instruct", 8192, 80, 28_672, 64, 8, 128, tied=False
    ),
    "qwen3-0.6b": _qwen3("Qwen/Qwen3-0.6B", 1024, 28, 3072, 16, 8, 128, tied=True),
    "qwen3-1.7b": _qwen3("Qwen/Qwen3-1.7B", 2048, 28, 6144, 16, 8, 128, tied=True),
    "qwen3-4b": _qwen3("Qwen/Qwen3-4B", 2560, 36, 9728, 32, 8, 128, tied=True),
    "qwen3-8b": _qwen3("Qwen/Qwen3-8B", 4096, 36, 12_288, 32, 8, 128, tied=False),
    "qwen3-14b": _qwen3("Qwen/Qwen3-14B", 5120, 40, 17_408, 40, 8, 128, tied=False),
    "qwen3-32b": _qwen3("Qwen/Qwen3-32B", 5120, 64, 25_600, 64, 8, 128, tied=False),
    "gemma-3-1b": _gemma3("google/gemma-3-1b-it", 1152, 26, 6912, 4, 1, 256),
    "gemma-3-4b": _gemma3("google/gemma-3-4b-it", 2560, 34, 10_240, 8, 4, 256),
    "gemma-3-12b": _gemma3("google/gemma-3-12b-it", 3840, 48, 15_360, 16, 8, 256),
    "gemma-3-27b": _gemma3("google/gemma-3-27b-it", 5376, 62, 21_504, 32, 16, 128),
}
"""Name in lower case, without organisation or tuning suffix → shape of the text model."""

_ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "n_layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "n_heads": ("num_attention_heads", "n_head", "num_heads"),
    "vocab_size": ("vocab_size",),
}
_UNGATED: Final = frozenset({"gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "phi", "falcon"})
"""Families whose feed-forward block has two matrices instead of three."""
_SUFFIX: Final = re.compile(r"[-_](instruct|it|base|pt|chat)([-_]\d+)?$")
_MOST_HEADER_BYTES: Final = 100_000_000
"""Longest safetensors header that is read (the format's own limit, safetensors 0.6)."""


class Architecture(Model, defer_build=True):
    """Shape of a decoder-only model; ``parameters`` counts tied embeddings once."""

    name: str
    family: str
    hidden_size: int
    intermediate_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int
    gated_mlp: bool = True
    tie_word_embeddings: bool = False
    max_position_embeddings: int | None = None
    n_experts: int = 0
    n_experts_per_token: int = 0
    parameters: int
    active_parameters: int
    source: str
    as_of: str | None = None

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding and, where it is not tied to it, of the LM head."""
        return self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)


def read_architecture(base_model: str | Path) -> Architecture:
    """Return the shape of a base model, from its folder on disk or from the built-in table.

    Args:
        base_model: Folder with ``config.json`` (or that file), or a name of the table such as
            ``Qwen/Qwen3-8B``; organisation and ``-Instruct``, ``-Base``, ``-it`` do not matter.

    Raises:
        UnknownNameError: Neither a folder nor a known name.
        BadInputError: The folder has no usable ``config.json``.
    """
    text = str(base_model)
    if not isinstance(base_model, Path) and (known := KNOWN_MODELS.get(_plain_name(text))):
        return _from_config(known, name=text, source=known["source"], as_of=known["as_of"])
    if not Path(text).expanduser().exists() and not isinstance(base_model, Path):
        raise UnknownNameError("base_model", "base model", text, KNOWN_MODELS)
    place = resolve_read(base_model, where="base_model", kind="any")
    folder = place.parent if place.is_file() else place
    config = _read_config(folder)
    shape = _from_config(config, name=folder.name, source=str(folder / "config.json"))
    sizes = _sizes_on_disk(folder)
    if not sizes:
        return shape
    total = sum(sizes.values())
    tied = not any(name.endswith("lm_head.weight") for name in sizes)
    return shape.model_copy(
        update={
            "tie_word_embeddings": tied,
            "active_parameters": total - (shape.parameters - shape.active_parameters),
            "parameters": total,
        }
    )


def _plain_name(text: str) -> str:
    name = text.rpartition("/")[2].lower().removeprefix("meta-")
    return _SUFFIX.sub("", name)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise BadInputError(
            "base_model",
            f"{str(folder)!r} holds no config.json",
            "the folder of a base model in Hugging Face format",
            "Name the folder that holds config.json, the weights and the tokenizer",
        )
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise _unusable(path, f"is not JSON ({type(error).__name__})") from error
    if not isinstance(config, dict):
        raise _unusable(path, f"holds a {type(config).__name__}")
    values = cast("dict[str, Any]", config)
    nested: dict[str, Any] = values.get("text_config") or {}  # a model that also sees or hears
    return {**values, **nested}


def _unusable(path: Path, what: str) -> BadInputError:
    return BadInputError(
        str(path),
        f"the file {what}",
        "the configuration of a decoder-only model",
        "Download the base model again",
    )


def _sizes_on_disk(folder: Path) -> dict[str, int]:
    """Return tensor name → number of parameters from the headers of the safetensors files."""
    sizes: dict[str, int] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length <= _MOST_HEADER_BYTES else b""
        try:
            header: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise _unusable(path, "is not in safetensors format") from error
        header.pop("__metadata__", None)
        sizes.update({name: _product(tensor["shape"]) for name, tensor in header.items()})
    return sizes


def _product(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _from_config(
    config: Mapping[str, Any], *, name: str, source: str, as_of: str | None = None
) -> Architecture:
    values = {field: _number(config, names, source) for field, names in _ALIASES.items()}
    hidden, heads = values["hidden_size"], values["n_heads"]
    family = str(config.get("model_type", "unknown"))
    experts = int(config.get("num_experts") or config.get("num_local_experts") or 0)
    ffn = config.get("intermediate_size") or config.get("n_inner") or 4 * hidden
    if experts:
        ffn = config.get("moe_intermediate_size") or ffn
    shape = Architecture(
        name=name,
        family=family,
        **values,
        intermediate_size=int(ffn),
        n_kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        gated_mlp=family not in _UNGATED,
        tie_word_embeddings=bool(config.get("tie_word_embeddings", family.startswith("gemma"))),
        max_position_embeddings=config.get("max_position_embeddings") or config.get("n_positions"),
        n_experts=experts,
        n_experts_per_token=int(config.get("num_experts_per_tok") or 0),
        parameters=0,
        active_parameters=0,
        source=source,
        as_of=as_of,
    )
    return shape.model_copy(
        update={
            "parameters": _parameters(shape, experts or 1),
            "active_parameters": _parameters(shape, shape.n_experts_per_token or 1),
        }
    )


def _number(config: Mapping[str, Any], names: tuple[str, ...], source: str) -> int:
    for name in names:
        if isinstance(value := config.get(name), int) and value > 0:
            return value
    raise _unusable(Path(source), f"has no positive {names[0]}")


def _parameters(shape: Architecture, experts: int) -> int:
    """Count parameters with ``experts`` feed-forward blocks per layer."""
    h, attention = shape.hidden_size, shape.n_heads * shape.head_dim
    keys = shape.n_kv_heads * shape.head_dim
    matrices = 3 if shape.gated_mlp else 2
    layer = 2 * h * attention + 2 * h * keys + experts * matrices * h * shape.intermediate_size
    layer += h * shape.n_experts  # the router
    norms = 4 if shape.family.startswith("gemma3") else 2
    layer += norms * h
    if shape.family.startswith(("qwen3", "gemma3")):
        layer += 2 * shape.head_dim  # norms of queries and keys
    return shape.embedding_parameters + shape.n_layers * layer + h


def lora_parameters(shape: Architecture, r: int) -> int:
    """Count the trainable parameters of a rank-``r`` adapter on all linear layers.

    The LM head is left alone; the router and fused experts of a mixture of experts are too.
    """
    h, attention = shape.hidden_size, shape.n_heads * shape.head_dim
    keys = shape.n_kv_heads * shape.head_dim
    sizes = [h + attention, h + keys, h + keys, attention + h]
    if not shape.n_experts:
        sizes += [h + shape.intermediate_size] * (3 if shape.gated_mlp else 2)
    return r * shape.n_layers * sum(sizes)
