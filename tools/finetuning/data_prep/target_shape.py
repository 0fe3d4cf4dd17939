"""What is known about a target: its name, its methods, its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Method = Literal["sft", "dpo", "kto", "rft", "grpo", "cpt"]
"""How a model learns from the rows."""

TargetName = Literal[
    "openai_chat",
    "openai_preference",
    "openai_rft",
    "azure_chat",
    "together_chat",
    "together_instruction",
    "together_text",
    "fireworks_chat",
    "bedrock_converse",
    "bedrock_prompt_completion",
    "nova_dpo",
    "vertex_sft",
    "vertex_preference",
    "nebius_chat",
    "aliyun_chat",
    "tinker",
    "trl_messages",
    "trl_prompt_completion",
    "trl_preference",
    "trl_kto",
    "trl_text",
    "alpaca",
    "sharegpt",
    "mistral_chat",
    "bedrock_claude3",
    "cohere_chat",
]
"""Names of the formats; the last three belong to closed services."""


@dataclass(frozen=True, slots=True)
class Target:
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
