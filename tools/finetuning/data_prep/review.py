"""A sheet on which a person approves, edits or rejects rows, and the decisions read back.

The sheet is one HTML file that needs no network; it holds the rows, so it stays on this machine.
A decision names its row by a digest: when the row has changed since, the decision is refused.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, cast

from finetuning.data_prep.convert.codes import CONVERT_CODES, NOTES, Unusable
from finetuning.data_prep.examples import place_of
from finetuning.data_prep.quality import QUALITY_CODES, dump_row, quality_finding
from finetuning.data_prep.validate import CODES, validate_row
from finetuning.errors import BadInputError
from finetuning.files import read_records, resolve_read, write_text
from finetuning.pages import review_sheet
from finetuning.records import Finding, Json

FORMAT: Final = "fine-tuning-review/1"
MOST_ROWS: Final = 2_000
"""A sheet of more rows is read by nobody, and slow to open."""

_MOST_STRATA: Final = 200
_HARMLESS: Final = frozenset({"role_renamed", "one_of_several", "system_folded", "parts_joined"})
_GRAVE: Final = {
    "contradictory_answers": 6, "answer_repeats_prompt": 5, "refusal": 5, "mojibake": 5,
    "pair_identical": 5, "tools_missing": 1, "utf8_bom": 0,
}  # fmt: skip
_WHY: Final = {
    "longest": "One of the longest rows.",
    "shortest": "One of the shortest rows.",
    "rare_label": "Its label is the rarest.",
    "drawn": "Drawn by chance from its source and label.",
}
_PLACE: Final = ("digest", "source", "line", "part", "label")


class Shown(NamedTuple):
    """One row on a sheet; ``why`` are codes of what speaks for a look at it."""

    digest: str
    raw: bytes
    source: str
    line: int | None
    part: str
    why: tuple[str, ...]
    label: str | None


def row_digest(raw: bytes) -> str:
    """Return what a decision names a row by (32 hexadecimal digits)."""
    import xxhash

    return xxhash.xxh3_128_hexdigest(raw)


def _score(codes: Iterable[str]) -> int:
    """Return how much speaks for a look at a row: 0 for nothing."""
    graver = CODES.keys() | QUALITY_CODES.keys()
    return sum(_GRAVE.get(code, 3 if code in graver else 1) for code in codes if code not in _WHY)


class _Best:
    """Keeps the few rows that are ranked highest; equal ranks by a draw that never changes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[float, float, str, Shown]] = []
        self._held: set[str] = set()

    def offer(self, rank: float, place: float, row: Shown) -> None:
        entry = (rank, place, row.digest, row)
        if row.digest not in self._held:
            heapq.heappush(self._heap, entry)
            self._held.add(row.digest)
        if len(self._heap) > self._size:
            self._held.discard(heapq.heappop(self._heap)[2])

    def rows(self) -> list[Shown]:
        return [entry[3] for entry in sorted(self._heap, key=lambda e: e[:3], reverse=True)]


