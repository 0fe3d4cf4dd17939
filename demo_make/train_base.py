"""Trains the demo's base model on rows of general ability, and checks what it can do."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from demo_make import language
from finetuning.errors import require

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FEATURE: Final = "demo base model"
HIDDEN: Final = 128
LAYERS: Final = 2
HEADS: Final = 4
BATCH: Final = 64
LEARNING_RATE: Final = 3e-3
WARM_UP: Final = 50


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row as token ids; positions before ``start`` carry no loss."""

    ids: list[int]
    start: int


def new_model(vocabulary_size: int) -> Any:
    """Build the untrained Llama: hidden 128, 2 layers, 4 heads, tied embeddings."""
    transformers: Any = require("transformers", feature=FEATURE, extra="local")
    config = transformers.LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=256,
        initializer_range=0.06,  # the usual 0.02 stops at exact match 0.29
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    return transformers.LlamaForCausalLM(config)


def encode_row(tokenizer: Any, row: dict[str, str]) -> Encoded:
    """Turn a row into ids: prompt, completion, end of text."""
    prompt: list[int] = tokenizer.encode(row["prompt"]).ids
    completion: list[int] = tokenizer.encode(row["completion"]).ids
    return Encoded([*prompt, *completion, 1], len(prompt))


def _batch(rows: Sequence[Encoded]) -> tuple[Any, Any]:
    torch: Any = require("torch", feature=FEATURE, extra="local")
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), -100)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        labels[index, row.start : len(row.ids)] = torch.tensor(row.ids[row.start :])
    return ids, labels


def train(tokenizer: Any, steps: int, seed: int, forbidden: set[str]) -> Any:
    """Train a new model for ``steps`` batches of fresh general rows.

    Args:
        tokenizer: The demo's ``tokenizers.Tokenizer``.
        steps: Optimizer steps of 64 rows each.
        seed: Seed of the weights and of the rows.
        forbidden: Prompts that must not be trained on (those of the evaluation file).

    Returns:
        The trained model in 32-bit floats.
    """
    torch: Any = require("torch", feature=FEATURE, extra="local")
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = new_model(tokenizer.get_vocab_size())
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps, pct_start=min(0.3, WARM_UP / steps)
    )
    model.train()
    for step in range(steps):
        rows: list[dict[str, str]] = []
        while len(rows) < BATCH:
            row = language.general_row(rng)
            if row["prompt"] not in forbidden:
                rows.append(row)
        ids, labels = _batch([encode_row(tokenizer, row) for row in rows])
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            _say(f"step {step}/{steps} loss {loss.item():.4f}")
    return model.eval()


def exact_match(model: Any, tokenizer: Any, rows: Sequence[dict[str, str]]) -> float:
    """Return the share of rows whose greedy answer equals the completion."""
    torch: Any = require("torch", feature=FEATURE, extra="local")
    right = 0
    for row in rows:
        prompt: list[int] = tokenizer.encode(row["prompt"]).ids
        with torch.no_grad():
            out = model.generate(
                torch.tensor([prompt]), max_new_tokens=48, do_sample=False, pad_token_id=0
            )
        answer: str = tokenizer.decode(out[0, len(prompt) :].tolist(), skip_special_tokens=True)
        right += answer == row["completion"]
    return right / len(rows)


def save_model(model: Any, folder: Path, *, card: dict[str, Any]) -> None:
    """Write the weights as bf16 safetensors, with how they were made as ``made`` in the config."""
    torch: Any = require("torch", feature=FEATURE, extra="local")
    model.config.made = card
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink()  # transformers draws the same from config.json


def _say(line: str) -> None:
    import sys

    sys.stderr.write(line + "\n")
    sys.stderr.flush()
