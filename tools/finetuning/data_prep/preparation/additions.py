"""What is added to train: general rows against forgetting, and canaries for memorisation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from finetuning.data_prep.convert.codes import HOLDS
from finetuning.data_prep.duplicates import overlapping
from finetuning.data_prep.examples import Example, Message
from finetuning.data_prep.preparation.cleaning import redact
from finetuning.data_prep.preparation.gathering import read_others
from finetuning.data_prep.preparation.items import Item, RowWriter
from finetuning.data_prep.preparation.options import WHERE, Options
from finetuning.data_prep.quality import quality_finding
from finetuning.data_prep.split import place_of
from finetuning.records import Finding, Json, Record

CANARY_DIGITS: Final = 10

_SHORT_BY: Final = 0.005
"""A share of general rows that misses the one asked for by less is no finding."""


class General(NamedTuple):
    """General rows that may be mixed in, in the order in which they are taken."""

    items: list[Item]
    left_out: int


def read_general(options: Options, own: Sequence[Item], writer: RowWriter) -> General:
    """Read the replay file and leave out every row that repeats one of the person's own.

    A row that repeated a held-out row would leak it into train; one that repeats a train row
    adds nothing.

    Raises:
        BadInputError: The file cannot be read, or holds no row that fits the target.
    """
    if options.replay is None or options.replay.fraction == 0:
        return General([], 0)
    items: list[Item] = []
    for part in read_others(
        options.replay.path, options.target, options.columns, where=f"{WHERE}: replay"
    ):
        examples, _, _ = redact(part.examples, options)
        items += writer.check(examples).items
    unique = {item.content.exact: item for item in reversed(items)}
    items = list(reversed(unique.values()))
    contents = [item.content for item in items]
    repeats = overlapping(contents, [item.content for item in own], options.near_threshold)
    free = [item for row, item in enumerate(items) if row not in repeats]
    free.sort(key=lambda item: place_of(f"replay:{item.content.exact:x}", options.seed))
    return General(free, len(repeats))


def replay_rows(general: General, n_train: int, fraction: float) -> list[Item]:
    """Return as many general rows as make ``fraction`` of the train file, or all there are."""
    wanted = round(fraction / (1 - fraction) * n_train)
    return general.items[:wanted]


def replay_finding(wanted: float, got: int, n_train: int, left_out: int) -> Finding | None:
    """Return a finding where the general rows were too few for the share asked for."""
    short = round(wanted / (1 - wanted) * n_train) - got
    share = got / (got + n_train) if got else 0.0
    if share > wanted - _SHORT_BY:
        return None
    return quality_finding(
        "replay_short",
        f"{short} general rows are missing: {got} make a share of {share:.3f}, {wanted} was "
        f"asked for; {left_out} were left out because they repeat own rows",
    )


def _canary(options: Options, digest: str, number: int) -> Example:
    """Return one marker row: a name and a number that no text in the world holds."""
    draw = random.Random(f"canary:{options.seed}:{digest}:{number}")
    name = "".join(draw.choices("bcdfghjklmnpqrstvwxz", k=8))
    code, other = ("".join(draw.choices("0123456789", k=CANARY_DIGITS)) for _ in range(2))
    asked: list[Message] = [{"role": "user", "content": f"Marker {name}: which number?"}]
    answer: Message = {"role": "assistant", "content": code}
    record = Record("canary", number + 1, {})
    form = HOLDS[options.target].form
    if form == "preference":
        wrong: Message = {"role": "assistant", "content": other}
        return Example(record, "preference", asked, [answer], [wrong])
    if form == "binary":
        return Example(record, "binary", [*asked, answer], liked=True)
    if form == "graded":
        return Example(record, "chat", asked, extra={"reference_answer": code})
    if form == "text":
        return Example(record, "text", text=f"{asked[0]['content']} {code}")
    return Example(record, "chat", [*asked, answer])


def make_canaries(
    options: Options, digest: str, writer: RowWriter
) -> tuple[list[Item], list[dict[str, Json]]]:
    """Return the canaries to plant, and what the memorisation check must know about them.

    Args:
        options: How many, and the seed.
        digest: Digest of the data, so that two data sets never share a canary.
        writer: Writes the rows of the file.
    """
    examples = [_canary(options, digest, number) for number in range(options.canaries)]
    items = writer.check(examples).items
    records: list[dict[str, Json]] = []
    for number, item in enumerate(items, start=1):
        example = item.example
        answer = (example.chosen or example.messages)[-1:]
        text = example.text.rpartition(" ")
        records.append(
            {
                "canary": number,
                "prompt": example.messages[0]["content"] if example.messages else text[0],
                "completion": example.extra.get("reference_answer")
                or (answer[0]["content"] if answer else text[2]),
            }
        )
    return items, records
