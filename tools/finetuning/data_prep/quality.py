"""What can be said of rows: one by one what refuses them, as a set what is wrong with them."""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from finetuning.data_prep.convert.codes import CONVERT_CODES, Unusable, code_table
from finetuning.data_prep.convert.writers import Row, writer_for
from finetuning.data_prep.examples import Example, tool_calls_of
from finetuning.data_prep.survey import guess_language
from finetuning.data_prep.targets import TARGETS
from finetuning.data_prep.validate import CODES, validate_row
from finetuning.data_prep.validate.scan import fast_check
from finetuning.records import Finding, Json

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUALITY_CODES: Final = code_table("quality")
"""Codes of inspect_data and prepare_data that speak of many rows at once."""

Cost = tuple[int, int]
"""Tokens of a row, and those that a provider bills for it in an epoch."""

Chat = list[tuple[str, str]]
"""Role and text of each turn."""

_ALL: Final = CODES | CONVERT_CODES | QUALITY_CODES

_SHORT_BY: Final = 0.005  # a share of general rows this much below the one asked for is fine

MOST_CLASSES: Final = 100

_FEWEST_ROWS_PER_CLASS: Final = 4
_LABEL_CHARACTERS: Final = 60
_TURN: Final = {"role", "content"}
_LANGUAGE_CHARACTERS: Final = 200


def quality_finding(code: str, message: str, *, line: int | None = None) -> Finding:
    """Return a finding of one of the closed lists."""
    entry = _ALL[code]
    return Finding(line=line, code=code, severity=entry.severity, message=message, fix=entry.fix)


def rows_finding(code: str, lines: Sequence[int | None]) -> Finding:
    """Return one finding for all the rows that have the same fault."""
    first = next((line for line in lines if line is not None), None)
    rows = "row" if len(lines) == 1 else "rows"
    where = f", the first at line {first}" if first is not None and len(lines) > 1 else ""
    return quality_finding(code, f"{len(lines)} {rows}{where}", line=first)


def dump_row(row: Row) -> bytes:
    """Return a row as one line of JSON, without line end.

    Raises:
        Unusable: It is nested too deeply to be written.
    """
    import orjson

    try:
        return orjson.dumps(row)
    except orjson.JSONEncodeError:
        raise Unusable("too_deep") from None


class RowWriter:
    """Writes examples as rows of one target and refuses what its validator calls an error."""

    def __init__(self, target: str, *, plain: bool) -> None:
        """Prepare for one target; ``plain`` as for :func:`writer_for`."""
        self._target = target
        self._write = writer_for(target, plain=plain)
        self._is_fine = fast_check(target, TARGETS[target].method)
        self.warnings: dict[str, list[int]] = {}
        """Lines of the rows that have a warning, by its code."""

    def raw(self, example: Example) -> bytes:
        """Return the row of an example.

        Raises:
            Unusable: The target cannot hold it, or its validator finds an error.
        """
        row = self._write(example)
        raw = dump_row(row)
        if self._is_fine is None or not self._is_fine(raw):
            faults = validate_row(self._target, row)
            error = next((found.code for found in faults if found.severity == "error"), None)
            if error is not None:
                raise Unusable(error)
            for code in {found.code for found in faults}:
                self.warnings.setdefault(code, []).append(example.record.line)
        return raw


class RowCosts:
    """Counts the tokens of rows of one target, and what its provider bills for them."""

    def __init__(self, target: str) -> None:
        """Load the tokenizer."""
        from finetuning.data_prep.validate import limits_for
        from finetuning.data_prep.validate.scan import BillTally
        from finetuning.tokens import counter_for

        self._target = TARGETS[target]
        limits = limits_for(self._target, None)
        self._cut = None if limits.long_row_fails else limits.row_tokens
        self._tally = BillTally(self._target, None, limits)
        self._counter = counter_for(None)
        self._frames: dict[tuple[str, ...], int] = {}
        self.tokenizer = self._counter.name, self._counter.exact

    def of_row(self, raw: bytes) -> Cost:
        """Return tokens and billed tokens of a row as it is written."""
        import orjson

        before = self._tally.billed
        return self._tally.add(orjson.loads(raw)), self._tally.billed - before

    def of_block(self, raws: Sequence[bytes], chats: Sequence[Chat | None]) -> list[Cost]:
        """Return the same of many rows.

        Args:
            raws: The rows.
            chats: Role and text of each turn of a row that holds nothing else; else None.
        """
        import orjson

        from finetuning.tokens import frame_tokens, read_texts

        if self._target.prompt_billed_twice:
            return list(map(self.of_row, raws))
        texts, fixed, ends = list[str](), list[int](), [0]
        for raw, chat in zip(raws, chats, strict=True):
            if chat is None:
                more, messages = read_texts(orjson.loads(raw))
                texts += more
                fixed.append(frame_tokens(messages))
            else:
                texts += [text for _, text in chat]
                roles = tuple([role for role, _ in chat])
                if roles not in self._frames:
                    self._frames[roles] = frame_tokens(len(roles)) + sum(self._counter.count(roles))
                fixed.append(self._frames[roles])
            ends.append(len(texts))
        sums = [0, *itertools.accumulate(self._counter.count(texts))]
        parts = zip(itertools.pairwise(ends), fixed, strict=True)
        made = (sums[end] - sums[start] + frame for (start, end), frame in parts)
        return [(n, n if self._cut is None else min(n, self._cut)) for n in made]


