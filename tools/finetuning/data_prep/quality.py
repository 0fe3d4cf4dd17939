"""What can be said of rows: one by one what refuses them, as a set what is wrong with them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from finetuning.data_prep.convert import (
    CONVERT_CODES,
    Rejection,
    Row,
    Unusable,
    is_plain,
    time_key,
    writer_for,
)
from finetuning.data_prep.convert.codes import code_table
from finetuning.data_prep.examples import Content, Example, content_of, is_label
from finetuning.data_prep.targets import TARGETS
from finetuning.data_prep.validate import CODES, validate_row
from finetuning.data_prep.validate.rows import fast_check
from finetuning.records import Finding
from finetuning.runs import progress

QUALITY_CODES: Final = code_table("quality")
"""Codes of inspect_data and prepare_data that speak of many rows at once."""

_ALL: Final = CODES | CONVERT_CODES | QUALITY_CODES

_SHORT_BY: Final = 0.005
"""A share of general rows that misses the one asked for by less is no finding."""

MOST_CLASSES: Final = 100
"""More different answers than this are no set of classes."""

_FEWEST_ROWS_PER_CLASS: Final = 4

_SCRIPTS: Final = (
    ("ja", re.compile(r"[぀-ヿ]")),
    ("zh", re.compile(r"[一-鿿]")),
    ("ko", re.compile(r"[가-힯ᄀ-ᇿ]")),
    ("ru", re.compile(r"[Ѐ-ӿ]")),
    ("ar", re.compile(r"[؀-ۿ]")),
    ("he", re.compile(r"[֐-׿]")),
    ("hi", re.compile(r"[ऀ-ॿ]")),
    ("th", re.compile(r"[฀-๿]")),
    ("el", re.compile(r"[Ͱ-Ͽ]")),
)
_COMMON_WORDS: Final = {
    "en": "the and of to is in for with that you are this please what your we have not on it be "
    "by from as at or an a i do if can which when was will all my how its one use used returns",
    "de": "der die das und ist nicht ein eine mit für auf ich sie wir bitte den dem von zu wie es",
    "fr": "le la les et est une des pour dans avec vous je nous pas que qui sur du merci ce au",
    "es": "el la los las y una para con que por usted mi del se su gracias como está muy",
    "it": "il di che è una per non sono mi grazie del della gli questo ho alla anche più",
    "pt": "os uma para com que não da em meu você obrigado como eu seu ao mais são está",
    "nl": "het een en niet van ik met voor je dat te zijn dit wat mijn graag ook maar naar",
}
"""The commonest words of each language, without those that are common English words, too."""

_WORDS_OF: Final = {name: frozenset(words.split()) for name, words in _COMMON_WORDS.items()}
_LATIN_WORD: Final = re.compile(r"[^\W\d_]+")
_SAMPLE_CHARACTERS: Final = 2_000


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


class Item(NamedTuple):
    """An example that fits its target.

    Attributes:
        raw: The row as it will stand in the file, without line end.
    """

    example: Example
    raw: bytes
    content: Content


class Checked(NamedTuple):
    """Items, and a rejection for every example that the target's provider would refuse."""

    items: list[Item]
    rejections: list[Rejection]


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

    def check(self, examples: Iterable[Example]) -> Checked:
        """Return items for the examples that can be written, rejections for the others."""
        items: list[Item] = []
        rejections: list[Rejection] = []
        for number, example in enumerate(examples):
            if number % 10_000 == 0:
                progress(number, None, "checking rows")
            try:
                items.append(Item(example, self.raw(example), content_of(example)))
            except Unusable as error:
                source, line = example.record.source, example.record.line
                rejections.append(Rejection(source, line, error.code))
        return Checked(items, rejections)


def make_writer(target: str, examples: Sequence[Example]) -> RowWriter:
    """Return the writer for a file of these examples, all of one shape."""
    return RowWriter(target, plain=all(map(is_plain, examples)))


def class_counts(contents: Sequence[Content]) -> Counter[int] | None:
    """Return how often each answer is given, where the answers look like classes, else None.

    They do when all are as short as labels, at most 100 differ, and each stands for four rows
    on average.
    """
    if not all(content.key and is_label(content.answer) for content in contents):
        return None
    counts = Counter(content.key for content in contents)
    few = 2 <= len(counts) <= MOST_CLASSES
    return counts if few and len(contents) >= _FEWEST_ROWS_PER_CLASS * len(counts) else None


def language_of(text: str) -> str:
    """Return the language of a text by its script and commonest words, or ``unknown``.

    A rough guess (ISO 639-1): enough to see a mix, not to sort texts.
    """
    sample = text[:_SAMPLE_CHARACTERS]
    letters = sum(map(str.isalpha, sample))
    if not letters:
        return "unknown"
    for name, script in _SCRIPTS:
        if len(script.findall(sample)) > 0.2 * letters:
            return name
    words = [word.lower() for word in _LATIN_WORD.findall(sample)]
    hits = {name: sum(word in common for word in words) for name, common in _WORDS_OF.items()}
    best = max(hits, key=lambda name: hits[name])
    return best if hits[best] else "unknown"


def languages(texts: Iterable[str]) -> dict[str, int]:
    """Return how many texts each language has, the commonest first."""
    return dict(Counter(map(language_of, texts)).most_common())


def rank_of(item: Item) -> tuple[float, ...]:
    """Return how much a row is worth keeping: the newest, then the longest answer, then prompt."""
    moment = time_key(item.example.time)
    answer = len(item.content.answer)
    return (float("-inf") if moment is None else moment, answer, len(item.content.prompt))


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
