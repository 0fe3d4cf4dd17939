"""Work ahead of the first step: general prompts the base answers, learning rates that are tried.

Replay keeps what the base can do: its own greedy answers to shipped general prompts are mixed into
training (1–5 % is the usual share). The rates of ``probe_learning_rates`` are each tried for a few
dozen steps from the same start and judged on held-out rows; the run then begins as if nothing had
been tried.
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from finetuning import runs
from finetuning.files import atomic_write
from finetuning.training import preflight
from finetuning.training.config import TrainingConfig
from finetuning.training.worker.checkpoints import Guarded, random_states, set_random_states
from finetuning.training.worker.job import Job

torch: Any = importlib.import_module("torch")
transformers: Any = importlib.import_module("transformers")

PROMPTS: Final = Path(preflight.__file__).with_name("replay_prompts.jsonl")
REPLAY_TOKENS: Final = 64
REPLAY_SECONDS: Final = 120.0
"""Longest answer, and most time for all of them; what is answered by then is used."""
_AT_ONCE: Final = 16
_PROBE_STEPS: Final = 48
_PROBE_SECONDS: Final = 60.0
"""Steps per rate (no more than half of the run's), and the time after which the first rate stops;
the others then take as many steps as it did."""
_PROBE: Final = "probe.json"
_WARM_UP: Final = 0.1
_SENTENCE_ENDS: Final = ".!?。！？\n"


def add_replay(job: Job) -> None:
    """Let the base answer general prompts where a share of replay is asked for, but no file."""
    config = job.config
    if config.replay_fraction <= 0.0 or config.replay_file is not None:
        return
    target = job.folder / preflight.REPLAY
    earlier = _of_earlier_run(job, preflight.REPLAY)
    if earlier is not None:
        shutil.copyfile(earlier, target)
    elif (count := answer_prompts(config, target)) == 0:
        _tell(
            job,
            "replay_empty",
            "the base answered none of the general prompts (or the rows are no answers at all): "
            "nothing is replayed",
        )
        return
    else:
        _tell(job, "replay_made", f"{count} general prompts were answered by the base for replay")
    job.config = config.model_copy(update={"replay_file": str(target)})


def _of_earlier_run(job: Job, name: str) -> Path | None:
    """Return a file of the run that this one goes on with, if it left one."""
    path = None if job.resume_folder is None else job.resume_folder.parent / name
    return path if path is not None and path.is_file() else None


def _tell(job: Job, code: str, message: str) -> None:
    runs.record_alert(job.run_id, code=code, message=message)


def answer_prompts(config: TrainingConfig, target: Path) -> int:
    """Write the base's own answers to shipped prompts as rows to train on; return how many."""
    if config.row_format not in {"trl_messages", "trl_prompt_completion", "trl_text"}:
        return 0
    with PROMPTS.open(encoding="utf-8") as stream:
        prompts = [str(json.loads(line)["prompt"]) for line in stream]
    with Path(config.train_file).open("rb") as rows:
        own = sum(1 for line in rows if line.strip())
    share = config.replay_fraction
    wanted = min(len(prompts), math.ceil(own * share / (1.0 - share)) if share < 1.0 else own)
    chosen = random.Random(config.seed).sample(prompts, wanted)
    found = [_row(config, *pair) for pair in _answers(config, chosen)]
    if found:
        with atomic_write(target) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
        target.chmod(0o600)
    return len(found)


def _row(config: TrainingConfig, prompt: str, answer: str) -> dict[str, Any]:
    if config.row_format == "trl_text":
        return {"text": f"{prompt} {answer}"}
    if config.row_format == "trl_prompt_completion":
        return {"prompt": prompt, "completion": answer}
    turns = (("user", prompt), ("assistant", answer))
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def _answers(config: TrainingConfig, prompts: list[str]) -> Iterator[tuple[str, str]]:
    """Give prompt and answer, greedily decoded, as long as the time lasts."""
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
        config.base_model, local_files_only=True, padding_side="left"
    )
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        config.base_model,
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.bfloat16 if config.precision == "bf16" else torch.float32,
    )
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id
    until = time.monotonic() + REPLAY_SECONDS
    for start in range(0, len(prompts), _AT_ONCE):
        if time.monotonic() > until:
            return
        batch = prompts[start : start + _AT_ONCE]
        inputs = _encode(tokenizer, batch, chat=config.row_format == "trl_messages")
        ids = inputs["input_ids"].to(model.device)
        with torch.no_grad():
            whole = model.generate(
                input_ids=ids,
                attention_mask=inputs["attention_mask"].to(model.device),
                do_sample=False,
                max_new_tokens=REPLAY_TOKENS,
                pad_token_id=tokenizer.pad_token_id,
            )
        for prompt, new in zip(batch, whole[:, ids.shape[1] :].tolist(), strict=True):
            ended = tokenizer.eos_token_id in new
            answer = finished(tokenizer.decode(new, skip_special_tokens=True), ended=ended)
            if answer:
                yield prompt, answer