@dataclass(slots=True)
class TextCounts:
    """What is counted in the texts of rows while they are at hand.

    Attributes:
        rows: How many rows were looked at.
        languages: Rows by language.
        confidence: Sum of the confidences of the known ones.
        lengths: Rows by tokens.
        tools: Names of the tools called.
    """

    rows: int = 0
    languages: Counter[str] = field(default_factory=Counter[str])
    confidence: float = 0.0
    lengths: Counter[int] = field(default_factory=Counter[int])
    tools: set[str] = field(default_factory=set[str])

    @classmethod
    def join(cls, parts: Iterable[TextCounts]) -> TextCounts:
        """Return the counts of several blocks together."""
        whole = cls()
        for part in parts:
            whole.rows += part.rows
            whole.confidence += part.confidence
            whole.languages.update(part.languages)
            whole.lengths.update(part.lengths)
            whole.tools |= part.tools
        return whole

    def mean_confidence(self) -> float | None:
        """Return how sure the languages are on average, 0..1; None where none is known."""
        known = self.rows - self.languages["unknown"]
        return round(self.confidence / known, 3) if known else None


def count_texts(raws: Iterable[bytes]) -> TextCounts:
    """Count language, tokens and tools of rows as they will be written."""
    import orjson

    from finetuning.tokens import TokenTally, counter_for, example_texts

    made = TextCounts()
    tally = TokenTally(counter_for(None))
    for raw in raws:
        row = cast("dict[str, Json]", orjson.loads(raw))
        turns = row["messages"] if row.keys() == {"messages"} else ()
        if turns and all(turn.keys() == _TURN and type(turn["content"]) is str for turn in turns):
            words = [turn["content"] for turn in turns]
            tally.add_texts([*(turn["role"] for turn in turns), *words], len(turns))
        else:
            tally.add(row)
            words = example_texts(row)
            spoken = row.get("messages") or ()
            made.tools.update(c["function"]["name"] for t in spoken for c in tool_calls_of(t))
        end = words[-2][-_LANGUAGE_CHARACTERS:] if len(words) > 1 else ""
        start = words[-1][:_LANGUAGE_CHARACTERS] if words else ""
        name, confidence = guess_language(f"{start}\n{end}")
        made.rows += 1
        made.languages[name] += 1
        made.confidence += confidence
    made.lengths = tally.lengths
    return made


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


def contradictions(asked: NDArray[Any], answered: NDArray[Any]) -> NDArray[Any]:
    """Return a flag per row: its prompt has another answer in another row."""
    import numpy as np

    order = np.lexsort((answered, asked))
    prompts, answers = asked[order], answered[order]
    begins = np.concatenate([[True], prompts[1:] != prompts[:-1]])[: len(order)]
    differs = np.concatenate([[False], (answers[1:] != answers[:-1]) & ~begins[1:]])[: len(order)]
    group = np.cumsum(begins) - 1
    clashing = np.zeros(int(group[-1]) + 1 if len(order) else 0, dtype=bool)
    clashing[group[differs]] = True
    flags = np.zeros(len(order), dtype=bool)
    flags[order] = clashing[group]
    return flags


def class_sizes(keys: NDArray[Any], answer_characters: NDArray[Any]) -> NDArray[Any] | None:
    """Return how often each answer is given where the answers look like classes, else None.

    They do when all are labels, at most 100 differ, and each stands for four rows on average.
    """
    import numpy as np

    if not len(keys) or not keys.all() or answer_characters.max() > _LABEL_CHARACTERS:
        return None
    counts = np.unique(keys, return_counts=True)[1]
    few = 2 <= len(counts) <= MOST_CLASSES
    return counts if few and len(keys) >= _FEWEST_ROWS_PER_CLASS * len(counts) else None


def count_files(files: Sequence[Path]) -> TextCounts:
    """Count the texts of the spool files; each but the first has a process of its own."""
    paths = os.pathsep.join(path for path in sys.path if path)
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "finetuning.data_prep.quality", str(file)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )
        for file in files[1:]
    ]
    made = [_count_file(file) for file in files[:1]]
    for child, file in zip(children, files[1:], strict=True):
        out, _ = child.communicate()
        # a child that died, for lack of memory, say: this process does its work
        parts = () if child.returncode else pickle.loads(out)  # noqa: S301 - our own child's
        made.append(TextCounts(*parts) if parts else _count_file(file))
    return TextCounts.join(made)


def _count_file(file: Path) -> TextCounts:
    with file.open("rb") as stream:
        return count_texts(stream)


if __name__ == "__main__":
    done = _count_file(Path(sys.argv[1]))
    parts = (done.rows, done.languages, done.confidence, done.lengths, done.tools)
    sys.stdout.buffer.write(pickle.dumps(parts))  # plain parts: this class is another one there
