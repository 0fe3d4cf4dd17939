"""The shipped assets: small, exact to decode, made by the script, with the stated faults."""

from __future__ import annotations

import csv
import importlib
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from demo_make import __main__ as maker
from demo_make import raw_orders, train_base
from demo_make.tokenizer import build_tokenizer, save_tokenizer
from finetuning.errors import MissingExtraError
from finetuning_skill.demo import ASSETS

MIB = 1024 * 1024
DATA_FILES = ("orders.csv", "general.jsonl")


def general(part: str) -> list[dict[str, str]]:
    rows = map(json.loads, (ASSETS / "general.jsonl").read_text(encoding="utf-8").splitlines())
    return [row for row in rows if row.pop("part") == part]


def orders() -> list[dict[str, str | None]]:
    with (ASSETS / "orders.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))  # type: ignore[arg-type] # short rows give None


def test_every_asset_is_below_a_mebibyte_and_the_base_below_its_limit() -> None:
    sizes = {path: path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()}
    shipped = {path: size for path, size in sizes.items() if "__pycache__" not in path.parts}
    assert max(shipped.values()) < MIB
    assert sum(shipped.values()) < 1.3 * MIB
    assert sum(size for path, size in shipped.items() if path.parent.name == "base") < 800_000


def test_the_data_files_are_what_the_maker_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["make", "--output", str(tmp_path), "--data-only"])
    maker.main()
    for name in DATA_FILES:
        assert (tmp_path / name).read_bytes() == (ASSETS / name).read_bytes(), name
    assert not (tmp_path / "base").exists()


def test_the_tokenizer_files_are_what_the_maker_writes(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    for path in tmp_path.iterdir():
        made, shipped = (
            json.loads(file.read_bytes()) for file in (path, ASSETS / "base" / path.name)
        )
        assert made == shipped, path.name


def test_decoding_gives_back_every_shipped_text_without_an_unknown_word() -> None:
    tokenizer = build_tokenizer()
    texts = [text for part in ("eval", "replay") for row in general(part) for text in row.values()]
    for row in orders():
        message = re.sub(r"\S+@\S+\.(com|org)", "[EMAIL]", row["message"] or "")
        texts += [re.sub(r"\+1 [\d-]+", "[PHONE]", message), row["record"] or ""]
    unknown = tokenizer.token_to_id("<unk>")
    for text in texts:
        ids = tokenizer.encode(text).ids
        assert tokenizer.decode(ids) == text
        assert unknown not in ids, text


def test_the_raw_file_has_the_faults_of_a_real_export() -> None:
    rows = orders()
    whole = [row for row in rows if row["record"] is not None]
    assert len(rows) - len(whole) == raw_orders.BROKEN_LINES
    assert sum(row["record"] == "" for row in whole) == raw_orders.EMPTY_ANSWERS
    copies = Counter((row["message"], row["record"]) for row in whole)
    assert sum(count - 1 for count in copies.values()) == raw_orders.EXACT_COPIES
    contacts = [row["message"] for row in whole if re.search("@|555-01", row["message"] or "")]
    assert len(contacts) > 50
    assert all(re.search(r"@example\.(com|org)|555-01\d\d", text or "") for text in contacts)


def test_replay_and_evaluation_rows_share_no_prompt() -> None:
    replay = {row["prompt"] for row in general("replay")}
    evaluation = {row["prompt"] for row in general("eval")}
    assert len(replay) == maker.REPLAY_ROWS
    assert len(evaluation) == maker.EVALUATION_ROWS
    assert not replay & evaluation


def test_the_maker_trains_and_saves_a_base_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers: Any = importlib.import_module("transformers")
    argv = ["make", "--output", str(tmp_path), "--steps", "2"]
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(maker, "EVALUATION_ROWS", 3)
    maker.main()
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "base")
    assert model.config.vocab_size == len(tokenizer)
    card = json.loads((tmp_path / "base" / "config.json").read_text(encoding="utf-8"))["made"]
    assert model.config.made == card
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert card["steps"] == 2
    assert card["parameters"] == sum(weight.numel() for weight in model.parameters())


def test_the_shipped_base_answers_general_rows_and_not_the_task() -> None:
    transformers: Any = importlib.import_module("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(ASSETS / "base", dtype="float32")
    tokenizer = build_tokenizer()
    known = general("eval")[:20]
    task = [
        {"prompt": row["message"] or "", "completion": row["record"] or ""} for row in orders()[:10]
    ]
    assert train_base.exact_match(model.eval(), tokenizer, known) == 1.0
    assert train_base.exact_match(model, tokenizer, task) == 0.0


def test_a_missing_torch_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"fine-tuning-skill\[local\]"):
        train_base.new_model(8)
