"""A first look at a source: its shape and columns; languages and agreement of labels."""

from __future__ import annotations

import itertools
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from finetuning.data_prep.convert import (
    Columns,
    Unusable,
    guess_pair,
    read_row,
    shape_of,
    turn_columns,
)
from finetuning.data_prep.convert.exports import export_kind, open_source
from finetuning.data_prep.convert.transcripts import REPAIRS
from finetuning.data_prep.convert.turns import guess_annotator, time_key
from finetuning.data_prep.examples import Example, cell_text, tool_calls_of
from finetuning.data_prep.targets import TargetName
from finetuning.files import sniff_format
from finetuning.records import Record

_SAMPLE_ROWS: Final = 2_000
_GROUPS: Final = (
    "customer_id", "user_id", "account_id", "client_id", "patient_id", "document_id", "doc_id",
    "author_id", "company_id",
)  # fmt: skip

_SCRIPTS: Final = (
    ("ja", re.compile(r"[぀-ヿ]")),
    ("zh", re.compile(r"[㐀-䶿一-鿿]")),
    ("ko", re.compile(r"[가-힯ᄀ-ᇿ]")),
    ("ru", re.compile(r"[Ѐ-ӿ]")),
    ("ar", re.compile(r"[؀-ۿ]")),
    ("he", re.compile(r"[֐-׿]")),
    ("hi", re.compile(r"[ऀ-ॿ]")),
    ("th", re.compile(r"[฀-๿]")),
    ("el", re.compile(r"[Ͱ-Ͽ]")),
)
_OTHER_SCRIPT: Final = re.compile("|".join(script.pattern for _, script in _SCRIPTS))
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

_LANGUAGES_OF: Final[dict[str, str]] = {
    word: " ".join(name for name, words in _COMMON_WORDS.items() if word in words.split())
    for word in " ".join(_COMMON_WORDS.values()).split()
}
_SAMPLE_CHARACTERS: Final = 400
_SCRIPT_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True)
class SourceSurvey:
    """What the first rows show.

    Attributes:
        format: csv, tsv, json, jsonl, parquet, text_folder, prepared, folder or zip.
        names: Columns or keys, in the order of their first use.
        shape: The export's program, else the commonest shape, ``turns`` for a table of one turn
            per row, ``table`` for one whose columns tell what asks and answers, or ``unknown``.
        shapes: All shapes that were met.
        columns: Columns that prepare_data must be told.
        target: Target that holds what the rows hold; None where that cannot be told.
        n_turns: Rows of a table of one turn per row, faulty ones included; else None.
    """

    format: str
    names: list[str]
    shape: str
    shapes: list[str]
    columns: Columns
    target: TargetName | None
    n_turns: int | None


def _format(path: str, files: Mapping[str, Path]) -> str:
    if path not in files:
        return "prepared"
    found = files[path]
    if found.is_dir() or zipfile.is_zipfile(found):
        kind = export_kind(found)
        return "text_folder" if kind is None else "zip" if found.is_file() else "folder"
    return sniff_format(found)


def _is_id_or_time(cells: Sequence[str]) -> bool:
    """Say whether a column holds ids, numbers or times rather than words."""
    wordless = sum(" " not in cell and len(cell) <= 40 for cell in cells)
    distinct = len(set(cells)) == len(cells) and wordless == len(cells)
    return distinct or sum(time_key(cell) is not None for cell in cells) > 0.8 * len(cells)


def _pair_by_values(records: Sequence[Record], names: Sequence[str]) -> tuple[str, str] | None:
    """Return the two columns that hold words, the longer as prompt, if there are just two."""
    words: list[tuple[float, str]] = []
    for name in names:
        cells = [cell_text(record.data.get(name)) for record in records]
        filled = [cell for cell in cells if cell.strip()]
        if len(filled) > 0.8 * len(cells) and not _is_id_or_time(filled):
            words.append((sum(map(len, filled)) / len(filled), name))
    if len(words) != 2:
        return None
    (_, answer), (_, prompt) = sorted(words)
    return prompt, answer


