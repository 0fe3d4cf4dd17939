"""What can be counted of a set of rows: contradictions, agreement, classes, languages."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from finetuning.data_prep.examples import Content, Example, is_label, squeeze

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


def answer_conflicts(contents: Sequence[Content]) -> float:
    """Return the share of rows whose prompt has another answer in another row, 0..1."""
    answers: dict[int, set[str | int]] = {}
    for content in contents:
        answers.setdefault(content.asked, set()).add(
            content.key or squeeze(content.answer).casefold()
        )
    clashing = sum(len(answers[content.asked]) > 1 for content in contents)
    return clashing / len(contents) if contents else 0.0


def annotator_agreement(examples: Sequence[Example], contents: Sequence[Content]) -> float | None:
    """Return how often two annotators of one prompt give the same answer, 0..1.

    None where no prompt was answered by two annotators.
    """
    votes: dict[int, dict[str, str | int]] = {}
    for example, content in zip(examples, contents, strict=True):
        if example.annotator is not None:
            answer = content.key or squeeze(content.answer).casefold()
            votes.setdefault(content.asked, {})[example.annotator] = answer
    pairs = [
        one == two
        for answers in votes.values()
        for one, two in itertools.combinations(answers.values(), 2)
    ]
    return sum(pairs) / len(pairs) if pairs else None


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
