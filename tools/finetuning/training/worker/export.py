"""Write a tuned model for serving, and prove that it answers as the trained one does.

``python -m finetuning.training.worker.export REQUEST REPLY``: the trained adapter on its base, the
model it is merged into, and the folder read back from the disk write the same prompts greedily.
Prompts and answers stay in this process; the reply holds counts and differences.
"""

from __future__ import annotations

import importlib
import random
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from finetuning.evaluation.local import CannotRunError, LocalModel, load_model
from finetuning.evaluation.local.__main__ import filler, pad_left, reply_to, report, stop_ids
from finetuning.files import read_records
from finetuning.records import Json, Record
from finetuning.training.serving import pieces_of

torch: Any = importlib.import_module("torch")
transformers: Any = importlib.import_module("transformers")

LIKELIEST: Final = 8
"""Tokens per position whose logits are compared between two models."""
_AT_ONCE: Final = 8
_ROWS_READ: Final = 5000
_RAW_TOKENS: Final = 64
"""Tokens of a plain text (continued pre-training) that serve as a prompt."""
_TERMS: Final = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")


class Answer(NamedTuple):
    """What a model wrote after one prompt: tokens, and the likeliest ones at each position."""

    tokens: list[int]
    ids: list[list[int]]
    logits: list[list[float]]


@dataclass(slots=True)
class Parity:
    """How far other models agree with the trained one."""

    prompts: int = 0
    tokens: int = 0
    differing_prompts: int = 0
    first_difference_at_token: int | None = None
    gap_at_difference: float | None = None
    max_logit_difference: float = 0.0
    differing_side: str | None = None

    def compare(self, side: str, trained: Answer, other: Answer, logits: list[Any]) -> bool:
        """Take in one answer of another model; say whether its tokens are the same.

        Args:
            side: Name of the other model.
            trained: The answer of the trained model.
            other: The other's answer.
            logits: The other's logits at the likeliest tokens of the trained one.
        """
        pairs = zip(trained.tokens, other.tokens, strict=False)
        same = next((k for k, (ours, theirs) in enumerate(pairs) if ours != theirs), None)
        if same is None and len(trained.tokens) != len(other.tokens):
            same = min(len(trained.tokens), len(other.tokens)) - 1
        compared = len(trained.tokens) if same is None else same + 1
        for ours, theirs in zip(trained.logits[:compared], logits[:compared], strict=False):
            widest = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
            self.max_logit_difference = max(self.max_logit_difference, widest)
        if same is None:
            return True
        first = self.first_difference_at_token
        if first is None or same < first:
            self.first_difference_at_token, self.differing_side = same, side
            self.gap_at_difference = _gap(trained, same, other.tokens[same])
        return False


def _gap(trained: Answer, position: int, other: int) -> float:
    """Return by how much the trained model preferred its own token to the other's."""
    ids, best = trained.ids[position], trained.logits[position]
    return best[0] - best[ids.index(other) if other in ids else -1]


# --- prompts ----------------------------------------------------------------------------------


def prompts_of(
    path: Path, tokenizer: Any, *, count: int, seed: int, longest: int
) -> tuple[list[list[int]], bool]:
    """Return the token ids of prompts chosen from a file of rows, and whether they are chats.

    Args:
        path: Rows of any format that is trained on here.
        tokenizer: The tokenizer that is exported.
        count: Most prompts.
        seed: Seed of the choice.
        longest: Most tokens of a prompt; longer ones keep their end.

    Raises:
        CannotRunError: No row holds a prompt.
    """
    found = islice(read_records(path, source=path.name), _ROWS_READ)
    rows = [each.data for each in found if isinstance(each, Record)]
    random.Random(seed).shuffle(rows)
    asked = (
        (_prompt(row, tokenizer), "text" in row or isinstance(row.get("prompt"), str))
        for row in rows
    )
    chosen = list(islice(((ids[-longest:], raw) for ids, raw in asked if ids), count))
    if not chosen:
        raise CannotRunError(
            f"no row of {path.name} holds a prompt",
            "rows of the format that the run was trained on",
            f"Run: fine-tuning validate-jsonl {path}",
        )
    return [ids for ids, _ in chosen], not all(raw for _, raw in chosen)


def _prompt(row: Mapping[str, Json], tokenizer: Any) -> list[int]:
    prompt = row.get("prompt", row.get("messages"))
    if isinstance(prompt, str):
        return _raw(tokenizer, prompt)
    if isinstance(prompt, list) and prompt:
        messages = cast("list[dict[str, Any]]", prompt)
        if "messages" in row and messages[-1].get("role") == "assistant":
            messages = messages[:-1]
        return _chat(tokenizer, messages, row.get("tools"))
    text = row.get("text")
    return _raw(tokenizer, text)[:_RAW_TOKENS] if isinstance(text, str) else []


def _raw(tokenizer: Any, text: str) -> list[int]:
    ids = list(tokenizer(text)["input_ids"])
    return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids


def _chat(tokenizer: Any, messages: list[dict[str, Any]], tools: Any) -> list[int]:
    if not messages or not tokenizer.chat_template:
        return []
    rendered = tokenizer.apply_chat_template(
        messages, tools=tools, add_generation_prompt=True, tokenize=True, return_dict=True
    )
    return list(rendered["input_ids"])


# --- answers ----------------------------------------------------------------------------------


