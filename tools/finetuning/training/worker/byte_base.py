"""Makes a base model on the spot: a byte-level tokenizer and a tiny Llama, from given texts.

``python -m finetuning.training.worker.byte_base --texts FILE --output DIR --seconds 90``

Runs only as the child of :func:`finetuning.training.weights.build_byte_base`. It writes one JSON
line per report to stdout, so it ends by itself once its parent is gone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tokenizers as _tokenizers
import torch as _torch
import transformers as _transformers

from finetuning import files, settings
from finetuning.errors import BadInputError, FineTuningError
from finetuning.records import Finding
from finetuning.tokens import example_texts

# these packages are only partly typed: from here on their values are Any
tokenizers: Any = _tokenizers
torch: Any = _torch
transformers: Any = _transformers

PAD, END = 0, 1
HIDDEN: Final = 128
LAYERS: Final = 2
HEADS: Final = 4
WINDOW_TOKENS: Final = 128
BATCH: Final = 8
LEARNING_RATE: Final = 5e-3
WARM_UP_STEPS: Final = 30
REPORT_SECONDS: Final = 1.0
LONGEST_TEXT_TOKENS: Final = 2048


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for; exactly one of ``seconds`` and ``steps`` is set."""

    texts: Path
    output: Path
    seconds: float | None
    steps: int | None
    vocabulary: int
    seed: int


class Clock:
    """Tells how much of the budget is used: of the steps if they are given, else of the time."""

    def __init__(self, options: Options) -> None:
        """Start the clock."""
        self._options, self._start, self._reported = options, time.monotonic(), 0.0

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._start

    def used(self, step: int) -> float:
        """Return the used share of the budget, 0..1 (1 or more: stop)."""
        if self._options.steps is not None:
            return step / self._options.steps
        return self.seconds() / (self._options.seconds or 1.0)

    def report(self, step: int, loss: float) -> None:
        """Write a report to stdout, once a second at most."""
        now = self.seconds()
        if now - self._reported < REPORT_SECONDS:
            return
        self._reported = now
        _write({"used": round(min(1.0, self.used(step)), 3), "step": step, "loss": round(loss, 4)})


def _write(report: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


def read_texts(path: Path) -> list[str]:
    """Return one text per row: its strings joined by line ends.

    Raises:
        BadInputError: No row holds a text.
    """
    rows = [row for row in files.read_records(path) if not isinstance(row, Finding)]
    texts = ["\n".join(example_texts(row.data)) for row in rows]
    if not any(text.strip() for text in texts):
        raise BadInputError(
            "byte_base", "no row holds a text", "rows with a text", "Check the file given as texts"
        )
    return texts


def train_tokenizer(texts: list[str], vocabulary: int) -> Any:
    """Train a byte-level BPE: every text can be encoded, and decoding gives it back."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    level = tokenizers.pre_tokenizers.ByteLevel
    tokenizer.pre_tokenizer = level(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=sorted(level.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def new_model(vocabulary: int) -> Any:
    """Build an untrained Llama of the demo's shape (hidden 128, 2 layers, tied embeddings)."""
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=LONGEST_TEXT_TOKENS,
        initializer_range=0.06,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    return transformers.LlamaForCausalLM(config)


def _stream(tokenizer: Any, texts: list[str]) -> Any:
    ids: list[int] = []
    for encoded in tokenizer.encode_batch(texts):
        ids += [*encoded.ids, END]
    while len(ids) <= WINDOW_TOKENS:  # a short text is read again and again
        ids += ids
    return torch.tensor(ids)


def train_model(stream: Any, vocabulary: int, options: Options) -> tuple[Any, int]:
    """Train on random windows of the token stream until the budget is used."""
    torch.manual_seed(options.seed)
    model = new_model(vocabulary)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    clock, step = Clock(options), 0
    while (used := clock.used(step)) < 1.0:
        rate = LEARNING_RATE * min(1.0, (step + 1) / WARM_UP_STEPS) * (1.0 - used)
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = torch.randint(0, len(stream) - WINDOW_TOKENS, (BATCH,)).tolist()
        ids = torch.stack([stream[start : start + WINDOW_TOKENS] for start in starts])
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        clock.report(step, loss.item())
    return model.eval(), step


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write model and tokenizer so that the Auto classes of transformers load them."""
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        clean_up_tokenization_spaces=False,
        model_max_length=LONGEST_TEXT_TOKENS,
    ).save_pretrained(folder)
    model.save_pretrained(folder)


def build(options: Options) -> dict[str, Any]:
    """Make the base model and return what it took (steps, tokens, parameters)."""
    torch.set_num_threads(1)  # on busy cores a second thread makes it slower, not faster
    transformers.utils.logging.disable_progress_bar()
    texts = read_texts(options.texts)
    tokenizer = train_tokenizer(texts, options.vocabulary)
    stream = _stream(tokenizer, texts)
    model, steps = train_model(stream, tokenizer.get_vocab_size(), options)
    save(model, tokenizer, options.output)
    return {
        "done": True,
        "steps": steps,
        "vocabulary": tokenizer.get_vocab_size(),
        "tokens": len(stream),
        "parameters": sum(weight.numel() for weight in model.parameters()),
    }


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the child process."""
    parser = argparse.ArgumentParser(prog="python -m finetuning.training.worker.byte_base")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--seconds", type=float)
    budget.add_argument("--steps", type=int)
    parser.add_argument("--vocabulary", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    settings.enforce_offline()
    try:
        _write(build(Options(**vars(parser.parse_args(arguments)))))
    except FineTuningError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
