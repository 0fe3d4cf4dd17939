"""Who judges: a model, or a person on an offline sheet who does not see which side is which."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from finetuning import pages
from finetuning.errors import BadInputError
from finetuning.evaluation.asking import ask_local
from finetuning.evaluation.judging import (
    MOST_JUDGE_TOKENS,
    Choice,
    Pair,
    Verdicts,
    judge_job,
    kappa,
    pairs_of,
    preference,
    read_verdicts,
    settled,
)
from finetuning.evaluation.material import BASE, TUNED, Answered
from finetuning.evaluation.network import ask_server
from finetuning.evaluation.results import WHERE, EvalComparison, Preference
from finetuning.evaluation.sending import Prices, find_prices
from finetuning.evaluation.targets import (
    Answer,
    LocalTarget,
    RecordedTarget,
    Side,
    Target,
    is_remote,
    parse_target,
)
from finetuning.files import digest, read_records, resolve_read, write_text
from finetuning.pages.sheets import blind_sheet
from finetuning.records import Finding

MOST_ON_SHEET: Final = 200
"""Rows of one sheet, drawn by a seed where there are more: about an hour of a person."""

_FORMAT: Final = "fine-tuning blind_ab 1"
_UNREAD_FRACTION: Final = 0.05


def judge_target(spec: str) -> Target:
    """Return the judge that the argument names.

    Raises:
        BadInputError: It cannot judge.
    """
    target = parse_target(spec, where=f"{WHERE}: judge")
    if isinstance(target, RecordedTarget):
        raise BadInputError(
            f"{WHERE}: judge",
            "recorded answers judge nothing",
            "a model that can be asked",
            "Name openai:MODEL, anthropic:MODEL, http://HOST/v1#MODEL or local:DIR",
        )
    return target


def give_opinions(result: EvalComparison, answered: Answered, folder: Path) -> EvalComparison:
    """Return the result with what the judge and people said; write a sheet if one is wanted.

    Args:
        result: What was measured.
        answered: The answers.
        folder: Where the sheet goes.

    Raises:
        BadInputError: The reviews belong to another sheet.
    """
    call = answered.call
    if not (call.judge or call.reviews_file or call.review != "none"):
        return result
    questions = answered.material.test.questions
    sides = answered.test(BASE), answered.test(TUNED)
    sheet = Sheet.of(pairs_of(questions, *sides))
    human: dict[str, Choice] = sheet.read(call.reviews_file) if call.reviews_file else {}
    cautions: list[str] = []
    changes: dict[str, Any] = {}
    if human:
        known: dict[str, Choice] = {**settled(questions, *sides), **human}
        changes["review"] = preference("person", known, questions, *sides, alpha=call.alpha)
    if call.judge:
        judged, notes = _judged(answered, human)
        changes["judge"] = judged
        cautions += notes
    if call.review == "blind_ab":
        path = folder / "review.html"
        write_text(path, sheet.draw())
        changes["review_file"] = str(path)
    return result.model_copy(update={**changes, "cautions": [*result.cautions, *cautions]})


def _judged(answered: Answered, human: Mapping[str, Choice]) -> tuple[Preference | None, list[str]]:
    call, questions = answered.call, answered.material.test.questions
    sides = answered.test(BASE), answered.test(TUNED)
    target = judge_target(str(call.judge))
    pairs = pairs_of(questions, *sides)
    answers, notes = _ask(target, pairs)
    verdicts = read_verdicts(pairs, answers)
    choices: dict[str, Choice] = {**settled(questions, *sides), **verdicts.choices}
    found = preference(str(call.judge), choices, questions, *sides, alpha=call.alpha)
    notes += _doubts(answered, target, verdicts, len(pairs))
    if found is None:
        return None, [*notes, "the judge gave no verdict that can be read"]
    both = max(1, len(verdicts.choices))
    agreement, rows = kappa(verdicts.choices, human)
    cost = _cost(answered, target, answers.values())
    return found.model_copy(
        update={
            "no_verdict": verdicts.unread,
            "first_place": verdicts.first / both,
            "second_place": verdicts.second / both,
            "kappa": agreement,
            "kappa_n": rows,
            "calls": len(answers),
            "cost_usd": cost,
        }
    ), notes


def _ask(target: Target, pairs: Sequence[Pair]) -> tuple[dict[str, Answer], list[str]]:
    if not pairs:
        return {}, []
    job = judge_job(pairs)
    if isinstance(target, LocalTarget):
        found, _ = ask_local([Side("judge", target, [job])], MOST_JUDGE_TOKENS)
        return found["judge"][job.name], []
    return ask_server(cast("Any", target), "judge", job, MOST_JUDGE_TOKENS)


def _doubts(answered: Answered, target: Target, verdicts: Verdicts, n: int) -> list[str]:
    """Return why the judge is to be read with care."""
    found: list[str] = []
    if verdicts.unread > _UNREAD_FRACTION * n:
        found.append(f"judge: {verdicts.unread} of {n} rows have no verdict that can be read")
    for place, rows in (("first", verdicts.first), ("second", verdicts.second)):
        if rows > n / 4:
            found.append(f"judge: on {rows} of {n} rows the {place} place won in both orders")
    same = [
        name
        for name, other in answered.material.competitors.targets.items()
        if other.spec == target.spec
    ]
    if same:
        found.append(f"judge: it is {same[0]} itself; models prefer their own answers")
    return found


def _cost(answered: Answered, target: Target, answers: Any) -> Decimal | None:
    """Return what the verdicts cost by their tokens; None where a price or a count is missing."""
    if not is_remote(target):
        return Decimal(0)
    prices, paid = judge_prices(answered.call, target), [a for a in answers if not a.kept]
    if prices is None or any(a.input_tokens is None or a.output_tokens is None for a in paid):
        return None
    read = sum(a.input_tokens or 0 for a in paid)
    total = prices.of(read, sum(a.output_tokens or 0 for a in paid))
    return total.quantize(Decimal("0.000001"), rounding=ROUND_UP)


def judge_prices(call: Any, target: Target) -> Prices | None:
    """Return what the judge's tokens cost: as the caller said, or by the catalogue."""
    if call.price_in_usd_per_mtok is not None and call.price_out_usd_per_mtok is not None:
        return Prices(call.price_in_usd_per_mtok, call.price_out_usd_per_mtok, "the caller")
    return find_prices(cast("Any", target))


