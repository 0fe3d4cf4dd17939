"""Command that writes the demo's assets to a folder."""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

from demo_make import language, raw_orders
from demo_make.tokenizer import build_tokenizer, save_tokenizer
from demo_make.train_base import exact_match, save_model, train

REPLAY_ROWS = 400
EVALUATION_ROWS = 200


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """Write rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_data(folder: Path) -> list[dict[str, str]]:
    """Write the raw orders and the general rows; return those that evaluate."""
    taken: set[str] = set()
    evaluation = language.general_rows(EVALUATION_ROWS, random.Random(7), taken)
    replay = language.general_rows(REPLAY_ROWS, random.Random(8), taken)
    parts = {"eval": evaluation, "replay": replay}
    rows = [{"part": part, **row} for part, found in parts.items() for row in found]
    write_rows(folder / "general.jsonl", rows)
    (folder / "orders.csv").write_text(raw_orders.raw_csv(), encoding="utf-8")
    return evaluation


def main() -> None:
    """Write every asset; with ``--data-only`` the base model is left as it is."""
    parser = argparse.ArgumentParser(prog="python -m demo_make")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--steps", type=int, default=1500, help="training steps of the base")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-only", action="store_true")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    evaluation = write_data(options.output)
    if options.data_only:
        return
    base = options.output / "base"
    base.mkdir(exist_ok=True)
    tokenizer = build_tokenizer()
    model = train(tokenizer, options.steps, options.seed, {row["prompt"] for row in evaluation})
    score = exact_match(model, tokenizer, evaluation)
    card = {
        "made_by": "python -m demo_make",
        "steps": options.steps,
        "seed": options.seed,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "general_exact_match": score,
        "licence": "MIT-0",
    }
    save_model(model, base, card=card)
    save_tokenizer(base)
    sys.stderr.write(json.dumps(card) + "\n")


if __name__ == "__main__":
    main()
