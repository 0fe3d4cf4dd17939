"""The tool table: what exists, where it lives, how it is called, what a host may assume."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from finetuning.errors import UnknownNameError

if TYPE_CHECKING:
    from finetuning.records import NextCall


@dataclass(frozen=True, slots=True)
class Tool:
    """One row of the table.

    Attributes:
        package: Module that exports the function; imported at the first use.
        positional: Argument that the CLI takes without a name.
        read_only: Changes nothing but the tools' own log and reports.
        idempotent: A second identical call changes nothing more.
        open_world: The call can leave the machine.
        detached: Over MCP it runs as a child process with a run of its own.
        inputs: Arguments that name files whose digests the audit log records.
        page: Argument that limits the listed items; the CLI lists all unless told.
        page_size: Items of a page over MCP where the usual 20 would be too long.
        example: The rest of a command line that works, for ``--help``.
    """

    name: str
    title: str
    package: str
    example: str
    positional: str | None = None
    read_only: bool = False
    idempotent: bool = True
    open_world: bool = False
    detached: bool = False
    inputs: tuple[str, ...] = ()
    page: str | None = None
    page_size: int | None = None

    @property
    def command(self) -> str:
        """The CLI's spelling of the name."""
        return self.name.replace("_", "-")


def _table(*rows: Tool) -> dict[str, Tool]:
    return {row.name: row for row in rows}


TOOLS: Final[dict[str, Tool]] = _table(
    Tool(
        "inspect_environment",
        "Inspect this machine",
        "finetuning.training",
        "",
        read_only=True,
    ),
    Tool(
        "assess_fit",
        "Decide whether to fine-tune",
        "finetuning.fit",
        '--facts \'{"has_eval": true, "prompt_score": 0.92, "target_score": 0.97}\'',
        read_only=True,
        inputs=("data",),
    ),
    Tool(
        "inspect_data",
        "Measure a raw data file",
        "finetuning.data_prep",
        "tickets.csv",
        positional="path",
        read_only=True,
        detached=True,
        inputs=("path",),
    ),
    Tool(
        "prepare_data",
        "Convert, deduplicate, redact and split",
        "finetuning.data_prep",
        "tickets.csv --target trl_prompt_completion --output-dir prepared"
        " --prompt-column question --completion-column answer",
        positional="sources",
        detached=True,
        inputs=("sources", "exclude", "reviews_file"),
        idempotent=False,
    ),
    Tool(
        "validate_jsonl",
        "Check a training file",
        "finetuning.data_prep",
        "prepared/train.jsonl --target openai_chat",
        positional="path",
        detached=True,
        inputs=("path",),
        page="max_findings",
    ),
    Tool(
        "scan_pii",
        "Find personal data and secrets",
        "finetuning.pii",
        "tickets.csv --mode scan",
        positional="path",
        detached=True,
        inputs=("path",),
        page="limit",
    ),
    Tool(
        "compare_providers",
        "Compare providers and bases",
        "finetuning.providers",
        '--constraints \'{"method": "sft", "customer": "new"}\'',
        read_only=True,
        page="limit",
        page_size=3,
    ),
    Tool(
        "estimate_cost",
        "Price training and serving",
        "finetuning.costs",
        "--provider together --model Qwen/Qwen3.5-9B --method sft --training-tokens 2000000",
        inputs=("data",),
        detached=True,
        page="limit",
        page_size=10,
    ),
    Tool(
        "configure_training",
        "Choose training settings",
        "finetuning.training",
        "--base-model models/my-base --data prepared --method sft",
        inputs=("data",),
        detached=True,
        open_world=True,
    ),
    Tool(
        "launch_lora",
        "Train a LoRA adapter",
        "finetuning.training",
        "training.json",
        positional="config",
        idempotent=False,
        inputs=("config",),
        open_world=True,
    ),
    Tool(
        "get_run",
        "Follow a run",
        "finetuning.training",
        "RUN_ID --wait-seconds 30",
        positional="run_id",
        read_only=True,
        page="limit",
    ),
    Tool("cancel_run", "Stop a run", "finetuning.training", "RUN_ID", positional="run_id"),
    Tool(
        "export_adapter",
        "Export a tuned model",
        "finetuning.training",
        "RUN_ID --format merged --output-dir served",
        positional="run_id",
        detached=True,
        idempotent=False,
    ),
    Tool(
        "diagnose_run",
        "Read a training log",
        "finetuning.evaluation",
        "trainer_state.json",
        positional="path",
        inputs=("path",),
    ),
    Tool(
        "compare_eval",
        "Compare tuned with base",
        "finetuning.evaluation",
        "prepared --base local:models/my-base --tuned run:RUN_ID",
        positional="data",
        detached=True,
        open_world=True,
        idempotent=False,
        page="limit",
        inputs=tuple("data base tuned general train log baseline reviews_file".split()),
    ),
    Tool(
        "capture_outputs",
        "Record a model's answers",
        "finetuning.evaluation",
        "prepared/train.jsonl --model http://localhost:8000/v1#teacher --output teacher.jsonl",
        positional="prompts",
        detached=True,
        open_world=True,
        idempotent=False,
        inputs=("prompts",),
    ),
    Tool(
        "compliance_report",
        "Collect the evidence",
        "finetuning.compliance",
        "--base-model Qwen/Qwen3-8B --jurisdictions EU --data-sensitivity personal"
        " --data prepared --provider local",
        detached=True,
        idempotent=False,
        page="limit",
        page_size=8,
        inputs=("data", "evaluation", "canary_outputs"),
    ),
    Tool(
        "verify_audit_log",
        "Check the audit log",
        "finetuning.audit",
        "",
        positional="path",
        read_only=True,
    ),
)
UNAUDITED: Final = frozenset({"inspect_environment", "get_run", "verify_audit_log"})
"""Tools that neither read a person's data nor change anything: they leave no audit record.

A checkpoint that verify_audit_log writes is recorded all the same."""


def tool(name: str) -> Tool:
    """Return a row of the table.

    Raises:
        UnknownNameError: No tool has this name; the nearest names are given.
    """
    if name not in TOOLS:
        raise UnknownNameError("fine-tuning", "tool", name, TOOLS)
    return TOOLS[name]


def command_line(call: NextCall) -> str:
    """Return a next call as a command that can be pasted into a shell."""
    row = tool(call.tool)
    words = ["fine-tuning", row.command]
    for name, value in call.args.items():
        flag = "--" + name.replace("_", "-")
        if name == row.positional:
            words.extend(_words(value))
        elif isinstance(value, bool):
            words.append(flag if value else "--no-" + flag.removeprefix("--"))
        elif isinstance(value, list) and all(isinstance(v, str) for v in cast("list[Any]", value)):
            for item in cast("list[str]", value):
                words.extend([flag, item])
        else:
            words.extend([flag, *_words(value)])
    return shlex.join(words)


def _words(value: Any) -> list[str]:
    import json

    if isinstance(value, list) and all(isinstance(item, str) for item in cast("list[Any]", value)):
        return list(cast("list[str]", value))
    return [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)]
