"""Chat rows with known copies among them, and rows that only look like copies.

Run: ``python benchmarks/twin_rows.py OUT.jsonl [--set mixed|instruction|calls] [--rows N]``.
Writes the rows, and beside them ``OUT.truth``: per line the number of the original that the row
is, or was copied from. Seeded: the same command writes the same bytes. Nothing of the code that
is judged on these rows is imported here.

* ``mixed``: 90 % originals, 5 % exact copies (other white space, key order, escapes), 5 % near
  copies with 1 to 12 % of their words replaced, left out or added (evenly spread shares).
* ``instruction``: a constant instruction of 200 words before about 20 words of each row's own;
  5 % exact and 5 % near copies (1 to 12 % of the row's own words edited).
* ``calls``: function calling from a few templates with slots; no two originals have the same
  slots; 5 % exact copies.

Words follow a Zipf law (a made-up vocabulary of 40,000), lengths a log-normal one: on average
about 150 words a row, as in 1.2 kB chat rows. One row in thirty has characters beyond ASCII, one
in two hundred is Chinese without spaces.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SEED = 20_261_120
EXACT_SHARE, NEAR_SHARE = 0.05, 0.05
FEWEST_EDITS, MOST_EDITS = 0.01, 0.12
SETS = ("mixed", "instruction", "calls")

Turns = list[str]
"""Texts of a row: system, user, assistant."""


@dataclass(frozen=True)
class TwinRow:
    """One row: its texts, which original it is or copies, and how."""

    turns: Turns
    original: int
    kind: str
    edited_share: float = 0.0


class Vocabulary:
    """Made-up words, frequent ones first, drawn by a Zipf law."""

    def __init__(self, rng: np.random.Generator, size: int = 40_000) -> None:
        """Make the words."""
        onsets = "b c d f g h l m n p r s t v w br st tr pl sh ch".split()
        ends = ["a", "e", "i", "o", "u", "an", "er", "on", "es", "ing", "ed", "al"]
        words: dict[str, None] = {}
        while len(words) < size:
            n_syllables = 1 if len(words) < 120 else int(rng.integers(2, 5))
            parts = zip(rng.choice(onsets, n_syllables), rng.choice(ends, n_syllables), strict=True)
            words["".join(onset + end for onset, end in parts)] = None
        self.words = np.array(list(words), dtype=object)
        weights = 1 / (np.arange(size) + 2.7)
        self._edges = np.cumsum(weights / weights.sum())
        self._rng = rng

    def draw(self, n_words: int) -> list[str]:
        """Return words in running text: sentences with capitals, stops and commas."""
        places = self._edges.searchsorted(self._rng.random(n_words))
        drawn: list[str] = self.words[np.minimum(places, len(self.words) - 1)].tolist()
        for stop in range(int(self._rng.integers(6, 14)), n_words, 11):
            drawn[stop - 1] += "."
            drawn[stop] = drawn[stop].capitalize()
        for comma in range(int(self._rng.integers(3, 9)), n_words, 17):
            drawn[comma - 1] = drawn[comma - 1].rstrip(".") + ","
        return drawn


def _decorated(text: str, number: int) -> str:
    """Give some rows characters beyond ASCII, and make some Chinese."""
    if number % 200 == 7:
        return "".join(chr(0x4E00 + (ord(a) * 131 + ord(b) * 17) % 3000) for a, b in _twos(text))
    if number % 30 == 11:
        return text.replace("er ", "\u00e9r ").replace(". ", " \u2014 ", 1) + " \u201cok\u201d"
    return text


def _twos(text: str) -> Iterator[tuple[str, str]]:
    words = text.split()
    return ((word[0], word[-1]) for word in words)


def _mixed_row(
    words: Vocabulary, rng: np.random.Generator, shared: list[str]
) -> Callable[[int], Turns]:
    def make(number: int) -> Turns:
        asked = int(np.clip(rng.lognormal(3.4, 0.6), 12, 300))
        answered = int(np.clip(rng.lognormal(4.35, 0.6), 20, 900))
        return [
            shared[number % len(shared)],
            _decorated(" ".join(words.draw(asked)), number),
            _decorated(" ".join(words.draw(answered)), number),
        ]

    return make


def _instruction_row(words: Vocabulary, rng: np.random.Generator) -> Callable[[int], Turns]:
    instruction = " ".join(words.draw(200))

    def make(number: int) -> Turns:
        own = " ".join(words.draw(int(rng.integers(12, 18))))
        return ["", f"{instruction}\n\n{own}", " ".join(words.draw(int(rng.integers(6, 10))))]

    return make


_CALLS = (
    ("book_train", "Please book a train from {0} to {1} on day {2} for {3} people."),
    ("find_hotel", "I need a hotel in {0} close to {1}, {3} nights from day {2}."),
    ("get_weather", "What will the weather be like in {0} and in {1} on day {2}? I ask for {3}."),
    ("send_parcel", "Send parcel number {2} from {0} to {1}, it weighs {3} kilos."),
)


def _call_row(words: Vocabulary, rng: np.random.Generator) -> Callable[[int], Turns]:
    cities = [str(word).capitalize() for word in words.words[500:700]]
    tools = [
        {"name": name, "description": " ".join(words.draw(30)), "parameters": {"type": "object"}}
        for name, _ in _CALLS
    ]
    system = "You have these functions: " + json.dumps(tools)
    seen: set[tuple[int, ...]] = set()

    def make(_: int) -> Turns:
        while True:
            slots = tuple(int(rng.integers(top)) for top in (len(_CALLS), 200, 200, 365, 9))
            if slots not in seen:
                seen.add(slots)
                break
        name, asking = _CALLS[slots[0]]
        values = [cities[slots[1]], cities[slots[2]], slots[3] + 1, slots[4] + 1]
        call = {"name": name, "arguments": dict(zip("abcd", values, strict=True))}
        return [system, asking.format(*values), json.dumps(call)]

    return make


def _edited(text: str, share: float, words: Vocabulary, rng: np.random.Generator) -> str:
    """Replace, leave out or add a share of the words (characters where there are no spaces)."""
    spaced = " " in text
    parts = text.split(" ") if spaced else list(text)
    n_edits = max(1, round(share * len(parts)))
    for place in sorted(rng.choice(len(parts), min(n_edits, len(parts)), replace=False))[::-1]:
        new = words.draw(1)[0].rstrip(".") if spaced else chr(0x4E00 + int(rng.integers(3000)))
        kind = rng.random()
        if kind < 0.6:
            parts[place] = new
        elif kind < 0.8 and len(parts) > 1:
            del parts[place]
        else:
            parts.insert(place, new)
    return (" " if spaced else "").join(parts)


def _near(turns: Turns, constant: str, share: float, edit: Callable[[str, float], str]) -> Turns:
    """Edit what is a row's own; the constant text stays as it is."""
    asked = turns[1].removeprefix(constant)
    return [turns[0], constant + edit(asked, share), edit(turns[2], share)]


