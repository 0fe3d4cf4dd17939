"""One training run in its own process, from the claim on the run to its true end.

``python -m finetuning.training.worker.session RUN_ID``

Replay keeps what the base can do: its own greedy answers to shipped general prompts are mixed into
training (1–5 % is the usual share). The rates of ``probe_learning_rates`` are tried first.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import math
import random
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from finetuning import audit, runs, settings
from finetuning.errors import FineTuningError
from finetuning.files import atomic_write, sha256_file
from finetuning.training import preflight
from finetuning.training.config import TrainingConfig, parse_config, read_tables
from finetuning.training.worker import (
    EXIT_FAILED,
    EXIT_NOT_FINITE,
    EXIT_STOPPED,
    NotFiniteError,
    StoppedEarly,
    end_early,
    log_failure,
    not_finite,
    stopped,
    unexpected,
)

if TYPE_CHECKING:
    from finetuning.training.worker.job import Job

REPLAY_TOKENS: Final = 64
REPLAY_SECONDS: Final = 120.0
"""Longest answer, and most time for all of them; what is answered by then is used."""
_AT_ONCE: Final = 16
_PROBE: Final = "probe.json"
_SENTENCE_ENDS: Final = ".!?。！？\n"


class StopSignal:
    """SIGTERM and Ctrl-C: before training they end the process, during it they end a step."""

    def __init__(self) -> None:
        """Install the handlers."""
        self.reporter: Any = None
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        if self.reporter is None:
            raise StoppedEarly
        self.reporter.stop_requested = True


def main(run_id: str) -> int:
    """Train the run ``run_id`` and return the exit code of the process."""
    settings.enforce_offline()
    stop = StopSignal()
    try:
        runs.attach(run_id)
        runs.record_progress(run_id, runs.RunProgress(what="loading libraries"))
        job = job_of(run_id)
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        get_ready(job)
        return follow_through(job, stop)
    except StoppedEarly:
        return end_early(run_id)
    except FineTuningError as error:
        runs.finish(run_id, "failed", error=str(error))
    except Exception as error:
        log_failure(error)
        runs.finish(run_id, "failed", error=str(unexpected(run_id, error)))
    return EXIT_FAILED


def job_of(run_id: str) -> Job:
    """Return the work of a run as its arguments describe it (imports torch and TRL: seconds)."""
    from finetuning.training.worker.job import Job

    arguments = runs.arguments_of(run_id)
    config = parse_config(arguments["config"], where="config")
    return Job(run_id, config, Path(runs.read_run(run_id).folder), arguments.get("resume_from"))


def get_ready(job: Job) -> None:
    """Load everything and do what comes before the first step."""
    add_replay(job)
    job.prepare()
    job.look_ahead()
    probe_rates(job)


def follow_through(job: Job, stop: StopSignal) -> int:
    """Train a prepared job, record its end and return the exit code."""
    stop.reporter = job.reporter
    try:
        job.train()
    except NotFiniteError as error:
        result = job.rescue()
        text = str(not_finite(job.config, error, result))
        runs.finish(job.run_id, "failed", result=result, error=text)
        return EXIT_NOT_FINITE
    if job.reporter.stop_requested:
        where = f"after step {job.trainer.state.global_step}, with a checkpoint"
        text = stopped(job.run_id, where)
        runs.finish(job.run_id, "cancelled", result=job.result(), error=text)
        return EXIT_STOPPED
    result = job.save()
    adapter = {one.name: sha256_file(one) for one in sorted(job.folder.glob("adapter/adapter_*"))}
    done = {"run_id": job.run_id, "data_sha256": result.get("data_sha256"), "adapter": adapter}
    with contextlib.suppress(FineTuningError):  # a log that cannot be written costs no training
        audit.append("run.finished", done)
    runs.finish(job.run_id, "succeeded", result=result)
    return 0


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
    prompts = general_prompts()
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


def general_prompts() -> list[str]:
    """Return the prompts of all domains that tables.toml holds for replay."""
    return [line for prompts in read_tables()["replay"].values() for line in prompts.splitlines()]


def _row(config: TrainingConfig, prompt: str, answer: str) -> dict[str, Any]:
    if config.row_format == "trl_text":
        return {"text": f"{prompt} {answer}"}
    if config.row_format == "trl_prompt_completion":
        return {"prompt": prompt, "completion": answer}
    turns = (("user", prompt), ("assistant", answer))
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def _answers(config: TrainingConfig, prompts: list[str]) -> Iterator[tuple[str, str]]:
    """Give prompt and answer, greedily decoded, as long as the time lasts."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
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
        from finetuning.training.worker.job import try_rates

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


if __name__ == "__main__":
    # the libraries warn about their own future at import; faults come as exceptions
    warnings.simplefilter("ignore")
    gc.disable()  # what is imported stays: looking for garbage in it costs a second
    sys.exit(main(sys.argv[1]))
