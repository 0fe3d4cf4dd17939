"""A seeded file of chat rows as support desks and assistants produce them.

Run: ``python benchmarks/chat_rows.py OUT.jsonl [--rows 200000] [--seed 11] [--language english]``.
200,000 rows are about 238 MB. Two rows of three have one of 60 system texts, a third has several
turns, three of a hundred call a tool, a seventh holds signs beyond ASCII, one of a hundred is in
Chinese, four are in a language with accents. Every turn is drawn anew from words with the
frequencies of a natural text, so no text but the system texts and the tools is shared. Copies,
near copies and personal data stand in it only where asked for, at a stated share.

It imports nothing of the library that the files judge.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

Language = Literal["english", "accents", "chinese"]
Message = dict[str, object]
Row = dict[str, object]

BLOCK_ROWS = 2_000
STEMS = (
    "the of and to in is for on with that this are be it as at by from or an not we can your have "
    "if will was but all when there which use one time has do more only about after other into "
    "up out how then some any these may what order account please help thank email number page "
    "invoice password customer delivery change week today button screen error report update "
    "support device price refund product charge setting version market model paper river summer "
    "answer reason problem question study system water light house family child school story "
    "music garden window letter season village machine engine sample result effect method value "
    "point group region history energy public local common simple large small early recent good "
    "possible different general certain special clear open short long full free true likely"
).split()
ROOTS = (
    "connect direct collect select protect correct construct instruct reflect act adapt adjust "
    "assist attract attempt attend publish establish finish polish design assign resign consider "
    "discover recover deliver remember number order offer suffer differ refer prefer transfer "
    "limit visit edit credit exhibit benefit profit exit submit permit commit perform reform "
    "inform transform return turn learn earn warn explain contain obtain maintain remain train "
    "gain claim aim frame name blame game change charge manage arrange exchange manage package "
    "message damage image stage page wage measure treasure pressure press express process access "
    "address possess pass class discuss focus stress test request suggest invest protest trust "
    "post cost list exist persist insist consist print point paint want grant plant count account "
    "mount amount present represent prevent invent comment document argument cement implement "
    "supplement treat repeat create operate separate generate indicate communicate locate relate "
    "translate update estimate dominate nominate terminate animate climate private"
).split()
ENDINGS = ("", "s", "ed", "ing", "er", "ers", "able", "ment", "ly", "or", "ors", "ation")
TYPOGRAPHIC = (
    "don’t",
    "it’s",
    "we’re",
    "you’ll",
    "—",
    "“yes”",
    "10 °C",
    "€50",
    "✓",
    "…",
    "→",
    "🙂",
)
ACCENTS = (
    "für über können größe schließlich außerdem während möglich natürlich verfügbar Straße Gerät "
    "état déjà près où être façon naïve français élève très même après préférence reçu garçon "
    "señor mañana niño también según cómo está información día español corazón jamás habitación "
    "não ação coração você português então três irmã lições são após começar próximo "
    "å få også nødvendig hjælpe små förra höst där när möjlighet żółty źródło święto ćwiczenie "
    "çalışma öğrenci güneş şehir için büyük říjen příklad žádost dveře"
).split()
HAN = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作"
    "里用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想"
    "实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体"
    "政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比"
    "员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场"
)
SERVICES = ("get_order", "find_invoice", "search_articles", "book_visit", "open_ticket", "track")
TOOL_SHARE, SYSTEM_SHARE, SEVERAL_SHARE, TYPOGRAPHIC_SHARE = 0.03, 0.67, 0.33, 0.10
CHINESE_SHARE, ACCENTS_SHARE = 0.01, 0.04
MEAN_WORDS_ASKED, MEAN_WORDS_ANSWERED = 20, 55


@dataclass(frozen=True)
class Shares:
    """Shares of rows that are copies, near copies, or hold personal data, each 0..1."""

    exact: float = 0.0
    near: float = 0.0
    personal: float = 0.0


def _vocabulary(rng: random.Random) -> list[str]:
    """Return words, the common ones first."""
    made = {
        (root[:-1] if root[-1] == "e" and ending[:1] in "aeio" else root) + ending
        for root in ROOTS
        for ending in ENDINGS
    }
    rare = sorted(made) + [f"re{word}" for word in sorted(made)[::4]]
    numbers = [str(rng.randrange(2, 10 ** rng.randrange(1, 7))) for _ in range(300)]
    codes = [f"{rng.choice('ABKXZ')}-{rng.randrange(1000, 99999)}" for _ in range(300)]
    tail = numbers + codes + rare
    rng.shuffle(tail)
    return STEMS + tail


class Words:
    """Draws runs of words with the frequencies of a natural text."""

    def __init__(self, words: Sequence[str], seed: int, *, joiner: str = " ") -> None:
        """Prepare the spellings of each word: as it is, with comma, full stop or capital."""
        self._rng = np.random.default_rng(seed)
        self._joiner = joiner
        stops = (",", ".", ".\n\n", ":\n- ") if joiner else (",", "。", "。\n", ":\n")
        forms = [
            *words,
            *(word + stops[0] for word in words),
            *(word + stops[1] for word in words),
            *(word.capitalize() for word in words),
            *(f'"{word}"' if joiner else f"「{word}」" for word in words),
            *(word + stops[2] for word in words),
            *(word + stops[3] for word in words),
        ]
        self._forms = np.array(forms, dtype=object)
        self._count = len(words)
        weights = 1.0 / (np.arange(self._count) + 4.0)
        self._ladder = np.cumsum(weights) / weights.sum()

    def draw(self, amount: int) -> npt.NDArray[np.object_]:
        """Return ``amount`` words in the spelling of running text."""
        rng, count = self._rng, self._count
        picks = np.searchsorted(self._ladder, rng.random(amount))
        dice = rng.random(amount)
        form = np.zeros(amount, dtype=np.int64)
        form[dice < 0.17] = 1
        form[dice < 0.10] = 2
        form[dice < 0.012] = 5
        form[dice < 0.004] = 6
        form[(dice > 0.99)] = 4
        after = np.concatenate([[True], np.isin(form[:-1], (2, 5, 6))])
        form[after & (form == 0)] = 3
        texts: npt.NDArray[np.object_] = self._forms[form * count + picks]
        return texts

    def texts(self, lengths: Sequence[int]) -> list[str]:
        """Return one text for each number of words."""
        words: list[str] = self.draw(sum(lengths)).tolist()
        texts: list[str] = []
        start = 0
        for length in lengths:
            text = self._joiner.join(words[start : start + length])
            texts.append(text.replace("\n ", "\n").replace("-  ", "- ").rstrip(" \n,:-.") + ".")
            start += length
        return texts


def _tools(services: Sequence[str]) -> list[Message]:
    """Return definitions of tools as chat APIs take them."""
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": f"Look up {name.partition('_')[2] or 'parcel'} data by its number.",
                "parameters": {
                    "type": "object",
                    "properties": {"number": {"type": "string"}, "limit": {"type": "integer"}},
                    "required": ["number"],
                },
            },
        }
        for name in services
    ]


class ChatRows:
    """Makes rows, a block at a time; the same arguments make the same rows."""

    def __init__(
        self, seed: int = 11, *, language: Language = "english", shares: Shares | None = None
    ) -> None:
        """Prepare the words.

        Args:
            seed: Decides every row.
            language: What most rows are in; english mixes the others in at a few per cent.
            shares: Copies, near copies and personal data; none by default.
        """
        self._rng = random.Random(seed)
        self._shares = shares or Shares()
        words = _vocabulary(self._rng)
        accented = words[:600] + ACCENTS * 12
        self._rng.shuffle(accented)
        han = ["".join(self._rng.choices(HAN, k=self._rng.randrange(1, 4))) for _ in range(4000)]
        self._sources = {
            "english": Words(words, seed),
            "typographic": Words(words[:4000] + list(TYPOGRAPHIC) * 4, seed + 1),
            "accents": Words(accented, seed + 2),
            "chinese": Words([*HAN, *han], seed + 3, joiner=""),
        }
        self._language = language
        self._systems = self._sources["english"].texts(
            [self._rng.randrange(8, 70) for _ in range(60)]
        )
        self._kept: list[Row] = []

    def _kinds(self, count: int) -> list[str]:
        """Draw the language of each row."""
        if self._language != "english":
            return [self._language] * count
        kinds = ("chinese", "accents", "typographic", "english")
        rest = 1 - CHINESE_SHARE - ACCENTS_SHARE - TYPOGRAPHIC_SHARE
        weights = (CHINESE_SHARE, ACCENTS_SHARE, TYPOGRAPHIC_SHARE, rest)
        return self._rng.choices(kinds, weights, k=count)

    def _exchanges(self) -> int:
        if self._rng.random() >= SEVERAL_SHARE:
            return 1
        return self._rng.choice((2, 2, 2, 3, 3, 4, 5))

    def _lengths(self, exchanges: int) -> list[int]:
        """Draw the number of words of each turn, asked and answered by turns."""
        rng = self._rng
        return [
            max(3, int(rng.lognormvariate(0, 0.6) * mean * 0.83))
            for _ in range(exchanges)
            for mean in (MEAN_WORDS_ASKED, MEAN_WORDS_ANSWERED)
        ]

    def _row(self, texts: list[str]) -> Row:
        """Make a row of its turns' texts."""
        rng = self._rng
        messages: list[Message] = []
        if rng.random() < SYSTEM_SHARE:
            messages.append({"role": "system", "content": rng.choice(self._systems)})
        if rng.random() < self._shares.personal:
            texts[0] += f" Write to {rng.randbytes(4).hex()}@mail-{rng.randrange(999)}.example."
        for at, text in enumerate(texts):
            messages.append({"role": "assistant" if at % 2 else "user", "content": text})
        row: Row = {"messages": messages}
        if rng.random() < TOOL_SHARE:
            names = rng.sample(SERVICES, k=rng.randrange(1, 4))
            messages[-1:-1] = self._call(names[0])
            row["tools"] = _tools(names)
        return row

    def _call(self, name: str) -> list[Message]:
        """Return a call and its result."""
        rng = self._rng
        number = f"call_{rng.randbytes(9).hex()}"
        arguments = json.dumps({"number": str(rng.randrange(10**6)), "limit": rng.randrange(9)})
        result = json.dumps({"state": rng.choice(STEMS), "total": rng.randrange(10**4)})
        function = {"name": name, "arguments": arguments}
        call = {"id": number, "type": "function", "function": function}
        return [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": number, "content": result},
        ]

    def _fresh(self, count: int) -> list[Row]:
        kinds = self._kinds(count)
        lengths = [self._lengths(self._exchanges()) for _ in kinds]
        texts: dict[str, Iterator[str]] = {}
        for kind, source in self._sources.items():
            factor = 2 if kind == "chinese" else 1
            wanted = [n * factor for k, many in zip(kinds, lengths, strict=True)
                      if k == kind for n in many]  # fmt: skip
            texts[kind] = iter(source.texts(wanted))
        return [
            self._row([next(texts[kind]) for _ in many])
            for kind, many in zip(kinds, lengths, strict=True)
        ]

    def _near(self, row: Row) -> Row:
        """Return a copy in which 1 to 12 % of the words are others."""
        rng = self._rng
        copy: Row = json.loads(json.dumps(row))
        share = rng.uniform(0.01, 0.12)
        for message in cast("list[Message]", copy["messages"]):
            content = message["content"]
            if message["role"] in {"user", "assistant"} and isinstance(content, str):
                words = content.split(" ")
                for at in rng.sample(range(len(words)), k=max(1, round(share * len(words)))):
                    words[at] = rng.choice(STEMS)
                message["content"] = " ".join(words)
        return copy

    def rows(self, count: int) -> Iterator[Row]:
        """Yield rows; those asked to be copies repeat a row of an earlier block."""
        rng, shares = self._rng, self._shares
        for start in range(0, count, BLOCK_ROWS):
            block = self._fresh(min(BLOCK_ROWS, count - start))
            for fresh in block:
                die = rng.random() if self._kept else 1.0
                if die < shares.exact:
                    yield rng.choice(self._kept)
                elif die < shares.exact + shares.near:
                    yield self._near(rng.choice(self._kept))
                else:
                    yield fresh
            if shares.exact or shares.near:
                self._kept += rng.sample(block, k=max(1, len(block) // 10))


def write_file(
    path: Path,
    count: int = 200_000,
    seed: int = 11,
    *,
    language: Language = "english",
    shares: Shares | None = None,
    escaped: bool = False,
) -> int:
    """Write a file and return its bytes.

    Args:
        path: The file to write.
        count: Rows.
        seed: Decides every row.
        language: What most rows are in.
        shares: Copies, near copies and personal data; none by default.
        escaped: Write signs beyond ASCII as escapes, as Python's json does by default.
    """
    rows = ChatRows(seed, language=language, shares=shares).rows(count)
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=escaped) + "\n" for row in rows)
    return path.stat().st_size


def main() -> None:
    """Write one file as the command line says."""
    parser = argparse.ArgumentParser(description="Write a file of chat rows.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--language", choices=("english", "accents", "chinese"), default="english")
    parser.add_argument("--exact", type=float, default=0.0, help="share of exact copies, 0..1")
    parser.add_argument("--near", type=float, default=0.0, help="share of near copies, 0..1")
    parser.add_argument("--personal", type=float, default=0.0, help="share with an address, 0..1")
    parser.add_argument("--escaped", action="store_true", help="write \\u escapes")
    args = parser.parse_args()
    shares = Shares(args.exact, args.near, args.personal)
    size = write_file(
        args.path,
        args.rows,
        args.seed,
        language=args.language,
        shares=shares,
        escaped=args.escaped,
    )
    print(f"{args.path}: {args.rows} rows, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
