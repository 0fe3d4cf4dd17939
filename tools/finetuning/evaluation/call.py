"""The arguments of one comparison, checked; metrics of the person's own; judge and its price."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from decimal import ROUND_UP, Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, cast

from finetuning.errors import BadInputError
from finetuning.evaluation.inputs import Question
from finetuning.evaluation.judging import MOST_JUDGE_TOKENS, RULES
from finetuning.evaluation.metrics import METRICS, Answers, Metric, choose_metrics
from finetuning.evaluation.results import WHERE, Arm, TaskMetric
from finetuning.evaluation.sending import Prices, find_prices
from finetuning.evaluation.targets import (
    Answer,
    Job,
    RecordedTarget,
    Target,
    is_remote,
    parse_target,
)
from finetuning.files import data_files, resolve_read
from finetuning.records import Json, page

MOST_ARMS: Final = 4
MOST_TOKENS: Final = 32_768
_HOW_TO_RUN: Final = frozenset({"dry_run", "plan_id"})
_HOW_TO_SHOW: Final = frozenset({"language", "output_dir", "overwrite", "limit", "offset"})


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments of compare_eval, by their names."""

    data: str
    base: str
    tuned: str | None
    arms: Sequence[Arm] | None
    metrics: str | Sequence[str]
    general: str
    train: str | None
    margin: float
    alpha: float
    cluster_column: str | None
    judge: str | None
    review: Literal["none", "blind_ab"]
    reviews_file: str | None
    label_agreement: float | None
    log: str | None
    baseline: str | None
    max_tokens: int
    language: Literal["en", "zh"]
    output_dir: str | None
    overwrite: bool
    dry_run: bool | None
    plan_id: str | None
    price_in_usd_per_mtok: Decimal | None
    price_out_usd_per_mtok: Decimal | None
    limit: int | None
    offset: int

    def check(self) -> None:
        """Check the numbers."""
        page([], self.limit, self.offset, where=WHERE)
        if not (0 <= self.margin <= 1 and 0 < self.alpha < 1):
            raise BadInputError(
                WHERE,
                f"margin={self.margin}, alpha={self.alpha}",
                "margin 0..1 and alpha between 0 and 1",
                "Leave them out to use 0.02 and 0.05",
            )
        if not 1 <= self.max_tokens <= MOST_TOKENS:
            raise BadInputError(
                f"{WHERE}: max_tokens",
                f"{self.max_tokens}",
                f"1 to {MOST_TOKENS}",
                "Leave it out to use 512",
            )

        if self.label_agreement is not None and not 0 < self.label_agreement <= 1:
            raise BadInputError(
                f"{WHERE}: label_agreement",
                f"{self.label_agreement}",
                "a share above 0 and up to 1",
                "Leave it out where nobody measured how often two people agree",
            )
        needs = self.judge or self.reviews_file or self.review != "none"
        if needs and self.tuned is None:
            raise BadInputError(
                WHERE,
                "a judge or a review without tuned",
                "two sides to compare",
                "Name tuned, or leave judge, review and reviews_file out",
            )
        if len(self.arms or ()) > MOST_ARMS:
            raise BadInputError(
                f"{WHERE}: arms",
                f"{len(self.arms or ())} arms",
                f"at most {MOST_ARMS}: the best of many looks good by chance",
                "Choose the most promising ones on other rows first",
            )

    def chosen_arms(self) -> list[Arm]:
        """Return the arms as checked objects, whether they came as objects or as JSON."""
        return [Arm.model_validate(arm) for arm in self.arms or []]

    def bound(self) -> dict[str, Json]:
        """Return the arguments that a plan is bound to: all that shape what is sent."""
        return self._given(_HOW_TO_RUN | _HOW_TO_SHOW)

    def again(self, **changes: Json) -> dict[str, Json]:
        """Return the arguments of the same call with some changed, as JSON."""
        return {**self._given(_HOW_TO_RUN), **changes}

    def _given(self, without: frozenset[str]) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for name in (entry.name for entry in fields(self)):
            value: Any = getattr(self, name)
            if name not in without and value is not None and value != []:
                found[name] = format(value, "f") if isinstance(value, Decimal) else value
        if self.arms:
            found["arms"] = [arm.model_dump(exclude_none=True) for arm in self.chosen_arms()]
        return found


def chosen_metrics(wanted: str | Sequence[str], references: Sequence[str]) -> list[Metric]:
    """Return the metrics to report; ``module:function`` and ``FILE.py:function`` are one's own.

    The command line and Python take such names; a call of an assistant never reaches here with
    one, because it would choose which code runs.

    Args:
        wanted: ``auto``, or names (a list, or one text with commas).
        references: The references of all rows.

    Raises:
        UnknownNameError: A name is not a metric.
        BadInputError: A function cannot be found.
    """
    names = wanted.split(",") if isinstance(wanted, str) else list(wanted)
    for name in (raw.strip() for raw in names):
        if ":" in name and name not in METRICS:
            METRICS[name] = Metric(name, _scorer(name))
    return choose_metrics(wanted, references)


