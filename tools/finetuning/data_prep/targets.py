"""The validation and conversion targets: facts about each format, and what chat formats allow.

To add one, add its name and a row here, its row checker in ``validate/rows.py`` and its line in
``data-prep.md``; a test compares the three.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from finetuning.errors import BadInputError, UnknownNameError
from finetuning.records import Severity

Method = Literal["sft", "dpo", "kto", "rft", "grpo", "cpt"]
"""How a model learns from the rows."""

TargetName = Literal[
    "openai_chat", "openai_preference", "openai_rft", "azure_chat", "together_chat",
    "together_instruction", "together_text", "fireworks_chat", "bedrock_converse",
    "bedrock_prompt_completion", "nova_dpo", "vertex_sft", "vertex_preference", "nebius_chat",
    "aliyun_chat", "tinker", "trl_messages", "trl_prompt_completion", "trl_preference", "trl_kto",
    "trl_text", "alpaca", "sharegpt", "mistral_chat", "bedrock_claude3", "cohere_chat",
]  # fmt: skip
"""Names of the formats; the last three belong to closed services."""


class Target(NamedTuple):
    """Facts about one format.

    Attributes:
        name: The target's name.
        description: Shape of a row and who reads it.
        methods: Methods it serves; the first is the default.
        min_rows: Fewest rows the provider accepts (None: no rule found).
        advised_rows: Fewest rows its documentation advises.
        max_rows: Most rows the provider accepts.
        max_bytes: Largest file the provider accepts (MB = 10**6 bytes).
        max_row_tokens: Longest row, unless ``model`` says otherwise.
        long_row: What happens to a longer row: it is cut, or the job fails.
        prompt_billed_twice: Google bills a preference row's prompt once per completion.
        closed: Why nothing new can be trained with it, or None.
        source: Where the facts come from, with the day they were checked.
    """

    name: str
    description: str
    methods: tuple[Method, ...]
    min_rows: int | None = None
    advised_rows: int | None = None
    max_rows: int | None = None
    max_bytes: int | None = None
    max_row_tokens: int | None = None
    long_row: Literal["cut", "fails"] = "cut"
    prompt_billed_twice: bool = False
    closed: str | None = None
    source: str = ""

    @property
    def method(self) -> Method:
        """The method that the target serves by default."""
        return self.methods[0]


_OPENAI = "openai/openai-openapi and developers.openai.com (checked 2026-08-21)"
_AZURE = "MicrosoftDocs/azure-ai-docs (checked 2026-02-17)"
_TOGETHER = "together 3.1.1 and docs.together.ai (checked 2026-08-18)"
_FIREWORKS = "fireworks-ai 1.2.28 and docs.fireworks.ai (checked 2026-11-20)"
_BEDROCK = "docs.aws.amazon.com/bedrock (checked 2026-11-20)"
_NOVA = "docs.aws.amazon.com/nova and aws-samples validator @7a8cfea (checked 2026-11-20)"
_VERTEX = "docs.cloud.google.com Gemini tuning pages (checked 2026-11-20)"
_TRL = "trl 1.16.0 dataset_formats (checked 2026-11-20)"
_COMMUNITY = "LLaMA-Factory data/README.md (checked 2026-11-20)"
_MB = 10**6

# fmt: off
_ROWS: Final[tuple[Target, ...]] = (
    Target("openai_chat", "messages (system, user, assistant, tool), optional tools; OpenAI",
        ("sft",), min_rows=10, advised_rows=50, max_bytes=512 * _MB, source=_OPENAI),
    Target("openai_preference",
        "input.messages, preferred_output, non_preferred_output; OpenAI and most others", ("dpo",),
        min_rows=10, max_bytes=512 * _MB, source=_OPENAI),
    Target("openai_rft",
        "messages that end in user, plus the keys that graders read; Azure, Bedrock", ("rft",),
        min_rows=10, max_rows=20_000, max_bytes=512 * _MB,
        source=_OPENAI + "; the row maximum is Bedrock's"),
    Target("azure_chat", "as openai_chat, saved as UTF-8 with byte-order mark; Azure", ("sft",),
        min_rows=10, advised_rows=50, max_bytes=512 * _MB, source=_AZURE),
    Target("together_chat", "messages, strictly alternating, optional row weight; Together",
        ("sft",), min_rows=1, max_bytes=100_000 * _MB, source=_TOGETHER),
    Target("together_instruction", "prompt and completion; Together", ("sft",), min_rows=1,
        max_bytes=100_000 * _MB, source=_TOGETHER),
    Target("together_text", "text; Together", ("cpt", "sft"), min_rows=1, max_bytes=100_000 * _MB,
        source=_TOGETHER),
    Target("fireworks_chat", "messages, system first, optional tools; Fireworks", ("sft",),
        min_rows=3, max_rows=3_000_000, source=_FIREWORKS),
    Target("bedrock_converse",
        "schemaVersion, system[], messages[] with content parts; Nova, Llama 3.2 and 3.3", ("sft",),
        min_rows=8, advised_rows=100, max_rows=20_000, long_row="fails", source=_NOVA),
    Target("bedrock_prompt_completion", "prompt and completion; Bedrock Llama 3.1, Titan", ("sft",),
        max_row_tokens=16_000, long_row="fails", source=_BEDROCK),
    Target("nova_dpo", "as bedrock_converse, the last turn with candidates[]; Nova on SageMaker",
        ("dpo",), advised_rows=1_000, source=_NOVA),
    Target("vertex_sft",
        "contents[] (user, model) with parts, systemInstruction, optional tools; Gemini", ("sft",),
        advised_rows=100, max_rows=10_000_000, max_bytes=1_000 * _MB, max_row_tokens=131_072,
        source=_VERTEX),
    Target("vertex_preference",
        "contents[] that end in user, completions[] with score 1 (preferred) and 0; Gemini",
        ("dpo",), advised_rows=100, max_bytes=1_000 * _MB, max_row_tokens=131_072,
        prompt_billed_twice=True, source=_VERTEX),
    Target("nebius_chat", "as openai_chat; Nebius", ("sft",),
        source="data formats of the Nebius API, which follow OpenAI's (checked 2026-08-21)"),
    Target("aliyun_chat",
        "messages (system, user, assistant) without name and weight; Alibaba Model Studio",
        ("sft",), source="help.aliyun.com/document_detail/2712471 (checked 2026-11-20)"),
    Target("tinker", "messages; the Tinker cookbook's renderers", ("sft", "rft"),
        source="tinker 0.38.0 and tinker-cookbook (checked 2026-08-19)"),
    Target("trl_messages", "messages; TRL and this library", ("sft", "grpo"), source=_TRL),
    Target("trl_prompt_completion",
        "prompt and completion, texts or messages; TRL and this library", ("sft", "grpo"),
        source=_TRL),
    Target("trl_preference", "prompt, chosen, rejected, texts or messages; TRL", ("dpo",),
        source=_TRL),
    Target("trl_kto", "prompt, completion, label (true or false); TRL", ("kto",), source=_TRL),
    Target("trl_text", "text; TRL, continued pre-training", ("cpt", "sft"), source=_TRL),
    Target("alpaca",
        "instruction, input, output, optional system and history; LLaMA-Factory, Axolotl", ("sft",),
        source=_COMMUNITY),
    Target("sharegpt", "conversations[] of from and value; LLaMA-Factory, Axolotl", ("sft",),
        source=_COMMUNITY),
    Target("mistral_chat", "messages, tool-call ids of 9 characters; Mistral", ("sft",),
        max_bytes=512 * _MB, closed="Mistral's hosted fine-tuning is closed to new jobs",
        source="mistralai/platform-docs-public @222f4ba (checked 2026-08-21)"),
    Target("bedrock_claude3",
        "system as text, messages strictly alternating; Claude 3 Haiku on Bedrock", ("sft",),
        min_rows=32, max_rows=10_000, max_bytes=10_000 * _MB, max_row_tokens=32_000,
        long_row="fails", closed="Claude 3 Haiku on Bedrock ended on 2026-09-10", source=_BEDROCK),
    Target("cohere_chat", "messages with roles System, User, Chatbot; Cohere", ("sft",), min_rows=2,
        closed="Cohere's hosted fine-tuning was retired on 2025-09-15",
        source="docs.cohere.com/docs/chat-preparing-the-data (checked 2026-11-20)"),
)
# fmt: on

TARGETS: Final[dict[str, Target]] = {target.name: target for target in _ROWS}
"""Every target by name."""


def find_target(name: str, *, where: str) -> Target:
    """Return the target of a name.

    Raises:
        UnknownNameError: There is no such target; the nearest are named.
    """
    if name not in TARGETS:
        raise UnknownNameError(where, "target", name, TARGETS)
    return TARGETS[name]


def method_for(target: Target, method: str | None, *, where: str) -> Method:
    """Return the method to use: the one asked for, or the target's default.

    Raises:
        BadInputError: The target does not serve the method asked for.
    """
    if method is None:
        return target.method
    for known in target.methods:
        if known == method:
            return known
    raise BadInputError(
        where,
        f"method={method!r} does not go with target={target.name!r}",
        f"method {' or '.join(target.methods)}",
        f"Leave method out, or pass method={target.method!r}",
    )


class ChatRules(NamedTuple):
    """Rules of one chat format.

    Severities follow the provider: ``error`` where it refuses the row, ``warning`` where it takes
    the row and the model learns the worse for it, None where nothing is wrong.

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


