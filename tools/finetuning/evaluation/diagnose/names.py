"""What trainers write: names of files, columns and knobs, numbers, and what they print.

Bare ``NaN`` and ``Infinity`` are numbers, numbers may be strings, blanks and nulls are absent
values, unknown columns are kept under their own name.
"""

from __future__ import annotations

import ast
import functools
import json
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, cast

from finetuning.errors import BadInputError, NotAllowedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Placed = list[tuple[int, dict[str, Any]]]
"""Rows with their line or number in the source."""

NAMES: Final[dict[str, str]] = {
    "lr": "learning_rate",
    "current_steps": "step",
    "step_number": "step",
    "global_step": "step",
    "_step": "step",
    "epoch_number": "epoch",
    "train_loss": "loss",
    "training_loss": "loss",
    "mean_loss": "loss",
    "meanloss": "loss",
    "train_total_loss": "loss",
    "valid_loss": "eval_loss",
    "val_loss": "eval_loss",
    "test_loss": "eval_loss",
    "validation_loss": "eval_loss",
    "full_valid_loss": "eval_loss",
    "eval_total_loss": "eval_loss",
    "rewards/mean": "reward",
    "objective/kl": "kl",
    "objective/rlhf_reward": "reward",
    "gradient_norm": "grad_norm",
    "total_norm": "grad_norm",
}
"""Other trainers' names → ours (read 2026-11: LLaMA-Factory, OpenAI, Bedrock, Vertex, Gemini)."""

_RANK: Final = {"global_step": 2, "full_valid_loss": 2, "_step": 0}
"""Which of two columns of one meaning counts: a whole held-out set before one batch of it."""
_HELD_OUT: Final = ("eval", "validation", "valid", "val", "test")
_SUMMARY: Final = frozenset({"train_runtime", "total_flos", "train_samples_per_second"})
JUDGED: Final = ("loss", "eval_loss", "reward")
_RECORD: Final = re.compile(r"\{[^{}]*?['\"][\w/ .-]*(?:loss|reward)[\w/ .-]*['\"]\s*:[^{}]*\}")
_BAR: Final = re.compile(r"(\d+)/(\d+) \[[^\]\r\n]*\]")
_BARE: Final = re.compile(r"(?<=[:\s])([-+]?(?:nan|inf|NaN|Infinity))(?=\s*[,}])")
_PAIR: Final = re.compile(
    r"([A-Za-z][\w/.-]*)\s*[:=]\s*'?([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+|nan|inf))\b", re.I
)
_MOST_FILES: Final = 50
_FILES: Final = (
    ("trainer_state.json", r"trainer_state\.json"),
    ("trainer_log.jsonl", r"trainer_log\.jsonl"),
    ("Bedrock's tables", r"(step_wise_training|validation)_metrics\.csv"),
    ("step_metrics.csv", r"step_metrics.*\.csv"),
    ("TensorBoard event files", r"events\.out\.tfevents\..+"),
    ("Trackio databases", r".+\.(db|sqlite3?)"),
    ("logs", r".+\.(jsonl|csv|tsv|log|txt|out)"),
)
"""What is looked for in a folder, the most telling first."""
KNOBS: Final = frozenset(
    "vocab_size learning_rate num_train_epochs n_epochs max_steps per_device_train_batch_size "
    "gradient_accumulation_steps warmup_ratio warmup_steps max_grad_norm r lora_alpha "
    "lora_dropout weight_decay learning_rate_multiplier batch_size beta".split()
)


@functools.lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """Return our name for a column: ``train/loss`` → loss, ``Validation Loss`` → eval_loss."""
    plain = re.sub(r"[\s.]+", "_", name.strip().strip("/").lower())
    head, slash, rest = plain.partition("/")
    if slash and head in {"train", "training", "trainer", "metrics"}:
        plain = rest
    elif slash and head in _HELD_OUT:
        plain = f"eval_{rest}"
    found = NAMES.get(plain, plain)
    if found.endswith("/loss"):
        return "eval_loss" if any(word in found for word in _HELD_OUT) else "loss"
    if re.fullmatch(r"eval_(?!batch)\w+_loss", found):
        return "eval_loss"  # one of several held-out sets: the first of a row counts
    return found


@functools.lru_cache(maxsize=4096)
def reading_of(keys: tuple[Any, ...]) -> tuple[tuple[str, str], ...] | None:
    """Return key and our name of each column, the better of two last; None for a summary row."""
    named = [(key, canonical(key)) for key in reversed(keys) if isinstance(key, str)]
    if any(key.rpartition("/")[2] in _SUMMARY for key, _ in named):
        return None  # the run's average, which hides a collapse

    def rank(pair: tuple[str, str]) -> int:
        return _RANK.get(pair[0].rpartition("/")[2], 3 if pair[0] == pair[1] else 1)

    return tuple(sorted(named, key=rank))


