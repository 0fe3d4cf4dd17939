"""Checks what a turn says: chat contents, and the parts of Bedrock Converse, Nova and Gemini."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Final, cast

from finetuning.data_prep.targets import ChatRules
from finetuning.data_prep.validate.reports import RowReport, describe, pointer, shown
from finetuning.records import Json, Severity

MAX_IMAGES: Final = 10
"""Images of one row: Together (checked 2026-08-18), AWS Nova validator @7a8cfea."""
MAX_IMAGE_BYTES: Final = 10_000_000
"""Bytes of one decoded image: Together (checked 2026-08-18), Bedrock Llama guide."""

_DATA_URI: Final = re.compile(r"data:image/(?:png|jpe?g|webp|gif);base64,[A-Za-z0-9+/]+={0,2}")
_TEXT_PARTS: Final = frozenset({"text", "refusal", "thinking", "reasoning"})
_CONVERSE_PARTS: Final = frozenset({"text", "image", "video", "document", "reasoningContent"})
_CONVERSE_TOOLS: Final = frozenset({"toolUse", "toolResult"})
_GEMINI_PARTS: Final = frozenset(
    {"text", "fileData", "inlineData", "functionCall", "functionResponse"}
)


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


def _text_blocks(value: Json, place: str, report: RowReport) -> None:
    """Check an array of ``{text}`` blocks, as system texts are."""
    for at, block in enumerate(report.items(value, place) or []):
        fields = report.object(block, f"{place}/{at}")
        if fields is not None and report.need(fields, "text", f"{place}/{at}"):
            report.text(fields["text"], f"{place}/{at}/text")


def _parts(
    value: Json, place: str, known: frozenset[str], tools: frozenset[str], report: RowReport
) -> None:
    """Check content parts, each of which has exactly one known key that says what it is."""
    parts = report.items(value, place) or []
    blank = bool(parts)
    for at, part in enumerate(parts):
        spot = f"{place}/{at}"
        fields = report.object(part, spot)
        if fields is None:
            continue
        if tools & fields.keys():
            report.add("tools_not_allowed", spot, "a call or result in a format without tools")
        elif not known & fields.keys():
            names = ", ".join(shown(key) for key in list(fields)[:3]) or "none"
            report.add("invalid_part", spot, f"no known kind of part among its keys: {names}")
        text = fields.get("text", "")
        if "text" in fields and not isinstance(text, str):
            report.add("wrong_type", f"{spot}/text", f"expected a string, found {describe(text)}")
        blank = blank and fields.keys() <= {"text"} and not str(text).strip()
    if blank:
        report.add("empty_content", place, f"{len(parts)} parts, all blank")


def _turns(
    row: Mapping[str, Json], key: str, roles: tuple[str, str], report: RowReport
) -> list[tuple[str, str, Mapping[str, Json]]]:
    """Check the roles of a list of turns; return role, pointer and fields of each."""
    turns: list[tuple[str, str, Mapping[str, Json]]] = []
    if not report.need(row, key, ""):
        return turns
    for at, item in enumerate(report.items(row[key], f"/{key}") or []):
        place = f"/{key}/{at}"
        fields = report.object(item, place)
        if fields is None or not report.need(fields, "role", place):
            turns.append(("", place, fields or {}))
            continue
        role = fields["role"]
        if role in roles:
            turns.append((role, place, fields))
            continue
        code = "role_case" if isinstance(role, str) and role.lower() in roles else "unknown_role"
        name = shown(role) if isinstance(role, str) else describe(role)
        report.add(code, f"{place}/role", f"{name}; expected {' or '.join(roles)}")
        turns.append(("", place, fields))
    return turns


def _alternation(
    turns: list[tuple[str, str, Mapping[str, Json]]], report: RowReport, *, last: str
) -> None:
    """Check that user speaks first, the sides alternate and ``last`` speaks last."""
    if not turns:
        return
    if turns[0][0] not in {"user", ""}:
        report.add("first_not_user", turns[0][1], f"{shown(turns[0][0])} speaks first")
    for before, now in itertools.pairwise(turns):
        if now[0] and now[0] == before[0]:
            report.add("not_alternating", now[1], f"{shown(now[0])} twice in a row")
    end = turns[-1]
    if end[0] and end[0] != last:
        code = "last_not_user" if last == "user" else "last_not_assistant"
        report.add(code, end[1], f"{shown(end[0])} is last")


def check_converse(row: Mapping[str, Json], report: RowReport, *, preference: bool) -> None:
    """Check a row of Bedrock Converse; with ``preference`` the last turn has candidates."""
    known = frozenset({"schemaVersion", "system", "messages"})
    report.only(row, known, "", "error")
    version = row.get("schemaVersion")
    if not preference and version != "bedrock-conversation-2024":
        report.add("schema_version", "/schemaVersion", f"found {describe(version)}")
    if "system" in row:
        _text_blocks(row["system"], "/system", report)
    turns = _turns(row, "messages", ("user", "assistant"), report)
    _alternation(turns, report, last="assistant")
    for at, (_, place, fields) in enumerate(turns):
        if preference and at == len(turns) - 1 and "candidates" in fields:
            _candidates(fields["candidates"], f"{place}/candidates", report)
        elif preference and at == len(turns) - 1:
            report.add("pair_missing", f"{place}/candidates", "the last turn has no candidates")
        elif report.need(fields, "content", place):
            report.only(fields, frozenset({"role", "content"}), place, "error")
            spot = f"{place}/content"
            _parts(fields["content"], spot, _CONVERSE_PARTS, _CONVERSE_TOOLS, report)


def _candidates(value: Json, place: str, report: RowReport) -> None:
    """Check the two answers of a Nova preference row."""
    items = report.items(value, place) or []
    labels: list[Json] = []
    contents: list[Json] = []
    for at, item in enumerate(items):
        fields = report.object(item, f"{place}/{at}") or {}
        labels.append(fields.get("preferenceLabel"))
        if report.need(fields, "content", f"{place}/{at}"):
            contents.append(fields["content"])
            spot = f"{place}/{at}/content"
            _parts(fields["content"], spot, _CONVERSE_PARTS, _CONVERSE_TOOLS, report)
    if len(items) != 2:
        report.add("pair_count", place, f"{len(items)} candidates; expected 2")
    elif sorted(map(str, labels)) != ["non-preferred", "preferred"]:
        report.add("pair_scores", place, "not one preferred and one non-preferred")
    elif len(contents) == 2 and contents[0] == contents[1]:
        report.add("pair_identical", place, "both candidates are the same")


def _system_instruction(row: Mapping[str, Json], key: str, report: RowReport) -> None:
    if key not in row:
        return
    fields = report.object(row[key], f"/{key}")
    if fields is not None and report.need(fields, "parts", f"/{key}"):
        _text_blocks(fields["parts"], f"/{key}/parts", report)


def _gemini_turns(
    row: Mapping[str, Json], report: RowReport, parts: frozenset[str], last: str
) -> None:
    turns = _turns(row, "contents", ("user", "model"), report)
    spoken = [("" if _is_function_response(turn[2]) else turn[0], *turn[1:]) for turn in turns]
    _alternation(spoken, report, last=last)
    if last == "model" and turns and all(role == "user" for role, _, _ in turns):
        report.add("no_assistant", "/contents", f"no 'model' in {len(turns)} turns")
    for _, place, fields in turns:
        report.only(fields, frozenset({"role", "parts"}), place, "error")
        if report.need(fields, "parts", place):
            _parts(fields["parts"], f"{place}/parts", parts, frozenset(), report)


def _is_function_response(fields: Mapping[str, Json]) -> bool:
    """Say whether a turn only carries results of calls (it may stand between two models)."""
    parts = fields.get("parts")
    return isinstance(parts, list) and any(
        isinstance(part, dict) and "functionResponse" in part for part in cast("list[Json]", parts)
    )


def check_gemini(row: Mapping[str, Json], report: RowReport) -> None:
    """Check a row of Vertex supervised tuning."""
    known = frozenset({"systemInstruction", "contents", "tools", "toolConfig", "labels"})
    report.only(row, known, "", "error")
    _system_instruction(row, "systemInstruction", report)
    _gemini_turns(row, report, _GEMINI_PARTS, last="model")


def check_gemini_preference(row: Mapping[str, Json], report: RowReport) -> None:
    """Check a row of Vertex preference tuning (texts only, two scored completions)."""
    report.only(row, frozenset({"system_instruction", "contents", "completions"}), "", "error")
    _system_instruction(row, "system_instruction", report)
    _gemini_turns(row, report, frozenset({"text"}), last="user")
    if "completions" not in row:
        report.add("pair_missing", "/completions", "no completions to compare")
        return
    items = report.items(row["completions"], "/completions") or []
    scores: list[Json] = []
    answers: list[Json] = []
    for at, item in enumerate(items):
        place = f"/completions/{at}"
        fields = report.object(item, place) or {}
        scores.append(fields.get("score"))
        answer = report.object(fields.get("completion"), f"{place}/completion")
        if answer is not None and report.need(answer, "parts", f"{place}/completion"):
            spot = f"{place}/completion/parts"
            _parts(answer["parts"], spot, frozenset({"text"}), frozenset(), report)
            answers.append(answer["parts"])
    if len(items) != 2:
        report.add("pair_count", "/completions", f"{len(items)} completions; expected 2")
    elif {repr(score) for score in scores} not in ({"0", "1"}, {"0.0", "1.0"}, {"0", "1.0"}):
        report.add("pair_scores", "/completions", "not one score 1 and one score 0")
    elif len(answers) == 2 and answers[0] == answers[1]:
        report.add("pair_identical", pointer("/completions"), "both completions are the same")