class ReviewSampler:
    """Chooses the rows of a sheet out of any number, at flat memory.

    Half of the sheet are the riskiest rows (findings and repairs, the longest, the shortest, the
    rarest label), riskiest first; the other half is drawn evenly from sources and labels.
    """

    def __init__(self, size: int, *, seed: int = 0) -> None:
        """Prepare for a sheet of ``size`` rows; the same rows and seed give the same sheet."""
        self._size, self._seed, self._few = size, seed, max(1, size // 10)
        self._risky, self._long, self._short = _Best(size), _Best(self._few), _Best(self._few)
        self._strata: dict[tuple[str, str], _Best] = {}
        self._any = _Best(size)  # fills the sheet where one stratum holds nearly all rows
        self._labels: Counter[str] = Counter()

    def add(
        self,
        raw: bytes,
        *,
        source: str,
        line: int | None,
        part: str = "train",
        notes: Sequence[str] = (),
        label: str | None = None,
    ) -> None:
        """Offer one row.

        Args:
            raw: The row as it will be written, without line end.
            source: Name of its source.
            line: Its line there.
            part: Part of the split that it is in.
            notes: Codes of what was changed on the way and of the validator's warnings.
            label: Value of the label column.
        """
        if not self._size:
            return
        why = tuple(note for note in notes if note not in _HARMLESS)
        row = Shown(row_digest(raw), raw, source, line, part, why, label)
        place, score = place_of(row.digest, self._seed), _score(why)
        if score:
            self._risky.offer(score, place, row)
        self._long.offer(len(raw), place, row)
        self._short.offer(-len(raw), place, row)
        if label is not None:
            self._labels[label] += 1
        known = (source, label or "") in self._strata or len(self._strata) < _MOST_STRATA
        name = (source, label or "") if known else ("", "")
        room = max(4, 4 * self._size // (1 + len(self._strata)))
        self._strata.setdefault(name, _Best(room)).offer(place, 0.0, row)
        self._any.offer(place, 0.0, row)

    def rows(self) -> list[Shown]:
        """Return the rows of the sheet, riskiest first, each with why it is on it."""
        chosen: dict[str, Shown] = {}

        def take(rows: Iterable[Shown], why: tuple[str, ...], most: int) -> None:
            for row in rows:
                if row.digest in chosen:
                    row = chosen[row.digest]
                elif len(chosen) >= most:
                    return
                chosen[row.digest] = row._replace(why=row.why + why)

        half = (self._size + 1) // 2
        take(self._risky.rows()[: max(1, half - 3 * self._few)], (), half)
        take(self._long.rows(), ("longest",), half)
        take(self._short.rows(), ("shortest",), half)
        take(self._rarest()[: self._few], ("rare_label",), half)
        take([row for row in self._risky.rows() if row.digest not in chosen], (), half)
        drawn = {row.digest: row for row in self._in_turn() + self._any.rows()}
        take([drawn[name] for name in drawn if name not in chosen], ("drawn",), self._size)
        return sorted(chosen.values(), key=lambda row: (-_score(row.why), "drawn" in row.why))

    def _rarest(self) -> list[Shown]:
        if len(self._labels) < 2:
            return []
        rarest = min(self._labels, key=lambda label: (self._labels[label], label))
        kept = (best.rows() for name, best in self._strata.items() if name[1] == rarest)
        return [row for rows in kept for row in rows]

    def _in_turn(self) -> list[Shown]:
        """Return rows of every stratum in turn."""
        lists = [best.rows() for _, best in sorted(self._strata.items())]
        return [row for each in itertools.zip_longest(*lists) for row in each if row]

    def write(self, path: Path, *, target: str) -> int:
        """Write the sheet, whole or not at all, and return how many rows are on it."""
        import orjson

        found = self.rows()
        shown = [
            {
                **{key: getattr(row, key) for key in _PLACE},
                "why": [[code, meaning_of(code)] for code in row.why],
                "row": orjson.loads(row.raw),
            }
            for row in found
        ]
        name = row_digest("".join(sorted(row.digest for row in found)).encode())
        data: dict[str, Json] = {"format": FORMAT, "sheet": name, "target": target, "rows": shown}
        write_text(path, review_sheet(data))
        return len(shown)


def meaning_of(code: str) -> str:
    """Return what a code says, in one sentence."""
    for table in (_WHY, NOTES):
        if code in table:
            return table[code]
    return entry.meaning if (entry := (CODES | QUALITY_CODES | CONVERT_CODES).get(code)) else ""


class Decided(NamedTuple):
    """What a person decided about a row.

    Attributes:
        raw: The row to write: as it was, or edited; None where the row goes.
        code: Reason of a row that goes, or the note of one that was edited.
    """

    raw: bytes | None
    code: str | None


class Reviews:
    """Decisions of a person, by the digest of the row that they saw."""

    def __init__(self, made: dict[str, tuple[Decided, int | None]]) -> None:
        """Keep the decisions, each with the line that its row had."""
        self._made = made
        self._seen: set[str] = set()
        self.counts: dict[str, int] = dict.fromkeys(("approved", "edited", "rejected"), 0)
        """How many decisions were applied so far."""

    def decide(self, raw: bytes) -> Decided:
        """Return what becomes of a row; without a decision it stays as it is."""
        name = row_digest(raw)
        if name not in self._made:
            return Decided(raw, None)
        made = self._made[name][0]
        if name not in self._seen:
            word = "rejected" if made.raw is None else "edited" if made.code else "approved"
            self.counts[word] += 1
            self._seen.add(name)
        return Decided(raw, None) if made.raw == b"" else made

    def findings(self) -> list[Finding]:
        """Return a finding where decisions fit no row that was there; call it at the end."""
        lines = [line for name, (_, line) in self._made.items() if name not in self._seen]
        if not lines:
            return []
        first = min((line for line in lines if line is not None), default=None)
        message = f"{len(lines)} of {len(self._made)} decisions are about rows not there as shown"
        return [quality_finding("review_stale", message, line=first)]


def _refuse(where: str, what: str) -> BadInputError:
    return BadInputError(
        where,
        what,
        "the file that a review sheet of this target saves",
        "Open review.html, decide, press Save file and pass that file",
    )


def _edited(row: Json, target: str, redact: str) -> Decided:
    """Return an edited row as it will be written, or why it cannot be."""
    if redact in {"mask", "pseudonym"}:
        from finetuning.pii import redact_rows

        (row,), _ = redact_rows([row], cast('Literal["mask", "pseudonym"]', redact))
    faults = validate_row(target, row)
    error = next((fault.code for fault in faults if fault.severity == "error"), None)
    try:
        return Decided(None, error) if error else Decided(dump_row(row), "edited_in_review")
    except Unusable as fault:
        return Decided(None, fault.code)


def read_reviews(path: str, *, target: str, redact: str = "none", where: str) -> Reviews:
    """Read the file that a review sheet saved.

    Args:
        path: The file.
        target: Target of the rows; a sheet of another one is refused.
        redact: Edited rows are redacted as the others are: none, mask or pseudonym.
        where: Name of the argument, for error texts.

    Raises:
        NotAllowedError: It lies outside the readable folders.
        BadInputError: It is no such file.
    """
    made: dict[str, tuple[Decided, int | None]] = {}
    rows = list(read_records(resolve_read(path, where=where)))
    head = rows[0].data if rows and not isinstance(rows[0], Finding) else {}
    if head.get("format") != FORMAT:
        raise _refuse(where, f"the first line has no format {FORMAT!r}")
    if head.get("target") != target:
        raise _refuse(where, f"the sheet is for target {str(head.get('target'))[:40]!r}")
    for number, row in enumerate(rows[1:], start=2):
        said = {} if isinstance(row, Finding) else row.data
        name, word, line = said.get("digest"), said.get("decision"), said.get("line")
        if not isinstance(name, str) or word not in {"approve", "edit", "reject"}:
            raise _refuse(where, f"line {number} is no decision")
        if word == "edit" and not isinstance(said.get("row"), dict):
            raise _refuse(where, f"line {number} edits a row without giving it")
        kept = {"approve": Decided(b"", None), "reject": Decided(None, "review_rejected")}
        decided = kept[word] if word in kept else _edited(said["row"], target, redact)
        made[name] = (decided, line if isinstance(line, int) else None)
    return Reviews(made)
