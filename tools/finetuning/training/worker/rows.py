"""Rows become token ids with labels, and the audit says what carries a label."""

from __future__ import annotations

import hashlib
import importlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from finetuning import runs
from finetuning.errors import BadInputError
from finetuning.files import read_records
from finetuning.records import Json, Record
from finetuning.training.config import TrainingConfig
from finetuning.training.worker import IGNORED, Example, MaskAudit


def load_data(
    run_id: str, config: TrainingConfig, tokenizer: Any
) -> tuple[list[Example], list[Example], MaskAudit]:
    """Return the examples to train on, those to validate on, and the audit of the former.

    Raises:
        BadInputError: A row cannot be read, or no row at all carries a label.
    """
    train, audit = load_examples(Path(config.train_file), config, tokenizer)
    if audit.rows_without_labels:
        runs.record_alert(
            run_id,
            code="rows_without_labels",
            message=f"{audit.rows_without_labels} of {audit.rows} rows have no label "
            f"within max_length={config.max_length} and were left out",
        )
    if config.replay_file and config.replay_fraction:
        replay = _replay(Path(config.replay_file), config, tokenizer, len(train))
        train, audit.lines = train + replay, audit.lines + [0] * len(replay)
    validation: list[Example] = []
    if config.validation_file:
        validation, _ = load_examples(Path(config.validation_file), config, tokenizer)
    if len(validation) > config.max_validation_rows:
        chosen = random.Random(config.seed)
        validation = chosen.sample(validation, config.max_validation_rows)
    return train, validation, audit


def _replay(path: Path, config: TrainingConfig, tokenizer: Any, rows: int) -> list[Example]:
    """Return general examples, as many as make up their share of the mix (again if too few)."""
    first = next(iter(read_records(path, source=path.name)), None)
    row = first.data if isinstance(first, Record) else {}
    texts = isinstance(row.get("prompt"), str)
    form = "trl_text" if "text" in row else "trl_prompt_completion" if texts else "trl_messages"
    method = "cpt" if "text" in row else "sft"
    changes = {"row_format": form, "method": method}
    found, _ = load_examples(path, config.model_copy(update=changes), tokenizer)
    share = min(config.replay_fraction, 0.95)
    wanted = round(rows * share / (1.0 - share))
    chosen = random.Random(f"{config.seed}:replay")
    turns, left = divmod(wanted, len(found))
    return found * turns + chosen.sample(found, left)


def load_examples(
    path: Path, config: TrainingConfig, tokenizer: Any
) -> tuple[list[Example], MaskAudit]:
    """Read, tokenize and label a training file.

    Rows left without any label are dropped and counted.

    Raises:
        BadInputError: A row cannot be read, or no row at all carries a label.
    """
    audit = MaskAudit()
    rows = list(_rows(path, config.row_format, audit))
    if audit.damaged_lines:
        raise BadInputError(
            f"{path.name}:{audit.damaged_lines[0]}",
            f"{len(audit.damaged_lines)} rows are not {config.row_format}",
            f"rows of the format {config.row_format}",
            f"Run: fine-tuning validate-jsonl {path} --target {config.row_format}",
        )
    if config.method in {"dpo", "kto", "grpo"}:  # TRL's own preparation makes them tokens
        audit.rows = len(rows)
        if any(isinstance(row.get("prompt", row.get("chosen")), list) for row in rows):
            _own_template(tokenizer)
        return cast("list[Example]", rows), audit
    if config.method == "cpt":
        pairs = list(_encode_documents(rows, config, tokenizer, audit))
    elif config.row_format == "trl_messages":
        pairs = list(_encode_chats(rows, config, tokenizer))
    else:
        pairs = list(_encode_texts(rows, config, tokenizer, audit))
    examples: list[Example] = []
    lines, audit.lines = audit.lines, []
    for line, pair in zip(lines, pairs, strict=True):
        example = _cut(pair, config.max_length, audit)
        if any(label != IGNORED for label in example.labels[1:]):
            examples.append(example)
            audit.lines.append(line)
        else:
            audit.rows_without_labels += 1
    if not examples:
        raise _all_masked(path, config, tokenizer, audit)
    return examples, audit


