"""Rows without personal data: their texts by JSON Pointer, searched, replaced, put back.

Replacing goes in rounds until nothing is found, so that a second pass changes nothing.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from finetuning.pii import TYPES, RedactMode, Span
from finetuning.pii.detect import Piece, find_personal_data, pieces_of, place_before, replace
from finetuning.records import Json


class Leaf(NamedTuple):
    """One text of a row.

    Attributes:
        place: The dict or list of the copy that holds it.
        key: Its key or index there.
        parent: JSON Pointer of ``place`` (personal data in keys are masked in it).
        cue: Words put in front while searching, from the name of the field ("phone: ").
        text: The text; a long integer is its digits.
    """

    place: dict[str, Json] | list[Json]
    key: str | int
    parent: str
    cue: str
    text: str

    @property
    def pointer(self) -> str:
        """JSON Pointer from the row."""
        return f"{self.parent}/{step_of(self.key)}"

    def put(self, text: str) -> None:
        """Write a changed text back into the copy."""
        cast("Any", self.place)[self.key] = text


_CUES: Final = (
    (r"(?:first|given|fore)_?name", "first name: "),
    (r"(?:last|family|sur)_?name", "last name: "),
    (
        r"(?:full|customer|patient|client|contact|employee|card_?holder|legal|guest)_?name",
        "full name: ",
    ),
    (r"name|author|customer|agent|assignee|requester|patient|client|contact", "contact "),
    (r".*(?:phone|mobile|fax|whatsapp)(?:_?(?:number|no|home|work))?", "phone: "),
    (r"tel|cell|手机|电话", "phone: "),
    (r".*(?:ssn|social_security)(?:_?(?:number|no))?", "ssn: "),
    (r"itin|tax(?:payer)?_id", "itin: "),
    (r"dob|.*birth_?(?:date|day)|date_of_birth|born(?:_on)?|出生日期|生日", "date of birth: "),
    (r".*(?:password|passwd|pwd|passphrase)|密码", "password: "),
    (r".*(?:api_?key|access_?key|secret(?:_?key)?|auth_?token|access_?token)", "api key: "),
    (r"mrn|medical_record(?:_?(?:number|no|id))?|patient_(?:id|number|no)|病历号", "mrn: "),
    (r"(?:member|subscriber|insurance|health_plan|medicare)_?(?:id|number|no)", "member id: "),
    (r"passport(?:_?(?:number|no|id))?|护照号?", "passport: "),
    (r"(?:driver'?s?|driving)_?licen[cs]e(?:_?(?:number|no|id))?", "driver's license: "),
    (r"(?:bank_)?(?:account|acct)_?(?:number|no)|bank_account|银行卡号|账号", "account number: "),
    (r"routing(?:_?(?:number|no))?", "routing number: "),
    (r"sort_?code", "sort code: "),
    (r"aadhaar(?:_?(?:number|no))?", "aadhaar "),
    (r"cpf", "cpf "),
    (r"nino|national_insurance(?:_?(?:number|no))?", "nino: "),
    (r"post_?code", "postcode: "),
)
_PLAIN: Final = frozenset({"user", "assistant", "system", "tool", "developer", "function"})
"""Roles, which every row repeats."""

_SMALLEST_NUMBER: Final = 1_000_000
"""Integers with fewer than 7 digits identify nobody."""

# In keys only what carries its own proof counts: a column may well be called "Christian Name".
_KEY_TYPES: Final = tuple(
    name
    for name in TYPES
    if name not in {"person_name", "postal_address", "date_of_birth", "password", "bank_account"}
)

_ROUNDS: Final = 8
"""Replacing one value can uncover another beside it; measured: two rounds settle real text."""

_Pending = tuple[int, Leaf, list[list[Piece]]]
"""Number of a leaf, the leaf as it is now, and what each round has replaced in it."""


@functools.lru_cache(maxsize=4096)
def cue_of(key: str) -> str:
    """Return the words that a field's name says about its value, or "" for none."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|[ .-]+", "_", key.strip()).lower()
    return next((cue for pattern, cue in _CUES if re.fullmatch(pattern, name)), "")


def open_row(
    row: Mapping[str, Json], rename: Callable[[str, str], str]
) -> tuple[dict[str, Json], list[Leaf]]:
    """Copy a row and list its texts in document order.

    Args:
        row: The decoded row; it is not changed.
        rename: Returns the name of a key in the copy, given the key and the JSON Pointer of what
            holds it.

    Returns:
        The copy and its leaves; ``leaf.put`` changes the copy.
    """
    copy: dict[str, Json] = {}
    leaves: list[Leaf] = []
    stack: list[tuple[Any, Iterator[tuple[str | int, Json]], str, str]] = [
        (copy, iter(row.items()), "", "")
    ]
    while stack:
        place, items, parent, inherited = stack[-1]
        for key, value in items:
            if isinstance(key, int):
                name: str | int = key
                cue = inherited
            else:
                name = _free(rename(key, parent), place)
                cue = cue_of(key)
            if isinstance(value, str):
                place[name] = value
                if value and value not in _PLAIN:
                    leaves.append(Leaf(place, name, parent, cue, value))
            elif isinstance(value, dict):
                place[name] = child = cast("dict[str, Json]", {})
                children = iter(cast("dict[str, Json]", value).items())
                stack.append((child, children, f"{parent}/{step_of(name)}", ""))
                break
            elif isinstance(value, list):
                place[name] = nested = list(cast("list[Json]", value))
                children_in = iter(enumerate(list(nested)))
                stack.append((nested, children_in, f"{parent}/{step_of(name)}", cue))
                break
            else:
                place[name] = value
                if type(value) is int and abs(value) >= _SMALLEST_NUMBER:
                    leaves.append(Leaf(place, name, parent, cue, str(value)))
        else:
            stack.pop()
    return copy, leaves


