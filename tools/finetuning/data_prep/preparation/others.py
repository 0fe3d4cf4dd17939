"""Rows beside the person's own: those to keep out, general rows, canaries."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Final, NamedTuple

from finetuning.data_prep.convert.codes import HOLDS
from finetuning.data_prep.duplicates import Rows, overlapping
from finetuning.data_prep.examples import Example, Message, content_of, place_of
from finetuning.data_prep.preparation.options import WHERE, Options
from finetuning.data_prep.preparation.sources import columns_of, source_files
from finetuning.data_prep.preparation.table import Table
from finetuning.data_prep.preparation.workers import gather
from finetuning.data_prep.quality import RowWriter
from finetuning.records import Json, Record

CANARY_DIGITS: Final = 10


def read_others(
    path: str, options: Options, folder: Path, *, where: str, plain: bool
) -> list[Table]:
    """Read other rows for the same target; columns that a person named count where they are."""
    tables: list[Table] = []
    for number, (name, file) in enumerate(source_files(path, where=where).items()):
        below = folder / f"{where.rpartition(' ')[2]}-{len(list(folder.iterdir()))}-{number}"
        below.mkdir()
        columns = options.columns.those_in(columns_of(file, name))
        asked = dataclasses.replace(options, columns=columns, examples="per_conversation")
        tables.append(gather({name: file}, asked, below, plain=plain).table)
    return tables


class General(NamedTuple):
    """General rows that may be mixed in, in the order in which they are taken."""

    raws: list[bytes]
    rows: Rows
    left_out: int


def read_general(options: Options, own: Rows, folder: Path, *, plain: bool) -> General:
    """Read the replay file and leave out every row that repeats one of the person's own.

    A row that repeated a held-out row would leak it into train; one that repeats a train row
    adds nothing.

    Raises:
        BadInputError: The file cannot be read, or holds no row that fits the target.
    """
    if options.replay is None or options.replay.fraction == 0:
        return General([], Rows.join([]), 0)
    tables = read_others(
        options.replay.path, options, folder, where=f"{WHERE}: replay", plain=plain
    )
    rows = Rows.join([table.rows for table in tables])
    first = {name: row for row, name in reversed(list(enumerate(rows.names())))}
    once = sorted(first.values())
    repeats = overlapping(rows.take(once), own, options.near_threshold)
    names = rows.names()
    free = [row for place, row in enumerate(once) if place not in repeats]
    free.sort(key=lambda row: place_of(f"replay:{names[row]:x}", options.seed))
    raws = [raw[:-1] for table in tables for _, raw in table.raws(table.every())]
    return General([raws[row] for row in free], rows.take(free), len(repeats))


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


class Canaries(NamedTuple):
    """Marker rows to plant, and what the memorisation check must know about them."""

    raws: list[bytes]
    rows: Rows
    records: list[dict[str, Json]]


def make_canaries(options: Options, digest: str, *, plain: bool) -> Canaries:
    """Return the canaries to plant.

    Args:
        options: How many, and the seed.
        digest: Digest of the data, so that two data sets never share a canary.
        plain: Rows of targets of two shapes are written as texts.
    """
    examples = [_canary(options, digest, number) for number in range(options.canaries)]
    writer = RowWriter(options.target, plain=plain)
    records: list[dict[str, Json]] = []
    for number, example in enumerate(examples, start=1):
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
    rows = Rows.of([content_of(example) for example in examples])
    return Canaries([writer.raw(example) for example in examples], rows, records)