def _with_sides(columns: Columns, records: Sequence[Record], names: Sequence[str]) -> Columns:
    """Add the group and annotator columns that the names and values tell."""
    group = next((name for name in names if name.lower() in _GROUPS), None)
    if group is not None:
        values = Counter(cell_text(record.data.get(group)) for record in records)
        repeated = 10 <= len(values) < 0.9 * len(records) and "" not in values
        group = group if repeated else None
    return Columns(
        prompt=columns.prompt,
        completion=columns.completion,
        group=group,
        annotator=guess_annotator(names),
    )


def _columns(records: Sequence[Record], names: Sequence[str]) -> tuple[str, Columns]:
    """Return the shape of the rows and the columns that prepare_data must be told."""
    turns = turn_columns(records, Columns())
    if turns is not None:
        return "turns", turns
    shapes = Counter(shape.name for record in records if (shape := shape_of(record.data)))
    common, count = shapes.most_common(1)[0] if shapes else ("unknown", 0)
    if count >= len(records) / 2:
        return common, _with_sides(Columns(), records, names)
    pair = guess_pair(names, Columns()) or _pair_by_values(records, names)
    if pair is None:
        return common, Columns()
    return "table", _with_sides(Columns(prompt=pair[0], completion=pair[1]), records, names)


def _examples(records: Sequence[Record], columns: Columns) -> Iterator[Example]:
    for record in records:
        try:
            yield read_row(record, columns, frozenset({"chat"}))
        except Unusable:
            continue


def _is_single(example: Example) -> bool:
    roles = [turn["role"] for turn in example.messages]
    return roles in (["user", "assistant"], ["user"]) and not any(
        isinstance(turn.get("content"), list) or tool_calls_of(turn) for turn in example.messages
    )


def _target(shape: str, records: Sequence[Record], columns: Columns) -> TargetName | None:
    """Return the target for local training that holds what the rows hold."""
    if shape == "turns":
        return "trl_messages"
    examples = list(_examples(records, columns))
    if not examples:
        return None
    (kind, _), *_ = Counter(example.kind for example in examples).most_common(1)
    if kind == "preference":
        return "trl_preference"
    if kind == "binary":
        return "trl_kto"
    if kind == "text":
        return "trl_text"
    chats = [example for example in examples if example.kind == "chat"]
    return "trl_prompt_completion" if all(map(_is_single, chats)) else "trl_messages"


def survey_source(path: str, files: Mapping[str, Path]) -> SourceSurvey:
    """Look at the first rows of a source and say what shape they have.

    Args:
        path: The source as the caller named it.
        files: Name → path of its files.

    Raises:
        BadInputError: A file is empty, binary or damaged, or has no row.
    """
    form = _format(path, files)
    every = itertools.chain.from_iterable(open_source(file, name) for name, file in files.items())
    head = list(itertools.islice(every, _SAMPLE_ROWS))
    sample = [row for row in head if isinstance(row, Record)]
    keys = (name for record in sample for name in record.data)
    names = [name for name in dict.fromkeys(keys) if name != REPAIRS]
    shapes = {known.name for record in sample if (known := shape_of(record.data))}
    kind = export_kind(files[path]) if form != "prepared" else None
    if kind is not None:
        return SourceSurvey(form, names, kind, sorted(shapes), Columns(), "trl_messages", None)
    shape, columns = _columns(sample, names) if sample else ("unknown", Columns())
    target = _target(shape, sample, columns) if sample else None
    turns = len(head) + sum(1 for _ in every) if shape == "turns" else None
    return SourceSurvey(form, names, shape, sorted(shapes), columns, target, turns)


