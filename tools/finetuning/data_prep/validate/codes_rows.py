"""Codes for faults of the rows: shape, roles, contents, tools, pairs and quality."""

from __future__ import annotations

from typing import Final

from finetuning.files import Code

_CALLS: Final = "Copy calls and results from the API log as they are"

ROW_CODES: Final[dict[str, Code]] = {
    "wrong_format": Code(
        "error",
        "The row has the shape of another format.",
        '{"instruction": …, "output": …} for openai_chat',
        "Convert the file with prepare_data",
    ),
    "two_formats": Code(
        "error",
        "The row has the keys of two formats; Together rejects the file.",
        '{"messages": …, "text": …}',
        "Remove the keys of one of them",
    ),
    "missing_key": Code("error", "A key is missing.", '{"role": "user"}', "Add the key"),
    "unknown_key": Code(
        "warning",
        "A key that the format does not have; an error where the provider refuses it.",
        '{"role": "user", "content": "…", "id": 7}',
        "Remove the key",
    ),
    "wrong_type": Code(
        "error", "A value of the wrong JSON type.", '{"messages": "…"}', "Change its type"
    ),
    "empty_list": Code("error", "A list without items.", '{"messages": []}', "Remove the row"),
    "unknown_role": Code(
        "error",
        "A role that the format does not have.",
        '{"role": "bot"}',
        'Rename it, or pass role_map={"bot": "assistant"} to prepare_data',
    ),
    "role_case": Code("error", "A role in other letter case.", "Assistant", "Use lower case"),
    "role_lookalike": Code(
        "error",
        "A role with letters of another alphabet or hidden characters.",
        "\u0430ssistant with a Cyrillic a",
        "Type the role anew",
    ),
    "role_unverified": Code(
        "warning",
        "A role that the provider's documents do not name for training.",
        "developer",
        "Use system",
    ),
    "missing_content": Code(
        "error", "A message without content.", '{"role": "user", "content": null}', "Fill it"
    ),
    "empty_content": Code(
        "error", "Content that is empty or only white space.", '"content": " "', "Fill it"
    ),
    "invalid_part": Code(
        "error",
        "A content part that the format does not know.",
        '{"type": "video"}',
        "Use the parts that the format documents",
    ),
    "image_not_allowed": Code(
        "error",
        "An image where the format takes none.",
        "an image in an assistant message",
        "Move images to user messages, or choose a target with images",
    ),
    "image_invalid": Code(
        "error",
        "An image that is neither an https address nor a base64 data URI of a known type.",
        "file:///cat.png",
        "Embed it as data:image/png;base64,…",
    ),
    "too_many_images": Code("error", "More than 10 images.", "11 images", "Split the row"),
    "image_too_large": Code(
        "error", "An image over 10 MB.", "a 14 MB data URI", "Scale the image down"
    ),
    "no_assistant": Code(
        "error", "Nothing to learn: no answer in the row.", "only user messages", "Add the answer"
    ),
    "last_not_assistant": Code(
        "error",
        "The last message is not an answer; a warning where the trainer would ignore it.",
        "a conversation that ends in user",
        "Cut the row after the last answer",
    ),
    "last_not_user": Code(
        "error", "The last message of a prompt is not the user's.", "…, assistant", "Cut it off"
    ),
    "first_not_user": Code(
        "error",
        "The conversation does not begin with the user.",
        "assistant, user, assistant",
        "Drop the greeting or put it into the system text",
    ),
    "system_not_first": Code(
        "error",
        "A system message after the start; a warning where the provider takes it.",
        "user, system, assistant",
        "Move it to the front",
    ),
    "several_systems": Code("error", "More than one system text.", "system, system", "Join them"),
    "not_alternating": Code(
        "error",
        "Two messages of one side in a row; a warning where the provider takes it.",
        "user, user, assistant",
        "Join them into one message",
    ),
    "tools_not_allowed": Code(
        "error",
        "Tools, calls or results in a format that cannot hold them.",
        "tool_calls in bedrock_converse",
        "Choose another target, or write calls as text",
    ),
    "tool_definition": Code(
        "error",
        "A tool definition that is malformed.",
        '{"type": "function"} without function.name',
        "Use {type: function, function: {name, description, parameters}}",
    ),
    "tools_missing": Code(
        "warning", "Calls without any tools list.", "tool_calls, no tools", "Add the tools list"
    ),
    "unknown_tool": Code(
        "error", "A call of a tool that the row does not define.", "name: serach", "Fix the name"
    ),
    "invalid_tool_call": Code("error", "A call that is malformed.", "a call without id", _CALLS),
    "duplicate_tool_call_id": Code("error", "Two calls with one id.", "call_1, call_1", _CALLS),
    "tool_call_id_length": Code(
        "error", "Mistral's call ids have exactly 9 characters.", "call_12345", "Shorten the id"
    ),
    "arguments_not_string": Code(
        "error",
        "Call arguments as an object; the format wants a JSON string.",
        '"arguments": {"q": 1}',
        "Use json.dumps on the arguments",
    ),
    "arguments_not_json": Code(
        "error",
        "Call arguments that are not a JSON object.",
        '"arguments": "q=1"',
        "Write them as a JSON object",
    ),
    "unmatched_tool_result": Code(
        "error", "A result for a call that was not made.", "tool_call_id: call_9", _CALLS
    ),
    "unanswered_tool_call": Code(
        "error", "A call without its result before the next turn.", "call, then user", _CALLS
    ),
    "content_with_tool_calls": Code(
        "error", "Mistral takes content or calls, not both.", "both in one", "Split the message"
    ),
    "deprecated_function_call": Code(
        "warning", "The old function_call form.", "role: function", "Use tool_calls and role: tool"
    ),
    "invalid_weight": Code("error", "A weight other than 0 or 1.", '"weight": 0.5', "Use 0 or 1"),
    "misplaced_weight": Code(
        "error", "A weight on a message that is not an answer.", "on user", "Remove it"
    ),
    "all_weights_zero": Code(
        "error", "Every answer has weight 0: nothing to learn.", "weight: 0", "Give one weight 1"
    ),
    "pair_missing": Code(
        "error", "A side of the preference pair is missing.", "no rejected", "Add it"
    ),
    "pair_identical": Code(
        "warning", "Both sides of the pair are the same.", "chosen = rejected", "Remove the row"
    ),
    "pair_count": Code(
        "error",
        "Not exactly two answers to compare.",
        "3 candidates",
        "Keep the best and one other",
    ),
    "pair_scores": Code(
        "error",
        "The two answers are not marked as one preferred and one not.",
        "scores 1 and 1",
        "Give one score 1 (preferred) and one score 0",
    ),
    "invalid_label": Code(
        "error", "A label that is not true or false.", '"yes"', "Use true or false"
    ),
    "one_label_only": Code(
        "warning",
        "KTO needs rows of both labels.",
        "all labels true",
        "Add rows of the other label",
    ),
    "schema_version": Code(
        "error",
        "schemaVersion is missing or not bedrock-conversation-2024.",
        '{"system": …, "messages": …}',
        'Add "schemaVersion": "bedrock-conversation-2024"',
    ),
    "reserved_word": Code(
        "error",
        "A word that fails a Bedrock job when it stands in a text.",
        "User: or [EOS]",
        "Rephrase it, for example 'User -'",
    ),
    "tokens_over_limit": Code(
        "warning",
        "The row is longer than the model reads; an error where the job fails.",
        "70,000 tokens for gpt-4o-mini",
        "Shorten or split the row",
    ),
    "special_token": Code(
        "warning",
        "A chat template's control token as text.",
        "<|im_end|>",
        "Remove it; the template is added in training",
    ),
    "refusal": Code(
        "warning", "An answer that refuses.", "I'm sorry, but I can't", "Drop it unless meant"
    ),
    "mojibake": Code(
        "warning", "Text decoded with the wrong encoding.", "cafÃ©", "Export it again as UTF-8"
    ),
    "invisible_character": Code(
        "warning",
        "Characters that nobody sees: zero-width, direction overrides, tags.",
        "U+200B",
        "Remove them",
    ),
    "control_in_text": Code("warning", "A control character in a text.", "\\u0000", "Remove it"),
    "answer_repeats_prompt": Code(
        "warning", "The answer is the prompt word for word.", "echo", "Check the columns"
    ),
}
