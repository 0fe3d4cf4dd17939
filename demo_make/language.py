"""The small world of the demo: its words, its sentences, and rows of general ability."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

ITEMS: Final[Sequence[str]] = (
    "lamps chairs tables desks shelves mirrors clocks vases rugs stools benches baskets "
    "frames pillows blankets curtains mugs plates bowls candles"
).split()
COLOURS: Final[Sequence[str]] = "red blue green black white yellow grey brown orange purple".split()
CITIES: Final[Sequence[str]] = (
    "Berlin Paris Madrid Rome Vienna Oslo Lisbon Dublin Prague Warsaw Athens Zurich "
    "Hamburg Lyon Porto Milan"
).split()
DAYS: Final[Sequence[str]] = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
QUANTITIES: Final = tuple(range(2, 25))
MASK_TAGS: Final = ("[EMAIL]", "[PHONE]")
"""What redaction leaves in place of personal data; each is one word of the tokenizer."""

CORES: Final = (
    "Please send {quantity} {colour} {item} to {city} by {day}.",
    "We need {quantity} {item} in {colour}, shipped to {city} before {day}.",
    "Can you deliver {quantity} {colour} {item} on {day}? Our shop is in {city}.",
    "I would like {quantity} {item}, colour {colour}. Delivery {day}, city {city}.",
    "New order for {city}: {quantity} {item} ({colour}), due {day}.",
    "For {day} we want {colour} {item}, {quantity} of them, at our {city} store.",
    "{quantity} {colour} {item} for the {city} office, needed {day}.",
    "A customer in {city} asked for {quantity} {colour} {item}. They must arrive on {day}.",
    "By {day} the {city} store is out of {item}: send {quantity}, all {colour}.",
    "Ship {colour} {item} to our {city} shop, {quantity} in all, {day} at the latest.",
)
OPENERS: Final = ("", "", "", "Hi team, ", "Hello! ", "Good morning. ", "Dear all, ", "Hi! ")
CLOSERS: Final = ("", "", "", " Thanks!", " Thank you.", " Best wishes.", " Kind regards.")
CONTACTS: Final = (
    " Reach me at {contact}.",
    " Send the bill to {contact}.",
    " Questions? Write to {contact}.",
    " My number is {contact}.",
    " Call me on {contact}.",
)
"""Closing sentences with personal data: the first three take an e-mail, the others a phone."""

QUESTIONS: Final[dict[str, tuple[str, ...]]] = {
    "item": ("what is ordered?", "which item?"),
    "colour": ("which colour?", "what colour?"),
    "quantity": ("how many?", "what quantity?"),
    "city": ("which city?", "where to?"),
    "day": ("which day?", "when?"),
}


@dataclass(frozen=True, slots=True)
class Order:
    """What one message orders: the five fields that the task extracts."""

    item: str
    colour: str
    quantity: int
    city: str
    day: str


def draw_order(rng: random.Random) -> Order:
    """Draw one order with every field independent of the others."""
    return Order(
        item=rng.choice(ITEMS),
        colour=rng.choice(COLOURS),
        quantity=rng.choice(QUANTITIES),
        city=rng.choice(CITIES),
        day=rng.choice(DAYS),
    )


def order_json(order: Order) -> str:
    """Write the order as the JSON object that the task expects."""
    return json.dumps(asdict(order))


def order_message(order: Order, rng: random.Random) -> str:
    """Put the order into the words of a customer."""
    core = rng.choice(CORES).format(**asdict(order))
    return rng.choice(OPENERS) + core + rng.choice(CLOSERS)


def _question_row(rng: random.Random) -> tuple[str, str]:
    order = draw_order(rng)
    field = rng.choice(list(QUESTIONS))
    question = rng.choice(QUESTIONS[field])
    prompt = f"{order_message(order, rng)}\nQuestion: {question}\nAnswer:"
    return prompt, str(getattr(order, field))


def _json_row(rng: random.Random) -> tuple[str, str]:
    pairs = list(asdict(draw_order(rng)).items())
    rng.shuffle(pairs)
    pairs = pairs[: rng.randint(2, 5)]
    listed = "; ".join(f"{name}: {value}" for name, value in pairs)
    return f"Write as JSON: {listed}\nAnswer:", json.dumps(dict(pairs))


def _list_row(rng: random.Random) -> tuple[str, str]:
    order = draw_order(rng)
    words = [str(value) for value in asdict(order).values()]
    words += [rng.choice(ITEMS), rng.choice(CITIES), rng.choice(COLOURS)]
    rng.shuffle(words)
    words = words[: rng.randint(2, 4)]
    wish = rng.choice(("Repeat the list", "First of the list", "Last of the list"))
    answer = {"R": ", ".join(words), "F": words[0], "L": words[-1]}[wish[0]]
    return f"{wish}: {', '.join(words)}\nAnswer:", answer


def general_row(rng: random.Random) -> dict[str, str]:
    """Draw one row of general ability: a question, pairs to JSON, or work on a list."""
    make = rng.choice((_question_row, _question_row, _json_row, _list_row))
    prompt, completion = make(rng)
    return {"prompt": prompt, "completion": completion}


def general_rows(count: int, rng: random.Random, taken: set[str]) -> list[dict[str, str]]:
    """Draw ``count`` general rows whose prompts are not in ``taken`` (which grows with them)."""
    rows: list[dict[str, str]] = []
    while len(rows) < count:
        row = general_row(rng)
        if row["prompt"] not in taken:
            taken.add(row["prompt"])
            rows.append(row)
    return rows
