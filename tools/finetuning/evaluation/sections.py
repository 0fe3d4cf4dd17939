"""The parts of a comparison's page, in English and Chinese."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

from finetuning import pages
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
    return lambda key: _WORDS[key][language == "zh"]


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
    return [*parts, _task_table(result.task, say)]


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
    domains = [(name, value) for _, g in kept[:1] for name, value in g.by_domain.items()]
    if domains:
        axis = say("elsewhere_axis")
        parts.append(pages.bar_chart(domains, title=say("domain"), x_label=axis))
    return parts


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
    rows = [
        (flip.id, str(flip.line), flip.from_, flip.to, *texts.get(flip.id, ()))
        for flip in (*harmed[:MOST_HARMED], *helped[:MOST_HELPED])
    ]
    parts = [pages.heading(say("flips")), pages.table(shown, rows)]
    if result.total > len(rows):
        parts.append(pages.paragraph(f"{result.total - len(rows)} {say('flips_more')}."))
    return parts


def _interval(value: float, ends: tuple[float, float]) -> str:
    return f"{pages.format_number(value)} {_ends(ends)}"


def _ends(ends: tuple[float, float]) -> str:
    return f"[{pages.format_number(ends[0])}, {pages.format_number(ends[1])}]"


_WORDS: Final[dict[str, tuple[str, str]]] = {
    "title": ("Is the tuned model better?", "微调后的模型更好吗？"),
    "baseline_title": ("How good is the base?", "基础模型表现如何？"),
    "improved": ("Improved", "有提升"),
    "worse": ("Worse", "变差"),
    "tied": ("Tied: no difference that matters", "持平：没有实质差别"),
    "underpowered": ("Too few rows to tell", "样本不足，无法判断"),
    "invalid": ("The comparison is not valid", "比较无效"),
    "baseline": ("Baseline", "基线"),
    "ship": ("Ship", "是否上线"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    "needs_more_data": ("needs more data", "需要更多数据"),
    "task": ("On the task", "任务表现"),
    "metric": ("metric", "指标"),
    "rows": ("rows", "行数"),
    "base": ("base", "基础模型"),
    "tuned": ("tuned", "微调模型"),
    "difference": ("tuned − base [95 %]", "微调 − 基础 [95%]"),
    "interval": ("95 % interval", "95% 区间"),
    "p_holm": ("p (Holm)", "p（Holm 校正）"),
    "wins": ("wins / ties / losses", "胜 / 平 / 负"),
    "mde": ("smallest seen", "可检出的最小差值"),
    "n_needed": ("rows to settle", "得出结论所需行数"),
    "score_axis": ("difference of the score (0..1)", "得分差值（0..1）"),
    "base_axis": ("score of the base (0..1)", "基础模型得分（0..1）"),
    "nll_axis": (
        "difference in nats per token (below 0 is better)",
        "每词元纳特差值（小于 0 更好）",
    ),
    "band": ("The shaded band is the margin", "阴影带为容差"),
    "elsewhere": ("What it cost elsewhere", "对其他能力的影响"),
    "elsewhere_axis": (
        "loss in nats per token (above 0 is worse)",
        "每词元纳特损失（大于 0 更差）",
    ),
    "match_axis": ("difference of exact match (0..1)", "完全匹配差值（0..1）"),
    "domain": ("domain", "领域"),
    "general_not_worse": ("General ability is kept", "通用能力保持"),
    "general_worse": ("General ability is worse", "通用能力变差"),
    "general_unclear": ("General ability: not clear", "通用能力：尚不明确"),
    "likelihood": ("likelihood (nats per token)", "似然（每词元纳特）"),
    "exact_match": ("exact match", "完全匹配"),
    "arms": ("All arms", "所有方案"),
    "arm": ("arm", "方案"),
    "score": ("score", "得分"),
    "against_base": ("against base", "对比基础模型"),
    "tuned_minus_arm": ("tuned − arm", "微调 − 该方案"),
    "curve": ("Training", "训练过程"),
    "loss_axis": ("loss (nats per token)", "损失（每词元纳特）"),
    "step_axis": ("step", "步数"),
    "best": ("best checkpoint", "最佳检查点"),
    "contamination": ("Test rows that training saw", "训练中出现过的测试行"),
    "exact": ("the same", "完全相同"),
    "same_prompt": ("same prompt", "提示相同"),
    "ngram13": ("13 words in a row", "连续 13 个词相同"),
    "near": ("nearly the same", "近似重复"),
    "without": ("result without them", "剔除后的结果"),
    "memorisation": ("Does it know its training rows?", "是否记住了训练行？"),
    "auc": (
        "chance that a training row looks more familiar (.5 = none)",
        "训练行更熟悉的概率（.5 = 无）",
    ),
    "gap": ("gap in nats per token", "差距（每词元纳特）"),
    "canaries": ("planted markers in first place of 64", "在 64 个候选中排第一的标记数"),
    "exposure": ("exposure of the markers (bits)", "标记暴露度（比特）"),
    "verbatim": ("answers with 50 words of a training row", "含训练行连续 50 词的回答数"),
    "refusals": ("refused", "拒答"),
    "circles": ("goes in circles", "重复循环"),
    "script": ("other script", "文字不符"),
    "flips": ("Rows whose answer changed, harm first", "答案发生变化的行（先列变差的）"),
    "row": ("row", "行"),
    "line": ("line", "行号"),
    "flips_more": ("more rows are in the result file", "更多行见结果文件"),
    "answers": ("How the answers look", "回答形式"),
    "missing": ("no answer", "无回答"),
    "truncated": ("cut off", "被截断"),
    "characters": ("mean length (characters)", "平均长度（字符）"),
    "speed": ("latency p50 / p95 (ms)", "延迟 p50 / p95（毫秒）"),
    "made_from": ("How it was made", "生成信息"),
    "looks": ("looks at this test file so far", "该测试文件已使用次数"),
    "why": ("Why", "原因"),
    "cautions": ("Read with care", "注意事项"),
    "headroom": ("room above the base", "提升空间"),
    "reference": ("reference", "参考答案"),
}
