"""What the demo works on, and its steps before and after the training.

It works on the shipped files or a person's own; each step is a call of the tool that a person
would call.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from finetuning import files, tokens
from finetuning.errors import BadInputError, RunFailedError
from finetuning.records import Record
from finetuning_skill import dispatch
from finetuning_skill.demo.work import WITH, WITHOUT

if TYPE_CHECKING:
    from finetuning.costs import CostEstimate
    from finetuning.data_prep import PreparedData
    from finetuning.evaluation import EvalComparison, RunDiagnosis
    from finetuning.fit import FitAssessment
    from finetuning.training import RunState
    from finetuning_skill.demo.work import Screen

ASSETS: Final = Path(__file__).resolve().parent
"""Folder with ``base/``, ``orders.csv`` and ``general.jsonl``."""

REPLAY_FRACTION: Final = 0.33
"""Share of general rows in the training file of the arm with replay.

Measured 2026-11-20 with nine seeds: general exact match .95 to .995 (eight of them .98 or more);
with a share of .25 and five seeds .935 to .995; without replay 0 to .02.
"""

WHERE: Final = "demo"
TARGET: Final = "trl_prompt_completion"
BASE_SECONDS: Final = 60.0
MOST_TEST_ROWS: Final = 200
MOST_ANSWER_TOKENS: Final = 256
ANSWER_ROOM_TOKENS: Final = 8
"""An answer may be this much longer than the longest right one before it is cut."""
MARGIN: Final = 0.05
SHIPPED_FACTS: Final[dict[str, Any]] = {
    "task": "customer messages to the order records of a shop",
    "task_kind": "extraction",
    "has_eval": True,
    "prompt_score": 0.81,
    "target_score": 0.95,
    "prompts_tried": ["zero_shot", "few_shot", "structured_outputs", "prompt_optimiser"],
    "best_model_tried": True,
    "failure_modes": ["inconsistency", "format"],
    "requirements_change": "yearly",
    "deployment": "on_device",
    "data_sensitivity": "personal",
    "identified": False,
    "consent": True,
    "provider": "local",
}
"""What the shop of the example says of itself (an example, nothing measured)."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One demo: its data, its base model and what is known beforehand.

    Attributes:
        source: Raw data file.
        prompt_column: Column that asks; None lets prepare_data find it.
        completion_column: Column that answers.
        base: Folder of the base model; None: one is made from the data first.
        shipped_data: Whether the data is the shipped example.
        facts: Facts for assess_fit that a person states.
    """

    source: Path
    prompt_column: str | None
    completion_column: str | None
    base: Path | None
    shipped_data: bool
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def tiny_base(self) -> bool:
        """Whether the base is one of ours, which knows the shipped general rows."""
        return self.base is None or self.base == ASSETS / "base"

    def general(self, folder: Path) -> str:
        """Return what measures forgetting: rows the base knows, else the built-in pack."""
        return str(general_file("eval", folder)) if self.tiny_base else "builtin"


def general_file(part: Literal["replay", "eval"], folder: Path) -> Path:
    """Write one part of the shipped general rows to a file in a folder, and return its path.

    ``replay`` is mixed into training; ``eval`` measures forgetting, and no training sees it.
    """
    rows = [row for row in _rows(ASSETS / "general.jsonl") if row.pop("part") == part]
    path = folder / f"general_{part}.jsonl"
    files.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return path


def choose_setting(
    data: str | None,
    prompt_column: str | None,
    completion_column: str | None,
    base_model: str | None,
) -> Setting:
    """Return what the demo works on.

    Raises:
        BadInputError: A file is missing, or columns were named without a file.
        NotAllowedError: A path lies outside the readable folders.
    """
    base = None
    if base_model is not None:
        base = files.resolve_read(base_model, where="demo: base_model", kind="folder")
    if data is None:
        if prompt_column is not None or completion_column is not None:
            raise BadInputError(
                WHERE,
                "columns were named without a file",
                "data=FILE beside them",
                "Run: fine-tuning demo --data FILE --prompt-column A --completion-column B",
            )
        return Setting(
            source=ASSETS / "orders.csv",
            prompt_column="message",
            completion_column="record",
            base=base or ASSETS / "base",
            shipped_data=True,
            facts=SHIPPED_FACTS,
        )
    source = files.resolve_read(data, where="demo: data", kind="any")
    return Setting(source, prompt_column, completion_column, base, shipped_data=False)


def decide(screen: Screen, setting: Setting) -> FitAssessment:
    """Ask whether to fine-tune; the demo goes on whatever the answer is, and says so."""
    arguments = {"facts": setting.facts, "data": str(setting.source)}
    result = screen.call("assess_fit", "should this be fine-tuned at all?", arguments)
    if result.exit_code() != 0:
        screen.note("the demo goes on all the same: it costs minutes, no money, and measures")
    return cast("FitAssessment", result)


def prepare(screen: Screen, setting: Setting, folder: Path) -> dict[str, PreparedData]:
    """Clean, redact and split the raw file twice: with general rows in train, and without.

    Raises:
        BadInputError: The file holds too few usable rows.
    """
    arguments: dict[str, Any] = {
        "sources": [str(setting.source)],
        "target": TARGET,
        "prompt_column": setting.prompt_column,
        "completion_column": setting.completion_column,
        "redact": "mask",
    }
    replay = {"path": str(general_file("replay", folder)), "fraction": REPLAY_FRACTION}
    ways = {WITH: {"replay": replay}, WITHOUT: {}}
    found: dict[str, PreparedData] = {}
    with screen.step("prepare_data", "convert, drop copies, redact, split") as note:
        for name, more in ways.items():
            target = folder / f"prepared-{name.replace(' ', '-')}"
            whole = {**arguments, **more, "output_dir": str(target)}
            result = dispatch.call("prepare_data", whole, surface="cli")
            found[name] = cast("PreparedData", result)
        note(found[WITH].summary(), found[WITH].exit_code())
    check_prepared(found)
    return found


def check_prepared(found: dict[str, PreparedData]) -> None:
    """Check that every part has rows and that both arms are tested on the same ones.

    Raises:
        BadInputError: A part of the split is empty.
        RunFailedError: The test rows differ.
    """
    rows = found[WITHOUT].rows
    if min(rows.train, rows.validation, rows.test) == 0:
        raise BadInputError(
            WHERE,
            f"the file gave {rows.train} rows to train on and {rows.test} to test",
            "rows for train, validation and test",
            f"Read why rows were left out: {found[WITHOUT].rejected_file}",
        )
    if files.sha256_file(Path(found[WITH].files["test"])) != files.sha256_file(
        Path(found[WITHOUT].files["test"])
    ):
        raise RunFailedError(
            WHERE, "the two arms got different test rows", "the same rows", "Report this fault"
        )


def validate(screen: Screen, prepared: PreparedData) -> None:
    """Check the training file as the trainer will read it.

    Raises:
        BadInputError: It has errors.
    """
    arguments = {"path": prepared.files["train"], "target": TARGET, "max_findings": 5}
    result = screen.call("validate_jsonl", "is every row what the trainer expects?", arguments)
    if result.exit_code() != 0:
        raise BadInputError(
            prepared.files["train"], result.summary(), "a valid training file", "Mend the raw file"
        )


def make_base(screen: Screen, prepared: PreparedData, folder: Path) -> Path:
    """Train a byte-level base on the questions of the training rows and on general rows."""
    from finetuning.training.weights import build_byte_base

    own, general = _rows(Path(prepared.files["train"])), _rows(general_file("replay", folder))
    texts = [{"text": row["prompt"]} for row in own]
    texts += [{"text": row["prompt"] + row["completion"]} for row in general]
    texts_file = folder / "base-texts.jsonl"
    files.write_jsonl(texts_file, texts)
    with screen.step("base model", "a byte-level base, made from the questions") as note:
        made = build_byte_base(texts_file, folder / "base", BASE_SECONDS)
        note(f"{made.parameters:,} parameters, {made.steps} steps on {made.tokens:,} tokens", 0)
    return folder / "base"


def _rows(path: Path) -> list[dict[str, str]]:
    return [row.data for row in files.read_records(path) if isinstance(row, Record)]


def estimate(screen: Screen, base: Path, data: Path, folder: Path, epochs: float) -> CostEstimate:
    """Say what the training will cost, over the epochs that it was configured for."""
    arguments = {
        "provider": "local",
        "model": str(base),
        "method": "sft",
        "data": str(data),
        "n_epochs": math.ceil(epochs),
        "output_dir": str(folder / "cost"),
    }
    return cast("CostEstimate", screen.call("estimate_cost", "what will it cost?", arguments))


def compare(
    screen: Screen,
    setting: Setting,
    base: Path,
    prepared: PreparedData,
    states: dict[str, RunState],
    folder: Path,
) -> EvalComparison:
    """Ask the base and both arms the held-out rows and the general rows, in one process."""
    test, longest = _test_file(Path(prepared.files["test"]), base, folder)
    arguments = {
        "data": str(test),
        "base": f"local:{base}",
        "tuned": f"run:{states[WITH].run_id}",
        "arms": [{"name": WITHOUT, "target": f"run:{states[WITHOUT].run_id}"}],
        "general": setting.general(folder),
        "train": prepared.files["train"],
        "margin": MARGIN,
        "max_tokens": longest,
        "output_dir": str(folder / "comparison"),
        "limit": 10,
    }
    why = "base and both arms on rows that no training saw"
    return cast("EvalComparison", screen.call("compare_eval", why, arguments))


def _test_file(path: Path, base: Path, folder: Path) -> tuple[Path, int]:
    """Return the rows to test on, and the most tokens that an answer to them may take."""
    rows = _rows(path)
    if len(rows) > MOST_TEST_ROWS:
        rows = random.Random(0).sample(rows, MOST_TEST_ROWS)
        path = folder / "test-sample.jsonl"
        files.write_jsonl(path, rows)
    counter = tokens.counter_for(tokenizer_dir=base)
    longest = max(counter.count([row["completion"] for row in rows]))
    return path, min(MOST_ANSWER_TOKENS, longest + ANSWER_ROOM_TOKENS)


def diagnose(screen: Screen, states: dict[str, RunState], folder: Path) -> dict[str, RunDiagnosis]:
    """Read both training curves."""
    found: dict[str, RunDiagnosis] = {}
    with screen.step("diagnose_run", "what do the training curves say?") as note:
        for name, state in states.items():
            arguments = {
                "run_id": state.run_id,
                "output_dir": str(folder / f"curve-{name.replace(' ', '-')}"),
            }
            result = dispatch.call("diagnose_run", arguments, surface="cli")
            found[name] = cast("RunDiagnosis", result)
        said = [f"{name}: {each.diagnosis}" for name, each in found.items()]
        note("; ".join(said), found[WITH].exit_code())
    return found
