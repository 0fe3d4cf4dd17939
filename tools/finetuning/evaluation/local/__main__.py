"""Entry point of the child: reads REQUEST.json, writes RESULT.json, reports on stderr.

The request groups jobs by base model; each base is loaded once with all its adapters, from disk
and without pickle. Answers are written and references scored. The child ends when the process
that started it is gone, which it watches before it imports torch.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from finetuning import errors, settings
from finetuning.evaluation.local import (
    Answers,
    CannotRunError,
    LocalModel,
    describe,
    keep,
    load_model,
    recall,
)
from finetuning.files import write_text
from finetuning.tokens.counting import Encoded, encode

if TYPE_CHECKING:
    import torch

Report = Callable[[int, int, str], None]
_LOGIT_BYTES = 256 << 20
MOST_ROWS, MOST_TOKENS = 192, 32_768  # of a batch
ALIKE, FEWEST_ROWS = 0.8, 16  # a batch ends where rows are shorter than this share of its longest


class Row(NamedTuple):
    """One row of a batch: which side is asked which question."""

    side: str
    item: Encoded


def batches_of(
    items: Sequence[Encoded], sides: Sequence[str], *, together: bool, extra: int
) -> Iterator[list[Row]]:
    """Yield batches, longest questions first.

    Args:
        items: The questions.
        sides: Sides that all get them.
        together: Whether the sides of one question share its batch (and so its padding).
        extra: Tokens added to each row while it is processed.
    """
    groups = [list(sides)] if together else [[side] for side in sides]
    ordered = sorted(items, key=lambda item: (-len(item.prompt) - len(item.reference), item.id))
    for group in groups:
        start = 0
        while start < len(ordered):
            width = len(ordered[start].prompt) + len(ordered[start].reference) + extra
            fitting = min(MOST_ROWS, max(1, MOST_TOKENS // width)) // len(group)
            chunk = ordered[start : start + max(1, fitting)]
            alike = sum(_length(item) + extra >= ALIKE * width for item in chunk)
            chunk = chunk[: max(FEWEST_ROWS // len(group), alike)]
            yield [Row(side, item) for item in chunk for side in group]
            start += len(chunk)


def answer_jobs(
    model: LocalModel,
    jobs: Mapping[str, Mapping[str, Any]],
    max_tokens: int,
    report: Report,
    *,
    remember: bool,
) -> Answers:
    """Return side → job → id → [text, finish_reason, seconds, output_tokens, nll].

    Args:
        model: The loaded base with its adapters.
        jobs: name → sides, questions, generate, nll.
        max_tokens: Most tokens to write per answer.
        report: Gets done, total and what, for progress.
        remember: Take answers that are kept from before, and keep the new ones.
    """
    answers, keys = recall(model, jobs, max_tokens, remember=remember)
    if len({side for _, side in keys}) == 1:
        model.merge(next(iter(keys))[1])
    for name, job in jobs.items():
        asked = [side for side in job["sides"] if (name, side) in keys]
        items = [encode(model.tokenizer, question) for question in job["questions"] if asked]
        for side in asked:
            answers[side][name] = {e.id: [None, "missing", None, None, None] for e in items}
        if job["generate"]:
            _write_answers(model, items, asked, name, max_tokens, answers, report)
        if job["nll"]:
            _score_references(model, items, asked, name, answers, report)
        for side in asked:
            if remember:
                keep(keys[name, side], answers[side][name])
    return answers


def _write_answers(
    model: LocalModel,
    items: Sequence[Encoded],
    sides: Sequence[str],
    job: str,
    max_tokens: int,
    answers: Answers,
    report: Report,
) -> None:
    """Greedy decoding, stopped at the end-of-text token; a prompt too long has no answer."""
    import torch
    from transformers import GenerationConfig

    decoding = cast("Any", GenerationConfig)  # untyped constructor in transformers 5.23
    fitting = [item for item in items if 0 < len(item.prompt) < model.longest]
    stops = stop_ids(model)
    done, total = 0, len(fitting) * len(sides)
    prompts = [item._replace(reference=[]) for item in fitting]
    for rows in batches_of(prompts, sides, together=model.mixed, extra=max_tokens):
        started = time.perf_counter()
        limit = min(max_tokens, model.longest - max(len(row.item.prompt) for row in rows))
        config = decoding(
            do_sample=False,
            max_new_tokens=limit,
            eos_token_id=stops or None,
            pad_token_id=filler(model),
        )
        ids, mask = pad_left([row.item.prompt for row in rows], filler(model), model.device)
        with torch.inference_mode(), model.rows_of([row.side for row in rows]) as options:
            out = model.model.generate(
                input_ids=ids, attention_mask=mask, generation_config=config, **options
            )
        seconds = round(time.perf_counter() - started, 4)
        for row, written in zip(rows, out[:, ids.shape[1] :].tolist(), strict=True):
            answers[row.side][job][row.item.id][:4] = _read(model, written, stops, limit, seconds)
        done += len(rows)
        report(done, total, f"answering {job.split('@')[0]}")


def _read(
    model: LocalModel, written: list[int], stops: list[int], limit: int, seconds: float
) -> list[Any]:
    end = next((k for k, token in enumerate(written) if token in stops), len(written))
    stopped = end < len(written) or end < limit
    text: str = model.tokenizer.decode(written[:end], skip_special_tokens=True)
    if not text.strip():
        return [None, "missing", seconds, end]
    return [text, "stop" if stopped else "length", seconds, end]


def stop_ids(model: LocalModel) -> list[int]:
    """Return the tokens that end an answer, by the model's and the tokenizer's settings."""
    config = getattr(model.plain, "generation_config", None)
    named: Any = getattr(config, "eos_token_id", None)
    several = cast("list[Any]", named) if isinstance(named, list) else [named]
    return sorted({int(t) for t in [model.tokenizer.eos_token_id, *several] if t is not None})


def filler(model: LocalModel) -> int:
    """Return the token that pads a row."""
    named = model.tokenizer.pad_token_id
    return int((model.tokenizer.eos_token_id if named is None else named) or 0)


def _score_references(
    model: LocalModel,
    items: Sequence[Encoded],
    sides: Sequence[str],
    job: str,
    answers: Answers,
    report: Report,
) -> None:
    """Mean negative log-likelihood of the reference's tokens by teacher forcing."""
    fitting = [item for item in items if item.reference and _length(item) <= model.longest]
    done, total = 0, len(fitting) * len(sides)
    for rows in batches_of(fitting, sides, together=model.mixed, extra=0):
        for part in _halves(model, rows):
            for row, nll in zip(part, _likelihoods(model, part), strict=True):
                answers[row.side][job][row.item.id][4] = nll
        done += len(rows)
        report(done, total, f"scoring {job.split('@')[0]}")


