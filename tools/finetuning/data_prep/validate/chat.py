"""Checks rows of ``messages``: roles, order, contents, calls and weights."""

from __future__ import annotations

import functools
import itertools
import json
import unicodedata
from collections.abc import Mapping
from typing import Any, Final, Literal, cast

import msgspec

from finetuning.data_prep.targets import ChatRules
from finetuning.data_prep.validate.parts import MAX_IMAGES, check_content
from finetuning.data_prep.validate.reports import (
    CallBook,
    RowReport,
    describe,
    pointer,
    shown,
    tool_names,
)
from finetuning.data_prep.validate.typed import (
    AnswerTurn,
    ChatRow,
    ResultTurn,
    SystemTurn,
    UserTurn,
)
from finetuning.records import Json

End = Literal["answer", "user", "any"]
"""What a list of messages must end with."""

_CALL_KEYS: Final = frozenset({"tool_calls", "tool_call_id", "function_call"})
_MESSAGE_KEYS: Final = _CALL_KEYS | {"role", "content"}
_WEIGHT_KEY: Final = frozenset({"weight"})
_CONFUSABLES: Final = str.maketrans("асеорхувіјѕԁԛԝтмαορυіτ", "aceopxybijsdqwtmaopuit")
"""Cyrillic and Greek letters that look like Latin ones (Unicode confusables, a part)."""


def _skeleton(role: str) -> str:
    """Return a role without hidden characters, look-alikes and letter case."""
    plain = "".join(c for c in unicodedata.normalize("NFKC", role) if c.isprintable())
    return plain.lower().translate(_CONFUSABLES).strip()


def _role(message: Mapping[str, Json], place: str, rules: ChatRules, report: RowReport) -> str:
    """Return the role that the message means, or "" if none can be told."""
    if not report.need(message, "role", place):
        return ""
    role, spot = message["role"], pointer(place, "role")
    if not isinstance(role, str):
        report.add("wrong_type", spot, f"expected a string, found {describe(role)}")
        return ""
    if role in rules.roles or (rules.any_case and role.lower() in rules.roles):
        return role.lower()
    if role in rules.unverified_roles:
        report.add("role_unverified", spot, f"{shown(role)} is not documented for training")
        return role
    meant = _skeleton(role)
    if meant in rules.roles:
        code = "role_case" if role.lower() == meant else "role_lookalike"
        report.add(code, spot, f"{shown(role)}, meant is {meant!r}")
        return meant
    report.add("unknown_role", spot, f"{shown(role)}; expected {', '.join(rules.roles)}")
    return ""


def _weight(
    message: Mapping[str, Json], place: str, role: str, rules: ChatRules, report: RowReport
) -> bool:
    """Check a weight and say whether the message is learnt."""
    if "weight" not in message or not rules.weights:
        return role == rules.answer_role
    weight, spot = message["weight"], pointer(place, "weight")
    if isinstance(weight, bool) or weight not in (0, 1):
        report.add("invalid_weight", spot, f"found {describe(weight)}; expected 0 or 1")
    elif role and role != rules.answer_role:
        report.add("misplaced_weight", spot, f"on a {shown(role)} message")
    return role == rules.answer_role and weight != 0


def _answer_calls(
    message: Mapping[str, Json], place: str, role: str, rules: ChatRules, book: CallBook | None
) -> bool:
    """Check the calls of an answer and say whether it has any."""
    calls, spot = message.get("tool_calls"), pointer(place, "tool_calls")
    if book is None or not calls:
        if calls == [] and book is not None and rules.arguments == "string":
            book.report.add("empty_list", spot, "leave the key out", severity="warning")
        return False
    if role == rules.answer_role:
        book.calls(calls, spot)
    elif role:
        book.report.add("invalid_tool_call", spot, f"calls on a {shown(role)} message")
    return True


def _message(
    message: Mapping[str, Json],
    place: str,
    rules: ChatRules,
    report: RowReport,
    book: CallBook | None,
) -> tuple[str, bool, int]:
    """Check one message; return its role, whether it is learnt, and its images."""
    weight = _WEIGHT_KEY if rules.weights else frozenset[str]()
    known = _MESSAGE_KEYS | rules.message_keys | weight
    report.only(message, known, place, rules.other_message_keys)
    role = _role(message, place, rules, report)
    if not rules.tools and (_CALL_KEYS & message.keys() or role == "tool"):
        report.add("tools_not_allowed", place, "calls or results in a format without tools")
    if book is not None and role == "tool":
        book.result(message, place)
    elif book is not None and role:
        book.next_turn()
    called = _answer_calls(message, place, role, rules, book)
    if message.get("function_call") is not None or role == "function":
        report.add("deprecated_function_call", place, "the form of before tool_calls")
        called = True
    learnt = _weight(message, place, role, rules, report)
    content, spot = message.get("content"), pointer(place, "content")
    if content is None or (content == "" and called):
        if not called and not message.get("refusal"):
            report.add("missing_content", spot, "no content and no call")
        return role, learnt, 0
    if called and rules.content_or_calls:
        report.add("content_with_tool_calls", place, "both content and calls")
    return role, learnt, check_content(content, spot, role, rules, report)