_OPENAI_RULES: Final = ChatRules(
    roles=("system", "user", "assistant", "tool", "function"),
    unverified_roles=("developer",),
    system_late="warning",
    weights=True,
    images="any",
    row_keys=frozenset({"tools", "parallel_tool_calls", "functions"}),
    message_keys=frozenset({"name", "refusal", "audio"}),
    other_message_keys="error",
)
_TOGETHER_RULES: Final = ChatRules(
    not_alternating="error",
    starts_with_user="error",
    weights=True,
    images="data",
    row_keys=frozenset({"tools", "weight"}),
    message_keys=frozenset({"name", "reasoning", "reasoning_content"}),
)
_LOCAL_RULES: Final = ChatRules(
    unverified_roles=("developer",),
    system_late="warning",
    ends_with_answer="warning",
    arguments="either",
    images="any",
    other_row_keys=None,
    message_keys=frozenset({"name", "reasoning_content", "thinking"}),
)

CHAT_RULES: Final[dict[str, ChatRules]] = {
    "openai_chat": _OPENAI_RULES,
    "azure_chat": _OPENAI_RULES,
    "nebius_chat": _OPENAI_RULES,
    "openai_rft": _OPENAI_RULES._replace(other_row_keys=None, weights=False),
    "together_chat": _TOGETHER_RULES,
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
    "tinker": _LOCAL_RULES,
    "trl_messages": _LOCAL_RULES._replace(row_keys=frozenset({"tools"})),
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
"""Rules by target. Sources: the target's row above."""
