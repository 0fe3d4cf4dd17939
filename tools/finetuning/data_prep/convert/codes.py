"""The closed lists of conversion: reasons, changes, and what each target can carry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from finetuning.files import Code

CONVERT_CODES: Final[dict[str, Code]] = {
    "unknown_shape": Code(
        "error",
        "The row has none of the known shapes, and its columns do not say what asks and answers.",
        '{"a": 1, "b": 2}',
        "Name the columns with prompt_column and completion_column",
    ),
    "message_malformed": Code(
        "error",
        "A turn is not an object with a role and a content that can be read.",
        '{"messages": ["hello"]}',
        'Write each turn as {"role": …, "content": …}',
    ),
    "prompt_missing": Code(
        "error",
        "There is nothing that asks: the prompt is empty or absent.",
        '{"prompt": "", "completion": "yes"}',
        "Fill the prompt in the source, or leave the row out",
    ),
    "answer_missing": Code(
        "error",
        "There is nothing that answers: the answer is empty or absent.",
        '{"prompt": "hi", "completion": ""}',
        "Fill the answer in the source, or leave the row out",
    ),
    "verdict_missing": Code(
        "error",
        "The target wants good and bad answers told apart; the row does not say which it is.",
        "a chat, target trl_kto",
        "Name the column that says true or false with label_column",
    ),
    "answer_disliked": Code(
        "error",
        "The answer is marked as bad, and the target trains on every answer.",
        '{"prompt": …, "completion": …, "label": false}',
        "Choose the target trl_kto, which learns from bad answers too",
    ),
    "turns_not_held": Code(
        "error",
        "The target holds chats, and the row is running text without turns.",
        '{"text": …}, target openai_chat',
        "Choose the target trl_text or together_text",
    ),
    "no_turns": Code(
        "error",
        "Nothing that a person said is left: only notes, bots, deleted messages and events.",
        "a ticket that was merged into another",
        "Nothing to do, or let bots answer with role_map, for example {'bot': 'assistant'}",
    ),
    "review_rejected": Code(
        "error",
        "A person rejected the row on a review sheet.",
        "decision reject in reviews_file",
        "Nothing to do: the person decided",
    ),
    "annotators_disagree": Code(
        "error",
        "Several annotators answered this prompt and no answer has most votes.",
        "two annotators, two labels",
        "Let a third person decide",
    ),
    "outvoted": Code(
        "error",
        "Another answer to this prompt has more annotators' votes, or this vote repeats it.",
        "three annotators, this one alone",
        "Nothing to do: the answer with most votes is kept once",
    ),
}
"""Reasons that only a conversion can have.

It also gives reasons of the validator's list: unknown_role, tools_not_allowed, image_not_allowed,
arguments_not_json, pair_missing, empty_content, too_deep.
"""

NOTES: Final[dict[str, str]] = {
    "role_renamed": "A role was written in its usual word (human → user, bot → assistant …).",
    "parts_joined": "Text parts of a turn were joined with line feeds.",
    "value_as_text": "A number, list or object was written as JSON text.",
    "arguments_as_text": "Tool-call arguments were written as a JSON string.",
    "tool_ids_added": "Tool calls and results without ids were given matching ones.",
    "turns_merged": "Turns of one speaker in a row were joined, as the target wants alternation.",
    "trailing_turns_cut": "Turns after the last answer were left out: nothing answers them.",
    "empty_turns_left_out": "Rows of a conversation without any text were left out.",
    "turns_flattened": "Earlier turns became one prompt text, each line led by its role.",
    "system_folded": "The system text was put in front of the prompt.",
    "system_moved": "System texts were joined and put first.",
    "weights_left_out": "Weights of turns were left out: the target has none.",
    "reasoning_left_out": "Reasoning texts were left out: the target has no place for them.",
    "names_left_out": "Names of speakers were left out.",
    "keys_left_out": "Keys that no training format reads were left out.",
    "tools_left_out": "A list of tools that the row never calls was left out.",
    "rejected_left_out": "The rejected answer was left out: the target trains on good ones.",
    "verdict_left_out": "The verdict on the answer was left out: the target trains on good ones.",
    "reference_moved": "The answer became the reference that a grader reads.",
    "times_unreadable": "Times could not be read, so the turns kept the order of the file.",
    "leading_turns_cut": "Answers before the first question were left out.",
    "internal_notes_left_out": "Notes that support wrote for itself were left out.",
    "bots_left_out": "Messages of bots were left out; role_map={'bot': 'assistant'} keeps them.",
    "events_left_out": "What the program wrote by itself (status, merge, set-up) was left out.",
    "deleted_left_out": "Deleted or redacted messages were left out.",
    "attachments_left_out": "Files and pictures were left out; the words around them stay.",
    "quotes_left_out": "The quoted mail below an answer, or the mail's signature, was left out.",
    "branches_left_out": "Parts of a session that were taken back and typed anew were left out.",
    "unanswered_calls_left_out": "Tool calls that never got a result were left out.",
    "unmatched_results_left_out": "Tool results without their call were left out.",
    "roles_by_requester": "The export does not say who is staff: all but the requester answer.",
    "parts_not_in_export": "The conversation has more parts than the export holds.",
    "edited_in_review": "A person edited the row on a review sheet.",
    "one_of_several": "The row is one of several that came from one row or conversation.",
}


class Unusable(Exception):  # noqa: N818 - it names a row, not an error of the program
    """Raised inside the package for one row that cannot be converted; never leaves it."""

    def __init__(self, code: str) -> None:
        """Keep the code, of :data:`CONVERT_CODES` or the validator's list."""
        super().__init__(code)
        self.code = code