def _some(rng: np.random.Generator, n_rows: int, count: int) -> list[int]:
    chosen: list[int] = rng.choice(n_rows, count, replace=False).tolist()
    return chosen


def make_rows(name: str, n_rows: int, seed: int = SEED) -> list[TwinRow]:
    """Return the rows of a set in a shuffled order, exact copies still in equal words.

    Args:
        name: One of :data:`SETS`.
        n_rows: How many in all, copies included.
        seed: Chooses everything.
    """
    rng = np.random.default_rng([seed, SETS.index(name)])
    words = Vocabulary(rng)
    n_exact = round(EXACT_SHARE * n_rows)
    n_near = 0 if name == "calls" else round(NEAR_SHARE * n_rows)
    n_originals = n_rows - n_exact - n_near
    shared = [" ".join(words.draw(25)) for _ in range(3)]
    makers: dict[str, Callable[[], Callable[[int], Turns]]] = {
        "mixed": lambda: _mixed_row(words, rng, shared),
        "instruction": lambda: _instruction_row(words, rng),
        "calls": lambda: _call_row(words, rng),
    }
    make = makers[name]()
    rows = [TwinRow(make(number), number, "original") for number in range(n_originals)]
    for number in _some(rng, n_originals, n_exact):
        rows.append(TwinRow(rows[number].turns, number, "exact"))
    shares = np.linspace(FEWEST_EDITS, MOST_EDITS, n_near)
    for number, share in zip(_some(rng, n_originals, n_near), shares.tolist(), strict=True):
        turns = rows[number].turns
        head = turns[1].partition("\n\n")[0] + "\n\n" if name == "instruction" else ""
        copy = _near(turns, head, share, lambda text, part: _edited(text, part, words, rng))
        rows.append(TwinRow(copy, number, "near", share))
    order: list[int] = rng.permutation(len(rows)).tolist()
    return [rows[place] for place in order]


