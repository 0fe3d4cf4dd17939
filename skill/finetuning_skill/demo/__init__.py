"""The demo: raw file to tuned model, verdict and report, offline, on two CPU cores."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import time
from typing import TYPE_CHECKING, Final, cast

from pydantic import Field

from finetuning import files, runs
from finetuning.errors import MissingExtraError
from finetuning.records import Fraction, Model, NextCall, ToolResult, Usd
from finetuning_skill.demo.steps import ASSETS, Setting, choose_setting
from finetuning_skill.demo.work import DemoStep

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from finetuning.audit import AuditVerification
    from finetuning.evaluation import EvalComparison
    from finetuning.evaluation.results import General
    from finetuning_skill.demo.report import Story
    from finetuning_skill.demo.work import Screen

__all__ = ["ASSETS", "DemoArm", "DemoResult", "DemoStep", "run_demo"]

NEEDED: Final = ("torch", "transformers", "trl", "peft", "tokenizers")
_STEPS: Final = 9
_EXIT_CODES: Final = {"worse": 1, "underpowered": 3, "invalid": 4}


class DemoArm(Model):
    """One of the two trained adapters, measured on the same held-out rows."""

    name: str
    run_id: str
    adapter_dir: str
    task_score: float = Field(description="On the metric that decides.")
    general_exact_match: Fraction | None = Field(description="None where answers are long.")
    general_delta_nll: float | None = Field(description="Nats per token; above 0 is a loss.")
    general_verdict: str
    diagnosis: str


class DemoResult(ToolResult):
    """From a raw file to a verdict: what was done, what came out, and where it lies."""

    verdict: str
    ship: str | None
    sentence: str
    fit_verdict: str
    metric: str
    base_task_score: float
    base_general_exact_match: Fraction | None
    arms: list[DemoArm]
    rows: dict[str, int]
    cost_usd: Usd | None
    steps: list[DemoStep]
    seconds: float
    audit_valid: bool
    audit_records: int
    audit_head_digest: str
    report_file: str
    result_file: str
    output_dir: str

    def exit_code(self) -> int:
        """Return 0 improved or tied, 1 worse, 3 underpowered, 4 invalid."""
        return _EXIT_CODES.get(self.verdict, 0)

    def summary(self) -> str:
        """Return the verdict, what replay did, and where the report is."""
        return f"{self.verdict}: {self.sentence}; report: {self.report_file}"


def run_demo(
    data: str | None = None,
    prompt_column: str | None = None,
    completion_column: str | None = None,
    base_model: str | None = None,
    output_dir: str | None = None,
) -> DemoResult:
    """Run the whole job: raw file to tuned model, verdict, report and audit record.

    Offline, without a key and without cost, on two CPU cores. Trains two LoRA adapters, with and
    without general rows mixed in, and measures on held-out rows what each gained and forgot.

    Args:
        data: Raw data file (CSV, JSON Lines, Parquet …); absent: the shipped order messages.
        prompt_column: Column that asks, for a file of your own.
        completion_column: Column that answers, for a file of your own.
        base_model: Folder of the base model; absent: the shipped one, or for a file of your own
            one that is made from its questions first (about 70 seconds).
        output_dir: New folder for all files; absent: one among the reports.

    Returns:
        Verdict, both arms, what each step took, and the paths of report and files.

    Raises:
        BadInputError: A path or column cannot be used, or too few rows are usable.
        MissingExtraError: The extra ``local`` is not installed.
        RunFailedError: A training run or the evaluation broke.
    """
    from finetuning_skill.demo import work

    setting = choose_setting(data, prompt_column, completion_column, base_model)
    folder = files.new_output_folder(output_dir, where="demo: output_dir", name="demo")
    _need_training_packages()
    with (
        runs.stop_like_ctrl_c(),
        _whole_or_nothing(folder),
        one_thread(setting.tiny_base),
    ):
        return _run(setting, folder, work.Screen(_STEPS + (setting.base is None)))


def _need_training_packages() -> None:
    """Check, without importing them, that the packages that train are installed.

    Raises:
        MissingExtraError: One is missing; the pip line that mends it is named.
    """
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(
                "demo",
                f"the package {name!r} is not installed",
                "the extra 'local'",
                "Run: pip install 'fine-tuning-skill[local]'",
            )


@contextlib.contextmanager
def _whole_or_nothing(folder: Path) -> Generator[None]:
    """Remove the folder again unless the block ends well."""
    try:
        yield
    except BaseException:
        with runs.unstoppable():
            shutil.rmtree(folder, ignore_errors=True)
        raise


@contextlib.contextmanager
def one_thread(wanted: bool) -> Generator[None]:
    """Start the children of the block with one compute thread, if ``wanted``.

    For a tiny model a second thread costs more than it brings, most of all on busy cores.
    """
    before = os.environ.get("OMP_NUM_THREADS")
    if not wanted or before is not None:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


def _run(setting: Setting, folder: Path, screen: Screen) -> DemoResult:
    from finetuning_skill.demo import report, steps, work

    started = time.monotonic()
    fit = steps.decide(screen, setting)
    prepared = steps.prepare(screen, setting, folder)
    steps.validate(screen, prepared[work.WITH])
    base = setting.base or steps.make_base(screen, prepared[work.WITHOUT], folder)
    ways = {
        name: files.resolve_read(found.files["train"], where="demo").parent
        for name, found in prepared.items()
    }
    settings = work.choose_settings(base, ways[work.WITH], folder)
    cost = steps.estimate(screen, base, ways[work.WITH], folder, settings.epochs)
    plans = work.configure(screen, settings, base, ways[work.WITHOUT], folder)
    states = work.train(screen, plans)
    comparison = steps.compare(screen, setting, base, prepared[work.WITH], states, folder)
    diagnoses = steps.diagnose(screen, states, folder)
    verified = _seal(screen, comparison, folder)
    story = report.Story(
        setting=setting,
        base=_name_of(setting),
        fit=fit,
        prepared=prepared,
        cost=cost,
        plans=plans,
        states=states,
        comparison=comparison,
        diagnoses=diagnoses,
        audit=verified,
        steps=screen.steps,
    )
    files.write_text(folder / "report.html", report.draw_page(story))
    result = _result(story, folder, time.monotonic() - started)
    files.write_json(folder / "result.json", result.model_dump(mode="json"))
    return result


def _name_of(setting: Setting) -> str:
    """Say in words which base model it is."""
    if setting.base is None:
        return "made from this file"
    return "the tiny one that is shipped" if setting.tiny_base else setting.base.name


def _seal(screen: Screen, comparison: EvalComparison, folder: Path) -> AuditVerification:
    """Record the verdict, and check that the log is unbroken."""
    from finetuning import audit

    audit.append("demo.verdict", {"verdict": comparison.verdict, "ship": comparison.ship})
    arguments = {"write_checkpoint": str(folder / "audit-checkpoint.json")}
    why = "is the record of all this unbroken?"
    return cast("AuditVerification", screen.call("verify_audit_log", why, arguments))


def _result(story: Story, folder: Path, seconds: float) -> DemoResult:
    comparison, first = story.comparison, story.comparison.task[0]
    general = comparison.general
    match = general.exact_match if general is not None else None
    price = story.cost.training.usd
    return DemoResult(
        verdict=comparison.verdict or "invalid",
        ship=comparison.ship,
        sentence=comparison.sentence,
        fit_verdict=story.fit.verdict,
        metric=first.metric,
        base_task_score=first.base,
        base_general_exact_match=match.base if match is not None else None,
        arms=_arms(story),
        rows=story.prepared["with replay"].rows.model_dump(),
        cost_usd=price.point if price is not None else None,
        steps=list(story.steps),
        seconds=round(seconds, 1),
        audit_valid=story.audit.valid,
        audit_records=story.audit.n_records,
        audit_head_digest=story.audit.head_digest,
        report_file=str(folder / "report.html"),
        result_file=str(folder / "result.json"),
        output_dir=str(folder),
        fit_facts=comparison.fit_facts,
        next=_next(story),
    )


def _arms(story: Story) -> list[DemoArm]:
    comparison = story.comparison
    scores = {"with replay": comparison.task[0].tuned or 0.0}
    generals: dict[str, General | None] = {"with replay": comparison.general}
    for arm in comparison.arms:
        scores[arm.name], generals[arm.name] = arm.score, arm.general
    found: list[DemoArm] = []
    for name, state in story.states.items():
        general = generals[name]
        match = general.exact_match if general is not None else None
        found.append(
            DemoArm(
                name=name,
                run_id=state.run_id or "",
                adapter_dir=state.adapter_dir or "",
                task_score=scores[name],
                general_exact_match=match.tuned if match is not None else None,
                general_delta_nll=general.delta_nll if general is not None else None,
                general_verdict=general.verdict if general is not None else "unclear",
                diagnosis=story.diagnoses[name].diagnosis or "too few points",
            )
        )
    return found


def _next(story: Story) -> list[NextCall]:
    run_id = story.states["with replay"].run_id
    return [
        NextCall(
            tool="assess_fit",
            args={"facts": {**story.comparison.fit_facts, **story.setting.facts}},
            why="decides again, now with the measured scores",
        ),
        NextCall(tool="get_run", args={"run_id": run_id}, why="shows the run and its adapter"),
        NextCall(
            tool="inspect_data",
            args={"path": str(story.setting.source)},
            why="measures the raw file; the same works on a file of your own",
        ),
    ]
