"""Checks what a message says: plain text, content parts and images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, cast

from finetuning.data_prep.validate.chat_rules import ChatRules
from finetuning.data_prep.validate.reports import RowReport, describe, pointer, shown
from finetuning.records import Json, Severity

MAX_IMAGES: Final = 10
"""Images of one row: Together (checked 2026-08-18), AWS Nova validator @7a8cfea."""
MAX_IMAGE_BYTES: Final = 10_000_000
"""Bytes of one decoded image: Together (checked 2026-08-18), Bedrock Llama guide."""

_DATA_URI: Final = re.compile(r"data:image/(?:png|jpe?g|webp|gif);base64,[A-Za-z0-9+/]+={0,2}")
_TEXT_PARTS: Final = frozenset({"text", "refusal", "thinking", "reasoning"})


def _image(part: Mapping[str, Json], place: str, rules: ChatRules, report: RowReport) -> None:
    holder = part.get("image_url", part.get("image"))
    url = cast("dict[str, Json]", holder).get("url") if isinstance(holder, dict) else holder
    if not isinstance(url, str):
        report.add("image_invalid", place, f"no image address but {describe(url)}")
    elif url.startswith("data:"):
        if not _DATA_URI.fullmatch(url.strip()):
            report.add("image_invalid", place, f"a malformed data URI of {len(url)} characters")
        elif len(url) * 3 // 4 > MAX_IMAGE_BYTES:
            report.add("image_too_large", place, f"about {len(url) * 3 // 4} bytes")
    elif rules.images == "data":
        report.add("image_invalid", place, "an address; this target takes data URIs only")
    elif not url.startswith(("https://", "http://")):
        report.add("image_invalid", place, "neither a web address nor a data URI")


def _part(part: Json, place: str, role: str, rules: ChatRules, report: RowReport) -> str:
    """Check one content part and return what it is: text, image or other."""
    fields = report.object(part, place)
    if fields is None:
        return "other"
    name = fields.get("type", "text" if "text" in fields else "image" if "image" in fields else "")
    if name in _TEXT_PARTS:
        if report.need(fields, name, place):
            report.text(fields[name], pointer(place, name), empty=None)
        return "text"
    if name in {"image_url", "image"}:
        if rules.images == "none" or role != "user":
            report.add("image_not_allowed", place, f"an image in a {shown(role)} message")
        else:
            _image(fields, place, rules, report)
        return "image"
    label = shown(name) if isinstance(name, str) and name else describe(name)
    report.add("invalid_part", pointer(place, "type"), f"no part of type {label}")
    return "other"


def check_content(content: Json, place: str, role: str, rules: ChatRules, report: RowReport) -> int:
    """Check the content of a message and return how many images it has.

    Args:
        content: A string, or an array of content parts.
        place: JSON Pointer of the content.
        role: Role of the message.
        rules: Rules of the format.
        report: Takes the findings.
    """
    if isinstance(content, str):
        if not content.strip() and role != "tool":
            severity: Severity = "warning" if role == "system" else "error"
            report.add("empty_content", place, f"{describe(content)}, all blank", severity=severity)
        return 0
    if not isinstance(content, list):
        report.add("wrong_type", place, f"expected a string, found {describe(content)}")
        return 0
    parts = report.items(cast("Json", content), place) or []
    kinds = [_part(part, f"{place}/{at}", role, rules, report) for at, part in enumerate(parts)]
    texts = (cast("dict[str, Json]", part).get("text") for part in parts if isinstance(part, dict))
    said = any(isinstance(text, str) and text.strip() for text in texts)
    if kinds and set(kinds) == {"text"} and not said and role != "tool":
        report.add("empty_content", place, f"{len(parts)} parts, all blank")
    return kinds.count("image")