_WORDS: Final[dict[str, tuple[str, str]]] = {
    "title": ("What a judge or a person prefers", "评审或人工的偏好"),
    "by": ("by", "评审者"),
    "counts": ("wins / ties / losses", "胜 / 平 / 负"),
    "rate": ("win rate", "胜率"),
    "length": ("win rate at equal length", "同等长度下的胜率"),
    "difference": ("wins − losses [95 %]", "胜 − 负 [95%]"),
    "places": ("won by place: first / second", "因位置取胜：先 / 后"),
    "kappa": ("kappa with people", "与人工的 kappa"),
}


def draw_opinions(result: EvalComparison, language: str) -> list[str]:
    """Return the part of the report about judge and people; nothing where nobody was asked."""
    said = [entry for entry in (result.judge, result.review) if entry is not None]
    if not said:
        return []
    words = {key: both[language == "zh"] for key, both in _WORDS.items()}
    number = pages.format_number
    rows = [
        (
            entry.by,
            f"{entry.wins} / {entry.ties} / {entry.losses}",
            entry.win_rate,
            entry.win_rate_same_length,
            f"{number(entry.diff)} [{number(entry.ci95[0])}, {number(entry.ci95[1])}]",
            None
            if entry.first_place is None or entry.second_place is None
            else f"{number(entry.first_place)} / {number(entry.second_place)}",
            entry.kappa,
        )
        for entry in said
    ]
    heads = [words[key] for key in list(_WORDS)[1:]]
    return [pages.heading(words["title"]), pages.table(heads, rows)]


class Sheet(NamedTuple):
    """The rows that a person sees, and which answer stands first.

    Attributes:
        pairs: The rows, at most :data:`MOST_ON_SHEET`, in a drawn order.
        name: Digest of what is shown: reviews of another sheet are refused.
    """

    pairs: list[Pair]
    name: str

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> Sheet:
        """Return the sheet of some rows; the same rows give the same sheet."""
        shown = [[pair.question.id, pair.base, pair.tuned] for pair in pairs]
        name = digest(shown)[:24]
        drawn = random.Random(name).sample(list(pairs), min(MOST_ON_SHEET, len(pairs)))
        return cls(drawn, name)

    def swapped(self, key: str) -> bool:
        """Say whether the tuned model's answer stands first."""
        return int(digest([self.name, key])[:8], 16) % 2 == 1

    def draw(self) -> str:
        """Return the page; nothing on it says which side is which."""
        rows = [
            {
                "id": pair.question.id,
                "question": pair.question.asked(),
                "reference": pair.question.reference,
                "answers": [pair.tuned, pair.base]
                if self.swapped(pair.question.id)
                else [pair.base, pair.tuned],
            }
            for pair in self.pairs
        ]
        return blind_sheet({"format": _FORMAT, "sheet": self.name, "rows": rows})

    def read(self, file: str) -> dict[str, Choice]:
        """Return id → choice of a file that was saved from this sheet.

        Raises:
            BadInputError: It was saved from another sheet, or holds no choice.
        """
        where = f"{WHERE}: reviews_file"
        found: dict[str, Choice] = {}
        head = ""
        ids = {pair.question.id for pair in self.pairs}
        for record in read_records(resolve_read(file, where=where)):
            if isinstance(record, Finding):
                continue
            row = record.data
            head = str(row.get("sheet", head))
            key, side = row.get("id"), row.get("choice")
            if isinstance(key, str) and key in ids and side in ("first", "second", "tie"):
                tuned_first = self.swapped(key)
                won = "tuned" if (side == "first") == tuned_first else "base"
                found[key] = "tie" if side == "tie" else cast("Choice", won)
        if head != self.name or not found:
            raise BadInputError(
                where,
                "the file was saved from another sheet" if found or head else "no choice in it",
                "reviews of these rows and these answers",
                "Use the recorded answers of the call that wrote the sheet as base and tuned",
            )
        return found
