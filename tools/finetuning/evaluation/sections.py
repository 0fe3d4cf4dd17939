"""The parts of a comparison's page, in English and Chinese."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Final, Literal

from finetuning import pages
from finetuning.evaluation.diagnose import labels
from finetuning.evaluation.results import EvalComparison, General, TaskMetric

Language = Literal["en", "zh"]

Say = Callable[[str], str]
"""Gives one of the page's words in its language."""

MOST_HARMED, MOST_HELPED = 100, 10

_KINDS: Final[dict[str, Literal["good", "bad", "neutral", "warning"]]] = {
    "improved": "good",
    "worse": "bad",
    "invalid": "bad",
    "tied": "neutral",
    "baseline": "neutral",
}


def speaker(language: Language) -> Say:
    """Return what gives the page's words in a language."""
    words: dict[str, list[str]] = labels.texts()["comparison"]
    return lambda key: words[key][language == "zh"]


def verdict(result: EvalComparison, say: Say) -> list[str]:
    """Return the banner, the reasons and the cautions."""
    name = result.verdict or "invalid"
    kind = _KINDS.get(name, "warning")
    if name == "improved" and result.ship == "no":
        kind = "warning"
    headline = say(name)
    if result.ship is not None:
        headline += f" · {say('ship')}: {say(result.ship)}"
    parts = [pages.banner(kind, headline, result.sentence)]
    if result.reasons:
        parts += [pages.heading(say("why")), pages.bullet_list(result.reasons)]
    if result.cautions:
        parts += [pages.heading(say("cautions")), pages.bullet_list(result.cautions)]
    return parts


def task(result: EvalComparison, say: Say) -> list[str]:
    """Return intervals and table of the metrics."""
    if not result.task:
        return []
    baseline = result.verdict == "baseline"
    parts = [pages.heading(say("task"))]
    for higher in ("higher", "lower"):
        entries = [entry for entry in result.task if entry.better == higher]
        rows = [(e.metric, e.base if e.diff is None else e.diff, *e.ci95) for e in entries]
        if not rows:
            continue
        axis = "nll_axis" if higher == "lower" else "base_axis" if baseline else "score_axis"
        margin = None if baseline else result.margin
        chart = pages.interval_chart(rows, title=say("interval"), x_label=say(axis), margin=margin)
        parts.append(chart)
    if not baseline:
        parts.append(pages.paragraph(f"{say('band')} (±{result.margin:g})."))
    parts.append(_task_table(result.task, say))
    first = result.task[0]
    if not baseline and result.verdict == "underpowered":
        if first.n_needed is not None:
            parts.append(pages.paragraph(f"{say('settle').format(first.n_needed, first.n)}."))
        parts.append(pages.paragraph(f"{say('seen').format(pages.format_number(first.mde))}."))
    if gate := result.gate:
        interval = _interval(gate.diff, gate.ci95)
        said = f"{say(f'gate_{gate.verdict}')}: {interval}, n = {gate.n} ({gate.against})."
        parts += [pages.heading(say("gate")), pages.paragraph(said)]
    return parts


def _task_table(task: Sequence[TaskMetric], say: Say) -> str:
    keys = ("metric", "rows", "base", "tuned", "difference", "p_holm", "wins", "mde")
    heads = [say(key) for key in (*keys, "n_needed")]
    rows = [
        (
            entry.metric,
            str(entry.n),
            entry.base,
            entry.tuned,
            _interval(entry.base if entry.diff is None else entry.diff, entry.ci95),
            entry.p_holm,
            None if entry.wins is None else f"{entry.wins} / {entry.ties} / {entry.losses}",
            entry.mde,
            None if entry.n_needed is None else str(entry.n_needed),
        )
        for entry in task
    ]
    return pages.table(heads, rows)


def general(result: EvalComparison, say: Say) -> list[str]:
    """Return what was lost elsewhere, of the tuned model and of the arms."""
    found = [(say("tuned"), result.general)]
    found += [(arm.name, arm.general) for arm in result.arms]
    kept: list[tuple[str, General]] = [(name, g) for name, g in found if g is not None]
    if not kept:
        return []
    parts = [pages.heading(say("elsewhere"))]
    parts += [pages.paragraph(f"{name}: {say(f'general_{g.verdict}')}") for name, g in kept]
    likelihoods = [
        (name, g.delta_nll, *g.ci95) for name, g in kept if g.ci95 and g.delta_nll is not None
    ]
    if likelihoods:
        parts.append(
            pages.interval_chart(
                likelihoods,
                title=say("likelihood"),
                x_label=say("elsewhere_axis"),
                margin=kept[0][1].margin_nll,
            )
        )
    matches = [(n, g.exact_match.diff, *g.exact_match.ci95) for n, g in kept if g.exact_match]
    if matches:
        parts.append(
            pages.interval_chart(
                matches, title=say("exact_match"), x_label=say("match_axis"), margin=result.margin
            )
        )
    parts += _trade(result, likelihoods, say)
    domains = [(name, value) for _, g in kept[:1] for name, value in g.by_domain.items()]
    if domains:
        axis = say("elsewhere_axis")
        parts.append(pages.bar_chart(domains, title=say("domain"), x_label=axis))
    return parts