def as_json(row: TwinRow, rng: np.random.Generator) -> str:
    """Spell a row; exact copies get other bytes, key order, white space and escapes."""
    spelling = int(rng.integers(1, 4)) if row.kind == "exact" else 0
    messages: list[dict[str, str]] = []
    for role, text in zip(("system", "user", "assistant"), row.turns, strict=True):
        if not text:
            continue
        content = text
        if spelling:
            content = (
                f" {text}\n" if spelling == 1 else text.replace(". ", ".  ").replace(", ", ",\t")
            )
        pair = [("role", role), ("content", content)]
        messages.append(dict(pair[::-1] if spelling else pair))
    data = {"messages": messages}
    if spelling == 3:
        return json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return json.dumps(data, ensure_ascii=False)


def write(path: Path, name: str, n_rows: int, seed: int = SEED) -> list[int]:
    """Write a set and its truth; return the truth: per line, the number of its original."""
    rng = np.random.default_rng([seed, 99])
    rows = make_rows(name, n_rows, seed)
    with path.open("w", encoding="utf-8") as out:
        out.writelines(as_json(row, rng) + "\n" for row in rows)
    truth = [row.original for row in rows]
    lines = (f"{row.original} {row.kind} {row.edited_share:.4f}\n" for row in rows)
    path.with_suffix(".truth").write_text("".join(lines), encoding="utf-8")
    return truth


@dataclass(frozen=True)
class Score:
    """How well removed rows fit the truth.

    Attributes:
        removed: Rows removed.
        right: Of these, those whose original the row that stays for them shares.
        wanted: Rows too many: all but one of each original.
    """

    removed: int
    right: int
    wanted: int

    @property
    def precision(self) -> float:
        """Share of the removed rows that were copies of the row that stays."""
        return self.right / self.removed if self.removed else 1.0

    @property
    def recall(self) -> float:
        """Share of the rows too many that were removed."""
        return self.right / self.wanted if self.wanted else 1.0


def score(removed: Mapping[int, int], truth: list[int]) -> Score:
    """Compare removed rows (copy → row that stays) with the truth."""
    right = sum(truth[copy] == truth[kept] for copy, kept in removed.items())
    return Score(len(removed), right, len(truth) - len(set(truth)))


def read_truth(path: Path) -> list[tuple[int, str, float]]:
    """Return original, kind and share of edited words of each line."""
    lines = path.with_suffix(".truth").read_text(encoding="utf-8").splitlines()
    parts = [line.split() for line in lines]
    return [(int(part[0]), part[1], float(part[2])) for part in parts]


def read_texts(path: Path) -> list[Any]:
    """Return the decoded rows of a file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def main() -> int:
    """Write one set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="file to write")
    parser.add_argument("--set", choices=SETS, default="mixed", dest="name")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    truth = write(given.path, given.name, given.rows, given.seed)
    n_bytes = given.path.stat().st_size
    print(f"{len(truth)} rows, {len(set(truth))} originals, {n_bytes / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
