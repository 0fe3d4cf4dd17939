"""The raw order file as a shop would export it, with the faults that real exports have.

No row holds a real person's data: addresses end in example.com or example.org (RFC 2606) and
phone numbers lie in 555-0100..0199, the range kept for fiction (NANPA).
"""

from __future__ import annotations

import csv
import io
import random
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from demo_make import language

FIRST_ORDER: Final = datetime(2026, 1, 5, 8, 12)
COLUMNS: Final = ("order_id", "received", "channel", "message", "record")
UNIQUE_ROWS: Final = 1060
EXACT_COPIES: Final = 32
NEAR_COPIES: Final = 40
EMPTY_ANSWERS: Final = 3
BROKEN_LINES: Final = 2
CONTACT_FRACTION: Final = 0.08
LARGEST_LIKENESS: Final = 0.4
"""Distinct orders share at most this Jaccard of word 3-grams (a near copy shares > .5)."""

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A customer's message and the record that belongs to it."""

    message: str
    record: str


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return frozenset(zip(words, words[1:], words[2:], strict=False))


class _Distinct:
    """Keeps texts apart: refuses one that is too like any text it has accepted."""

    def __init__(self) -> None:
        self._sets: list[frozenset[tuple[str, ...]]] = []
        self._where: dict[tuple[str, ...], list[int]] = {}

    def accept(self, text: str) -> bool:
        new = _shingles(text)
        shared: dict[int, int] = {}
        for shingle in new:
            for index in self._where.get(shingle, ()):
                shared[index] = shared.get(index, 0) + 1
        for index, count in shared.items():
            if count > LARGEST_LIKENESS * (len(new) + len(self._sets[index]) - count):
                return False
        for shingle in new:
            self._where.setdefault(shingle, []).append(len(self._sets))
        self._sets.append(new)
        return True


def _contact(rng: random.Random) -> str:
    sentence = rng.choice(language.CONTACTS)
    if sentence in language.CONTACTS[:3]:
        name = rng.choice(("anna", "li", "omar", "ines", "tom", "mira", "jan", "rosa"))
        domain = rng.choice(("example.com", "example.org"))
        contact = f"{name}.{rng.choice('bcdfgklmnprst')}{rng.randint(10, 99)}@{domain}"
    else:
        contact = f"+1 {rng.choice((202, 212, 303, 415, 617))}-555-01{rng.randint(0, 99):02d}"
    return sentence.format(contact=contact)


def _messages(rng: random.Random) -> list[Message]:
    prompts, pairs = _Distinct(), _Distinct()
    found: list[Message] = []
    while len(found) < UNIQUE_ROWS:
        order = language.draw_order(rng)
        text = language.order_message(order, rng)
        record = language.order_json(order)
        if not (prompts.accept(text) and pairs.accept(f"{text} {record}")):
            continue
        if rng.random() < CONTACT_FRACTION:
            text += _contact(rng)
        found.append(Message(text, record))
    return found


def _near_copy(original: Message, rng: random.Random) -> Message:
    """Say the same order again with another greeting or goodbye."""
    text = original.message
    for opener in sorted(language.OPENERS, key=len, reverse=True):
        if opener and text.startswith(opener):
            return Message(text.removeprefix(opener), original.record)
    return Message(rng.choice(("Hello! ", "Hi! ")) + text, original.record)


def raw_rows(seed: int = 11) -> list[Row]:
    """Draw the export's rows in the order in which the orders came in, faults included."""
    rng = random.Random(seed)
    messages = _messages(rng)
    extra = rng.sample(messages, EXACT_COPIES + NEAR_COPIES + EMPTY_ANSWERS)
    exact, rest = extra[:EXACT_COPIES], extra[EXACT_COPIES:]
    near = [_near_copy(message, rng) for message in rest[:NEAR_COPIES]]
    empty = [
        Message(language.order_message(language.draw_order(rng), rng), "")
        for _ in range(EMPTY_ANSWERS)
    ]
    every = [*messages, *exact, *near, *empty]
    rng.shuffle(every)
    rows: list[Row] = []
    for index, message in enumerate(every):
        received = (FIRST_ORDER + timedelta(minutes=389 * index)).isoformat(timespec="minutes")
        channel = rng.choice(("mail", "chat", "form"))
        rows.append((f"A-{10_000 + index}", received, channel, message.message, message.record))
    return rows


def raw_csv(seed: int = 11) -> str:
    """Write the export as CSV text, with two lines that an interrupted export broke."""
    rows = raw_rows(seed)
    broken = {len(rows) // 3, 2 * len(rows) // 3}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for index, row in enumerate(rows):
        if index in broken:
            text.write(f"{row[0]}-retry,{row[1]}\n")
        writer.writerow(row)
    return text.getvalue()