def _rows(path: Path, form: str, audit: MaskAudit) -> Iterator[Mapping[str, Json]]:
    for found in read_records(path, source=path.name):
        if isinstance(found, Record) and _readable(found.data, form):
            audit.lines.append(found.line or 0)
            yield found.data
        else:
            audit.damaged_lines.append(found.line or 0)


def _readable(row: Mapping[str, Json], form: str) -> bool:
    """Tell whether a row has what its format needs (messages, or a prompt and a completion)."""
    if form == "trl_text":
        return isinstance(row.get("text"), str) and bool(row["text"])
    if form in {"trl_messages", "trl_prompt_completion"} and "messages" in row:
        return bool(row["messages"]) and isinstance(row["messages"], list)
    names = {"trl_preference": ("chosen", "rejected"), "trl_prompt": ("prompt",)}
    parts = [row.get(name) for name in names.get(form, ("prompt", "completion"))]
    alike = all(isinstance(part, str) for part in parts)
    alike = alike or all(isinstance(part, list) for part in parts)
    return alike and bool(parts[-1]) and (form != "trl_kto" or isinstance(row.get("label"), bool))


def _cut(example: Example, max_length: int, audit: MaskAudit) -> Example:
    audit.rows += 1
    audit.rows_truncated += len(example.input_ids) > max_length
    audit.longest_row_tokens = max(audit.longest_row_tokens, len(example.input_ids))
    kept = Example(example.input_ids[:max_length], example.labels[:max_length])
    audit.tokens += len(kept.input_ids)
    audit.labelled_tokens += sum(label != IGNORED for label in kept.labels)
    return kept


def audit_answers(dataset: Any, config: TrainingConfig, audit: MaskAudit) -> None:
    """Count what TRL's own preparation labels (preferences and judgements).

    Args:
        dataset: The rows as TRL prepared them.
        config: The run's settings.
        audit: Gets the counts.
    """
    names = [
        n for n in ("chosen_ids", "rejected_ids", "completion_ids") if n in dataset.column_names
    ]
    for row in dataset if names else ():
        prompt = len(row["prompt_ids"])
        lengths = [prompt + len(row[name]) for name in names]
        kept = [min(length, config.max_length) for length in lengths]
        audit.longest_row_tokens = max(audit.longest_row_tokens, *lengths)
        audit.rows_truncated += max(lengths) > config.max_length
        audit.tokens += sum(kept)
        audit.labelled_tokens += sum(kept) - prompt * len(kept)
    if names:
        audit.rows_without_labels = audit.rows - len(dataset)


def _all_masked(
    path: Path, config: TrainingConfig, tokenizer: Any, audit: MaskAudit
) -> BadInputError:
    if audit.rows_truncated == audit.rows:
        return BadInputError(
            path.name,
            f"max_length={config.max_length} cuts the answer off in all {audit.rows} rows",
            f"at least one label (longest row: {audit.longest_row_tokens} tokens)",
            f"Configure again with overrides={{'max_length': {audit.longest_row_tokens}}}",
        )
    return BadInputError(
        path.name,
        f"none of {audit.rows} rows has a label under {_template_name(config, tokenizer)}: the "
        "loss would read 0.0 and nothing be learned",
        "a chat template that marks the assistant's turns with {% generation %}",
        "Use rows of prompt and completion, or overrides={'assistant_only_loss': false}",
    )


def _template_name(config: TrainingConfig, tokenizer: Any) -> str:
    template = tokenizer.chat_template
    if not isinstance(template, str):
        return f"the tokenizer of {Path(config.base_model).name}, which has no chat template"
    digest = hashlib.sha256(template.encode()).hexdigest()[:12]
    return f"the chat template of {Path(config.base_model).name} (SHA-256 {digest}…)"