USUAL_LOSSES: Final = (("usual_full", 0.030), ("usual_lora", 0.050), ("usual_high", 0.111))
"""Loss on general text, nats per token. Source: PEFT method_comparison, Llama-3.2-3B (2025-11)."""


def _trade(
    result: EvalComparison, losses: Sequence[tuple[str, float, float, float]], say: Say
) -> list[str]:
    """Return gain on the task against loss elsewhere, beside usual losses of other trainings."""
    if not result.task or result.task[0].diff is None:
        return []
    gains = {say("tuned"): (result.task[0].diff, *result.task[0].ci95)}
    gains |= {arm.name: (arm.diff, *arm.ci95) for arm in result.arms}
    points = [(loss[0], loss[1:], gains[loss[0]]) for loss in losses if loss[0] in gains]
    if not points:
        return []
    chart = pages.scatter_chart(
        points,
        title=say("trade"),
        x_label=say("elsewhere_axis"),
        y_label=f"{result.task[0].metric}: {say('tuned_minus_base')}",
        marks=[(value, say(key)) for key, value in USUAL_LOSSES],
    )
    return [chart]


def arms(result: EvalComparison, say: Say) -> list[str]:
    """Return the table of the other competitors."""
    if not result.arms:
        return []
    keys = ("arm", "metric", "score", "against_base", "interval", "tuned_minus_arm")
    rows = [
        (
            arm.name,
            arm.metric,
            arm.score,
            arm.diff,
            _ends(arm.ci95),
            None
            if arm.tuned_diff is None or arm.tuned_ci95 is None
            else _interval(arm.tuned_diff, arm.tuned_ci95),
        )
        for arm in result.arms
    ]
    heading = pages.heading(say("arms"))
    return [heading, pages.table([say(key) for key in keys], rows)]


def overlap(result: EvalComparison, say: Say) -> list[str]:
    """Return what training saw of the test, and what is known by heart."""
    parts: list[str] = []
    if found := result.contamination:
        pairs = [
            (say(key), str(getattr(found, key)))
            for key in ("exact", "same_prompt", "ngram13", "near")
        ]
        if found.without is not None:
            clean = found.without
            pairs.append((say("without"), f"{_interval(clean.diff, clean.ci95)}, n = {clean.n}"))
        parts += [pages.heading(say("contamination")), pages.key_values(pairs)]
    if known := result.memorisation:
        facts: list[tuple[str, str | float]] = []
        if known.auc is not None and known.auc_ci95 is not None:
            facts.append((say("auc"), _interval(known.auc, known.auc_ci95)))
            facts.append((say("gap"), known.gap or 0.0))
        if marks := known.canaries:
            facts.append((say("canaries"), f"{marks.first} / {marks.planted} (p = {marks.p:.2g})"))
            facts.append((say("exposure"), f"{marks.exposure_bits:.1f} / {marks.most_bits:.0f}"))
        if known.verbatim is not None:
            facts.append((say("verbatim"), str(known.verbatim.rows)))
        parts += [pages.heading(say("memorisation")), pages.key_values(facts)]
    return parts


def flips(result: EvalComparison, say: Say, texts: dict[str, tuple[str, str, str]]) -> list[str]:
    """Return the table of changed answers, the most harmed first."""
    if not result.flips:
        return []
    shown = [say(key) for key in ("row", "line", "base", "tuned")]
    if texts:
        shown += [say(key) for key in ("reference", "base", "tuned")]
    lower = bool(result.task) and result.task[0].better == "lower"
    harmed = [flip for flip in result.flips if (flip.to < flip.from_) != lower]
    helped = [flip for flip in result.flips if (flip.to < flip.from_) == lower]
    rows: list[tuple[str | float, ...]] = [
        (flip.id, str(flip.line), flip.from_, flip.to, *_marked(texts.get(flip.id)))
        for flip in (*harmed[:MOST_HARMED], *helped[:MOST_HELPED])
    ]
    drawn = pages.table(shown, rows).replace(_OPEN, "<mark>").replace(_CLOSE, "</mark>")
    parts = [pages.heading(say("flips")), drawn]
    if result.total > len(rows):
        parts.append(pages.paragraph(f"{result.total - len(rows)} {say('flips_more')}."))
    return parts


_OPEN, _CLOSE = "\ue000", "\ue001"  # private signs: escaping leaves them, texts lose theirs


def _marked(texts: tuple[str, str, str] | None) -> tuple[str, ...]:
    """Return reference and answers, with the words marked that the reference does not have."""
    if texts is None:
        return ()
    reference, *answers = (text.replace(_OPEN, "").replace(_CLOSE, "") for text in texts)
    return reference, *(_differences(reference.split(), answer.split()) for answer in answers)


def _differences(right: list[str], said: list[str]) -> str:
    parts: list[str] = []
    matcher = difflib.SequenceMatcher(None, right, said, autojunk=False)
    for kind, _, _, start, end in matcher.get_opcodes():
        words = " ".join(said[start:end])
        if words:
            parts.append(words if kind == "equal" else f"{_OPEN}{words}{_CLOSE}")
    return " ".join(parts)


def _interval(value: float, ends: tuple[float, float]) -> str:
    return f"{pages.format_number(value)} {_ends(ends)}"


def _ends(ends: tuple[float, float]) -> str:
    return f"[{pages.format_number(ends[0])}, {pages.format_number(ends[1])}]"