def _scorer(name: str) -> Callable[[str, str], float]:
    """Return a person's function of (reference, answer) as a metric of 0..1."""
    home, _, function = name.rpartition(":")
    try:
        module = _module_of_file(home) if home.endswith(".py") else importlib.import_module(home)
        given = getattr(module, function)
    except (ImportError, AttributeError, SyntaxError, OSError) as error:
        raise BadInputError(
            f"{WHERE}: metrics",
            f"{name!r} names no function ({type(error).__name__})",
            "module:function or path/to/file.py:function, called with (reference, answer)",
            "Check the names; a file must lie in a folder that the tools may read",
        ) from error

    def score(reference: str, output: str) -> float:
        value = given(reference, output)
        if isinstance(value, bool | int | float) and 0 <= value <= 1:
            return float(value)
        raise BadInputError(
            f"{WHERE}: metrics",
            f"{name!r} returned {type(value).__name__}",
            "a number from 0 to 1, or a bool",
            "Change the function",
        )

    return score


def _module_of_file(path: str) -> ModuleType:
    import importlib.util

    file = resolve_read(path, where=f"{WHERE}: metrics")
    spec = importlib.util.spec_from_file_location(f"own_metric_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError(file.name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def judging_cost(call: Call, target: Target, answers: Sequence[Answer]) -> Decimal | None:
    """Return what verdicts cost by their tokens; None where a price or a count is missing."""
    if not is_remote(target):
        return Decimal(0)
    prices, paid = judge_prices(call, target), [a for a in answers if not a.kept]
    if prices is None or any(a.input_tokens is None or a.output_tokens is None for a in paid):
        return None
    read = sum(a.input_tokens or 0 for a in paid)
    total = prices.of(read, sum(a.output_tokens or 0 for a in paid))
    return total.quantize(Decimal("0.000001"), rounding=ROUND_UP)


def judge_prices(call: Call, target: Target) -> Prices | None:
    """Return what the judge's tokens cost: as the caller said, or by the catalogue."""
    if call.price_in_usd_per_mtok is not None and call.price_out_usd_per_mtok is not None:
        return Prices(call.price_in_usd_per_mtok, call.price_out_usd_per_mtok, "the caller")
    return find_prices(cast("Any", target))


def headroom_of(first: TaskMetric | None, label_agreement: float | None) -> float | None:
    """Return the room above the base: up to 1, or to how often two people agree."""
    if first is None or first.better != "higher":
        return None
    return max(0.0, (1.0 if label_agreement is None else label_agreement) - first.base)


def price_judge(
    questions: Sequence[Question], max_tokens: int, prices: Prices | None
) -> Decimal | None:
    """Return the most that judging can cost before the answers are there; None: unknown price.

    Args:
        questions: The rows, each asked in both orders.
        max_tokens: Most tokens of one answer.
        prices: What a token costs.
    """
    from finetuning.tokens import counter_for

    if prices is None:
        return None
    texts = [RULES + question.asked() + question.reference for question in questions]
    read = sum(counter_for().count(texts)) * 3 // 2 + len(texts) * (2 * max_tokens + 100)
    most = prices.of(2 * read, 2 * len(texts) * MOST_JUDGE_TOKENS)
    return most.quantize(Decimal("0.0001"), rounding=ROUND_UP)


def held_out_file(data: str) -> Path:
    """Return the file to evaluate on: the one given, or ``test.jsonl`` of a prepared folder.

    Raises:
        BadInputError: The folder has no test split.
    """
    files = data_files(data, where="compare_eval: data")
    found = files.get("test") or files.get("data")
    if found is None:
        raise BadInputError(
            "compare_eval: data",
            f"{data!r} holds {', '.join(sorted(files))} but no test.jsonl",
            "a file of held-out rows, or a folder with test.jsonl",
            "Run prepare_data again with a split that has a test part",
        )
    return found


def accepted_answers(baseline: str, job: Job) -> Answers:
    """Return the answers of an earlier comparison: its result.json, or a file of answers.

    Raises:
        BadInputError: The file names no answers, or none belongs to a row of the data.
    """
    from finetuning.evaluation.asking import read_recorded

    where = f"{WHERE}: baseline"
    path = resolve_read(baseline, where=where)
    if path.name.endswith("result.json"):
        outputs = json.loads(path.read_text(encoding="utf-8")).get("outputs", {})
        path = resolve_read(str(outputs.get("tuned") or outputs.get("base") or path), where=where)
    answers, faults, _ = read_recorded(RecordedTarget(str(path), str(path)), "baseline", job)
    if faults:
        raise BadInputError(
            where,
            faults[0],
            "the result.json of an earlier compare_eval on these rows, or its answers",
            "Compare once with the model that is accepted, and keep its output folder",
        )
    return answers