Form = Literal["chat", "pair", "preference", "binary", "graded", "text"]
"""What a row of the target is: turns, prompt and completion, two answers, one judged answer,
a prompt with a reference for a grader, or running text."""


@dataclass(frozen=True, slots=True)
class Holds:
    """What one target carries.

    Attributes:
        form: What a row is.
        tools: Tool calls and their results.
        media: Images and other parts that are not text.
        weights: A weight of 0 or 1 on assistant turns.
        names: Names of speakers.
        alternating: User and assistant must take turns, the user first.
        system_first: One system text at most, before everything else.
    """

    form: Form
    tools: bool = False
    media: bool = False
    weights: bool = False
    names: bool = False
    alternating: bool = False
    system_first: bool = False


_OPENAI: Final = Holds("chat", tools=True, media=True, weights=True, names=True)
_PAIR: Final = Holds("pair")
_TEXT: Final = Holds("text")
_STRICT: Final = Holds("chat", alternating=True, system_first=True)

HOLDS: Final[dict[str, Holds]] = {
    "openai_chat": _OPENAI,
    "openai_preference": Holds("preference", tools=True, media=True, names=True),
    "openai_rft": Holds("graded", tools=True, media=True, names=True),
    "azure_chat": _OPENAI,
    "together_chat": replace(_OPENAI, alternating=True, system_first=True),
    "together_instruction": _PAIR,
    "together_text": _TEXT,
    "fireworks_chat": replace(_OPENAI, system_first=True),
    "bedrock_converse": _STRICT,
    "bedrock_prompt_completion": _PAIR,
    "nova_dpo": Holds("preference", alternating=True, system_first=True),
    "vertex_sft": Holds("chat", tools=True, alternating=True, system_first=True),
    "vertex_preference": Holds("preference", alternating=True, system_first=True),
    "nebius_chat": _OPENAI,
    "aliyun_chat": Holds("chat", tools=True, media=True, system_first=True),
    "tinker": Holds("chat", tools=True, media=True, names=True),
    "trl_messages": Holds("chat", tools=True, media=True, names=True),
    "trl_prompt_completion": _PAIR,
    "trl_preference": Holds("preference"),
    "trl_kto": Holds("binary"),
    "trl_text": _TEXT,
    "alpaca": _STRICT,
    "sharegpt": Holds("chat", tools=True, alternating=True, system_first=True),
    "mistral_chat": Holds("chat", tools=True, names=True, alternating=True, system_first=True),
    "bedrock_claude3": _STRICT,
    "cohere_chat": _STRICT,
}
"""Source: data-formats facts of each provider (checked 2026-11-20); knowledge: data-prep.md."""