def number(value: object) -> float | None:
    """Return a logged value as a number; None where it is not one."""
    if isinstance(value, float):
        return value
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return float(value) if -(10**300) < value < 10**300 else None
    if isinstance(value, str) and len(value) < 64 and "_" not in value:
        try:
            return float(value)
        except ValueError:
            return None
    return None


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the numbers of its inner objects (``metrics`` of a checkpoint)."""
    if dict not in {*map(type, row.values())}:
        return row
    flat = {key: value for key, value in row.items() if not isinstance(value, dict)}
    for value in row.values():
        if isinstance(value, dict):
            flat = {**cast("dict[str, Any]", value), **flat}
    return flat


def console_rows(text: str) -> tuple[Placed, list[str]]:
    """Read what trainers print: dicts, several on a line or behind a progress bar, or pairs."""
    rows: Placed = []
    bars: list[tuple[int, int] | None] = []
    line = at = 0
    bar: tuple[int, int] | None = None
    for found in _RECORD.finditer(text):
        between = text[at : found.start()]
        line += between.count("\n")
        for done in _BAR.finditer(between[-4000:]):
            bar = (int(done[1][:15]), int(done[2][:15]))
        at = found.start()
        row = _literal(found[0])
        if row is not None:
            rows.append((line + 1, row))
            bars.append(bar)
    if not rows:
        return _pairs(text)
    totals = Counter(
        one[1] for one, (_, row) in zip(bars, rows, strict=True) if one and "loss" in row
    )
    if totals:
        total = totals.most_common(1)[0][0]
        step = 0
        for one, (_, row) in zip(bars, rows, strict=True):
            step = one[0] if one and one[1] == total else step
            row.setdefault("step", step)
    return rows, ["steps are read off the progress bar"] if totals else []


def _literal(text: str) -> dict[str, Any] | None:
    """Return a printed dict, Python's or JSON's; None where it is neither."""
    if len(text) > 20_000:
        return None
    try:
        row = ast.literal_eval(_BARE.sub(r"'\1'", text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            return None
    return flat(cast("dict[str, Any]", row)) if isinstance(row, dict) else None


def _pairs(text: str) -> tuple[Placed, list[str]]:
    """Read lines such as ``Step 12 | loss: 2.31 lr: 2e-4``."""
    rows: Placed = []
    for place, line in enumerate(text.splitlines(), start=1):
        if "loss" in line.lower():
            row: dict[str, Any] = dict(_pairs_of(line))
            if not {canonical(key) for key in row}.isdisjoint(JUDGED):
                rows.append((place, row))
    return rows, []


def _pairs_of(line: str) -> Iterator[tuple[str, str]]:
    short = line[:2000]
    step = re.search(r"\b(?:step|iter(?:ation)?)\b\D{0,3}(\d{1,15})", short, re.I)
    if step:
        yield "step", step[1]
    for found in _PAIR.finditer(short):
        if not (step and found[1].lower() in {"step", "iter", "iteration"}):
            yield found[1], found[2]


def logs_in(folder: Path, where: str) -> tuple[list[Path], list[str]]:
    """Return the log of a folder (several files where one run's log is split), and notes.

    Args:
        folder: A trainer's output folder, its real path.
        where: Its name for error texts.

    Raises:
        BadInputError: It holds no file that looks like a training log.
    """
    from finetuning.files import files_below

    try:
        files = files_below(folder)
    except NotAllowedError:  # an OSError, too: a link that leads out of the roots
        raise
    except OSError as error:
        why = f"cannot be searched ({type(error).__name__})"
        raise BadInputError(where, why, "a readable folder", "Pass the log file") from error
    for kind, pattern in _FILES:
        found = [file for file in files if re.fullmatch(pattern, file.name, re.IGNORECASE)]
        if kind == "logs":
            found = [file for file in found if _names_a_loss(file)]
        if not found:
            continue
        newest = max(found, key=_order)
        same = [file for file in found if _together(kind, newest, file)]
        others = {file.parent for file in found} - {file.parent for file in same}
        notes = [f"{len(found)} {kind} lie below: {newest.relative_to(folder)} is read"]
        return sorted(same)[:_MOST_FILES], notes if others or len(found) > len(same) else []
    raise BadInputError(
        where,
        "the folder holds no training log: no trainer_state.json, trainer_log.jsonl, metrics CSV,"
        " TensorBoard or Trackio file, and no text that names a loss",
        "a training log",
        "Pass the log file itself",
    )


def _names_a_loss(path: Path) -> bool:
    with path.open("rb") as file:
        return b"loss" in file.read(1 << 20).lower()


def _order(path: Path) -> tuple[float, float, str]:
    """Sort a run's final state after its checkpoints, a later file after an earlier one."""
    numbers = [int(n[:15]) for n in re.findall(r"checkpoint-(\d+)", path.parent.name)]
    return (path.stat().st_mtime // 3600, max(numbers, default=math.inf), str(path))


def _together(kind: str, newest: Path, other: Path) -> bool:
    if kind.startswith("Bedrock"):  # training and validation lie in folders side by side
        return other == newest or other.name.lower() != newest.name.lower()
    if kind.startswith("TensorBoard"):
        return other.parent == newest.parent or newest.parent in other.parents
    return other == newest


def settings_beside(path: Path) -> dict[str, float]:
    """Return what a model's or adapter's config beside a log says: vocab_size, r, lora_alpha.

    Args:
        path: The log file.
    """
    known: dict[str, float] = {}
    for name in ("config.json", "adapter_config.json"):
        file = path.parent / name
        try:
            if file.is_symlink() or file.stat().st_size > 2**20:
                continue
            config: Any = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(config, dict):
            known |= knobs_in(config)  # pyright: ignore[reportUnknownArgumentType] - any JSON
    return known


def knobs_in(config: dict[Any, Any]) -> dict[str, float]:
    """Return the numbers of a configuration that a diagnosis can name.

    Args:
        config: Arguments of a run, or a model's configuration.
    """
    known: dict[str, float] = {}
    for key, value in config.items():
        amount = number(value)
        if key in KNOBS and amount is not None and math.isfinite(amount) and amount >= 0:
            known["num_train_epochs" if key == "n_epochs" else str(key)] = amount
        elif isinstance(value, dict) and key in {"config", "overrides", "text_config"}:
            known |= knobs_in(value)  # pyright: ignore[reportUnknownArgumentType] - any JSON
    return known
