"""Find personal data in texts: prefilter, triggers, patterns, checks, overlaps."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, get_args

from finetuning.errors import UnknownNameError
from finetuning.pii.kinds import RANK, DetectorName, Span, check_types
from finetuning.pii.views import Readings, readings_of

if TYPE_CHECKING:
    from finetuning.pii.rules import Rule

_SMALL_BATCH: Final = 64_000
"""Code points below which loading polars (0.4 s on 2 cores) costs more than it saves."""


def find_personal_data(
    texts: Sequence[str],
    *,
    types: Sequence[str] | None = None,
    detector: str = "fast",
) -> list[list[Span]]:
    """Find the places that hold personal data or secrets, text by text.

    Args:
        texts: Decoded texts (not JSON lines).
        types: Personal-data types to look for; None looks for all.
        detector: ``fast`` (this package), ``scrubadub`` or ``presidio`` (extra ``pii``).

    Returns:
        For each text its spans, in order and without overlap.

    Raises:
        UnknownNameError: A type or detector is not known.
        MissingExtraError: The detector's package is not installed.
    """
    wanted = check_types(types, where="find_personal_data")
    if detector not in get_args(DetectorName):
        raise UnknownNameError("find_personal_data", "detector", detector, get_args(DetectorName))
    found: list[list[Span]] = [[] for _ in texts]
    if detector == "fast":
        _search(readings_of(texts), wanted, found)
    else:
        from finetuning.pii.libraries import search_with

        search_with(detector, texts, wanted, found)
    return [settle(spans) if spans else spans for spans in found]


def _search(readings: Readings, wanted: frozenset[str], found: list[list[Span]]) -> None:
    from finetuning.pii.rules import RULES

    rules = [rule for rule in RULES if rule.type in wanted]
    if sum(map(len, readings.texts)) < _SMALL_BATCH:
        every = range(len(readings.texts))
        pairs: Iterable[tuple[Rule, Iterable[int]]] = ((rule, every) for rule in rules)
    else:
        pairs = _triggered(rules, readings.texts)
    for rule, candidates in pairs:
        for candidate in candidates:
            into = found[readings.numbers[candidate]]
            places = readings.places[candidate]
            spans = rule.find(readings.texts[candidate])
            if places is None:
                into.extend(spans)
            else:
                into.extend(s._replace(start=places[s.start], end=places[s.end]) for s in spans)


def _triggered(rules: list[Rule], texts: list[str]) -> Iterator[tuple[Rule, list[int]]]:
    """Yield rules with the numbers of the texts that their trigger matches.

    One alternation of all triggers drops the texts that hold nothing (ordinary chat: most of
    them); only the others are matched against the triggers one by one.
    """
    import polars as pl

    triggers = {_rust(rule.trigger): f"t{number}" for number, rule in enumerate(rules)}
    frame = pl.DataFrame({"text": _encodable(texts)}, schema={"text": pl.String}).with_row_index()
    anything = "|".join(f"(?:{trigger})" for trigger in triggers)
    survivors = frame.filter(pl.col("text").str.contains(anything))
    if survivors.is_empty():
        return
    numbers = survivors["index"].to_list()
    marks = survivors.select(
        pl.col("text").str.contains(trigger).alias(name) for trigger, name in triggers.items()
    )
    columns = dict(zip(marks.columns, marks.to_numpy().T, strict=True))
    for rule in rules:
        matched = columns[triggers[_rust(rule.trigger)]].nonzero()[0].tolist()
        if matched:
            yield rule, [numbers[place] for place in matched]


def _rust(trigger: str) -> str:
    """Make word boundaries ASCII, as the patterns have them; Unicode ones cost Rust its DFA."""
    return trigger.replace(r"\b", r"(?-u:\b)")


def _encodable(texts: list[str]) -> list[str]:
    """Replace lone surrogates, which have no UTF-8 form (positions do not matter here)."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return [text.encode("utf-8", "replace").decode() for text in texts]
    return texts


def settle(spans: Iterable[Span]) -> list[Span]:
    """Return spans in order and without overlap; every code point found stays covered.

    Of two that overlap, the more specific type keeps its extent and the other keeps what sticks
    out of it.
    """
    settled: list[Span] = []
    cluster: list[Span] = []
    reach = 0
    for span in sorted(set(spans)):
        if cluster and span.start >= reach:
            settled += _settle_cluster(cluster)
            cluster = []
        cluster.append(span)
        reach = max(reach if len(cluster) > 1 else 0, span.end)
    return settled + _settle_cluster(cluster)


def _settle_cluster(cluster: list[Span]) -> list[Span]:
    """Settle spans that overlap, directly or through others."""
    if len(cluster) < 2:
        return cluster
    kept: list[Span] = []
    for span in sorted(cluster, key=lambda s: (RANK[s.type], s.start - s.end, -s.confidence)):
        place = bisect.bisect_right(kept, span.start, key=lambda other: other.end)
        start = span.start
        pieces: list[Span] = []
        for other in itertools.islice(kept, place, None):
            if other.start >= span.end:
                break
            if start < other.start:
                pieces.append(span._replace(start=start, end=other.start))
            start = other.end
        if start < span.end:
            pieces.append(span._replace(start=start))
        for piece in pieces:
            bisect.insort(kept, piece)
    return kept
