"""The texts of a row, each with its JSON Pointer, and a copy of the row to put them back into."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from finetuning.pii.detect import find_personal_data
from finetuning.pii.keyed import tag
from finetuning.pii.kinds import TYPES, RedactMode, Span
from finetuning.records import Json


class Leaf(NamedTuple):
    """One text of a row.

    Attributes:
        place: The dict or list of the copy that holds it.
        key: Its key or index there.
        pointer: JSON Pointer from the row (personal data in keys are masked in it).
        cue: Words put in front while searching, from the name of the field ("phone: ").
        text: The text; a long integer is its digits.
    """

    place: dict[str, Json] | list[Json]
    key: str | int
    pointer: str
    cue: str
    text: str

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
_SMALLEST_NUMBER: Final = 1_000_000
"""Integers with fewer than 7 digits identify nobody."""

# In keys only what carries its own proof counts: a column may well be called "Christian Name".
_KEY_TYPES: Final = tuple(
    name
    for name in TYPES
    if name not in {"person_name", "postal_address", "date_of_birth", "password", "bank_account"}
)


@functools.lru_cache(maxsize=4096)
def cue_of(key: str) -> str:
    """Return the words that a field's name says about its value, or "" for none."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|[ .-]+", "_", key.strip()).lower()
    return next((cue for pattern, cue in _CUES if re.fullmatch(pattern, name)), "")


class KeyNames:
    """The keys met so far, with personal data in them replaced."""

    def __init__(self, mode: RedactMode = "mask", types: Sequence[str] | None = None) -> None:
        """Start empty; ``mode`` and ``types`` say what is replaced, and how."""
        self._mode: RedactMode = mode
        self._types = [t for t in _KEY_TYPES if types is None or t in types]
        self._safe: dict[str, str] = {}
        self._spans: dict[str, list[Span]] = {}
        self._found: list[tuple[str, str, Span]] = []

    def learn(self, rows: Sequence[Mapping[str, Json]]) -> None:
        """Look at all keys of the rows that were not met before."""
        new: dict[str, None] = {}
        stack: list[Json] = list(rows)
        while stack:
            value = stack.pop()
            if isinstance(value, Mapping):
                mapping = cast("Mapping[str, Json]", value)
                new.update(dict.fromkeys(key for key in mapping if key not in self._safe))
                stack.extend(mapping.values())
            elif isinstance(value, list):
                stack.extend(cast("list[Json]", value))
        keys = list(new)
        for key, spans in zip(keys, find_personal_data(keys, types=self._types), strict=True):
            safe, last = "", 0
            for span in spans:
                found = key[span.start : span.end]
                safe += key[last : span.start] + tag(span.type, found, self._mode)
                last = span.end
            self._safe[key] = safe + key[last:]
            if spans:
                self._spans[key] = spans

    def safe(self, key: str, pointer: str) -> str:
        """Return the key without personal data, and note where it was met first."""
        for span in self._spans.pop(key, ()):
            self._found.append((f"{pointer}/{_step(self._safe[key])}", key, span))
        return self._safe[key]

    def take_found(self) -> list[tuple[str, str, Span]]:
        """Return pointer, key and span of what was met since the last call."""
        found, self._found = self._found, []
        return found


def open_row(row: Mapping[str, Json], names: KeyNames) -> tuple[dict[str, Json], list[Leaf]]:
    """Copy a row and list its texts in document order.

    Args:
        row: The decoded row; it is not changed.
        names: The keys, after ``learn`` has seen this row.

    Returns:
        The copy and its leaves; ``leaf.put`` changes the copy.
    """
    copy: dict[str, Json] = {}
    leaves: list[Leaf] = []
    stack: list[tuple[Any, Iterator[tuple[str | int, Json]], str, str]] = [
        (copy, iter(row.items()), "", "")
    ]
    while stack:
        place, items, pointer, inherited = stack[-1]
        for key, value in items:
            name = key if isinstance(key, int) else _free(names.safe(key, pointer), place)
            step = _step(name)
            cue = inherited if isinstance(key, int) else cue_of(key)
            if isinstance(value, Mapping):
                place[name] = child = cast("dict[str, Json]", {})
                children = iter(cast("Mapping[str, Json]", value).items())
                stack.append((child, children, f"{pointer}/{step}", ""))
                break
            if isinstance(value, list):
                items_in = cast("list[Json]", value)
                place[name] = nested = list(items_in)
                stack.append((nested, iter(list(enumerate(items_in))), f"{pointer}/{step}", cue))
                break
            place[name] = value
            text = _text(value)
            if text:
                leaves.append(Leaf(place, name, f"{pointer}/{step}", cue, text))
        else:
            stack.pop()
    return copy, leaves


def _step(name: str | int) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")


def _free(name: str, place: Any) -> str:
    """Return the name, with a number where a masked key is already there."""
    if name not in place:
        return name
    number = 2
    while f"{name}#{number}" in place:
        number += 1
    return f"{name}#{number}"


def _text(value: Json) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _SMALLEST_NUMBER:
        return str(value)
    return ""
