"""What each chat format allows: in its messages, and in its tools, calls and their results.

Severities follow the provider: ``error`` where it refuses the row, ``warning`` where it takes
the row and the model learns the worse for it, None where nothing is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, cast

from finetuning.data_prep.validate.reports import RowReport, describe, pointer, shown
from finetuning.records import Json, Severity

_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class ChatRules:
    """Rules of one chat format.

    Attributes:
        roles: Roles that the format has.
        unverified_roles: Roles in use that its documents do not name for training.
        answer_role: The role whose messages are learnt.
        any_case: Letter case of roles does not matter.
        system_late: A system message after the start.
        not_alternating: Two messages of one side in a row.
        starts_with_user: The first message after the system text is not the user's.
        ends_with_answer: The last message is not an answer.
        tools: Tools, calls and results are part of the format.
        arguments: Type of a call's arguments.
        tool_id_length: Exact length of call ids, where there is one.
        content_or_calls: A message may not have both content and calls.
        weights: Answers may carry a weight 0 or 1.
        images: How images may be given.
        row_keys: Keys of a row beside ``messages``.
        other_row_keys: Any other key of a row.
        message_keys: Keys of a message beside role, content and those of calls and weights.
        other_message_keys: Any other key of a message.
    """

    roles: tuple[str, ...] = ("system", "user", "assistant", "tool")
    unverified_roles: tuple[str, ...] = ()
    answer_role: str = "assistant"
    any_case: bool = False
    system_late: Severity = "error"
    not_alternating: Severity = "warning"
    starts_with_user: Severity | None = None
    ends_with_answer: Severity = "error"
    tools: bool = True
    arguments: Literal["string", "either"] = "string"
    tool_id_length: int | None = None
    content_or_calls: bool = False
    weights: bool = False
    images: Literal["none", "data", "any"] = "none"
    row_keys: frozenset[str] = frozenset()
    other_row_keys: Severity | None = "warning"
    message_keys: frozenset[str] = frozenset()
    other_message_keys: Severity | None = "warning"


_OPENAI: Final = ChatRules(
    roles=("system", "user", "assistant", "tool", "function"),
    unverified_roles=("developer",),
    system_late="warning",
    weights=True,
    images="any",
    row_keys=frozenset({"tools", "parallel_tool_calls", "functions"}),
    message_keys=frozenset({"name", "refusal", "audio"}),
    other_message_keys="error",
)
_TOGETHER: Final = ChatRules(
    not_alternating="error",
    starts_with_user="error",
    weights=True,
    images="data",
    row_keys=frozenset({"tools", "weight"}),
    message_keys=frozenset({"name", "reasoning", "reasoning_content"}),
)
_LOCAL: Final = ChatRules(
    unverified_roles=("developer",),
    system_late="warning",
    ends_with_answer="warning",
    arguments="either",
    images="any",
    other_row_keys=None,
    message_keys=frozenset({"name", "reasoning_content", "thinking"}),
)

CHAT_RULES: Final[dict[str, ChatRules]] = {
    "openai_chat": _OPENAI,
    "azure_chat": _OPENAI,
    "nebius_chat": _OPENAI,
    "openai_rft": replace(_OPENAI, other_row_keys=None, weights=False),
    "together_chat": _TOGETHER,
    "fireworks_chat": ChatRules(
        weights=True,
        images="any",
        row_keys=frozenset({"tools"}),
        message_keys=frozenset({"name", "reasoning_content"}),
    ),
    "aliyun_chat": ChatRules(
        images="any",
        row_keys=frozenset({"tools"}),
        message_keys=frozenset({"loss_weight", "reasoning_content"}),
    ),
    "tinker": _LOCAL,
    "trl_messages": replace(_LOCAL, row_keys=frozenset({"tools"})),
    "mistral_chat": ChatRules(
        not_alternating="error",
        tool_id_length=9,
        content_or_calls=True,
        row_keys=frozenset({"tools"}),
        message_keys=frozenset({"name"}),
    ),
    "bedrock_claude3": ChatRules(
        roles=("user", "assistant"),
        not_alternating="error",
        starts_with_user="error",
        tools=False,
        row_keys=frozenset({"system"}),
        other_row_keys="error",
        other_message_keys="error",
    ),
    "cohere_chat": ChatRules(
        roles=("system", "user", "chatbot"),
        answer_role="chatbot",
        any_case=True,
        starts_with_user="warning",
        tools=False,
    ),
}
"""Rules by target. Sources: the target's row in ``data_prep.targets``."""