def _order(roles: list[str], base: str, rules: ChatRules, report: RowReport) -> None:
    """Check where system stands, who begins and that the sides alternate."""
    system = {"system", "developer"}
    spoken = [at for at, role in enumerate(roles) if role not in system]
    begin = spoken[0] if spoken else len(roles)
    for at, role in enumerate(roles):
        if role in system and at > 0:
            code = "several_systems" if at < begin else "system_not_first"
            report.add(code, f"{base}/{at}", f"message {at + 1}", severity=rules.system_late)
    first = roles[begin] if spoken else ""
    if first and first != "user" and rules.starts_with_user:
        message = f"{shown(first)} speaks first"
        report.add("first_not_user", f"{base}/{begin}", message, severity=rules.starts_with_user)
    for before, at in itertools.pairwise(spoken):
        if roles[at] and roles[at] == roles[before] and roles[at] not in {"tool", "function"}:
            message = f"{shown(roles[at])} twice in a row"
            report.add("not_alternating", f"{base}/{at}", message, severity=rules.not_alternating)


def _ending(
    roles: list[str], learnt: list[bool], base: str, rules: ChatRules, report: RowReport, end: End
) -> None:
    """Check the last message, and that there is something to learn."""
    last = roles[-1]
    if end == "user" and last and last not in {"user", "tool"}:
        report.add("last_not_user", f"{base}/{len(roles) - 1}", f"{shown(last)} is last")
    if end != "answer" or not all(roles):
        return
    if rules.answer_role not in roles:
        report.add("no_assistant", base, f"no {shown(rules.answer_role)} in {len(roles)} messages")
    elif not any(learnt):
        report.add("all_weights_zero", base, f"{roles.count(rules.answer_role)} answers")
    elif last != rules.answer_role:
        message = f"{shown(last)} is last"
        place = f"{base}/{len(roles) - 1}"
        report.add("last_not_assistant", place, message, severity=rules.ends_with_answer)


def check_messages(
    value: Json,
    base: str,
    rules: ChatRules,
    report: RowReport,
    *,
    tools: set[str] | None = None,
    end: End = "answer",
    order: bool = True,
) -> list[str]:
    """Check a list of messages and return the roles met.

    Args:
        value: The list as decoded.
        base: Its JSON Pointer.
        rules: Rules of the format.
        report: Takes the findings.
        tools: Names of the tools that the row defines; None where it has no list.
        end: What must stand last.
        order: Check the order, too (not for single answers of a preference pair).
    """
    messages = report.items(value, base)
    if not messages:
        return []
    book = CallBook(tools, rules, report) if rules.tools else None
    roles: list[str] = []
    learnt: list[bool] = []
    images = 0
    for at, item in enumerate(messages):
        place = f"{base}/{at}"
        message = report.object(item, place)
        if message is None:
            role, learns, count = "", False, 0
        else:
            role, learns, count = _message(message, place, rules, report, book)
        roles.append(role)
        learnt.append(learns)
        images += count
    if images > MAX_IMAGES:
        report.add("too_many_images", base, f"{images} images")
    if order:
        _order(roles, base, rules, report)
    _ending(roles, learnt, base, rules, report, end)
    return roles


def check_chat_row(
    row: Mapping[str, Json], rules: ChatRules, report: RowReport, *, end: End = "answer"
) -> None:
    """Check a row whose conversation stands under ``messages``."""
    report.only(row, frozenset({"messages"}) | rules.row_keys, "", rules.other_row_keys)
    tools = tool_names(row.get("tools"), "/tools", report) if rules.tools else None
    functions = row.get("functions")
    if isinstance(functions, list) and tools is None and "functions" in rules.row_keys:
        tools = tool_names(cast("Json", functions), "/functions", report)
    if not rules.tools and row.get("tools"):
        report.add("tools_not_allowed", "/tools", "tools in a format without them")
    weight = row.get("weight")
    if "weight" in rules.row_keys and weight is not None:
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or cast("float", weight) < 0:
            report.add("invalid_weight", "/weight", f"found {describe(weight)}; at least 0")
    if report.need(row, "messages", ""):
        check_messages(row["messages"], "/messages", rules, report, tools=tools, end=end)
    if "system" in rules.row_keys and "system" in row:
        report.text(row["system"], "/system", empty="warning")


_ROLES: Final[dict[type, str]] = {
    SystemTurn: "system",
    UserTurn: "user",
    AnswerTurn: "assistant",
    ResultTurn: "tool",
}


def texts_of(row: Any) -> tuple[list[str], int]:
    """Return the texts of a typed row that cost tokens, and its number of messages.

    They are those that ``tokens.example_texts`` finds in the decoded row.
    """
    if type(row) is not ChatRow:
        values = (getattr(row, name) for name in row.__struct_fields__)
        return [value for value in values if isinstance(value, str) and value], 0
    texts: list[str] = []
    for message in cast("list[Any]", row.messages):
        texts.append(_ROLES[type(message)])
        content = message.content
        if content:
            texts.append(content)
        if message.name is not msgspec.UNSET:
            texts.append(message.name)
        for call in (message.tool_calls if type(message) is AnswerTurn else msgspec.UNSET) or ():
            texts += [call.function.name, call.function.arguments]
    if tools := bytes(row.tools):
        texts.append(_spelt(tools))
    return [text for text in texts if text], len(row.messages)


@functools.lru_cache(maxsize=256)
def _spelt(raw: bytes) -> str:
    return json.dumps(msgspec.json.decode(raw), ensure_ascii=False)
