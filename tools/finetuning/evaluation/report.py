"""One offline page for one comparison: verdict, intervals, flips, what it cost elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, cast

from finetuning import pages
from finetuning.evaluation.results import EvalComparison, General, TaskMetric
from finetuning.evaluation.words import Language, word
from finetuning.pages import Series

MOST_HARMED, MOST_HELPED = 100, 10
_DECADES = 100  # a loss that falls by more than this is drawn on a logarithmic axis
_KINDS: Final[dict[str, Literal["good", "bad", "neutral", "warning"]]] = {
    "improved": "good",
    "worse": "bad",
    "invalid": "bad",
    "tied": "neutral",
    "baseline": "neutral",
}


def draw_report(
    result: EvalComparison,
    curve: Sequence[Series],
    language: Language,
    texts: dict[str, tuple[str, str, str]] | None = None,
) -> str:
    """Return the page of a comparison.

    Args:
        result: What was found.
        curve: Loss curves of the training, or none.
        language: ``en`` or ``zh``.
        texts: id → reference and both answers, where a person allowed content to be shown.
    """

    def say(key: str) -> str:
        return word(key, language)

    title = say("baseline_title" if result.verdict == "baseline" else "title")
    sections = [
        *_verdict(result, language),
        *_task(result, language),
        *_general(result, language),
        *_arms(result, language),
        *_overlap(result, language),
        *_curve(result, curve, language),
        *_flips(result, language, texts or {}),
        *_sides(result, language),
        *_making(result, language),
    ]
    targets = result.provenance.get("targets", {})
    subtitle = " · ".join(
        f"{say(name) if name in ('base', 'tuned') else name}: {spec}"
        for name, spec in targets.items()
    )
    return pages.page(title, sections, language=language, subtitle=subtitle)


def _verdict(result: EvalComparison, language: Language) -> list[str]:
    verdict = result.verdict or "invalid"
    kind = _KINDS.get(verdict, "warning")
    if verdict == "improved" and result.ship == "no":
        kind = "warning"
    headline = word(verdict, language)
    if result.ship is not None:
        headline += f" · {word('ship', language)}: {word(result.ship, language)}"
    parts = [pages.banner(kind, headline, result.sentence)]
    if result.reasons:
        parts += [pages.heading(word("why", language)), pages.bullet_list(result.reasons)]
    if result.cautions:
        parts += [pages.heading(word("cautions", language)), pages.bullet_list(result.cautions)]
    return parts


def _task(result: EvalComparison, language: Language) -> list[str]:
    if not result.task:
        return []
    baseline = result.verdict == "baseline"
    parts = [pages.heading(word("task", language))]
    for higher in ("higher", "lower"):
        entries = [entry for entry in result.task if entry.better == higher]
        rows = [(e.metric, e.base if e.diff is None else e.diff, *e.ci95) for e in entries]
        if not rows:
            continue
        axis = "nll_axis" if higher == "lower" else "base_axis" if baseline else "score_axis"
        parts.append(
            pages.interval_chart(
                rows,
                title=word("interval", language),
                x_label=word(axis, language),
                margin=None if baseline else result.margin,
            )
        )
    if not baseline:
        parts.append(pages.paragraph(f"{word('band', language)} (±{result.margin:g})."))
    return [*parts, _task_table(result.task, language)]


def _task_table(task: Sequence[TaskMetric], language: Language) -> str:
    keys = ("metric", "rows", "base", "tuned", "difference", "p_holm", "wins", "mde")
    heads = [word(key, language) for key in (*keys, "n_needed")]
    rows = [
        (
            entry.metric,
            str(entry.n),
            entry.base,
            entry.tuned,
            f"{pages.format_number(entry.base if entry.diff is None else entry.diff)}"
            f" {_interval(entry.ci95)}",
            entry.p_holm,
            None if entry.wins is None else f"{entry.wins} / {entry.ties} / {entry.losses}",
            entry.mde,
            None if entry.n_needed is None else str(entry.n_needed),
        )
        for entry in task
    ]
    return pages.table(heads, rows)


def _general(result: EvalComparison, language: Language) -> list[str]:
    found = [(word("tuned", language), result.general)]
    found += [(arm.name, arm.general) for arm in result.arms]
    kept: list[tuple[str, General]] = [(name, g) for name, g in found if g is not None]
    if not kept:
        return []
    parts = [pages.heading(word("elsewhere", language))]
    parts += [
        pages.paragraph(f"{name}: {word(f'general_{general.verdict}', language)}")
        for name, general in kept
    ]
    likelihoods = [
        (name, g.delta_nll, *g.ci95) for name, g in kept if g.ci95 and g.delta_nll is not None
    ]
    if likelihoods:
        parts.append(
            pages.interval_chart(
                likelihoods,
                title=word("likelihood", language),
                x_label=word("elsewhere_axis", language),
                margin=kept[0][1].margin_nll,
            )
        )
    matches = [(n, g.exact_match.diff, *g.exact_match.ci95) for n, g in kept if g.exact_match]
    if matches:
        parts.append(
            pages.interval_chart(
                matches,
                title=word("exact_match", language),
                x_label=word("match_axis", language),
                margin=result.margin,
            )
        )
    domains = [(name, value) for _, g in kept[:1] for name, value in g.by_domain.items()]
    if domains:
        axis = word("elsewhere_axis", language)
        parts.append(pages.bar_chart(domains, title=word("domain", language), x_label=axis))
    return parts


def _arms(result: EvalComparison, language: Language) -> list[str]:
    if not result.arms:
        return []
    keys = ("arm", "metric", "score", "against_base", "interval", "tuned_minus_arm")
    rows = [
        (
            arm.name,
            arm.metric,
            arm.score,
            arm.diff,
            _interval(arm.ci95),
            None
            if arm.tuned_diff is None or arm.tuned_ci95 is None
            else f"{pages.format_number(arm.tuned_diff)} {_interval(arm.tuned_ci95)}",
        )
        for arm in result.arms
    ]
    heading = pages.heading(word("arms", language))
    return [heading, pages.table([word(key, language) for key in keys], rows)]


def _overlap(result: EvalComparison, language: Language) -> list[str]:
    parts: list[str] = []
    if found := result.contamination:
        pairs = [
            (word(key, language), str(getattr(found, key)))
            for key in ("exact", "same_prompt", "ngram13", "near")
        ]
        if found.without is not None:
            clean = found.without
            text = f"{pages.format_number(clean.diff)} {_interval(clean.ci95)}, n = {clean.n}"
            pairs.append((word("without", language), text))
        parts += [pages.heading(word("contamination", language)), pages.key_values(pairs)]
    if known := result.memorisation:
        auc = f"{pages.format_number(known.auc)} {_interval(known.auc_ci95)}"
        parts += [
            pages.heading(word("memorisation", language)),
            pages.key_values([(word("auc", language), auc), (word("gap", language), known.gap)]),
        ]
    return parts


def _curve(result: EvalComparison, curve: Sequence[Series], language: Language) -> list[str]:
    if not curve:
        return []
    training = result.training
    best = training.best_checkpoint if training else None
    marks = [] if best is None else [(float(best), word("best", language))]
    parts = [pages.heading(word("curve", language))]
    if training and training.diagnosis:
        parts.append(pages.paragraph(f"{training.diagnosis}: {training.fix}"))
    values = [y for line in curve for _, y in line.points if y > 0]
    chart = pages.line_chart(
        curve,
        title=word("curve", language),
        x_label=word("step_axis", language),
        y_label=word("loss_axis", language),
        marks=marks,
        log_y=bool(values) and max(values) > _DECADES * min(values),
    )
    return [*parts, chart]


def _flips(
    result: EvalComparison, language: Language, texts: dict[str, tuple[str, str, str]]
) -> list[str]:
    if not result.flips:
        return []
    keys = ["row", "line", "base", "tuned"]
    shown = [word(key, language) for key in keys]
    if texts:
        shown += [word(key, language) for key in ("reference", "base", "tuned")]
    lower = bool(result.task) and result.task[0].better == "lower"
    harmed = [flip for flip in result.flips if (flip.to < flip.from_) != lower]
    helped = [flip for flip in result.flips if (flip.to < flip.from_) == lower]
    rows = [
        (flip.id, str(flip.line), flip.from_, flip.to, *texts.get(flip.id, ()))
        for flip in (*harmed[:MOST_HARMED], *helped[:MOST_HELPED])
    ]
    parts = [pages.heading(word("flips", language)), pages.table(shown, rows)]
    if result.total > len(rows):
        parts.append(pages.paragraph(f"{result.total - len(rows)} {word('flips_more', language)}."))
    return parts


def _sides(result: EvalComparison, language: Language) -> list[str]:
    if not result.format:
        return []
    speeds = result.latency.sides if result.latency else {}
    heads = [word(key, language) for key in ("arm", "missing", "truncated", "characters", "speed")]
    rows = [
        (
            name,
            look.missing_fraction,
            look.truncated_fraction,
            look.mean_characters,
            f"{speeds[name].p50_ms:g} / {speeds[name].p95_ms:g}" if name in speeds else None,
        )
        for name, look in result.format.items()
    ]
    parts = [pages.heading(word("answers", language)), pages.table(heads, rows)]
    return [*parts, pages.paragraph(result.latency.how)] if result.latency else parts


def _making(result: EvalComparison, language: Language) -> list[str]:
    pairs: list[tuple[str, str]] = [(word("looks", language), str(result.test_looks))]
    for name, value in result.provenance.items():
        if isinstance(value, dict):
            fields = cast("dict[str, object]", value)
            pairs += [(f"{name}: {key}", str(item)) for key, item in fields.items()]
        elif isinstance(value, list):
            pairs += [(name, str(item)) for item in cast("list[object]", value)]
        else:
            pairs.append((name, str(value)))
    return [pages.heading(word("made_from", language)), pages.key_values(pairs)]


def _interval(ends: tuple[float, float]) -> str:
    return f"[{pages.format_number(ends[0])}, {pages.format_number(ends[1])}]"