def guess_language(text: str) -> tuple[str, float]:
    """Return the language of a text by its script and commonest words, and a confidence 0..1.

    A guess (ISO 639-1, or ``unknown``): enough to see a mix, not to sort texts. The confidence
    is the script's share of the letters, or how far the words of one language lead.
    """
    sample = text[:_SAMPLE_CHARACTERS]
    if not sample.isascii() and _OTHER_SCRIPT.search(sample):
        letters = max(1, sum(map(str.isalpha, sample)))
        for name, script in _SCRIPTS:
            share = len(script.findall(sample)) / letters
            if share > _SCRIPT_SHARE:
                return name, min(1.0, share)
    hits: Counter[str] = Counter()
    found = Counter(map(_LANGUAGES_OF.get, sample.lower().split()))
    found.pop(None, None)
    for names, count in found.items():
        for name in (names or "").split():
            hits[name] += count
    if not hits:
        return "unknown", 0.0
    (best, most), *others = hits.most_common(2)
    return best, most / (1 + most + (others[0][1] if others else 0))


_ORDERS: Final = (  # no list of them is complete
    r"(?i)\b(?:ignore|disregard|forget|override)\b(?: \w+){0,3} (?:previous|prior|earlier|above|"
    r"preceding|system|original)(?: \w+)? (?:instruction|prompt|rule|message|direction|guideline)",
    r"(?i)\b(?:reveal|print|show|repeat|output|leak)\b(?: \w+){0,2} (?:your|the) (?:system|hidden|"
    r"initial|secret) (?:prompt|instruction|message)",
    r"(?i)\byou are now (?:in )?(?:developer mode|dan\b|jailbroken|unrestricted|an? unfiltered)",
    r"(?i)(?:ignoriere?|vergiss) (?:alle )?(?:vorherigen|bisherigen|obigen) (?:anweisung|befehl)",
    r"(?i)(?:ignore[sz]?|oublie[sz]?|ignora|olvida) (?:to\w+ )?\w+ (?:instruc|consignes|indica)",
    "(?:忽略|无视|忘记)(?:之前|以上|前面|上述|先前)(?:的)?(?:所有|全部)?(?:的)?(?:指令|提示|说明|规则)",
)


def orders_in(rows: Sequence[bytes]) -> list[int]:
    """Return the numbers of the JSON rows that hold what is shaped like orders to an assistant."""
    import orjson

    from finetuning.pii.triggers import lines_matching

    if b"\\u" in b"".join(rows):
        rows = [orjson.dumps(orjson.loads(row)) if b"\\u" in row else row for row in rows]
    return lines_matching(_ORDERS, rows)


class Agreement(NamedTuple):
    """How far annotators agree: the raw share of equal pairs, and Krippendorff's alpha."""

    raw: float
    alpha: float | None
    prompts: int
    annotators: int


def label_agreement(votes: Iterable[tuple[int, str, object]]) -> Agreement | None:
    """Return how far several annotators agree; None where no prompt has two of them.

    Krippendorff's alpha for names (nominal data): 1 is full agreement, 0 is what chance gives.
    It takes any number of annotators and gaps; None where all answers are the same.

    Args:
        votes: Prompt, annotator and answer; the last answer of an annotator counts.

    Source: Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011, section C.
    """
    units: dict[int, dict[str, object]] = {}
    for prompt, annotator, answer in votes:
        units.setdefault(prompt, {})[annotator] = answer
    rated = [unit for unit in units.values() if len(unit) > 1]
    if not rated:
        return None
    equal = pairs = 0
    agreeing = 0.0
    totals: Counter[object] = Counter()
    for unit in rated:
        counts = Counter(unit.values())
        same = sum(count * (count - 1) for count in counts.values())
        equal, pairs = equal + same, pairs + len(unit) * (len(unit) - 1)
        agreeing += same / (len(unit) - 1)
        totals.update(counts)
    n = totals.total()
    by_chance = sum(count * (count - 1) for count in totals.values()) / (n - 1)
    alpha = None if by_chance == n else 1 - (n - agreeing) / (n - by_chance)
    people = {annotator for unit in rated for annotator in unit}
    return Agreement(equal / pairs, alpha, len(rated), len(people))