def _length(item: Encoded) -> int:
    return len(item.prompt) + len(item.reference)


def _halves(model: LocalModel, rows: list[Row]) -> list[list[Row]]:
    """Split a batch whose logits would not fit in memory."""
    vocabulary = int(model.plain.config.get_text_config().vocab_size)
    most = max(1, _LOGIT_BYTES // (4 * max(_length(row.item) for row in rows) * vocabulary))
    return [rows[start : start + most] for start in range(0, len(rows), most)]


def _likelihoods(model: LocalModel, rows: list[Row]) -> list[float | None]:
    import torch

    texts = [[*row.item.prompt, *row.item.reference] for row in rows]
    ids, mask = pad_left(texts, filler(model), model.device)
    # a text without prompt has nothing before its first token: that token is not scored
    counts = [
        min(len(row.item.reference), len(text) - 1) for row, text in zip(rows, texts, strict=True)
    ]
    kept = max(counts) + 1
    extra: dict[str, Any] = {}
    if "logits_to_keep" in inspect.signature(model.plain.forward).parameters:
        extra["logits_to_keep"] = kept
    with torch.inference_mode(), model.rows_of([row.side for row in rows]) as options:
        logits = model.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            **extra,
            **options,
        ).logits[:, -kept:-1]
    wanted = ids[:, ids.shape[1] - kept + 1 :]
    losses = torch.nn.functional.cross_entropy(
        logits.float().transpose(1, 2), wanted, reduction="none"
    )
    return [
        round(float(loss[-count:].mean()), 6) if count else None
        for loss, count in zip(losses, counts, strict=True)
    ]


def pad_left(
    rows: Sequence[list[int]], padding: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, shape (rows, longest)."""
    import torch

    longest = max(1, *map(len, rows))
    ids = torch.full((len(rows), longest), padding, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for number, row in enumerate(rows):
        if row:
            ids[number, longest - len(row) :] = torch.tensor(row, dtype=torch.long)
            mask[number, longest - len(row) :] = 1
    return ids.to(device), mask.to(device)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Return the reply to one request: answers by side and job, and what ran."""
    started = time.perf_counter()
    answers: dict[str, Any] = {}
    models: list[dict[str, Any]] = []
    for entry in request["models"]:
        report(0, 1, "loading the model")
        model = load_model(entry["base"], entry["adapters"])
        loaded = time.perf_counter() - started
        answers |= answer_jobs(model, entry["jobs"], request["max_tokens"], report, remember=True)
        models.append({**describe(model), "load_seconds": round(loaded, 2)})
        started = time.perf_counter()
    return {"answers": answers, "provenance": {"models": models}}


def report(done: int, total: int, what: str) -> None:
    """Tell the process that waits how far this one is."""
    sys.stderr.write(f"progress {done} {total} {what}\n")
    sys.stderr.flush()


def reply_to(arguments: list[str], work: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """Read the request, answer it, and leave the reply whole or not at all.

    Args:
        arguments: Path of the request and path of the reply.
        work: Turns the request into the reply.
    """
    settings.enforce_offline()
    threading.Thread(target=end_with_parent, daemon=True).start()
    source, target = map(Path, arguments)
    report(0, 1, "loading the libraries")
    try:
        reply = work(json.loads(source.read_text(encoding="utf-8")))
    except (CannotRunError, errors.BadInputError) as error:
        reply = {"error": error.args[-3:]}  # what, expected, next step
    write_text(target, json.dumps(reply, allow_nan=False))
    return 0


def end_with_parent() -> None:
    """End this process once its standard input closes: then nobody waits for the answer."""
    while os.read(0, 1):
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(reply_to(sys.argv[1:], run))