def _encode_texts(
    rows: Iterable[Mapping[str, Json]], config: TrainingConfig, tokenizer: Any, audit: MaskAudit
) -> Iterator[Example]:
    """Tokenize prompt and completion; the labels are the completion and the end token.

    As TRL does, prompt and completion are tokenized together; where a token would reach across
    the border, apart, so that the model trains on the very prompt it will be asked.
    """
    end = _end_token(tokenizer)
    pairs = [(str(row["prompt"]), str(row["completion"])) for row in rows]
    prompts = _ids(tokenizer, [prompt for prompt, _ in pairs], end)
    whole = _ids(tokenizer, [prompt + completion for prompt, completion in pairs], end)
    for (_, completion), prompt, both in zip(pairs, prompts, whole, strict=True):
        ids = both
        if both[: len(prompt)] != prompt:
            audit.rows_split_at_boundary += 1
            answer = tokenizer(completion, add_special_tokens=False)["input_ids"]
            ids = [*prompt, *answer]
        if ids[-1] != end:
            ids = [*ids, end]
        masked = len(prompt) if config.completion_only_loss else 0
        yield Example(ids, [IGNORED] * masked + ids[masked:])


def _encode_documents(
    rows: Iterable[Mapping[str, Json]], config: TrainingConfig, tokenizer: Any, audit: MaskAudit
) -> Iterator[Example]:
    """Tokenize texts with their end token, cut into pieces of max_length; all of it is learned."""
    end, (lines, audit.lines) = _end_token(tokenizer), (audit.lines, [])
    texts = _ids(tokenizer, [str(row["text"]) for row in rows], end)
    for line, ids in zip(lines, texts, strict=True):
        whole = [*ids, end]
        for start in range(0, len(whole), config.max_length):
            piece = whole[start : start + config.max_length]
            if start == 0 or len(piece) > 1:
                audit.lines.append(line)
                yield Example(piece, piece)


def _end_token(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise BadInputError(
            "base_model",
            "its tokenizer has no end-of-text token",
            "eos_token in tokenizer_config.json",
            "Use a base model whose tokenizer has one: without it the model never learns to stop",
        )
    return int(tokenizer.eos_token_id)


def _ids(tokenizer: Any, texts: Sequence[str], end: int) -> list[list[int]]:
    found = cast("list[list[int]]", tokenizer(list(texts))["input_ids"])
    return [ids[:-1] if ids and ids[-1] == end else ids for ids in found]


def _messages(row: Mapping[str, Json]) -> list[dict[str, Any]]:
    return list(row["messages"]) if "messages" in row else [*row["prompt"], *row["completion"]]


def _encode_chats(
    rows: Iterable[Mapping[str, Json]], config: TrainingConfig, tokenizer: Any
) -> Iterator[Example]:
    """Tokenize conversations; the labels are the assistant's turns with their end token."""
    template = _training_template(tokenizer) if config.assistant_only_loss else None
    for row in rows:
        rendered = tokenizer.apply_chat_template(
            _messages(row),
            tools=row.get("tools"),
            chat_template=template,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=config.assistant_only_loss,
        )
        ids = list(rendered["input_ids"])
        mask = rendered["assistant_masks"] if config.assistant_only_loss else [1] * len(ids)
        labels = [token if marked else IGNORED for token, marked in zip(ids, mask, strict=True)]
        yield Example(ids, labels)


def _own_template(tokenizer: Any) -> str:
    if tokenizer.chat_template is None:
        raise BadInputError(
            "base_model",
            "its tokenizer has no chat template, so messages cannot be written as text",
            "an instruction-tuned base, or rows of prompt and completion",
            "Run: fine-tuning prepare-data … --target trl_prompt_completion",
        )
    return str(tokenizer.chat_template)


def _training_template(tokenizer: Any) -> str | None:
    """Return a chat template that marks the assistant's turns; None: the tokenizer's own does."""
    own = _own_template(tokenizer)
    if "{% generation" in own or "{%- generation" in own:
        return None
    trl: Any = importlib.import_module("trl")

    try:
        return cast("str | None", trl.chat_template_utils.get_training_chat_template(tokenizer))
    except ValueError as error:
        raise BadInputError(
            "base_model",
            "its chat template does not mark the assistant's turns, and TRL knows no training "
            "template for it",
            "a template with {% generation %} … {% endgeneration %}",
            "Use rows of prompt and completion, or overrides={'assistant_only_loss': false}",
        ) from error