def tool_names(tools: Json, place: str, report: RowReport) -> set[str] | None:
    """Check tool definitions and return their names; None where there is no list."""
    if tools is None:
        return None
    if not isinstance(tools, list):
        report.add("wrong_type", place, f"expected an array, found {describe(tools)}")
        return None
    names: set[str] = set()
    for at, tool in enumerate(cast("list[Json]", tools)):
        spot = f"{place}/{at}"
        fields = report.object(tool, spot)
        function = (fields or {}).get("function", fields)
        name = cast("dict[str, Json]", function).get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
            report.add("tool_definition", spot, f"function.name is {describe(name)}")
            continue
        names.add(name)
        parameters = cast("dict[str, Json]", function).get("parameters", {})
        if not isinstance(parameters, dict):
            report.add("tool_definition", spot, f"parameters is {describe(parameters)}")
    return names


class CallBook:
    """Follows the calls of one conversation and their results."""

    def __init__(self, names: set[str] | None, rules: ChatRules, report: RowReport) -> None:
        """Start with the tools that the row defines (None: it has no list)."""
        self._names = names
        self._rules = rules
        self.report = report
        self._seen: set[str] = set()
        self._open: dict[str, str] = {}  # call id -> where it was made
        self._asked_for_tools = False

    def calls(self, calls: Json, place: str) -> None:
        """Check the calls of one answer."""
        for at, call in enumerate(self.report.items(calls, place) or []):
            self._call(call, f"{place}/{at}")
        if self._names is None and not self._asked_for_tools:
            self._asked_for_tools = True
            self.report.add("tools_missing", "/tools", "calls, but the row defines no tools")

    def _call(self, call: Json, place: str) -> None:
        fields = self.report.object(call, place)
        if fields is None:
            return
        self._id(fields.get("id"), place)
        if fields.get("type", "function") != "function":
            self.report.add("invalid_tool_call", f"{place}/type", "type is not 'function'")
        function = fields.get("function")
        if not isinstance(function, dict):
            message = f"function is {describe(function)}"
            self.report.add("invalid_tool_call", f"{place}/function", message)
            return
        self._function(cast("dict[str, Json]", function), f"{place}/function")

    def _id(self, value: Json, place: str) -> None:
        spot = f"{place}/id"
        if not isinstance(value, str) or not value:
            if self._rules.arguments == "string":  # local trainers do without ids
                self.report.add("invalid_tool_call", spot, f"the id is {describe(value)}")
            return
        wanted = self._rules.tool_id_length
        if wanted and len(value) != wanted:
            self.report.add("tool_call_id_length", spot, f"{len(value)} characters")
        if value in self._seen:
            self.report.add("duplicate_tool_call_id", spot, f"{shown(value)} stands twice")
        self._seen.add(value)
        self._open[value] = place

    def _function(self, function: Mapping[str, Json], place: str) -> None:
        name = function.get("name")
        if not isinstance(name, str) or not name:
            self.report.add("invalid_tool_call", f"{place}/name", f"it is {describe(name)}")
        elif self._names is not None and name not in self._names:
            message = f"{shown(name)} is not among the {len(self._names)} tools of the row"
            self.report.add("unknown_tool", f"{place}/name", message)
        if not self.report.need(function, "arguments", place):
            return
        self._arguments(function["arguments"], pointer(place, "arguments"))

    def _arguments(self, value: Json, place: str) -> None:
        if isinstance(value, dict) and self._rules.arguments == "either":
            return
        if not isinstance(value, str):
            self.report.add("arguments_not_string", place, f"found {describe(value)}")
            return
        try:
            decoded: Json = json.loads(value)
        except (ValueError, RecursionError):
            self.report.add("arguments_not_json", place, f"{describe(value)}, not JSON")
            return
        if not isinstance(decoded, dict):
            self.report.add("arguments_not_json", place, f"JSON, but {describe(decoded)}")

    def result(self, message: Mapping[str, Json], place: str) -> None:
        """Check one result and close its call."""
        name = message.get("tool_call_id")
        if name is None and self._rules.arguments == "either":
            return
        spot = pointer(place, "tool_call_id")
        if not isinstance(name, str):
            self.report.add("unmatched_tool_result", spot, f"the id is {describe(name)}")
        elif self._open.pop(name, None) is None:
            message_text = "no open call has this id"
            self.report.add("unmatched_tool_result", spot, message_text)

    def next_turn(self) -> None:
        """Report calls that had no result before somebody else spoke."""
        for place in self._open.values():
            self.report.add("unanswered_tool_call", place, "no result before the next turn")
        self._open.clear()