def answers_of(
    local: LocalModel, prompts: Sequence[list[int]], max_tokens: int
) -> Iterator[tuple[int, Answer, Any]]:
    """Yield for each prompt its number, the greedy answer and its logits (tokens, vocabulary).

    Every model gets the same batches, so that padding cannot make them differ.
    """
    stops, padding = stop_ids(local), filler(local)
    decoding = transformers.GenerationConfig(
        do_sample=False,
        max_new_tokens=max_tokens,
        eos_token_id=stops or None,
        pad_token_id=padding,
        output_logits=True,
        return_dict_in_generate=True,
    )
    order = sorted(range(len(prompts)), key=lambda k: len(prompts[k]))
    for start in range(0, len(order), _AT_ONCE):
        chosen = order[start : start + _AT_ONCE]
        ids, mask = pad_left([prompts[k] for k in chosen], padding, local.device)
        with torch.inference_mode():
            out = local.model.generate(
                input_ids=ids, attention_mask=mask, generation_config=decoding
            )
        logits = torch.stack(out.logits, dim=1).float()
        best = logits.topk(min(LIKELIEST, logits.shape[-1]), dim=-1)
        written = out.sequences[:, ids.shape[1] :].tolist()
        for row, (k, tokens) in enumerate(zip(chosen, written, strict=True)):
            end = next((n + 1 for n, t in enumerate(tokens) if t in stops), len(tokens))
            likeliest = best.indices[row, :end].tolist()
            yield (
                k,
                Answer(tokens[:end], likeliest, best.values[row, :end].tolist()),
                logits[row, :end],
            )


def compare(
    parity: Parity, side: str, trained: Mapping[int, Answer], others: Iterator[Any]
) -> set[int]:
    """Compare another model's answers with the trained one's; return the prompts that differ."""
    differing: set[int] = set()
    for k, other, logits in others:
        ids = trained[k].ids[: len(other.tokens)]
        wanted = torch.tensor(ids, device=logits.device)
        if not parity.compare(
            side, trained[k], other, logits[: len(ids)].gather(1, wanted).tolist()
        ):
            differing.add(k)
    return differing


# --- models -----------------------------------------------------------------------------------


def merged(model: Any) -> Any:
    """Return the base with the adapter's weights added, tied weights kept right.

    Raises:
        CannotRunError: A merged weight is not a finite number.
    """
    base = model.get_base_model()
    head, rows = base.get_output_embeddings(), base.get_input_embeddings()
    touched = [layer for layer in (head, rows) if hasattr(layer, "base_layer")]
    if touched and getattr(base.config.get_text_config(), "tie_word_embeddings", False):
        # one shared matrix, of which the adapter changed one use: from here on they are two
        touched[0].base_layer.weight = torch.nn.Parameter(touched[0].base_layer.weight.clone())
        base.config.get_text_config().tie_word_embeddings = False
        base.config.tie_word_embeddings = False
    try:
        return model.merge_and_unload(safe_merge=True).eval()
    except ValueError as error:
        raise CannotRunError(
            "merging the adapter gives weights that are not finite",
            "an adapter of finite numbers",
            "Export an earlier, good checkpoint, or train again at a lower learning_rate",
        ) from error


def run(request: Mapping[str, Any]) -> dict[str, Any]:
    """Write what ``export_adapter`` asks for; return the parity and the facts of the model."""
    report(0, 4, "loading the model")
    source, output, dtype = request["source"], str(request["output"]), str(request["dtype"])
    adapted, merge, most = request["adapted"], request["merge"], int(request["max_tokens"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=True)

    def load(base: str, adapter: str | None) -> LocalModel:
        return replace(load_model(base, {"side": adapter}, dtype), tokenizer=tokenizer)

    model = load(request["base"], source) if adapted else load(source, None)
    embeddings = int(model.model.get_input_embeddings().weight.shape[0])
    prompts, chat = prompts_of(
        Path(request["prompts_file"]),
        tokenizer,
        count=request["prompts"],
        seed=request["seed"],
        longest=max(1, model.longest - most),
    )
    report(1, 4, "asking the trained model")
    trained = {k: answer for k, answer, _ in answers_of(model, prompts, most)}
    parity = Parity(len(prompts), sum(len(answer.tokens) for answer in trained.values()))
    differing: set[int] = set()
    if adapted and merge:
        report(2, 4, "merging")
        model = replace(model, model=merged(model.model))
        differing |= compare(parity, "merged", trained, answers_of(model, prompts, most))
    report(3, 4, "writing and reading back")
    _write(model.model, tokenizer, request, output)
    del model
    again = load(output, None) if merge else load(request["base"], output)
    differing |= compare(parity, "reloaded", trained, answers_of(again, prompts, most))
    parity.differing_prompts = len(differing)
    return {
        "parity": {**asdict(parity), "identical": not differing},
        "chat": chat,
        "pieces": pieces_of(tokenizer),
        "stops": tokenizer.convert_ids_to_tokens(stop_ids(again)),
        "vocabulary": {"tokenizer": len(tokenizer), "embeddings": embeddings},
        "longest": again.longest,
        "architecture": (again.plain.config.architectures or ["unknown"])[0],
    }


def _write(model: Any, tokenizer: Any, request: Mapping[str, Any], output: str) -> None:
    if request["merge"]:
        model.save_pretrained(output)
        for pattern in _TERMS:
            for path in Path(request["base"]).glob(pattern):
                shutil.copy2(path, output)
    else:
        for path in Path(request["source"]).glob("adapter_*"):
            if path.suffix in {".json", ".safetensors"}:
                shutil.copy2(path, output)
    tokenizer.save_pretrained(output)


def work(request: dict[str, Any]) -> dict[str, Any]:
    """Carry out a request without a word of the libraries."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return run(request)


if __name__ == "__main__":
    sys.exit(reply_to(sys.argv[1:], work))
