"""What the training cost elsewhere: likelihood and exact match on rows of other kinds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from finetuning.evaluation.metrics import METRICS, matcher_for, short_references
from finetuning.evaluation.questions import Question, read_questions
from finetuning.evaluation.results import General, GeneralMatch, GeneralVerdict
from finetuning.evaluation.scoring import Answers, compare_metric, row_scores, scorable
from finetuning.evaluation.targets import Job
from finetuning.files import resolve_read
from finetuning.statistics import PairedComparison

PACK: Final = Path(__file__).with_name("general_pack.jsonl")
"""Short texts over six domains, written for this project (CC0)."""

MARGIN_NLL: Final = 0.10
"""Loss in nats per token that counts as none.

Ordinary LoRA runs lost .05 to .06 on general text, full tuning .03, broken runs .74 and more.
Source: PEFT method_comparison, 63 result files, Llama-3.2-3B (read 2025-11-26).
"""


def general_job(general: str) -> Job | None:
    """Return the rows to ask elsewhere.

    Args:
        general: ``builtin``, ``none``, or a file of prompt/completion, messages or text rows.

    Raises:
        BadInputError: The file cannot be read or holds no usable row.
    """
    if general == "none":
        return None
    where = "compare_eval: general"
    path = PACK if general == "builtin" else resolve_read(general, where=where)
    found = read_questions(path, where=where, texts=True).questions
    rows = [replace(question, id=str(number)) for number, question in enumerate(found, 1)]
    answered = [question for question in rows if question.asked()]
    short = len(answered) == len(rows) and short_references([q.reference for q in rows])
    return Job("general", rows, generate=short, nll=True)


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
