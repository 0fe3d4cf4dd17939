"""What goes to other machines: what it costs, who approved it, and what was paid for before.

Every answer of another machine is kept in ``<home>/answers.sqlite`` (mode 0600: it is row content),
under a digest of target, prompt and parameters. A request is noted there before it is sent and
answered there when its reply is in, so a process that dies at any moment loses no answer that
came back, and the next one knows which requests may have been paid for.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from finetuning.errors import FineTuningError, NotAllowedError
from finetuning.evaluation.inputs import Question
from finetuning.evaluation.servers import Params
from finetuning.evaluation.targets import (
    Answer,
    AskedTarget,
    HttpTarget,
    Target,
    VendorTarget,
    is_remote,
)
from finetuning.files import digest
from finetuning.records import Json
from finetuning.settings import settings

if TYPE_CHECKING:
    import sqlite3

_PROVIDER_OF_HOST: Final = {
    "api.openai.com": "openai",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.fireworks.ai": "fireworks",
}
_OLDEST_DAYS: Final = 180
_TOKENS_PER_TURN: Final = 8  # role and separators of a chat template
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS answers (
  key TEXT PRIMARY KEY, target TEXT NOT NULL, state TEXT NOT NULL, answer TEXT,
  at TEXT NOT NULL DEFAULT (datetime('now'))
) WITHOUT ROWID
"""


class Item(NamedTuple):
    """One request: the question, and how it is to be answered."""

    question: Question
    params: Params


class AnswerStore:
    """Answers of other machines that were paid for, and requests whose end is not known."""

    def __init__(self, path: Path | None = None) -> None:
        """Remember where the answers are; nothing is opened yet."""
        self.path = path or settings().home / "answers.sqlite"

    @contextlib.contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        import sqlite3

        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # -wal and -shm take the mode of the database file: set it before SQLite sees it
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        opened = sqlite3.connect(self.path, timeout=30.0, isolation_level=None)
        with contextlib.closing(opened) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # a reply is worth an fsync
            connection.execute(_SCHEMA)
            yield connection

    def read(self, keys: Iterable[str]) -> tuple[dict[str, Answer], set[str]]:
        """Return key → answer of those that are there, and the keys whose end is not known."""
        wanted = list(dict.fromkeys(keys))
        done: dict[str, Answer] = {}
        unsure: set[str] = set()
        if not wanted or not self.path.exists():
            return done, unsure
        with self._open() as connection:
            for start in range(0, len(wanted), 500):
                part = wanted[start : start + 500]
                marks = ",".join("?" * len(part))
                found = connection.execute(
                    f"SELECT key, state, answer FROM answers WHERE key IN ({marks})",  # noqa: S608
                    part,
                )
                for key, state, answer in found:
                    if state == "done":
                        done[key] = Answer(*json.loads(answer))._replace(kept=True)
                    else:
                        unsure.add(key)
        return done, unsure

    def note_sent(self, keys: Sequence[tuple[str, str]]) -> None:
        """Note requests that are about to be sent: (key, target)."""
        with self._open() as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO answers (key, target, state) VALUES (?, ?, 'sent')"
                " ON CONFLICT (key) DO UPDATE SET state = 'sent' WHERE state != 'done'",
                keys,
            )

    def note_ends(self, ends: Sequence[tuple[str, Answer | None]]) -> None:
        """Keep answers; None forgets a request that certainly was not answered."""
        with self._open() as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            for key, answer in ends:
                if answer is None:
                    connection.execute("DELETE FROM answers WHERE key = ?", (key,))
                else:
                    connection.execute(
                        "UPDATE answers SET state = 'done', answer = ? WHERE key = ?",
                        (json.dumps(answer), key),
                    )


def key_of(target: AskedTarget, item: Item) -> str:
    """Return the digest under which an answer is kept: target, prompt and parameters."""
    question = item.question
    return digest(
        {
            "target": target.spec,
            "host": target.host,
            "prompt": question.prompt,
            "messages": list(question.messages) if question.messages is not None else None,
            "params": list(item.params),
        }
    )


def unpaid(target: AskedTarget, items: Sequence[Item], store: AnswerStore) -> list[Item]:
    """Return the items that would have to be asked, each prompt once."""
    if not is_remote(target):
        return list(items)
    keyed = {key_of(target, item): item for item in items}
    done, _ = store.read(keyed)
    return [item for key, item in keyed.items() if key not in done]


