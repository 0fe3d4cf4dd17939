"""What each chat format allows in its messages.

Severities follow the provider: ``error`` where it refuses the row, ``warning`` where it takes
the row and the model learns the worse for it, None where nothing is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from finetuning.records import Severity


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
