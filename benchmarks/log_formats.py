"""Writes one run's rows in every format that trainers write, as real files look.

Used by benchmarks/diagnosis.py and tests/evaluation/test_diagnose.py. Nothing here imports the
readers that are judged; layouts: transformers 5.23, LLaMA-Factory callbacks.py, OpenAI and Bedrock
result files, Trackio 0.43, TensorBoard's TFRecords (read 2026-11).
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def trainer_state(rows: list[Row], folder: Path) -> Path:
    """Write trainer_state.json: bare NaN, a last row with the run's average."""
    path = folder / "trainer_state.json"
    last = {"train_loss": 1.0, "train_runtime": 3.0, "total_flos": 1e9, "step": rows[-1]["step"]}
    state = {"best_metric": None, "global_step": rows[-1]["step"], "log_history": [*rows, last]}
    path.write_text(json.dumps(state, indent=2), encoding="utf-8")
    return path


def llama_factory(rows: list[Row], folder: Path) -> Path:
    """Write trainer_log.jsonl: lr, no gradient norm, the last line cut off."""
    names = {"step": "current_steps", "learning_rate": "lr"}
    path = folder / "trainer_log.jsonl"
    lines = [
        json.dumps(
            {names.get(k, k): v for k, v in row.items() if k != "grad_norm"}
            | {"total_steps": rows[-1]["step"], "elapsed_time": "0:00:01"}
        )
        for row in rows
    ]
    path.write_text("\n".join(lines) + '\n{"current_steps": 3', encoding="utf-8")
    return path