class Sending(NamedTuple):
    """What a run would send.

    Attributes:
        tool: The tool that would.
        arguments: The call's arguments, which the plan is bound to.
        files: Files that are read, whose content the plan is bound to.
        steps: What would happen, in words.
        cost_usd: Most it can cost, or None where no price is known.
        hosts: Machines that prompts would go to.
        price_from_caller: The price rests on what the caller said.
    """

    tool: str
    arguments: Mapping[str, Json]
    files: Sequence[Path]
    steps: list[str]
    cost_usd: Decimal | None
    hosts: Sequence[str]
    price_from_caller: bool = True


class Prices(NamedTuple):
    """US dollars per million tokens read and written, and where that is from."""

    usd_in: Decimal
    usd_out: Decimal
    source: str

    def of(self, tokens_in: int, tokens_out: int) -> Decimal:
        """Return the price of some tokens."""
        return (tokens_in * self.usd_in + tokens_out * self.usd_out) / 1_000_000


def find_prices(target: AskedTarget) -> Prices | None:
    """Return what a target charges by the catalogue, or None where that is not known.

    A price that is too old to be used counts as not known.
    """
    import datetime as dt

    from finetuning.providers import base_prices, search_price

    day = dt.datetime.now(dt.UTC).date()
    if isinstance(target, HttpTarget):
        provider = _PROVIDER_OF_HOST.get(target.host)
        if provider is None:
            return None
        name = target.model
    else:
        provider, name = target.vendor, target.model
    try:
        if name.startswith("ft:"):  # ft:BASE:ORGANISATION:SUFFIX:ID
            base = name.split(":")[1]
            reads = search_price(provider, base, "tuned_in", day)
            writes = search_price(provider, base, "tuned_out", day)
            if reads is None or writes is None or reads.refused or writes.refused:
                return None
            return Prices(reads.usd, writes.usd, f"{reads.source}, {reads.as_of}")
        found = base_prices(name, day, provider=provider)
    except FineTuningError:
        return None
    if found.age_days > _OLDEST_DAYS:
        return None
    source = f"{found.source}, {found.as_of}"
    return Prices(found.in_usd_per_mtok, found.out_usd_per_mtok, source)


def price_items(target: Target, items: Sequence[Item], prices: Prices | None) -> Decimal | None:
    """Return the most that asking can cost in USD, or None where no price is known.

    Tokens read are counted with a public tokenizer and, because vendors have their own, half as
    many again; tokens written count as the limit.

    Args:
        target: Who is asked; only other machines cost anything.
        items: What is asked.
        prices: What a token costs.
    """
    from finetuning.tokens import counter_for

    if not items or not is_remote(target):
        return Decimal(0)
    if prices is None:
        return None
    sent = sum(counter_for().count([item.question.asked() for item in items]))
    turns = sum(len(item.question.messages or ()) + 1 for item in items)
    written = sum(item.params.max_tokens for item in items)
    read = (3 * sent) // 2 + _TOKENS_PER_TURN * turns
    return prices.of(read, written).quantize(Decimal("0.0001"), rounding=ROUND_UP)


def host_of(target: Target) -> str:
    """Return the other machine that a target is, or an empty text."""
    if isinstance(target, HttpTarget | VendorTarget) and is_remote(target):
        return target.host
    return ""


def refuse_offline(tool: str, targets: Iterable[Target]) -> None:
    """Refuse other machines while offline mode is set.

    Raises:
        NotAllowedError: A target is another machine and offline mode is set.
    """
    for target in targets:
        if settings().offline and (host := host_of(target)):
            raise NotAllowedError(
                tool,
                f"{host!r} is another machine and FINE_TUNING_OFFLINE=1",
                "a target on this machine",
                "Use local:, run: or recorded:, or unset FINE_TUNING_OFFLINE",
            )


def require_approval(sending: Sending, plan_id: str | None) -> None:
    """Refuse to send unless a person approved exactly this.

    Raises:
        NotAllowedError: Nobody approved, or a file, argument or price changed since.
    """
    from finetuning import approval

    if sending.hosts:
        approval.use_plan(
            plan_id or create_plan(sending),
            sending.tool,
            arguments=sending.arguments,
            files=sending.files,
            cost_usd=sending.cost_usd,
        )


def create_plan(sending: Sending) -> str:
    """Keep a plan for a person to approve and return its id."""
    from finetuning import approval

    plan = approval.create_plan(
        sending.tool,
        arguments=sending.arguments,
        files=sending.files,
        steps=sending.steps,
        cost_usd=sending.cost_usd,
        data_leaves_machine=True,
        price_from_caller=sending.price_from_caller,
    )
    return plan.plan_id
