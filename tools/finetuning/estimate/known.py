"""Shapes of a few public base models, for estimates before anything is downloaded."""

from __future__ import annotations

from typing import Any, Final

CHECKED: Final = "2026-11-20"
_HUB: Final = "https://huggingface.co/{}/blob/main/config.json"


def _shape(
    hub_id: str,
    family: str,
    *,
    hidden: int,
    layers: int,
    ffn: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    tied: bool,
    context: int,
) -> dict[str, Any]:
    """Return a row in the words of ``config.json``, with its source and the day it was checked."""
    return {
        "model_type": family,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": ffn,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "vocab_size": {"llama": 128_256, "qwen3": 151_936, "gemma3_text": 262_144}[family],
        "tie_word_embeddings": tied,
        "max_position_embeddings": context,
        "source": _HUB.format(hub_id),
        "as_of": CHECKED,
    }


def _llama(hub_id: str, *shape: int, tied: bool) -> dict[str, Any]:
    hidden, layers, ffn, heads, head_dim = shape
    return _shape(
        hub_id,
        "llama",
        hidden=hidden,
        layers=layers,
        ffn=ffn,
        heads=heads,
        kv_heads=8,
        head_dim=head_dim,
        tied=tied,
        context=131_072,
    )


def _qwen3(hub_id: str, *shape: int, tied: bool) -> dict[str, Any]:
    hidden, layers, ffn, heads = shape
    return _shape(
        hub_id,
        "qwen3",
        hidden=hidden,
        layers=layers,
        ffn=ffn,
        heads=heads,
        kv_heads=8,
        head_dim=128,
        tied=tied,
        context=40_960,
    )


def _gemma3(hub_id: str, *shape: int) -> dict[str, Any]:
    hidden, layers, ffn, heads, kv_heads, head_dim = shape
    return _shape(
        hub_id,
        "gemma3_text",
        hidden=hidden,
        layers=layers,
        ffn=ffn,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        tied=True,
        context=131_072,
    )


KNOWN_MODELS: Final[dict[str, dict[str, Any]]] = {
    "llama-3.2-1b": _llama("meta-llama/Llama-3.2-1B", 2048, 16, 8192, 32, 64, tied=True),
    "llama-3.2-3b": _llama("meta-llama/Llama-3.2-3B", 3072, 28, 8192, 24, 128, tied=True),
    "llama-3.1-8b": _llama("meta-llama/Llama-3.1-8B", 4096, 32, 14_336, 32, 128, tied=False),
    "llama-3.1-70b": _llama("meta-llama/Llama-3.1-70B", 8192, 80, 28_672, 64, 128, tied=False),
    "llama-3.3-70b": _llama(
        "meta-llama/Llama-3.3-70B-Instruct", 8192, 80, 28_672, 64, 128, tied=False
    ),
    "qwen3-0.6b": _qwen3("Qwen/Qwen3-0.6B", 1024, 28, 3072, 16, tied=True),
    "qwen3-1.7b": _qwen3("Qwen/Qwen3-1.7B", 2048, 28, 6144, 16, tied=True),
    "qwen3-4b": _qwen3("Qwen/Qwen3-4B", 2560, 36, 9728, 32, tied=True),
    "qwen3-8b": _qwen3("Qwen/Qwen3-8B", 4096, 36, 12_288, 32, tied=False),
    "qwen3-14b": _qwen3("Qwen/Qwen3-14B", 5120, 40, 17_408, 40, tied=False),
    "qwen3-32b": _qwen3("Qwen/Qwen3-32B", 5120, 64, 25_600, 64, tied=False),
    "gemma-3-1b": _gemma3("google/gemma-3-1b-it", 1152, 26, 6912, 4, 1, 256),
    "gemma-3-4b": _gemma3("google/gemma-3-4b-it", 2560, 34, 10_240, 8, 4, 256),
    "gemma-3-12b": _gemma3("google/gemma-3-12b-it", 3840, 48, 15_360, 16, 8, 256),
    "gemma-3-27b": _gemma3("google/gemma-3-27b-it", 5376, 62, 21_504, 32, 16, 128),
}
"""Name in lower case, without organisation or tuning suffix → shape of the text model."""
