"""Why a row could not be converted, and what was changed on the way: two closed lists."""

from __future__ import annotations

from typing import Final

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
    "one_of_several": "The row is one of several that came from one row or conversation.",
}


class Unusable(Exception):  # noqa: N818 - it names a row, not an error of the program
    """Raised inside the package for one row that cannot be converted; never leaves it."""

    def __init__(self, code: str) -> None:
        """Keep the code, of :data:`CONVERT_CODES` or the validator's list."""
        super().__init__(code)
        self.code = code
