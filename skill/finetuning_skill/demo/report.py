"""The demo's page: from what went in to what to trust, self-contained, without any row's text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from finetuning import pages
from finetuning_skill.demo.work import WITH, WITHOUT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from finetuning.audit import AuditVerification
    from finetuning.costs import CostEstimate
    from finetuning.data_prep import PreparedData
    from finetuning.evaluation import EvalComparison, RunDiagnosis
    from finetuning.fit import FitAssessment
    from finetuning.training import RunState, TrainingPlan
    from finetuning_skill.demo.steps import Setting
    from finetuning_skill.demo.work import DemoStep

_SHOWN_KNOBS: Final = (
    "learning_rate",
    "num_train_epochs",
    "per_device_train_batch_size",
    "r",
    "lora_alpha",
    "target_modules",
    "max_length",
    "precision",
)
_REASONS: Final = {
    "exact_duplicate": "exact copy of another row",
    "near_duplicate": "near copy of another row",
    "answer_missing": "no answer",
    "column_count": "broken line",
}


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that the page tells."""

    setting: Setting
    base: str
    fit: FitAssessment
    prepared: Mapping[str, PreparedData]
    cost: CostEstimate
    plans: Mapping[str, TrainingPlan]
    states: Mapping[str, RunState]
    comparison: EvalComparison
    diagnoses: Mapping[str, RunDiagnosis]
    audit: AuditVerification
    steps: Sequence[DemoStep]


def draw_page(story: Story) -> str:
    """Return the page as HTML."""
    sections = [
        *_verdict(story),
        *_data(story),
        *_fit(story),
        *_training(story),
        *_forgetting(story),
        *_cost(story),
        *_audit(story),
        *_steps(story),
    ]
    subtitle = f"{story.setting.source.name}, base model: {story.base}"
    return pages.page("From a raw file to a verdict", sections, subtitle=subtitle)


def _verdict(story: Story) -> list[str]:
    found = story.comparison
    good = found.verdict == "improved" and found.ship == "yes"
    kind: Literal["good", "bad", "neutral", "warning"] = "good" if good else "warning"
    if found.verdict in {"worse", "invalid"}:
        kind = "bad"
    headline = f"{(found.verdict or 'no verdict').capitalize()}. Ship: {found.ship or '–'}"
    intervals = [(e.metric, e.diff, *e.ci95) for e in found.task if e.diff is not None]
    rows = [
        (entry.metric, entry.n, entry.base, entry.tuned, entry.wins, entry.ties, entry.losses)
        for entry in found.task
    ]
    chart = pages.interval_chart(
        [
            row
            for row, entry in zip(intervals, found.task, strict=False)
            if entry.better == "higher"
        ],
        title="Tuned minus base on held-out rows, with its 95 % interval",
        x_label="difference of scores",
        margin=found.margin,
    )
    heads = ["metric", "rows", "base", "tuned", "wins", "ties", "losses"]
    notes = [*found.reasons, *found.cautions]
    return [
        pages.banner(kind, headline, found.sentence),
        pages.paragraph(_in_words(story)),
        pages.heading("Verdict"),
        chart,
        pages.table(heads, rows),
        *([pages.bullet_list(notes)] if notes else []),
    ]


def _in_words(story: Story) -> str:
    """Say what the two arms show, in two sentences."""
    found, arm = story.comparison, story.comparison.arms[0]
    first = found.task[0]
    text = (
        f"On {first.n} held-out rows the base scores {first.base:.2f} ({first.metric}), "
        f"the adapter trained {WITH} {first.tuned or 0.0:.2f}, {WITHOUT} {arm.score:.2f}."
    )
    kept = found.general.exact_match if found.general else None
    lost = arm.general.exact_match if arm.general else None
    if kept is not None and lost is not None:
        text += (
            f" Of the general rows the base answers {kept.base:.2f}, the adapter {WITH} "
            f"{kept.tuned:.2f}, the one {WITHOUT} {lost.tuned:.2f}."
        )
    return text


def _data(story: Story) -> list[str]:
    prepared = story.prepared[WITH]
    rows = prepared.rows
    left_out = [
        (_REASONS.get(reason, reason.replace("_", " ")), count)
        for reason, count in prepared.reasons.items()
    ]
    redacted = ", ".join(f"{count} {name}" for name, count in prepared.redacted_types.items())
    return [
        pages.heading("What went in, and what was left out"),
        pages.bar_chart(
            [("rows read", rows.read), *left_out, ("rows kept", _kept(prepared))],
            title="Rows of the raw file",
            x_label="rows",
        ),
        pages.key_values(
            [
                ("rows to train / validate / test", _split(prepared)),
                ("general rows added to train (arm with replay)", rows.replay),
                ("personal data masked", redacted or "none found"),
                ("test rows with a twin in train", prepared.leakage.exact + prepared.leakage.near),
                ("how it was split", f"{prepared.split.method}: {prepared.split.why}"),
                ("SHA-256 of the prepared files", prepared.data_sha256),
            ]
        ),
    ]


