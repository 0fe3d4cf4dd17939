"""Base and tuned model answer the same prompts: ours in mixed batches, against two usual ways.

Run: ``python benchmarks/local_evaluation.py [--quick]``. A Llama-shaped model of 33 M random
weights (fp32) with a LoRA adapter, prompts of 8 to 400 tokens, 16 new tokens each, seeded; made in
a temporary folder. The peers, in turn in one run, CPU seconds of one thread, models loaded before:

- toggling: one model, batches of 16 sorted by length, the adapter switched off for the base
- two models: a plain base and a merged one, batches of 16 in file order

and a second adapter on the base whose answers are kept from the first time, against the first.
Answers must be the same everywhere. Exits 1 below 1.2 times toggling or 1.3 times two models, or
above .55 of the first adapter's time.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

LIBRARIES = ("torch", "peft", "tokenizers", "transformers")
VOCABULARY, NEW_TOKENS = 8_000, 16
TOGGLING, TWO_MODELS, SECOND = 1.2, 1.3, 0.55


def load(name: str) -> Any:
    """Return a library whose types are partial."""
    return importlib.import_module(name)


def make_models(folder: Path, *, quick: bool) -> None:
    """Write base, tokenizer and two adapters."""
    torch, peft, tokenizers, transformers = map(load, LIBRARIES)
    words = {name: k for k, name in enumerate(("<pad>", "<eos>", "<unk>"))}
    words |= {f"w{k}": k + 3 for k in range(VOCABULARY - 3)}
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder / "base")
    torch.manual_seed(0)
    size = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}
    if not quick:
        size = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8}
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, num_attention_heads=8, num_key_value_heads=8, pad_token_id=0,
        eos_token_id=1, max_position_embeddings=1024, tie_word_embeddings=True, **size,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder / "base")
    for name in ("first", "second"):
        base = transformers.LlamaForCausalLM.from_pretrained(folder / "base")
        settings = peft.LoraConfig(
            r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        tuned = peft.get_peft_model(base, settings)
        for key, weight in tuned.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(weight, std=0.02)
        tuned.save_pretrained(folder / name)


def make_questions(count: int) -> list[dict[str, Any]]:
    """Return prompts of 8 to 400 tokens, in no order."""
    generator = random.Random(1)
    found: list[dict[str, Any]] = []
    for number in range(count):
        length = min(400, max(8, int(generator.lognormvariate(4.4, 0.9))))
        words = " ".join(f"w{generator.randrange(VOCABULARY - 3)}" for _ in range(length))
        found.append({"id": str(number), "prompt": words, "messages": None, "reference": "w1 w2"})
    return found


def plain_answers(model: Any, tokenizer: Any, chunks: list[list[dict[str, Any]]]) -> dict[str, str]:
    """Answer batches the way a script does."""
    torch = load("torch")
    tokenizer.padding_side = "left"
    found: dict[str, str] = {}
    for chunk in chunks:
        inputs = tokenizer(
            [row["prompt"] for row in chunk], return_tensors="pt", padding=True,
            return_token_type_ids=False,
        )  # fmt: skip
        with torch.inference_mode():
            out = model.generate(
                **inputs, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0
            )
        written = out[:, inputs["input_ids"].shape[1] :]
        for row, text in zip(
            chunk, tokenizer.batch_decode(written, skip_special_tokens=True), strict=True
        ):
            found[row["id"]] = text
    return found


def in_chunks(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return batches of 16."""
    return [rows[start : start + 16] for start in range(0, len(rows), 16)]


def silent(_done: int, _total: int, _what: str) -> None:
    """Take progress and say nothing."""


def ours(model: Any, sides: list[str], rows: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Answer with the code under test."""
    from finetuning.evaluation.local.__main__ import answer_jobs

    job = {"sides": sides, "generate": True, "nll": False, "questions": rows}
    found = answer_jobs(model, {"test": job}, NEW_TOKENS, silent, remember=False)
    return {side: {key: row[0] or "" for key, row in found[side]["test"].items()} for side in sides}


def main() -> int:
    """Print seconds and ratios; return 1 below a reach or where answers differ."""
    from finetuning.evaluation.local import load_model

    torch, peft, _, transformers = map(load, LIBRARIES)
    bases, adapters = transformers.AutoModelForCausalLM, peft.PeftModel
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["FINE_TUNING_HOME"] = str(folder / "home")
        make_models(folder, quick=quick)
        rows = make_questions(16 if quick else 48)
        by_length = sorted(rows, key=lambda row: -len(row["prompt"].split()))
        base, first = str(folder / "base"), str(folder / "first")
        tokenizer = transformers.AutoTokenizer.from_pretrained(base)
        both = load_model(base, {"base": None, "tuned": first})
        alone = load_model(base, {"tuned": str(folder / "second")})
        toggled = adapters.from_pretrained(
            bases.from_pretrained(base, dtype=torch.float32), first
        ).eval()
        plain = bases.from_pretrained(base, dtype=torch.float32).eval()
        merged = adapters.from_pretrained(
            bases.from_pretrained(base, dtype=torch.float32), first
        ).merge_and_unload()

        def toggling() -> dict[str, dict[str, str]]:
            chunks = in_chunks(by_length)
            with toggled.disable_adapter():
                without = plain_answers(toggled, tokenizer, chunks)
            return {"base": without, "tuned": plain_answers(toggled, tokenizer, chunks)}

        def two_models() -> dict[str, dict[str, str]]:
            chunks = in_chunks(rows)
            sides = {"base": plain, "tuned": merged}
            return {name: plain_answers(side, tokenizer, chunks) for name, side in sides.items()}

        ways = {
            "ours": lambda: ours(both, ["base", "tuned"], rows),
            "toggling": toggling,
            "two models": two_models,
            "second adapter": lambda: ours(alone, ["tuned"], rows),
        }
        took: dict[str, list[float]] = {way: [] for way in ways}
        answers: dict[str, dict[str, dict[str, str]]] = {}
        for _ in range(1 if quick else 3):
            for way, work in ways.items():
                began = time.process_time()
                answers[way] = work()
                took[way].append(time.process_time() - began)
    return judge(took, answers, quick=quick)


def judge(
    took: dict[str, list[float]], answers: dict[str, dict[str, dict[str, str]]], *, quick: bool
) -> int:
    """Print the figures and return the exit code."""
    seconds = {way: statistics.median(values) for way, values in took.items()}
    for way, value in seconds.items():
        print(f"{way:<16} {value:8.2f} s   {min(took[way]):.2f} to {max(took[way]):.2f}")
    clean = {
        way: {s: {k: text.strip() for k, text in rows.items()} for s, rows in sides.items()}
        for way, sides in answers.items()
    }
    same = clean["ours"] == clean["toggling"] == clean["two models"]
    ratios = {
        "toggling / ours": (seconds["toggling"] / seconds["ours"], TOGGLING, 1),
        "two models / ours": (seconds["two models"] / seconds["ours"], TWO_MODELS, 1),
        "second adapter / ours": (seconds["second adapter"] / seconds["ours"], SECOND, -1),
    }
    missed = not same
    for name, (ratio, reach, sign) in ratios.items():
        good = sign * ratio >= sign * reach
        missed |= not good
        bound = "or more" if sign > 0 else "or less"
        print(f"{name:<24} {ratio:5.2f}   reach {reach} {bound}{'' if good else '   BELOW REACH'}")
    print(f"the same answers everywhere: {'yes' if same else 'NO'}")
    return int(missed and (not quick or not same))


if __name__ == "__main__":
    sys.exit(main())
