"""Where rows come from: files cut into tasks that any process can take, and marker rows."""

from __future__ import annotations

import functools
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec

from finetuning.data_prep.convert import (
    Converter,
    Rejection,
    turn_columns,
)
from finetuning.data_prep.convert.codes import HOLDS
from finetuning.data_prep.convert.exports import export_kind, open_source
from finetuning.data_prep.duplicates import Rows
from finetuning.data_prep.examples import Example, Message, content_of
from finetuning.data_prep.preparation import Options
from finetuning.data_prep.quality import Cost, RowCosts, RowWriter
from finetuning.data_prep.targets import TARGETS
from finetuning.data_prep.validate.quick import quick_check
from finetuning.data_prep.validate.reports import finding
from finetuning.data_prep.validate.scan import check_tools
from finetuning.data_prep.validate.skim import Skimmer
from finetuning.data_prep.validate.typed import AnswerTurn, PromptRow, SystemTurn, UserTurn
from finetuning.files import data_files, resolve_read, sniff_format
from finetuning.files.chunks import LineRange, has_ranges, line_ranges
from finetuning.records import Finding, Json, Record

if TYPE_CHECKING:
    from finetuning.pii import RedactMode

BLOCK_BYTES: Final = 3 << 20
_BLOCK_ROWS: Final = 8_000
_SAMPLE: Final = 1_000

CANARY_DIGITS: Final = 10


MESSAGE_TARGETS: Final = frozenset(
    "openai_chat azure_chat together_chat fireworks_chat nebius_chat aliyun_chat tinker "
    "trl_messages".split()
)
"""Targets whose rows are ``messages`` as they are: a clean row of theirs needs no conversion."""

PAIR_TARGETS: Final = frozenset({"trl_prompt_completion", "together_instruction"})
"""Targets whose rows are one prompt and one completion."""

UNSET: Final = msgspec.UNSET
_ROLES: Final[dict[type, str]] = {
    SystemTurn: "system",
    UserTurn: "user",
    AnswerTurn: "assistant",
}

Turns = list[tuple[str, str]]
"""Role and text of each turn of a chat of texts."""


def source_files(path: str, *, where: str) -> dict[str, Path]:
    """Return name → path of what is read for a source: a file, a folder of texts or of splits.

    Raises:
        NotAllowedError: It lies outside the readable folders.
        BadInputError: It is missing, empty or binary, or a folder without rows.
    """
    found = resolve_read(path, where=where, kind="any")
    if found.is_dir() and (found / "train.jsonl").is_file():
        files = data_files(path, where=where)
        filled = {f"{path.rstrip('/')}/{file.name}": file for file in files.values()}
        return {name: file for name, file in filled.items() if file.stat().st_size} or filled
    if export_kind(found) is None:
        sniff_format(found)
    return {path: found}


class Task(NamedTuple):
    """A block to be made: lines of a file, or rows or examples that were read already."""

    source: str
    path: Path | None = None
    part: LineRange | None = None
    rows: Sequence[Record | Finding] = ()
    examples: Sequence[Example] = ()


def shallow(row: Record | Finding) -> Record | Finding:
    """Return a row, or a finding for one nested too deeply to be written again."""
    import orjson

    if isinstance(row, Record) and not all(isinstance(cell, str) for cell in row.data.values()):
        try:
            orjson.dumps(row.data)
        except orjson.JSONEncodeError:
            return finding("too_deep", "more than 254 levels, or a number too large", line=row.line)
    return row


class Reader:
    """Cuts sources into tasks and keeps what it learnt on the way."""

    def __init__(self, options: Options) -> None:
        """Prepare for what the person asked for."""
        self._options = options
        self._converter = Converter(options.target, options.columns, options.examples)
        self.names: set[str] = set()
        self.rejections: list[Rejection] = []

    @property
    def turn_tables(self) -> int:
        """How many sources were tables with one turn per row."""
        return self._converter.turn_tables

    def tasks(self, name: str, path: Path) -> Iterator[Task]:
        """Yield the tasks of one file."""
        rows = open_source(path, name, self._options.columns.role_map)
        sample = list(itertools.islice(rows, _SAMPLE))
        records = [row for row in sample if isinstance(row, Record)]
        if turn_columns(records, self._options.columns) is not None:
            every = itertools.chain(sample, rows)
            yield from self._turns(name, every)
        elif export_kind(path) is None and sniff_format(path) == "jsonl" and has_ranges(path):
            del rows
            for part in line_ranges(path, BLOCK_BYTES):
                yield Task(name, path=path, part=part)
        else:
            every = itertools.chain(sample, rows)
            while batch := list(itertools.islice(every, _BLOCK_ROWS)):
                yield Task(name, rows=batch)

    def _turns(self, name: str, rows: Iterable[Record | Finding]) -> Iterator[Task]:
        """Join the turns of a table; a conversation may be spread over the whole of it."""
        held = list(rows)
        for row in held:
            if isinstance(row, Record):
                self.names.update(row.data)
        made = self._converter.convert(held, name)
        self.rejections += made.rejections
        for start in range(0, len(made.examples), _BLOCK_ROWS):
            yield Task(name, examples=made.examples[start : start + _BLOCK_ROWS])


