"""Run a file of prompts through a model and keep the answers: a teacher, or one about to go.

The output grows by whole rows, each batch on disk before the next counts as done. Killed at any
moment, the same call goes on where it stopped, pays for nothing twice, and says which requests may
have been paid for without an answer.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import Field

from finetuning.errors import BadInputError, UnknownNameError
from finetuning.evaluation.results import RemotePlan
from finetuning.records import Finding, Fraction, Json, ToolResult, Usd

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning.evaluation.capturing import Capture
    from finetuning.evaluation.inputs import Question
    from finetuning.evaluation.network import AnswerFile
    from finetuning.evaluation.targets import Target

MOST_SAMPLES: Final = 64
_MOST_AT_ONCE, _MOST_TOKENS, _HOTTEST = 64, 32_768, 2

WHERE: Final = "capture_outputs"


class CapturedOutputs(ToolResult, defer_build=True):
    """How many prompts are answered, where the answers are, what they cost."""

    n_prompts: int
    n_done: int = Field(description="Prompts whose every sample is in the output file.")
    n_failed: int = Field(description="Prompts asked without success; ask again to repeat them.")
    n_unsure: int = Field(
        default=0,
        description="Requests cut off after they were sent: perhaps paid, not asked again unless "
        "retry_unsure is true.",
    )
    n_known: int = Field(default=0, description="Answers that an earlier call paid for.")
    samples: int
    output_file: str = Field(description="JSONL, usable as recorded:FILE.")
    cost_usd: Usd | None = Field(description="Most in a dry run, else by tokens; None: unknown.")
    run_id: str | None = None
    agreement: Fraction | None = Field(
        default=None,
        description="Chance that two samples of a prompt are the same text: the ceiling of any "
        "claim to equal this model.",
    )
    output_terms: str = Field(description="closed:…, open:LICENCE:… or unknown:…, as in each row.")
    personal_data: dict[str, int] = Field(
        default_factory=dict[str, int], description="Findings in the prompts by type."
    )
    stopped: str = Field(default="", description="Why asking ended early, if it did.")
    plan: RemotePlan | None = None
    plan_id: str | None = None
    needs_approval: bool = False

    def exit_code(self) -> int:
        """Return 0 when all is done or planned, 1 when some failed, 4 when all did."""
        if self.plan is not None or self.n_done == self.n_prompts:
            return 0
        return 1 if self.n_done else 4

    def summary(self) -> str:
        """Return the counts."""
        if self.plan is not None:
            return f"dry run: {'; '.join(self.plan.steps)}"
        text = f"{self.n_done} of {self.n_prompts} prompts answered, {self.n_failed} failed"
        return f"{text}; {self.output_file}" + (f" ({self.stopped})" if self.stopped else "")


def capture_outputs(
    prompts: str,
    model: str,
    output: str,
    samples: int = 1,
    dry_run: bool = True,
    plan_id: str | None = None,
    max_tokens: int = 512,
    temperature: float | None = None,
    at_once: int = 8,
    retry_unsure: bool = False,
    allow_personal_data: bool = False,
    price_in_usd_per_mtok: Usd | None = None,
    price_out_usd_per_mtok: Usd | None = None,
    overwrite: bool = False,
) -> CapturedOutputs:
    """Run a file of prompts through a model and write its answers to a file.

    For a teacher, or a model about to be shut down. Killed or interrupted, the same call goes on
    where it stopped and pays for nothing twice. The output is row content (mode 0600).

    Args:
        prompts: Rows with prompt, or messages (a last assistant turn is left out); unique ids.
        model: Target: local:DIR, run:RUN_ID, http://HOST/v1#MODEL, openai:MODEL, azure:DEPLOYMENT,
            anthropic:MODEL, bedrock:ID or vertex:ID.
        output: JSONL file to write: id, sample, output, finish_reason, tokens, output_terms.
        samples: Answers per prompt, 1 to 64; more than one also measures agreement with itself.
        dry_run: Only say what would be sent and what it costs at most.
        plan_id: Plan of a dry run that a person approved; the same one again after a crash.
        max_tokens: Most tokens to write per answer, 1 to 32768.
        temperature: 0 to 2; default 0 for one sample, 1 for several.
        at_once: Most requests at a time, 1 to 64.
        retry_unsure: Ask again where an earlier request was cut off after it was sent.
        allow_personal_data: Send prompts that hold personal data to another machine; part of
            what a person approves.
        price_in_usd_per_mtok: USD per million tokens read, where the catalogue has no price.
        price_out_usd_per_mtok: USD per million tokens written.
        overwrite: Begin again in an output file that exists.

    Returns:
        Counts, the output file (usable as recorded:), cost and run_id.

    Raises:
        BadInputError: An argument or a file cannot be used, or the output is of another call.
        NotAllowedError: Nobody approved, offline mode, or personal data would leave.
        RunFailedError: The process that runs a local model broke.

    Source: OpenAI distillation guide (checked 2026-11-20); knowledge: evaluation.md#capture
    """
    given = dict(locals())
    from finetuning.evaluation.targets import LocalTarget, RecordedTarget, parse_target

    target = parse_target(model, where=f"{WHERE}: model")
    heat = temperature if temperature is not None else float(samples > 1)
    _check(samples, max_tokens, heat, at_once)
    if isinstance(target, RecordedTarget) or (isinstance(target, LocalTarget) and samples > 1):
        raise BadInputError(
            f"{WHERE}: model",
            "recorded answers are there already, and a local model decodes greedily: all samples "
            "would be the same",
            "a model that is asked, with samples=1 for local: and run:",
            "Serve the model (vLLM, transformers serve) and name it as http://HOST/v1#MODEL",
        )
    work = _gather(given, target, heat)
    if dry_run:
        return work.plan()
    work.approve(plan_id)
    return work.run(at_once)


def _check(samples: int, max_tokens: int, heat: float, at_once: int) -> None:
    fine = 1 <= samples <= MOST_SAMPLES and 1 <= at_once <= _MOST_AT_ONCE
    if not (fine and 1 <= max_tokens <= _MOST_TOKENS and 0 <= heat <= _HOTTEST):
        raise BadInputError(
            WHERE,
            f"samples={samples}, at_once={at_once}, max_tokens={max_tokens}, temperature={heat}",
            f"samples 1..{MOST_SAMPLES}, at_once 1..{_MOST_AT_ONCE}, max_tokens 1..{_MOST_TOKENS}, "
            f"temperature 0..{_HOTTEST}",
            "Leave them out to use 1, 8 and 512",
        )


def _gather(given: dict[str, Any], target: Target, heat: float) -> Capture[CapturedOutputs]:
    """Read the prompts and what is there already; nothing is written and nothing is sent."""
    from finetuning import pii
    from finetuning.evaluation.capturing import Capture
    from finetuning.evaluation.network import AnswerFile
    from finetuning.evaluation.sending import Item, Prices, find_prices
    from finetuning.evaluation.servers import Params
    from finetuning.evaluation.targets import HttpTarget, VendorTarget
    from finetuning.files import digest, resolve_read, resolve_write, sha256_file

    path = resolve_read(given["prompts"], where=f"{WHERE}: prompts")
    items = [
        Item(question, Params(given["max_tokens"], heat, sample))
        for question in _read_prompts(path)
        for sample in range(given["samples"])
    ]
    name = digest([target.spec, sha256_file(path), given["max_tokens"], heat])[:16]
    out = resolve_write(given["output"], where=f"{WHERE}: output")
    price_in, price_out = given["price_in_usd_per_mtok"], given["price_out_usd_per_mtok"]
    prices = None
    if price_in is not None and price_out is not None:
        prices = Prices(price_in, price_out, "the caller")
    elif isinstance(target, HttpTarget | VendorTarget):
        prices = find_prices(target)
    return Capture(
        shape=CapturedOutputs,
        given=given,
        target=target,
        path=path,
        items=items,
        file=_output(AnswerFile(out), name, overwrite=given["overwrite"]),
        name=name,
        prices=prices,
        terms=terms_of(target),
        personal=dict(pii.scan_pii(str(path), limit=1).by_type),
    )


def _output(file: AnswerFile, name: str, *, overwrite: bool) -> AnswerFile:
    """Return the output as it stands, or empty where it may be replaced."""
    from finetuning.evaluation.network import AnswerFile

    begun = file.path.exists() and file.path.stat().st_size > 0
    others = sum(row.get("capture") != name for row in file.rows.values())
    if overwrite and begun:
        return AnswerFile(file.path, fresh=bool(others or not file.rows))
    if others or (begun and not file.rows):
        raise BadInputError(
            f"{WHERE}: output",
            f"{file.path.name} holds {others or 'other'} rows of another call",
            "a new file, or the one of the same model, prompts and settings",
            "Name another file, or pass overwrite=true",
        )
    return file


_CLOSED: Final = ("gpt", "o1", "o3", "o4", "claude", "gemini", "anthropic.", "amazon.", "cohere.")


def terms_of(target: Target) -> str:
    """Return what is known of the terms under which a model's answers may be used.

    ``closed:MODEL`` is a vendor's own model, whose terms usually restrict training of others;
    ``open:LICENCE:MODEL`` is an open base of the catalogue; else ``unknown:MODEL``. Nothing here
    is a permission: compliance_report asks for the terms of every row that a model wrote.

    Args:
        target: Who answers.
    """
    from finetuning.evaluation.targets import HttpTarget, LocalTarget, VendorTarget
    from finetuning.providers import find_model

    if isinstance(target, LocalTarget):
        return f"unknown:{PurePath(target.base).name}"
    if not isinstance(target, HttpTarget | VendorTarget):
        return "unknown:recorded"
    vendor = target.vendor if isinstance(target, VendorTarget) else ""
    name = target.model
    if vendor in {"openai", "anthropic"} or name.startswith("ft:"):
        return f"closed:{vendor or 'openai'}:{name}"
    if vendor and name.casefold().startswith(_CLOSED):
        return f"closed:{vendor}:{name}"
    for provider in (vendor or "local", "local"):
        try:
            licence = find_model(provider, name).licence
        except UnknownNameError:
            continue
        if licence is not None:
            kind = "closed" if licence == "proprietary" else f"open:{licence}"
            return f"{kind}:{name}"
    return f"unknown:{name}"


def _read_prompts(path: Path) -> list[Question]:
    """Return the prompts of a file, with ids that are unique."""
    from finetuning.evaluation.inputs import Question
    from finetuning.files import read_records

    found: dict[str, Question] = {}
    rows = 0
    for record in read_records(path):
        rows += 1
        if isinstance(record, Finding):
            continue
        name, prompt = record.data.get("id"), record.data.get("prompt")
        turns = record.data.get("messages") if prompt is None else prompt
        key = str(name) if isinstance(name, str | int) and name != "" else str(record.line)
        if isinstance(turns, list):
            messages = [
                cast("dict[str, Json]", turn)
                for turn in cast("list[Any]", turns)
                if isinstance(turn, dict)
            ]
            while messages and messages[-1].get("role") == "assistant":
                messages.pop()
            question = Question(key, record.line, None, tuple(messages), "") if messages else None
        else:
            question = Question(key, record.line, prompt, None, "") if prompt else None
        if question is None:
            continue
        if key in found:
            raise BadInputError(
                f"{WHERE}: prompts",
                f"line {record.line} repeats an id of line {found[key].line}",
                "unique ids",
                "Give each row an id of its own, or none",
            )
        found[key] = question
    if not found:
        raise BadInputError(
            f"{WHERE}: prompts",
            f"none of the {rows} rows of {path.name} holds a prompt",
            "rows with prompt, or with messages",
            "Name a file of prompt or messages rows",
        )
    return list(found.values())
