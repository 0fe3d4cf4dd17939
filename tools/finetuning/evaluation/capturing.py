"""One capture: which answers are missing, what they cost, who is asked, what is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, cast

from finetuning import approval, runs
from finetuning.errors import FineTuningError, NotAllowedError
from finetuning.evaluation.asking import ask_local
from finetuning.evaluation.network import AnswerFile, Round, wait_for
from finetuning.evaluation.results import RemotePlan
from finetuning.evaluation.sending import (
    AnswerStore,
    Item,
    Prices,
    Sending,
    create_plan,
    host_of,
    key_of,
    price_items,
    refuse_offline,
    require_approval,
    unpaid,
)
from finetuning.evaluation.targets import Answer, AskedTarget, Job, LocalTarget, Side, Target
from finetuning.records import Json, NextCall, ToolResult

R = TypeVar("R", bound=ToolResult)

WHERE: Final = "capture_outputs"
_LOCAL_BATCH: Final = 256
_HOW_TO_RUN: Final = frozenset({"dry_run", "plan_id", "at_once"})


@dataclass
class Capture(Generic[R]):
    """What is asked, known, and paid."""

    shape: type[R]  # what the counts are returned as
    given: dict[str, Any]  # arguments of the call
    target: Target
    path: Path
    items: list[Item]  # every prompt and sample
    file: AnswerFile
    name: str  # digest of model, prompts and settings, which every row carries
    prices: Prices | None
    terms: str
    personal: dict[str, int]
    unsure: set[int] = field(default_factory=set[int])  # items cut off after they were sent
    stopped: str = ""  # why asking ended early
    known: int = 0  # answers that an earlier call paid for

    @property
    def asked(self) -> AskedTarget | None:
        """The target, if it is another machine."""
        return cast("AskedTarget", self.target) if host_of(self.target) else None

    def left(self) -> list[int]:
        """Return the items that are not in the output, less those of an unknown end."""
        found = [
            number
            for number, item in enumerate(self.items)
            if (item.question.id, item.params.sample) not in self.file.rows
        ]
        if self.asked is None:
            return found
        keys = {number: key_of(self.asked, self.items[number]) for number in found}
        _, unsure = AnswerStore().read(keys.values())
        self.unsure = {number for number, key in keys.items() if key in unsure}
        if self.given["retry_unsure"]:
            return found
        return [number for number in found if number not in self.unsure]

    def most(self, numbers: Iterable[int]) -> Decimal | None:
        """Return the most that asking these items costs; None where no price is known."""
        items = [self.items[number] for number in numbers]
        if self.asked is not None:
            items = unpaid(self.asked, items, AnswerStore())
        return price_items(self.target, items, self.prices)

    def spent(self, *, known: bool = False) -> Decimal | None:
        """Return the most that the answers in the output and the unsure requests have cost."""
        if self.asked is None or self.prices is None:
            return Decimal(0) if self.asked is None else None
        rows = [row for row in self.file.rows.values() if known or not row.get("known")]
        read = sum(int(row.get("tokens_in") or 0) for row in rows)
        wrote = sum(int(row.get("tokens_out") or self.given["max_tokens"]) for row in rows)
        unsure = price_items(self.target, [self.items[n] for n in self.unsure], self.prices)
        total = self.prices.of(read, wrote) + (unsure or Decimal(0))
        return total.quantize(Decimal("0.000001"), rounding=ROUND_UP)

    def sending(self) -> Sending:
        """Return what would be sent."""
        left, host = self.left(), host_of(self.target)
        steps = [f"send {len(left)} requests to {host or 'this machine'}"]
        what = "ask again" if self.given["retry_unsure"] else "leave out"
        if self.unsure:
            steps.append(f"{what} {len(self.unsure)} requests that were cut off")
        if self.personal:
            found = ", ".join(f"{count} {name}" for name, count in self.personal.items())
            may = self.given["allow_personal_data"] or not host
            steps.append(
                f"{'with' if may else 'REFUSED for'} personal data in the prompts: {found}"
            )
        if self.terms.startswith("closed:"):
            steps.append("the answers are a closed model's: its terms may forbid training on them")
        given = self.given.items()
        return Sending(
            tool=WHERE,
            arguments={k: v for k, v in given if k not in _HOW_TO_RUN and v is not None},
            files=[self.path],
            steps=steps,
            cost_usd=self.most(left),
            hosts=[host] if host else [],
            price_from_caller=self.prices is not None and self.prices.source == "the caller",
        )

    def plan(self) -> R:
        """Return the answer of a dry run; a plan to approve is kept where data would leave."""
        sending = self.sending()
        plan_id = create_plan(sending) if sending.hosts else None
        args = {k: str(v) if isinstance(v, Decimal) else v for k, v in sending.arguments.items()}
        args |= {"dry_run": False, **({"plan_id": plan_id} if plan_id else {})}
        why = "asks, once a person has approved the plan" if plan_id else "asks the model"
        return self.result(sending.cost_usd, None).model_copy(
            update={
                "plan": RemotePlan(
                    steps=sending.steps,
                    cost_usd=sending.cost_usd,
                    data_leaves_machine=bool(sending.hosts),
                ),
                "plan_id": plan_id,
                "needs_approval": plan_id is not None,
                "next": [NextCall(tool=WHERE, args=args, why=why)],
            }
        )

    def approve(self, plan_id: str | None) -> None:
        """Refuse to send unless a person approved exactly this, or its beginning."""
        refuse_offline(WHERE, [self.target])
        if self.asked is None:
            return
        if self.personal and not self.given["allow_personal_data"]:
            raise NotAllowedError(
                WHERE,
                f"the prompts hold personal data ({', '.join(self.personal)})",
                "prompts without, or a plan with allow_personal_data=true that a person approved",
                f"Run: fine-tuning scan-pii {self.path.name} --mode redact",
            )
        sending = self.sending()
        if plan_id and self.file.rows and approval.read_plan(plan_id).used_at is not None:
            approval.resume_plan(
                plan_id,
                WHERE,
                arguments=sending.arguments,
                files=sending.files,
                spent_usd=self.spent(known=True) or Decimal(0),
                rest_usd=sending.cost_usd,
            )
        elif sending.cost_usd != 0 or self.left():
            require_approval(sending, plan_id)

    def run(self, at_once: int) -> R:
        """Ask what is missing and return the counts."""
        left = self.left()
        before = self.spent()
        row = runs.create_run(WHERE, arguments={"capture": self.name})
        runs.attach(row.run_id)
        try:
            with self.file.open():
                if isinstance(self.target, LocalTarget):
                    self._ask_local(left)
                elif left:
                    self._ask_server(left, at_once)
        except BaseException as error:
            ours = str(error) if isinstance(error, FineTuningError) else type(error).__name__
            stopped = isinstance(error, KeyboardInterrupt)
            runs.finish(row.run_id, "cancelled" if stopped else "failed", error=ours)
            raise
        self.left()  # which requests were cut off now
        after = self.spent()
        cost = None if before is None or after is None else max(Decimal(0), after - before)
        result = self.result(cost, row.run_id)
        runs.finish(row.run_id, "succeeded", result=result.model_dump(mode="json"))
        return result

    def _ask_local(self, left: Sequence[int]) -> None:
        for start in range(0, len(left), _LOCAL_BATCH):
            part = {self.items[n].question.id: n for n in left[start : start + _LOCAL_BATCH]}
            job = Job("test", [self.items[n].question for n in part.values()], nll=False)
            side = Side("model", self.target, [job])
            answers, _ = ask_local([side], self.given["max_tokens"])
            for key, answer in answers["model"]["test"].items():
                self._take(part[key], answer)
            self.file.flush()
            runs.progress(min(start + _LOCAL_BATCH, len(left)), len(left), "asking the model")

    def _ask_server(self, left: Sequence[int], at_once: int) -> None:
        target = cast("AskedTarget", self.target)
        store, groups = AnswerStore(), dict[str, list[int]]()
        for number in left:
            groups.setdefault(key_of(target, self.items[number]), []).append(number)
        kept = store.read(groups)[0] if self.asked is not None else {}
        for key, answer in kept.items():
            for number in groups.pop(key):
                self.known += 1
                self._take(number, answer)
        firsts = {numbers[0]: numbers for numbers in groups.values()}
        done = 0

        def take(number: int, answer: Answer) -> None:
            nonlocal done
            for twin in firsts[number]:
                self._take(twin, answer if twin == number else answer._replace(kept=True))
            done += 1
            runs.progress(done, len(firsts), "asking the model")

        asked = Round(target, at_once, repeat_lost=self.asked is None, store=store, on_answer=take)
        if firsts:
            wait_for(asked.run(self.items, list(firsts)))
        if asked.useless is not None:
            self.stopped = f"the server refuses with status {asked.useless}; nothing more was sent"

    def _take(self, number: int, answer: Answer) -> None:
        if answer.finish_reason != "error":
            item = self.items[number]
            origin = {"model": self.target.spec, "output_terms": self.terms, "capture": self.name}
            self.file.add({**row_of(item.question.id, item.params.sample, answer), **origin})

    def result(self, cost: Decimal | None, run_id: str | None) -> R:
        """Return what stands in the output."""
        samples: int = self.given["samples"]
        ids = list(dict.fromkeys(item.question.id for item in self.items))
        have = self.file.rows
        done = [key for key in ids if all((key, sample) in have for sample in range(samples))]
        unsure = {self.items[n].question.id for n in self.unsure}
        failed = 0 if run_id is None else len(set(ids) - set(done) - unsure)
        facts: dict[str, Json] = {}
        if run_id is not None and done:
            facts["n_teacher_outputs"] = len(done)
            if not self.terms.startswith("unknown:"):
                facts["teacher_closed_api"] = self.terms.startswith("closed:")
        args = {"data": str(self.path), "base": f"recorded:{self.file.path}"}
        compare = NextCall(tool="compare_eval", args=args, why="measures what was captured")
        fields: dict[str, Any] = {
            "n_prompts": len(ids),
            "n_done": len(done),
            "n_failed": failed,
            "n_unsure": len(self.unsure),
            "n_known": self.known,
            "samples": samples,
            "output_file": str(self.file.path),
            "cost_usd": cost,
            "run_id": run_id,
            "agreement": agreement_of(self.file.hashes),
            "output_terms": self.terms,
            "personal_data": self.personal,
            "stopped": self.stopped,
            "next": [compare] if facts else [],
            "fit_facts": facts,
        }
        return self.shape.model_validate(fields)


def row_of(key: str, sample: int, answer: Answer) -> dict[str, Json]:
    """Return one answer as a row of the output."""
    row: dict[str, Json] = {
        "id": key,
        "sample": sample,
        "output": answer.text or "",
        "finish_reason": answer.finish_reason,
        "seconds": answer.seconds,
        "tokens_in": answer.input_tokens,
        "tokens_out": answer.output_tokens,
    }
    return {**row, "known": True} if answer.kept else row


def agreement_of(samples: Mapping[str, Sequence[str]]) -> float | None:
    """Return the chance that two samples of one prompt are equal; None with one sample each."""
    shares = [
        sum(a == b for n, a in enumerate(texts) for b in texts[:n])
        * 2
        / len(texts)
        / (len(texts) - 1)
        for texts in samples.values()
        if len(texts) > 1
    ]
    return round(sum(shares) / len(shares), 6) if shares else None