def _openai(rows: list[Row]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(
        ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    )
    held = {row["step"]: row["eval_loss"] for row in rows if "eval_loss" in row}
    seen = {row["step"] for row in rows if "loss" in row}
    for row in rows:
        if "loss" in row:
            writer.writerow([row["step"], row["loss"], 0.5, held.get(row["step"], ""), ""])
        elif row["step"] not in seen:
            writer.writerow([row["step"], "", "", row["eval_loss"], 0.5])
    return out.getvalue()


def openai(rows: list[Row], folder: Path) -> Path:
    """Write step_metrics.csv: blank where a step has no validation."""
    path = folder / "step_metrics.csv"
    path.write_text(_openai(rows), encoding="utf-8")
    return path


def openai_base64(rows: list[Row], folder: Path) -> Path:
    """Write the result file as its content call returns it: base64."""
    path = folder / "result.csv"
    path.write_bytes(base64.encodebytes(_openai(rows).encode()))
    return path


def bedrock(rows: list[Row], folder: Path) -> Path:
    """Write a job's folder: training steps, and validation in a folder beside them."""
    train, held = folder / "training_artifacts", folder / "validation_artifacts" / "post_fine"
    train.mkdir(parents=True)
    held.mkdir(parents=True)
    lines = ["step_number,epoch_number,training_loss"]
    lines += [f"{r['step']},{_pass(r)},{r['loss']}" for r in rows if "loss" in r]
    (train / "step_wise_training_metrics.csv").write_text("\n".join(lines), encoding="utf-8")
    lines = ["step_number,epoch_number,validation_loss"]
    lines += [f"{r['step']},{_pass(r)},{r['eval_loss']}" for r in rows if "eval_loss" in r]
    if len(lines) > 1:
        (held / "validation_metrics.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def _pass(row: Row) -> int:
    return max(0, math.ceil(round(row.get("epoch", 0.0), 6)) - 1)


def wandb_csv(rows: list[Row], folder: Path) -> Path:
    """Write a chart export: "run - metric" columns with their __MIN and __MAX twins."""
    names = [n for n in sorted({n for row in rows for n in row}) if n != "step"]
    path = folder / "wandb_export.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        columns = [f"tuned-7 - {_slash(n)}{twin}" for n in names for twin in ("", "__MIN", "__MAX")]
        writer.writerow(["Step", "tuned-7 - train/global_step", *columns])
        for index, row in enumerate(rows):
            values = [row.get(n, "") for n in names for _ in range(3)]
            writer.writerow([index, row["step"], *values])
    return path


def _slash(name: str) -> str:
    return f"eval/{name[5:]}" if name.startswith("eval_") else f"train/{name}"


def wandb_history(rows: list[Row], folder: Path) -> Path:
    """Write a run's history as JSON lines; its own step differs from the trainer's."""
    path = folder / "wandb-history.jsonl"
    lines: list[str] = []
    for index, row in enumerate(rows):
        values = {_slash(k): v for k, v in row.items() if k != "step"}
        line = {**values, "train/global_step": row["step"], "_step": index, "_runtime": index / 2}
        lines.append(json.dumps(line))
    summary = {"train/train_loss": 1.0, "train/train_runtime": 9.0, "_step": len(rows)}
    path.write_text("\n".join([*lines, json.dumps(summary)]), encoding="utf-8")
    return path


def _crc_table() -> list[int]:
    table: list[int] = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0x82F63B78 if crc & 1 else crc >> 1
        table.append(crc)
    return table


_TABLE = _crc_table()


def masked_crc(data: bytes) -> int:
    """Return TensorFlow's masked CRC-32C."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, kind: int, body: bytes) -> bytes:
    sized = _varint(len(body)) if kind == 2 else b""
    return _varint(number << 3 | kind) + sized + body


def record(event: bytes) -> bytes:
    """Return one TFRecord."""
    head = struct.pack("<Q", len(event))
    return head + struct.pack("<I", masked_crc(head)) + event + struct.pack("<I", masked_crc(event))


def scalar(step: int, tag: str, value: float) -> bytes:
    """Return one event with one scalar."""
    inner = _field(1, 2, tag.encode()) + _field(2, 5, struct.pack("<f", value))
    clock = _field(1, 1, struct.pack("<d", 1.7e9 + step))
    return clock + _field(2, 0, _varint(step)) + _field(5, 2, _field(1, 2, inner))


def tensorboard(rows: list[Row], folder: Path) -> Path:
    """Write an event file with one scalar per event, as the Trainer's callback does."""
    path = folder / "events.out.tfevents.1763600000.host.1.0"
    first = _field(1, 1, struct.pack("<d", 1.7e9)) + _field(3, 2, b"brain.Event:2")
    parts = [record(first)]
    for row in rows:
        parts += [record(scalar(row["step"], _slash(k), v)) for k, v in row.items() if k != "step"]
    path.write_bytes(b"".join(parts))
    return path


def trackio(rows: list[Row], folder: Path) -> Path:
    """Write a Trackio project: JSON in a text column, non-finite numbers as text."""
    path = folder / "project.db"
    with closing(sqlite3.connect(path)) as store, store:
        store.execute(
            "CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, "
            "timestamp TEXT, run_name TEXT, step INTEGER, metrics TEXT)"
        )
        for row in rows:
            values = {
                _slash(k): v if math.isfinite(v) else str(v) for k, v in row.items() if k != "step"
            }
            values["train/global_step"] = row["step"]
            store.execute(
                "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) "
                "VALUES ('r1', '2026-11-20', 'brave-fox', ?, ?)",
                (row["step"], json.dumps(values)),
            )
    return path


def console(rows: list[Row], folder: Path) -> Path:
    """Write what the Trainer prints: dicts behind progress bars, several on a line."""
    return _printed(rows, folder / "console.log", quoted=False)


def console_quoted(rows: list[Row], folder: Path) -> Path:
    """Write what newer versions print: numbers as text."""
    return _printed(rows, folder / "train.out", quoted=True)


def _printed(rows: list[Row], path: Path, *, quoted: bool) -> Path:
    total = rows[-1]["step"]
    parts = ["Loading checkpoint shards: 100%|####| 2/2 [00:01<00:00, 1.9it/s]\n"]
    for row in rows:
        values = {k: (f"{v:.6g}" if quoted else v) for k, v in row.items() if k != "step"}
        bar = f"\r 10%|#   | {row['step']}/{total} [00:12<01:48,  2.50it/s]"
        parts.append(f"{bar}{'' if row['step'] % 3 else chr(10)}{values}")
    return _kept(path, "".join(parts) + "\n***** train metrics *****\n  train_loss = 1.1\n")


def _kept(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def vertex(rows: list[Row], folder: Path) -> Path:
    """Write scalars under the names that Vertex tuning uses."""
    names = {"loss": "/train_total_loss", "eval_loss": "/eval_total_loss"}
    path = folder / "vertex.jsonl"
    kept = [{names.get(k, k): v for k, v in row.items() if k != "grad_norm"} for row in rows]
    return _kept(path, "\n".join(map(json.dumps, kept)))


FORMATS: dict[str, Callable[[list[Row], Path], Path]] = {
    "trainer_state": trainer_state, "llama_factory": llama_factory, "openai": openai,
    "openai_base64": openai_base64, "bedrock": bedrock, "wandb_csv": wandb_csv,
    "wandb_history": wandb_history, "tensorboard": tensorboard, "trackio": trackio,
    "console": console, "console_quoted": console_quoted, "vertex": vertex,
}  # fmt: skip
"""Every format a run can be written in."""

COMPLETE = ("wandb_csv", "wandb_history", "tensorboard", "trackio", "console", "console_quoted")
"""Those that carry everything trainer_state.json carries."""
