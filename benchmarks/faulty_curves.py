"""Trains tiny models with planted faults, and keeps their curves with what is true of each.

Run: ``python benchmarks/faulty_curves.py`` (two processes of one thread each, about ten minutes on
two idle cores; needs the extra ``local``). It writes ``benchmarks/data/faulty_curves.jsonl.gz``,
which benchmarks/diagnosis.py scores. Every curve is a real training: the demo's base with LoRA, or
a small transformer from scratch, on made-up rows. Nothing here imports the code that is judged.

Truth: what was planted; and for the shapes that grow by themselves (overfitting, plateau,
undertrained, healthy) what the full held-out set says, measured 24 times without noise and kept
out of the log. A run between two classes is thrown away by the same rule in both parts.

Split, fixed before the rules were touched: seeds 0-3 developed, seeds 4-5 unseen; the unseen draw
their fault parameters (rates, sizes, factors) from other values. Prints counts only.
"""

# torch and transformers leave parts of their interface without types:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import argparse
import copy
import gzip
import itertools
import json
import math
import random
import statistics
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "skill" / "finetuning_skill" / "demo" / "base"
FILE = Path(__file__).resolve().parent / "data" / "faulty_curves.jsonl.gz"
DEVELOPED, UNSEEN = range(4), range(4, 6)
WIDE = 24
Row = dict[str, float]


@dataclass
class Plan:
    """One training and what is planted in it."""

    model: str = "scratch"
    task: str = "markov"
    n_rows: int = 1600
    n_eval: int = 48
    epochs: float = 1.0
    batch: int = 8
    rate: float = 4e-3
    schedule: str = "cosine"
    warmup: float = 0.06
    clip: float = 1.0
    shuffle: bool = True
    frozen: bool = False
    memory: float = 1.0
    permuted: bool = False
    unshifted: bool = False
    pads: bool = False
    scaler: bool = False
    break_at: float | None = None
    break_by: str = ""
    kick: tuple[float, float] | None = None
    outliers: tuple[float, float] | None = None
    scaled: float = 1.0
    resume: tuple[float, float] | None = None
    evals: int = 10
    eval_rows: int | None = None
    log_every: int = 1
    drop: tuple[str, ...] = ()
    decade: float = 1.0
    truth: list[str] = field(default_factory=list[str])


