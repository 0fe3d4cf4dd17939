"""The words of the report, in English and Chinese."""

from __future__ import annotations

from typing import Final, Literal

Language = Literal["en", "zh"]

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


def word(key: str, language: Language) -> str:
    """Return one of the report's words."""
    return _WORDS[key][1 if language == "zh" else 0]
