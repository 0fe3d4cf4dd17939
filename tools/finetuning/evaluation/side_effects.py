"""What training did beside the task: abilities lost, test rows it saw; and whether to ship."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from finetuning.evaluation.inputs import Question
from finetuning.evaluation.metrics import METRICS, Answers, matcher_for, tokens
from finetuning.evaluation.results import (
    Contamination,
    General,
    GeneralMatch,
    GeneralVerdict,
    Ship,
    TaskMetric,
    Verdict,
)
from finetuning.evaluation.scoring import compare_metric, row_scores, scorable
from finetuning.evaluation.targets import Job
from finetuning.statistics import PairedComparison

MARGIN_NLL: Final = 0.10
"""Loss in nats per token that counts as none.

Ordinary LoRA runs lost .05 to .06 on general text, full tuning .03, broken runs .74 and more.
Source: PEFT method_comparison, 63 result files, Llama-3.2-3B (read 2025-11-26).
"""

NGRAM: Final = 13
"""Words in a row that make a copy; the length that decontamination of benchmarks uses."""

NEAR: Final = 0.5
"""Jaccard overlap of word triples from which two rows are nearly the same."""

_SHINGLE: Final = 3


def compare_general(
    job: Job, base: Answers, tuned: Answers, *, alpha: float, margin: float
) -> General | None:
    """Return what a side lost on the rows elsewhere, or None where nothing can be scored.

    Args:
        job: What :func:`general_job` returned.
        base: Answers of the base.
        tuned: Answers of the other side.
        alpha: Two-sided error rate.
        margin: Loss of exact match that does not matter.
    """
    rows = scorable(METRICS["nll"], job.questions, base, tuned)
    nll = compare_metric(METRICS["nll"], job.questions, base, tuned, alpha=alpha, margin=MARGIN_NLL)
    match = None
    if job.generate:
        metric = matcher_for([question.reference for question in job.questions])
        match = compare_metric(metric, job.questions, base, tuned, alpha=alpha, margin=margin)
    if nll is None and match is None:
        return None
    return General(
        n=len(job.questions),
        base_nll=nll.base if nll else None,
        tuned_nll=nll.tuned if nll else None,
        delta_nll=nll.diff if nll else None,
        ci95=nll.ci95 if nll else None,
        margin_nll=MARGIN_NLL,
        exact_match=_match(match),
        by_domain=_by_domain(rows, base, tuned),
        verdict=_verdict(nll, match, margin),
    )


def _match(match: PairedComparison | None) -> GeneralMatch | None:
    if match is None:
        return None
    return GeneralMatch(
        base=match.base, tuned=match.tuned, diff=match.diff, ci95=match.ci95, p=match.p
    )


def _verdict(
    nll: PairedComparison | None, match: PairedComparison | None, margin: float
) -> GeneralVerdict:
    """Return ``worse`` where a loss beyond the margin is shown, ``not_worse`` where excluded.

    Answers decide where there are any: a likelihood can fall while every answer stays right.
    """
    if match is not None:
        shown = match.p < match.alpha and match.diff < -margin
        excluded = match.ci[0] > -margin
    else:
        shown = nll is not None and nll.p < nll.alpha and nll.diff > MARGIN_NLL
        excluded = nll is not None and nll.ci[1] < MARGIN_NLL
    return "worse" if shown else "not_worse" if excluded else "unclear"


def _by_domain(rows: Sequence[Question], base: Answers, tuned: Answers) -> dict[str, float]:
    groups: dict[str, list[Question]] = defaultdict(list)
    for question in rows:
        if question.group is not None:
            groups[question.group].append(question)
    found: dict[str, float] = {}
    for name, members in sorted(groups.items()):
        before, after = (row_scores(METRICS["nll"], members, side) for side in (base, tuned))
        found[name] = round((sum(after) - sum(before)) / len(members), 5)
    return found


class Overlap(NamedTuple):
    """Ids of test rows by how training saw them."""

    exact: set[str]
    same_prompt: set[str]
    ngram: set[str]
    near: set[str]

    @property
    def any(self) -> set[str]:
        """Rows that training saw in any of these ways."""
        return self.exact | self.same_prompt | self.ngram | self.near


def find_overlap(test: Sequence[Question], train: Sequence[Question]) -> Overlap:
    """Return which test rows stand in the training rows, exactly or nearly.

    Args:
        test: Held-out rows.
        train: Rows the model was trained on.
    """
    train_words = [_words(question) for question in train]
    test_words = [_words(question) for question in test]
    whole = {tuple(words) for words in train_words}
    prompts = {tuple(tokens(question.asked())) for question in train} - {()}
    grams = {gram for words in train_words for gram in _grams(words, NGRAM)}
    near = _near(test_words, train_words)
    found = Overlap(set(), set(), set(), set())
    for number, (question, words) in enumerate(zip(test, test_words, strict=True)):
        if tuple(words) in whole:
            found.exact.add(question.id)
        if tuple(tokens(question.asked())) in prompts:
            found.same_prompt.add(question.id)
        if not grams.isdisjoint(_grams(words, NGRAM)):
            found.ngram.add(question.id)
        if number in near:
            found.near.add(question.id)
    return found


def _words(question: Question) -> list[str]:
    return tokens(f"{question.asked()} {question.reference}")


def _grams(words: Sequence[str], size: int) -> Iterable[tuple[str, ...]]:
    return (tuple(words[k : k + size]) for k in range(len(words) - size + 1))


def _near(test: Sequence[Sequence[str]], train: Sequence[Sequence[str]]) -> set[int]:
    """Return numbers of test rows near to any training row, without comparing all pairs.

    Two sets with a Jaccard overlap of t share one of their rarest |set| - ceil(t |set|) + 1
    elements, so only rows that meet there are compared (prefix filter; nothing is missed).
    """
    test_sets, train_sets = ([_shingles(words) for words in side] for side in (test, train))
    common = Counter(shingle for side in (test_sets, train_sets) for s in side for shingle in s)
    index: dict[tuple[str, ...], list[int]] = {}
    for number, shingles in enumerate(train_sets):
        for shingle in _rarest(shingles, common):
            index.setdefault(shingle, []).append(number)
    found: set[int] = set()
    for number, shingles in enumerate(test_sets):
        candidates = {k for shingle in _rarest(shingles, common) for k in index.get(shingle, ())}
        if any(_jaccard(shingles, train_sets[k]) >= NEAR for k in candidates):
            found.add(number)
    return found


def _shingles(words: Sequence[str]) -> frozenset[tuple[str, ...]]:
    return frozenset(_grams(words, min(_SHINGLE, max(1, len(words)))))


def _rarest(
    shingles: frozenset[tuple[str, ...]], common: Counter[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    ordered = sorted(shingles, key=lambda shingle: (common[shingle], shingle))
    needed = -int(-NEAR * len(ordered) // 1)
    return ordered[: len(ordered) - needed + 1]


def _jaccard(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


def decide_ship(
    verdict: Verdict,
    task: Sequence[TaskMetric],
    general: General | None,
    contamination: Contamination | None,
    *,
    margin: float,
    alpha: float,
) -> tuple[Ship | None, list[str]]:
    """Return whether to ship, with the reasons against it.

    Args:
        verdict: Of the first metric.
        task: All metrics.
        general: What the training cost elsewhere, if measured.
        contamination: Overlap of test and training rows, if measured.
        margin: Loss of another metric that does not matter.
        alpha: Two-sided error rate over all metrics.
    """
    if verdict == "baseline":
        return None, []
    if verdict in {"invalid", "underpowered"}:
        return "needs_more_data", []
    if verdict == "worse":
        return "no", [f"{task[0].metric} is worse"]
    if verdict == "tied":
        return "no", ["nothing was gained; ship only if it is cheaper or faster"]
    reasons = [f"{entry.metric} is worse" for entry in task[1:] if _lost(entry, margin, alpha)]
    if general is not None and general.verdict == "worse":
        reasons.append("general ability is worse")
    if reasons:
        return "no", reasons
    clean = contamination.without if contamination and contamination.fraction > 0 else None
    if contamination and contamination.fraction > 0 and (clean is None or clean.p >= alpha):
        return "needs_more_data", ["the gain is not shown on rows that training did not see"]
    return "yes", []


def _lost(entry: TaskMetric, margin: float, alpha: float) -> bool:
    loss = (entry.diff or 0.0) * (-1 if entry.better == "higher" else 1)
    return loss > margin and entry.p_holm is not None and entry.p_holm < alpha