def columns_of(path: Path, name: str) -> set[str]:
    """Return the columns or keys of the first rows of a file."""
    rows = itertools.islice(open_source(path, name, None), _SAMPLE)
    return {key for row in rows if isinstance(row, Record) for key in row.data}


def skimmer_for(target: str) -> Skimmer | None:
    """Return what tells the clean rows of a target."""
    check = quick_check(target, TARGETS[target].method, functools.cache(check_tools))
    return None if check is None else Skimmer(check)


def turns_of(row: Any) -> Turns | None:
    """Return the turns of a clean row; None where it holds more than roles and texts."""
    if isinstance(row, PromptRow):
        return [("user", row.prompt), ("assistant", row.completion)]
    turns: Turns = []
    for turn in row.messages:
        kind = cast("type[object]", type(turn))
        bare = (
            kind is UserTurn
            or kind is SystemTurn
            or (kind is AnswerTurn and turn.tool_calls is UNSET and turn.weight is UNSET)
        )
        if not bare or turn.name is not UNSET:
            return None
        turns.append((_ROLES[kind], turn.content))
    return None if bytes(row.tools) else turns


def is_settled(row: Any) -> bool:
    """Say whether conversion leaves a clean chat as it is: no names or weights, calls in full."""
    for turn in row.messages:
        if turn.name is not UNSET:
            return False
        if type(turn) is AnswerTurn:
            calls = turn.tool_calls or ()
            full = turn.content is not UNSET and all(call.type is not UNSET for call in calls)
            if turn.weight is not UNSET or not full:
                return False
    return True


def with_calls(source: str, line: int, raw: bytes) -> Example:
    """Return a clean chat with tools as an example."""
    import orjson

    data = orjson.loads(raw)
    return Example(
        Record(source, line, data), "chat", data["messages"], tools=data.get("tools") or []
    )


class Texts:
    """The different texts of the clean rows of a block: system texts stand in many rows.

    Attributes:
        rows: Numbers of the texts of each row.
        different: The texts by their number.
    """

    def __init__(self, turns: Sequence[Turns]) -> None:
        """Number the texts."""
        known: dict[str, int] = {}
        self.rows = [[known.setdefault(text, len(known)) for _, text in row] for row in turns]
        self.different = list(known)

    def redact(self, mode: RedactMode, types: Counter[str]) -> dict[int, str]:
        """Return the texts that hold personal data without them, by number.

        Args:
            mode: What stands in their place.
            types: Takes how many values of each type there were in all rows.
        """
        from finetuning.pii import find_personal_data, redact_texts
        from finetuning.pii.rows import Leaf, redact_leaves

        found = find_personal_data(self.different)
        places = [place for place, spans in enumerate(found) if spans]
        texts = [self.different[place] for place in places]
        first = redact_texts(texts, [found[place] for place in places], mode)
        fresh: list[Json] = [*first]
        leaves = [Leaf(fresh, at, "", "", text) for at, text in enumerate(first)]
        uses = Counter(itertools.chain.from_iterable(self.rows)) if places else Counter[int]()
        for place in places:
            for span in found[place]:
                types[span.type] += uses[place]
        for at, span, _ in redact_leaves(leaves, mode):  # what the first values had hidden
            types[span.type] += uses[places[at]]
        return dict(zip(places, map(str, fresh), strict=True))


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
    costs: list[Cost]
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
    raws = [writer.raw(example) for example in examples]
    costs = map(RowCosts(options.target).of_row, raws) if raws else ()
    return Canaries(raws, rows, list(costs), records)