def _encode(tokenizer: Any, prompts: list[str], *, chat: bool) -> Any:
    if chat and tokenizer.chat_template is not None:
        turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
        return tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
    found = tokenizer(prompts, padding=True, return_tensors="pt")
    ids, mask, end = found["input_ids"], found["attention_mask"], tokenizer.eos_token_id
    if bool((ids[:, -1] == end).all()):  # a tokenizer that ends each text: the answer comes first
        ids, mask = ids[:, :-1], mask[:, :-1]
    return {"input_ids": ids, "attention_mask": mask}


def finished(answer: str, *, ended: bool) -> str:
    """Return an answer without the sentence that was cut off, so that none ends in the middle."""
    if ended:
        return answer.strip()
    last = max(answer.rfind(mark) for mark in _SENTENCE_ENDS)
    return answer[: last + 1].strip()


def probe_rates(job: Job) -> None:
    """Try the rates of the config on held-out rows and give the run the best one."""
    rates = job.config.probe_learning_rates
    if not rates:
        return
    earlier = _of_earlier_run(job, _PROBE)
    if earlier is not None:
        tried: list[dict[str, float]] = json.loads(earlier.read_text(encoding="utf-8"))
    elif job.trainer.eval_dataset is None or job.config.method in {"grpo", "kto"}:
        _tell(
            job,
            "probe_skipped",
            "rates are tried on held-out loss, which this run does not have; learning_rate "
            f"{job.config.learning_rate:g} is used",
        )
        return
    else:
        tried = try_rates(job.trainer, sorted(set(rates)))
        listed = ", ".join(f"{each['rate']:g} → {each['held_out_loss']:.4g}" for each in tried)
        _tell(
            job,
            "learning_rate_probed",
            f"held-out loss after {tried[0]['steps']:.0f} steps: {listed}; the best is used",
        )
    with atomic_write(job.folder / _PROBE) as file:
        file.write(json.dumps(tried))
    best = min(tried, key=lambda each: each["held_out_loss"])["rate"]
    job.probe, job.trainer.args.learning_rate = tried, best
    job.config = job.config.model_copy(update={"learning_rate": best})


def try_rates(trainer: Any, rates: list[float]) -> list[dict[str, float]]:
    """Train a few steps at each rate from the same start; leave the trainer as it was.

    Args:
        trainer: A trainer that is ready to train, with held-out rows.
        rates: Learning rates.

    Returns:
        Per rate: ``rate``, ``steps``, ``held_out_loss`` (infinite where it diverged).
    """
    states, start = random_states(), [weight.detach().clone() for weight in trainer.trained]
    each_epoch = -(-len(trainer.train_dataset) // trainer.args.per_device_train_batch_size)
    steps = max(4, min(_PROBE_STEPS, round(each_epoch * trainer.args.num_train_epochs) // 2))
    found: list[dict[str, float]] = []
    for rate in rates:
        done, loss = _try(trainer, rate, steps, math.inf if found else _PROBE_SECONDS)
        found.append({"rate": rate, "steps": done, "held_out_loss": loss})
        steps = done
        with torch.no_grad():
            for weight, value in zip(trainer.trained, start, strict=True):
                weight.copy_(value)
        trainer.model.zero_grad()
        set_random_states(states)
    return found


def _try(trainer: Guarded, rate: float, steps: int, seconds: float) -> tuple[int, float]:
    made: Any = trainer
    torch.manual_seed(made.args.seed)
    optimizer = torch.optim.AdamW(made.trained, lr=rate, weight_decay=made.args.weight_decay)
    batches = itertools.chain.from_iterable(made.get_train_dataloader() for _ in itertools.count())
    warm_up, until, done = max(1, round(_WARM_UP * steps)), time.monotonic() + seconds, 0
    made.model.train()
    for step, batch in enumerate(itertools.islice(batches, steps)):
        if done >= warm_up and time.monotonic() > until:
            break
        factor = min((step + 1) / warm_up, (steps - step) / (steps - warm_up + 1))
        optimizer.param_groups[0]["lr"] = rate * factor
        with made.compute_loss_context_manager():
            loss = made.compute_loss(made.model, made._prepare_inputs(batch))
        if not torch.isfinite(loss):
            return steps, math.inf
        loss.backward()
        torch.nn.utils.clip_grad_norm_(made.trained, made.args.max_grad_norm)
        optimizer.step()
        made.model.zero_grad()
        done += 1
    return done, _held_out_loss(made)


def _held_out_loss(trainer: Any) -> float:
    total, count = 0.0, 0
    trainer.model.eval()
    for batch in trainer.get_eval_dataloader():
        weight = int((batch["labels"][:, 1:] != -100).sum()) if "labels" in batch else 1
        with torch.no_grad(), trainer.compute_loss_context_manager():
            loss = float(trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch)))
        total, count = total + loss * weight, count + weight
    return total / count if math.isfinite(total) and count else math.inf