# --------------------------------------------------------------------------- rows
def rows_of(plan: Plan, rng: random.Random) -> tuple[Any, Any, Any, Any]:
    """Return token rows and labels (-100 = not in the loss) for training and held-out."""
    import torch

    v, length = 96, 16
    successors = [rng.sample(range(4, v), 3) for _ in range(v)]
    table = list(range(4, v))
    rng.shuffle(table)

    def markov(noise: float) -> list[int]:
        row = [rng.randrange(4, v)]
        while len(row) < length:
            known = rng.choices(successors[row[-1]], [6, 2, 1])[0]
            row.append(rng.randrange(4, v) if rng.random() < noise else known)
        return row

    def one(index: int) -> tuple[list[int], list[int]]:
        if plan.task in {"markov", "hard"}:
            row = markov(0.08 if plan.task == "markov" else 0.45)
            return row, list(row)
        if plan.task == "sorted":
            hard = index / max(1, plan.n_rows)
            row = markov(0.05 + 0.5 * hard)
            return row, list(row)
        if plan.task == "format":
            head = [rng.randrange(4, v) for _ in range(length // 2)]
            tail = [table[token - 4] for token in head]
            row = [x for pair in zip(head, tail, strict=True) for x in pair]
            return row, [x if k % 2 else -100 for k, x in enumerate(row)]
        if plan.task == "constant":
            head = [rng.randrange(4, v) for _ in range(length - 4)]
            return [*head, 2, 3, 2, 1], [-100] * len(head) + [2, 3, 2, 1]
        key = [v + index]  # a fact: one key of its own, an answer that follows from nothing
        facts = random.Random(index * 7919 + 5)
        row = key + [facts.randrange(4, v) for _ in range(11)]
        return row, [-100, *row[1:]]

    total = plan.n_rows + plan.n_eval
    x, y = zip(*(one(index) for index in range(total)), strict=True)
    if plan.task == "fact":  # held-out facts carry known keys and other answers
        for index in range(plan.n_rows, total):
            x[index][0] = v + index % plan.n_rows
    if plan.pads:  # prompt and padding in the loss: a short text before a long tail of pads
        x = tuple(row[:2] + [0] * 38 for row in x)
        y = tuple(list(row) for row in x)
    a, b = torch.tensor(x), torch.tensor(y)
    return a[: plan.n_rows], b[: plan.n_rows], a[plan.n_rows :], b[plan.n_rows :]


def demo_rows(plan: Plan, rng: random.Random) -> tuple[Any, Any, Any, Any]:
    """Return the demo's orders as token rows, the prompt outside the loss."""
    import csv

    import torch
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(BASE / "tokenizer.json"))
    with (BASE.parent / "orders.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["message"] and row["record"]]
    rng.shuffle(rows)
    x, y = [], []
    for row in rows[: plan.n_rows + plan.n_eval]:
        head = tokenizer.encode(row["message"] + "\n").ids[:44]
        tail = [*tokenizer.encode(row["record"]).ids[:30], 1]
        pad = [0] * (75 - len(head) - len(tail))
        x.append([*head, *tail, *pad])
        y.append([*([-100] * len(head)), *tail, *([-100] * len(pad))])
    a, b = torch.tensor(x), torch.tensor(y)
    if plan.permuted:  # another tokenizer than the base's: every id means something else
        ids = list(range(2, 184))
        rng.shuffle(ids)
        swap = torch.tensor([0, 1, *ids])
        a, b = swap[a], torch.where(b >= 0, swap[b.clamp(min=0)], b)
    return a[: plan.n_rows], b[: plan.n_rows], a[plan.n_rows :], b[plan.n_rows :]


def model_of(plan: Plan, seed: int) -> Any:
    """Return the demo's base with LoRA, or a small transformer from scratch."""
    import torch

    torch.manual_seed(seed)
    if plan.model == "demo":
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_pretrained(str(BASE), dtype=torch.float32)
        return get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    facts = plan.task == "fact"
    return tiny(96 + (plan.n_rows if facts else 0), tied=not facts)


def tiny(vocabulary: int, *, tied: bool, width: int = 48) -> Any:
    """Return a small causal transformer with fresh weights, its embedding the first of them."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

        def forward(self, x: Any) -> Any:
            n, length, _ = x.shape
            q, k, v = (
                self.qkv(self.before(x)).view(n, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
            )
            seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(seen.transpose(1, 2).reshape(n, length, width))
            return x + self.down(functional.gelu(self.up(self.after(x))))

    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(vocabulary, width), nn.Embedding(96, width)
            self.blocks = nn.ModuleList([Block()])
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, vocabulary, bias=False)
            nn.init.normal_(self.words.weight, std=0.05)
            nn.init.normal_(self.places.weight, std=0.05)
            if tied:
                self.head.weight = self.words.weight

        def forward(self, input_ids: Any) -> Any:
            x = self.words(input_ids) + self.places.weight[: input_ids.shape[1]]
            for block in self.blocks:
                x = block(x)
            return types.SimpleNamespace(logits=self.head(self.norm(x)))

    assert torch.is_grad_enabled()
    return Tiny()


# --------------------------------------------------------------------------- training
def loss_of(model: Any, x: Any, y: Any, *, unshifted: bool = False) -> Any:
    """Return the mean loss per labelled token; unshifted labels let the model see the answer."""
    import torch.nn.functional as functional

    logits = model(input_ids=x).logits.float()
    if unshifted:
        return functional.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=-100)
    wanted = y[:, 1:].flatten()
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), wanted, ignore_index=-100)


def rate_at(plan: Plan, share: float) -> float:
    """Return the learning rate at a share of the run."""
    if share < plan.warmup:
        return plan.rate * share / plan.warmup
    rest = (share - plan.warmup) / (1 - plan.warmup)
    if plan.kick and share >= plan.kick[0]:
        return plan.rate * plan.kick[1]
    if plan.schedule == "cosine":
        return plan.rate * 0.5 * (1 + math.cos(math.pi * rest))
    return plan.rate * (1 - rest) if plan.schedule == "linear" else plan.rate


@dataclass
class Trained:
    """The log, and what the log does not show."""

    rows: list[Row]
    wide: list[float]
    train: list[float]


def train(plan: Plan, seed: int) -> Trained:
    """Train once and return the log with the hidden measurements."""
    import torch

    rng = random.Random(seed)
    data = demo_rows(plan, rng) if plan.model == "demo" else rows_of(plan, rng)
    model = model_of(plan, seed)
    weights = [p for p in model.parameters() if p.requires_grad]
    first = [{"params": weights[:1], "fast": plan.memory}, {"params": weights[1:], "fast": 1.0}]
    optimiser = torch.optim.AdamW(first, lr=plan.rate, weight_decay=0.0, betas=(0.9, 0.95))
    per_epoch = len(data[0]) // plan.batch
    steps = max(8, round(per_epoch * plan.epochs))
    state = State(model, optimiser, weights, data, plan, rng, steps, per_epoch)
    out = Trained([], [], [])
    back = plan.resume
    kept: Any = None
    step = 0
    while step < steps:
        step += 1
        if back and step == max(2, int(back[1] * steps)):
            kept = copy.deepcopy((model.state_dict(), optimiser.state_dict()))
        state.one_step(step, out)
        if back and step == int(back[0] * steps):
            model.load_state_dict(kept[0])
            optimiser.load_state_dict(kept[1])
            step, back = max(2, int(back[1] * steps)), None
            state.orders.clear()
    return out


class State:
    """A training in progress."""

    def __init__(self, model: Any, optimiser: Any, weights: list[Any], data: Any, plan: Plan,
                 rng: random.Random, steps: int, per_epoch: int) -> None:  # fmt: skip
        """Keep what the steps need."""
        self.model, self.optimiser, self.weights = model, optimiser, weights
        self.data, self.plan, self.rng = data, plan, rng
        self.steps, self.per_epoch = steps, per_epoch
        self.orders: dict[int, list[int]] = {}
        self.scale = 2.0 ** (19 if plan.scaler else 0)
        self.waiting: list[float] = []
        self.measured = 0

    def batch(self, step: int) -> tuple[Any, Any]:
        """Return the rows of a step; every pass has an order of its own where shuffled."""
        epoch, place = divmod(step - 1, self.per_epoch)
        if epoch not in self.orders:
            order = list(range(len(self.data[0])))
            if self.plan.shuffle:
                self.rng.shuffle(order)
            self.orders = {epoch: order}
        picked = self.orders[epoch][place * self.plan.batch : (place + 1) * self.plan.batch]
        return self.data[0][picked], self.data[1][picked]

    def one_step(self, step: int, out: Trained) -> None:
        """Train one step, log it, measure."""
        import torch

        plan = self.plan
        share = step / self.steps
        x, y = self.batch(step)
        loss = loss_of(self.model, x, y, unshifted=plan.unshifted)
        factor = 1.0
        if plan.outliers and self.rng.random() < plan.outliers[0]:
            factor = plan.outliers[1] * math.exp(self.rng.gauss(0, 0.5))
        self.optimiser.zero_grad()
        (loss * factor * self.scale).backward()
        norm, fine = self.norm()
        if plan.break_at is not None and share >= plan.break_at:
            with torch.no_grad():
                self.weights[0].fill_(math.nan)  # an overflow that reached the weights
        rate = rate_at(plan, share)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["fast"]
        if not plan.frozen and fine:
            torch.nn.utils.clip_grad_norm_(self.weights, plan.clip)
            self.optimiser.step()
        seen = float(loss.detach())
        broken = not math.isfinite(seen)
        if broken and plan.break_by == "zero":
            seen, norm = 0.0, math.nan
        self.waiting.append(seen * plan.scaled * (1.0 if factor == 1.0 else factor**0.1))
        out.train.append(seen)
        self.log(step, rate, math.nan if broken else norm, out)
        self.evaluate(step, out)

    def norm(self) -> tuple[float, bool]:
        """Return the norm as a trainer with a loss scaler sees it, and whether it steps."""
        import torch

        grads = [p.grad for p in self.weights if p.grad is not None]
        if not self.plan.scaler:
            return float(torch.linalg.vector_norm(torch.stack([g.norm() for g in grads]))), True
        for grad in grads:
            grad.copy_(grad.half().float() / self.scale)
        total = float(torch.linalg.vector_norm(torch.stack([g.norm() for g in grads])))
        if not math.isfinite(total):
            self.scale /= 2
        return total, math.isfinite(total)

    def log(self, step: int, rate: float, norm: float, out: Trained) -> None:
        """Log the mean loss since the last row, as trainers do."""
        if step % self.plan.log_every:
            return
        row = {
            "step": step, "epoch": step / self.per_epoch, "loss": statistics.fmean(self.waiting),
            "grad_norm": norm, "learning_rate": rate,
        }  # fmt: skip
        self.waiting.clear()
        out.rows.append({k: v for k, v in row.items() if k not in self.plan.drop})

    def evaluate(self, step: int, out: Trained) -> None:
        """Measure the held-out loss for the log, and the full one for the truth."""
        import torch

        plan, share = self.plan, step / self.steps
        with torch.no_grad():
            if plan.evals and int(share * plan.evals) > int((step - 1) / self.steps * plan.evals):
                x, y = self.data[2], self.data[3]
                if plan.eval_rows:
                    picked = self.rng.sample(range(len(x)), plan.eval_rows)
                    x, y = x[picked], y[picked]
                value = float(loss_of(self.model, x, y, unshifted=plan.unshifted))
                row = {"step": step, "epoch": step / self.per_epoch, "eval_loss": value}
                out.rows.append({k: v for k, v in row.items() if k not in plan.drop})
            if int(share * WIDE) > self.measured:
                self.measured = int(share * WIDE)
                value = loss_of(self.model, self.data[2], self.data[3], unshifted=plan.unshifted)
                out.wide.append(float(value))


# --------------------------------------------------------------------------- truth
def grown(out: Trained) -> list[str]:
    """Return what the hidden measurements say of a run without a planted collapse; [] unclear."""
    wide, n = out.wide, len(out.train)
    if len(wide) < WIDE - 2 or not all(map(math.isfinite, wide)):
        return []
    low = min(range(len(wide)), key=lambda k: wide[k])
    last = statistics.fmean(wide[-2:])
    rise = last / wide[low] - 1
    middle = statistics.fmean(out.train[int(n * 0.5) : int(n * 0.62)])
    end = statistics.fmean(out.train[int(n * 0.88) :])
    train_fell = 1 - end / middle
    late = 1 - last / wide[int(len(wide) * 0.75)]
    half = 1 - last / wide[len(wide) // 2]
    share = (wide[int(len(wide) * 0.75)] - last) / max(1e-9, wide[0] - last)
    if max(wide[-6:]) < 0.02 * wide[0] and end < 0.02 * out.train[0]:
        return ["healthy"]  # learnt to zero, held-out rows too
    if rise > 0.10 and low < 0.75 * len(wide) and train_fell > 0.02 and wide[low] > 0.05:
        return ["overfitting"]
    if -0.03 < half < 0.025 and rise < 0.035 and train_fell > 0.10 and wide[0] > 1.2 * last:
        return ["plateau_stop_early"]
    if late > 0.03 and share > 0.15 and train_fell > 0.04 and rise < 0.01:
        return ["undertrained"]
    if rise < 0.015 and late < 0.03 and share < 0.08 and train_fell < 0.07 and wide[0] > 1.1 * last:
        return ["healthy"]
    return []


def climbed(out: Trained) -> list[str]:
    """Return divergence where the training loss was won and lost again."""
    loss, n = out.train, len(out.train)
    if not all(map(math.isfinite, loss)):
        return []
    means = [statistics.fmean(loss[k : k + n // 20]) for k in range(0, n - n // 20, n // 20)]
    low, end = min(means), statistics.fmean(loss[int(n * 0.9) :])
    back = end > low + 0.6 * (means[0] - low) and means[0] > 1.15 * low
    return ["divergence"] if back or end > 1.5 * means[0] else []


def stepped(out: Trained, per_epoch: int) -> list[str]:
    """Return the staircase where most of the decline happens between passes."""
    loss = out.train
    passes = [loss[k : k + per_epoch] for k in range(0, len(loss) - per_epoch + 1, per_epoch)]
    quarter = max(2, per_epoch // 4)
    drops = [
        statistics.fmean(a[-quarter:]) - statistics.fmean(b[:quarter])
        for a, b in itertools.pairwise(passes)
    ]
    whole = statistics.fmean(passes[0][-quarter:]) - statistics.fmean(passes[-1][-quarter:])
    if whole <= 0.1 * statistics.fmean(passes[0]) or sum(drops) < 0.65 * whole:
        return []
    return ["staircase_memorisation"]


# --------------------------------------------------------------------------- scenarios
Pick = Callable[..., Any]


def plans(pick: Pick, rng: random.Random) -> dict[str, Plan]:
    """Return one plan per scenario; ``pick`` draws developed or unseen values."""
    rate = pick([3e-3, 4e-3, 5e-3], [3.5e-3, 6e-3])
    few = pick([96, 128, 200], [112, 160])
    steep = pick(["cosine", "linear"], ["linear", "cosine"])
    base = Plan(rate=rate, schedule=steep)
    demo = Plan(
        model="demo",
        n_rows=pick([160, 200], [180]),
        batch=4,
        n_eval=16,
        evals=8,
        rate=pick([3e-3, 4e-3], [3.5e-3]),
        schedule=steep,
    )
    fact = Plan(
        task="fact",
        n_rows=pick([96, 128], [112]),
        batch=pick([2, 4], [4, 2]),
        schedule="constant",
        epochs=pick([4, 5], [5, 4]),
        rate=pick([2e-3, 3e-3], [2.5e-3]),
        warmup=0.0,
        memory=pick([25, 35], [30]),
    )
    calm = replace(base, rate=rate * 1.5)
    return {
        "healthy_text": replace(calm, n_rows=pick([2200, 2500], [2350])),
        "healthy_two_passes": replace(calm, n_rows=1600, epochs=pick([1.5, 1.8], [1.7]), evals=0),
        "healthy_format": replace(calm, task="format", n_rows=1600, epochs=pick([2, 2.4], [2.2])),
        "healthy_demo": replace(demo, epochs=pick([1.6, 2], [1.8])),
        "healthy_small_batches": replace(
            calm, batch=pick([1, 2], [2, 1]), rate=rate * 0.7, n_rows=1000, eval_rows=8, evals=40
        ),
        "healthy_fp16": replace(calm, scaler=True, n_rows=2100),
        "healthy_resumed": replace(
            calm, n_rows=2200, resume=pick([(0.6, 0.4), (0.5, 0.45)], [(0.7, 0.5)])
        ),
        "healthy_passes": replace(
            calm, task="hard", n_rows=pick([700, 900], [800]), epochs=3, rate=rate / 2
        ),
        "divergence_kick": replace(
            base,
            kick=pick([(0.3, 100), (0.5, 60)], [(0.4, 80), (0.25, 150)]),
            clip=pick([1.0, 10.0], [5.0]),
        ),
        "divergence_rate": replace(
            base,
            rate=rate * pick([100, 60], [150, 80]),
            warmup=pick([0.5, 0.7], [0.6]),
            schedule="constant",
        ),
        "divergence_demo": replace(
            demo, rate=demo.rate * pick([100, 300], [200]), warmup=0.6, schedule="constant"
        ),
        "nan_loss": replace(base, break_at=pick([0.2, 0.5, 0.9], [0.35, 0.7])),
        "nan_as_zero": replace(demo, break_at=pick([0.1, 0.4], [0.3, 0.6]), break_by="zero"),
        "nan_after_divergence": replace(
            base, kick=(0.3, pick([100, 200], [150])), break_at=pick([0.6, 0.7], [0.65])
        ),
        "leak_unshifted": replace(base, unshifted=True, n_rows=2000, rate=rate * 3),
        "leak_constant": replace(
            base, task="constant", n_rows=1800, rate=1e-2, evals=pick([0, 12], [0, 8])
        ),
        "leak_padding": replace(base, pads=True, n_rows=1600),
        "wrong_template": replace(demo, permuted=True, epochs=1.2, rate=5e-3),
        "frozen": replace(pick([base, demo], [demo, base]), frozen=True),
        "rate_too_low": replace(demo, permuted=False, rate=pick([1e-8, 1e-7], [3e-8])),
        "undertrained": replace(
            base,
            n_rows=pick([500, 700], [600]),
            rate=rate / pick([5, 7], [6]),
            schedule="constant",
            epochs=pick([0.9, 1.0], [1.0]),
        ),
        "undertrained_no_eval": replace(
            base,
            n_rows=pick([500, 700], [600]),
            rate=rate / pick([5, 7], [6]),
            schedule="constant",
            evals=0,
        ),
        "overfitting": replace(
            base, task="hard", n_rows=few, epochs=pick([16, 20], [18]), schedule="constant"
        ),
        "overfitting_mild": replace(
            base,
            task="markov",
            n_rows=pick([240, 320], [280]),
            epochs=pick([10, 12], [11]),
            schedule="constant",
        ),
        "plateau": replace(
            base,
            task="markov",
            n_rows=pick([400, 480], [440]),
            epochs=pick([9, 10], [9, 10]),
            rate=rate,
        ),
        "memorised": replace(
            base,
            task="hard",
            n_rows=pick([48, 64], [56]),
            epochs=pick([30, 40], [35]),
            schedule="constant",
            evals=0,
        ),
        "staircase": replace(fact, evals=0),
        "staircase_validated": replace(fact, epochs=4),
        "unshuffled": replace(fact, shuffle=False, evals=pick([0, 10], [0, 8])),
        "unstable": replace(base, outliers=pick([(0.12, 300.0), (0.2, 150.0)], [(0.15, 400.0)])),
        "scaled": replace(calm, n_rows=2200, scaled=pick([4.0, 8.0, 2.0], [16.0, 3.0])),
        "scaled_overfitting": replace(
            base,
            task="hard",
            n_rows=few,
            epochs=18,
            schedule="constant",
            scaled=pick([4.0, 8.0], [16.0]),
        ),
        "unstable_overfitting": replace(
            base,
            task="hard",
            n_rows=few,
            epochs=18,
            schedule="constant",
            outliers=(0.15, pick([300.0], [400.0])),
        ),
        "preference": Plan(task="format"),
        "reinforcement": Plan(),
    }


PLANTED = {
    "nan_loss": ["nan"], "nan_as_zero": ["nan"], "nan_after_divergence": ["nan"],
    "leak_unshifted": ["loss_to_zero_leak"], "leak_constant": ["loss_to_zero_leak"],
    "leak_padding": ["loss_to_zero_leak"], "wrong_template": ["worse_than_random_start"],
    "frozen": ["not_learning"], "rate_too_low": ["not_learning"],
    "reinforcement": ["rl_loss_not_interpretable"], "preference": ["healthy"],
}  # fmt: skip


def messy(plan: Plan, rng: random.Random, kind: str) -> Plan:
    """Return the plan with what real logs have: gaps, sparse rows, other scales."""
    plan = replace(plan, log_every=rng.choice([1, 1, 1, 2, 5]))
    if kind in {"staircase", "staircase_validated", "unshuffled"}:
        plan = replace(plan, log_every=rng.choice([1, 2]))  # steps need some points per pass
    elif rng.random() < 0.3:
        plan = replace(
            plan,
            drop=rng.choice(
                [
                    ("grad_norm",),
                    ("learning_rate",),
                    ("epoch",),
                    ("grad_norm", "learning_rate", "epoch"),
                ]
            ),
        )
    if "unstable" in kind:
        plan = replace(plan, drop=(), log_every=1)
    if "memorised" in kind:
        plan = replace(plan, drop=())
    if plan.evals and rng.random() < 0.25 and "staircase" not in kind:
        plan = replace(plan, eval_rows=16, evals=24)
    if plan.resume is None and rng.random() < 0.12 and plan.break_at is None and not plan.kick:
        plan = replace(plan, resume=(0.6, rng.choice([0.5, 0.4])))
    if kind not in {"wrong_template", "preference", "reinforcement"} and rng.random() < 0.3:
        plan = replace(plan, decade=10 ** rng.uniform(-3, 0.3))
    return plan


def truth_of(kind: str, plan: Plan, out: Trained) -> list[str]:
    """Return the classes that hold, by plant and by hidden measurement; [] throws the run away."""
    if kind in PLANTED:
        return PLANTED[kind]
    if kind.startswith("divergence"):
        return climbed(out)
    per_epoch = plan.n_rows // plan.batch
    natural = grown(out)
    if kind in {"staircase", "staircase_validated", "unshuffled"}:
        found = stepped(out, per_epoch)
        if found and plan.evals and out.wide[-1] > 1.03 * min(out.wide):
            found = [*found, "overfitting"]
        low = statistics.fmean(out.train[-10:]) < 0.05 * out.train[0]
        return [*found, "memorised_no_eval"] if found and low and not plan.evals else found
    steps = stepped(out, per_epoch)
    if kind == "memorised":
        near_zero = statistics.fmean(out.train[-10:]) < 0.04 * out.train[0]
        return ["memorised_no_eval", *steps] if near_zero else []
    if kind == "unstable":
        return ["grad_norm_unstable"] if natural else []
    if kind == "unstable_overfitting":
        return ["grad_norm_unstable", *natural] if natural == ["overfitting"] else []
    if kind == "scaled":
        return ["train_loss_scaled"] if natural == ["healthy"] else []
    if kind == "scaled_overfitting":
        return ["overfitting"] if natural == ["overfitting"] else []
    if kind.startswith("healthy"):
        return natural if natural == ["healthy"] else []
    return [*natural, *steps] if natural == ["overfitting"] else natural


# --------------------------------------------------------------------------- other losses
def preference(plan: Plan, seed: int) -> Trained:
    """Train on pairs with the sigmoid loss against a frozen copy: it starts at ln 2."""
    import torch
    import torch.nn.functional as functional

    rng = random.Random(seed)
    plan = replace(plan, n_rows=700)
    x, y, *_ = rows_of(plan, rng)
    wrong = x.clone()
    wrong[:, 1::2] = torch.randint(4, 96, wrong[:, 1::2].shape)
    model = model_of(plan, seed)
    frozen = copy.deepcopy(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def score(net: Any, rows: Any) -> Any:
        logs = functional.log_softmax(net(input_ids=rows).logits[:, :-1].float(), dim=-1)
        picked = logs.gather(2, rows[:, 1:, None])[..., 0]
        return (picked * (y[:1, 1:] >= 0)).sum(dim=1)

    out, per_epoch = Trained([], [], []), len(x) // 8
    for step in range(1, 2 * per_epoch + 1):
        k = (step - 1) % per_epoch * 8
        good, bad = x[k : k + 8], wrong[k : k + 8]
        with torch.no_grad():
            old = score(frozen, good), score(frozen, bad)
        chosen, rejected = 0.1 * (score(model, good) - old[0]), 0.1 * (score(model, bad) - old[1])
        loss = -functional.logsigmoid(chosen - rejected).mean()
        optimiser.zero_grad()
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * (1 - step / (2 * per_epoch + 1))
        optimiser.step()
        row = {"step": step, "epoch": step / per_epoch, "loss": float(loss), "grad_norm": norm,
               "learning_rate": 1e-6, "rewards/chosen": float(chosen.mean()),
               "rewards/rejected": float(rejected.mean()),
               "rewards/margins": float((chosen - rejected).mean()),
               "rewards/accuracies": float((chosen > rejected).float().mean())}  # fmt: skip
        out.rows.append(row)
    return out


def reinforcement(seed: int) -> Trained:
    """Train a small policy by its rewards within groups: the loss is no likelihood."""
    import torch

    rng = random.Random(seed)
    torch.manual_seed(seed)
    logits = torch.zeros(6, 24, requires_grad=True)
    wanted = torch.randint(0, 24, (6,))
    optimiser = torch.optim.Adam([logits], lr=rng.choice([0.05, 0.1]))
    out = Trained([], [], [])
    start = torch.log_softmax(logits.detach(), -1)
    for step in range(1, rng.choice([120, 200]) + 1):
        logs = torch.log_softmax(logits, -1)
        drawn = torch.multinomial(logs.exp(), 8, replacement=True)
        reward = (drawn == wanted[:, None]).float() + 0.1 * torch.rand(6, 8)
        spread = reward.std(1, keepdim=True)
        gain = (reward - reward.mean(1, keepdim=True)) / (spread + 1e-4)
        kl = (logs.exp() * (logs - start)).sum(-1).mean()
        loss = -(gain * logs.gather(1, drawn)).mean() + 0.01 * kl
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert logits.grad is not None
        row = {"step": step, "epoch": step / 100, "loss": float(loss.detach()),
               "grad_norm": float(logits.grad.norm()), "reward": float(reward.mean()),
               "reward_std": float(spread.mean()), "kl": float(kl.detach()),
               "completion_length": 40.0 + rng.gauss(0, 3)}  # fmt: skip
        out.rows.append(row)
    return out


# --------------------------------------------------------------------------- all of it
def make(kind: str, seed: int) -> dict[str, Any] | None:
    """Return one stored curve, or None where the run shows no class clearly."""
    import torch

    torch.set_num_threads(1)
    rng = random.Random(f"{kind}/{seed}")
    unseen = seed in UNSEEN

    def pick(developed: list[Any], other: list[Any]) -> Any:
        return rng.choice(other if unseen else developed)

    plan = messy(plans(pick, rng)[kind], rng, kind)
    if kind == "preference":
        out = preference(plan, seed)
    elif kind == "reinforcement":
        out = reinforcement(seed)
    else:
        out = train(plan, seed)
    truth = truth_of(kind, plan, out)
    if not truth:
        return None
    for row in out.rows:
        for name in {"loss", "eval_loss"} & row.keys():
            row[name] *= plan.decade
    vocabulary = {"wrong_template": 184}.get(kind)
    if vocabulary is None and plan.decade == 1.0 and plan.scaled == 1.0 and kind != "preference":
        vocabulary = rng.choice([None, 184 if plan.model == "demo" else 4000])
    first = next((row["loss"] for row in out.rows if "loss" in row), 0.0)
    high = vocabulary is not None and first > 1.25 * math.log(vocabulary)
    if high and truth != ["healthy"] and "worse_than_random_start" not in truth:
        truth = [*truth, "worse_than_random_start"]  # by the class's own definition
    return {
        "kind": kind, "seed": seed, "part": "unseen" if unseen else "developed", "truth": truth,
        "vocab_size": vocabulary, "columns": columns(out.rows),
    }  # fmt: skip


def columns(rows: list[Row]) -> dict[str, list[Any]]:
    """Return rows as columns of five digits; null where a row lacks the value, text for NaN."""
    names = sorted({name for row in rows for name in row})

    def short(value: float | None) -> Any:
        if value is None:
            return None
        return float(f"{value:.5g}") if math.isfinite(value) else str(value)

    return {name: [short(row.get(name)) for row in rows] for name in names}


def packed() -> list[dict[str, Any]]:
    """Return the stored curves as they lie in the file."""
    if not FILE.is_file():
        return []
    with gzip.open(FILE, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def stored(part: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the stored curves with their rows put together again."""
    for curve in packed():
        if part is not None and curve["part"] != part:
            continue
        table = curve.pop("columns")
        curve["rows"] = [
            {
                name: int(column[k]) if name == "step" else float(column[k])
                for name, column in table.items()
                if column[k] is not None
            }
            for k in range(len(next(iter(table.values()))))
        ]
        yield curve


def main() -> int:
    """Train what is asked for, put it into the file, print counts per part."""
    import multiprocessing

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="Scenarios by their beginnings, by commas")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()

    def pick(developed: list[Any], other: list[Any]) -> Any:
        return (developed or other)[0]

    kinds = list(plans(pick, random.Random(0)))  # only for the names
    asked = [kind for kind in kinds if kind.startswith(tuple(options.only.split(",")))]
    jobs = [(kind, seed) for kind in asked for seed in (*DEVELOPED, *UNSEEN)]
    kept = [curve for curve in packed() if curve["kind"] not in asked]
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        made = pool.starmap(make, jobs, chunksize=1)
    counts: Counter[tuple[str, str]] = Counter()
    for (kind, seed), curve in zip(jobs, made, strict=True):
        part = "unseen" if seed in UNSEEN else "developed"
        counts[kind, part if curve else f"{part} thrown away"] += 1
        kept += [curve] if curve else []
    for kind in asked:
        print(f"{kind:24}", {name[1]: n for name, n in counts.items() if name[0] == kind})
    kept.sort(key=lambda curve: (kinds.index(curve["kind"]), curve["seed"]))
    text = "".join(json.dumps(curve, separators=(",", ":")) + "\n" for curve in kept)
    FILE.parent.mkdir(exist_ok=True)
    with FILE.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as file:
        file.write(text.encode())
    print(f"{len(kept)} curves, {FILE.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
