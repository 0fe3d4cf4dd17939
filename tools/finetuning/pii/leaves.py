"""The texts of a row, each with its JSON Pointer, and a copy of the row to put them back into."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, cast

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