def _kept(prepared: PreparedData) -> int:
    rows = prepared.rows
    return rows.train + rows.validation + rows.test - rows.replay


def _split(prepared: PreparedData) -> str:
    rows = prepared.rows
    return f"{rows.train - rows.replay} / {rows.validation} / {rows.test}"


def _fit(story: Story) -> list[str]:
    fit = story.fit
    origin = (
        "The shop's own statements are part of the example; the rest was measured on the file."
        if story.setting.shipped_data
        else "Nothing was stated, so only what the file shows was known."
    )
    return [
        pages.heading("Should this be fine-tuned? (before any training)"),
        pages.paragraph(f"{fit.summary()} {origin}"),
        pages.bullet_list([*fit.must_do, *fit.cautions]),
    ]


def _training(story: Story) -> list[str]:
    curves: list[pages.Series] = []
    for name, state in story.states.items():
        for key, label in (("loss", "training"), ("eval_loss", "held out")):
            points = [(float(row["step"]), float(row[key])) for row in state.metrics if key in row]
            if points:
                curves.append(pages.Series(f"{name}, {label}", points))
    plan = story.plans[WITH]
    knobs = [
        (k, str(plan.config[k]), plan.why.get(k, "")) for k in _SHOWN_KNOBS if k in plan.config
    ]
    read = [(name, found.summary()) for name, found in story.diagnoses.items()]
    return [
        pages.heading("Training curves of both arms"),
        pages.line_chart(
            curves,
            title="Loss by step",
            x_label="step",
            y_label="loss (nats per token)",
            log_y=True,
        ),
        pages.key_values(read),
        pages.table(["setting", "value", "why"], knobs, caption="Settings of both arms"),
    ]


def _forgetting(story: Story) -> list[str]:
    tuned, arm = story.comparison.general, story.comparison.arms[0].general
    if tuned is None or arm is None:
        return []
    what = "the built-in pack of short texts"
    if story.setting.tiny_base:
        what = "questions, lists and pairs of the kind that the base was trained on"
    parts = [
        pages.heading("What the training forgot"),
        pages.paragraph(f"Measured on {tuned.n} general rows: {what}. No arm trained on them."),
    ]
    if tuned.exact_match is not None and arm.exact_match is not None:
        bars = [
            ("base", tuned.exact_match.base),
            (f"tuned {WITH}", tuned.exact_match.tuned),
            (f"tuned {WITHOUT}", arm.exact_match.tuned),
        ]
        parts.append(
            pages.bar_chart(bars, title="General rows answered exactly", x_label="share, 0..1")
        )
    losses = [
        (name, g.delta_nll, *g.ci95)
        for name, g in ((WITH, tuned), (WITHOUT, arm))
        if g.delta_nll is not None and g.ci95 is not None
    ]
    if losses:
        parts.append(
            pages.interval_chart(
                losses,
                title="Loss of likelihood on general rows, with its 95 % interval",
                x_label="nats per token; above 0 is a loss",
                margin=tuned.margin_nll,
            )
        )
    return parts


def _cost(story: Story) -> list[str]:
    cost = story.cost
    usd = "not known" if cost.training.usd is None else f"${cost.training.usd.point}"
    hours = cost.gpu.hours if cost.gpu is not None else {}
    took = [
        (f"seconds of training, {name}", (state.result or {}).get("seconds"))
        for name, state in story.states.items()
    ]
    return [
        pages.heading("Cost"),
        pages.key_values(
            [
                ("price of one training run", f"{usd} ({cost.training.formula})"),
                (
                    "hours estimated beforehand (10th, 50th, 90th percentile)",
                    " / ".join(f"{value:.4f}" for value in hours.values()) or None,
                ),
                *took,
                ("left this machine", "nothing"),
            ]
        ),
    ]


def _audit(story: Story) -> list[str]:
    audit = story.audit
    pairs: list[tuple[str, str | int | None]] = [
        ("unbroken", "yes" if audit.valid else f"no: record {audit.first_bad} {audit.kind}"),
        ("records in the log", audit.n_records),
        ("hash of the last record", audit.head_digest),
        ("checkpoint", audit.checkpoint_file),
    ]
    pairs += [(f"run {name}", state.run_id) for name, state in story.states.items()]
    return [
        pages.heading("Audit record"),
        pages.paragraph(
            "Every call below left a record with the digests of its arguments and input files; "
            "each record holds the hash of the one before."
        ),
        pages.key_values(pairs),
    ]


def _steps(story: Story) -> list[str]:
    rows = [(step.tool, step.seconds, step.exit_code, step.summary) for step in story.steps]
    return [
        pages.heading("Steps"),
        pages.table(["tool", "seconds", "exit code", "what it said"], rows),
    ]