def step_of(name: str | int) -> str:
    """Return one step of a JSON Pointer."""
    return str(name).replace("~", "~0").replace("/", "~1")


def _free(name: str, place: Any) -> str:
    """Return the name, with a number where a masked key is already there."""
    if name not in place:
        return name
    number = 2
    while f"{name}#{number}" in place:
        number += 1
    return f"{name}#{number}"


def search_leaves(
    leaves: Sequence[Leaf], *, types: Sequence[str] | None = None, detector: str = "fast"
) -> list[list[Span]]:
    """Find personal data in the leaves of rows, with the help of their field names.

    Returns:
        For each leaf its spans, in code points of ``leaf.text``.
    """
    texts = [leaf.cue + leaf.text for leaf in leaves]
    different = list(dict.fromkeys(texts))  # tools stand in every row of a file
    spans = find_personal_data(different, types=types, detector=detector)
    found = {text: own for text, own in zip(different, spans, strict=True) if own}
    return [
        without_cue(found.get(text, []), len(leaf.cue))
        for text, leaf in zip(texts, leaves, strict=True)
    ]


def without_cue(spans: list[Span], cue: int) -> list[Span]:
    """Return the spans of a text that had a cue of so many code points before it."""
    if not cue:
        return spans
    return [
        span._replace(start=max(0, span.start - cue), end=span.end - cue)
        for span in spans
        if span.end > cue
    ]


def redact_leaves(
    leaves: Sequence[Leaf],
    mode: RedactMode,
    *,
    types: Sequence[str] | None = None,
    detector: str = "fast",
) -> Iterator[tuple[int, Span, str]]:
    """Redact leaves in place, in rounds until nothing is found, and yield what was found.

    Yields:
        Number of the leaf, the span (code points of the original text), and the value.
    """
    pending: list[_Pending] = [(number, leaf, []) for number, leaf in enumerate(leaves)]
    for _ in range(_ROUNDS):
        spans = search_leaves([leaf for _, leaf, _ in pending], types=types, detector=detector)
        changed: list[_Pending] = []
        for (number, leaf, earlier), found in zip(pending, spans, strict=True):
            if not found:
                continue
            for span in found:
                start, end = span.start, span.end
                for pieces in reversed(earlier):
                    start, end = place_before(start, pieces), place_before(end, pieces)
                original = span._replace(start=start, end=end)
                yield number, original, leaf.text[span.start : span.end]
            pieces = pieces_of(leaf.text, found, mode)
            text = replace(leaf.text, pieces)
            leaf.put(text)
            changed.append((number, leaf._replace(text=text), [*earlier, pieces]))
        pending = changed
        if not pending:
            return


class KeyNames:
    """The keys met so far, with personal data in them replaced."""

    def __init__(self, mode: RedactMode = "mask", types: Sequence[str] | None = None) -> None:
        """Start empty; ``mode`` and ``types`` say what is replaced, and how."""
        self._mode: RedactMode = mode
        self._types = [t for t in _KEY_TYPES if types is None or t in types]
        self._safe: dict[str, str] = {}
        self._found: list[tuple[str, str, Span]] = []

    def safe(self, key: str, parent: str) -> str:
        """Return the key without personal data, and note where it was met first.

        Args:
            key: The key as it stands in the row.
            parent: JSON Pointer of what holds it.
        """
        known = self._safe.get(key)
        if known is not None:
            return known
        place: dict[str, Json] = {"key": key}
        leaf = Leaf(place, "key", "", "", key)
        spans = [span for _, span, _ in redact_leaves([leaf], self._mode, types=self._types)]
        safe = self._safe[key] = str(place["key"])
        self._found.extend((f"{parent}/{step_of(safe)}", key, span) for span in spans)
        return safe

    def take_found(self) -> list[tuple[str, str, Span]]:
        """Return pointer, key and span of what was met since the last call."""
        found, self._found = self._found, []
        return found


def redact_rows(
    rows: Sequence[Mapping[str, Json]],
    mode: RedactMode,
    *,
    types: Sequence[str] | None = None,
    detector: str = "fast",
) -> tuple[list[dict[str, Json]], Counter[str]]:
    """Return copies of the rows without personal data, and how many values of each type went.

    All texts of a row are searched, with the help of the field's name ("phone"), also JSON
    inside a text, long integers and the keys themselves. A second call changes nothing.

    Args:
        rows: Decoded rows; they are not changed.
        mode: ``mask`` or ``pseudonym``.
        types: Types to replace; None replaces all.
        detector: ``fast``, ``scrubadub`` or ``presidio``.
    """
    names = KeyNames(mode, types)
    copies: list[dict[str, Json]] = []
    leaves: list[Leaf] = []
    for row in rows:
        copy, own = open_row(row, names.safe)
        copies.append(copy)
        leaves.extend(own)
    counts = Counter(
        span.type for _, span, _ in redact_leaves(leaves, mode, types=types, detector=detector)
    )
    counts.update(span.type for _, _, span in names.take_found())
    return copies, counts
