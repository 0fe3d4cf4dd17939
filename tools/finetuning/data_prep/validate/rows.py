"""One door to the row checks of all targets, and the formats without chat parts.

These are prompt and completion, text, pairs, alpaca and sharegpt.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Final, cast

from finetuning.data_prep.targets import CHAT_RULES, ChatRules, Method
from finetuning.data_prep.validate.chat import End, check_chat_row, check_messages
from finetuning.data_prep.validate.parts import (
    check_converse,
    check_gemini,
    check_gemini_preference,
)
from finetuning.data_prep.validate.reports import RowReport, describe, kind, shown, tool_names
from finetuning.data_prep.validate.texts import check_texts
from finetuning.records import Json, Severity

Row = Mapping[str, Json]

_OPENAI: Final = CHAT_RULES["openai_chat"]._replace(weights=False)
_TRL: Final = CHAT_RULES["trl_messages"]
_HUMAN: Final = frozenset({"human", "user", "observation", "tool", "function_response"})
_MODEL: Final = frozenset({"gpt", "assistant", "model", "chatgpt", "function_call", "bing"})


def check_text(row: Mapping[str, Json], report: RowReport, *, others: Severity | None) -> None:
    """Check a row ``{text}``."""
    report.only(row, frozenset({"text", "weight"}), "", others)
    if report.need(row, "text", ""):
        report.text(row["text"], "/text")


def check_instruction(
    row: Mapping[str, Json],
    report: RowReport,
    *,
    others: Severity | None,
    needs_completion: bool = True,
) -> None:
    """Check a row ``{prompt, completion}`` of two strings."""
    report.only(row, frozenset({"prompt", "completion", "weight"}), "", others)
    prompt = report.text(row["prompt"], "/prompt") if report.need(row, "prompt", "") else None
    if not needs_completion and "completion" not in row:
        return
    if not report.need(row, "completion", ""):
        return
    completion = report.text(row["completion"], "/completion")
    if prompt and completion and prompt.strip() and prompt.strip() == completion.strip():
        report.add("answer_repeats_prompt", "/completion", f"both are {describe(prompt)}")


def _either(value: Json, place: str, report: RowReport, *, answer: bool) -> None:
    """Check a TRL value that is a text or a list of messages."""
    if isinstance(value, list):
        end: End = "answer" if answer else "any"
        check_messages(value, place, _TRL, report, end=end, order=not answer)
    else:
        report.text(value, place)


def check_trl_prompt_completion(
    row: Mapping[str, Json], report: RowReport, *, needs_completion: bool
) -> None:
    """Check a TRL row ``{prompt, completion}``: both texts, or both lists of messages."""
    if not any(isinstance(row.get(key), list) for key in ("prompt", "completion")):
        check_instruction(row, report, others=None, needs_completion=needs_completion)
        return
    for key in ("prompt", "completion"):
        if key not in row and key == "completion" and not needs_completion:
            continue
        if report.need(row, key, ""):
            _either(row[key], f"/{key}", report, answer=key == "completion")
    _same_kind(row, ("prompt", "completion"), report)


def _same_kind(row: Mapping[str, Json], keys: tuple[str, ...], report: RowReport) -> None:
    """Report a row that mixes texts with lists of messages."""
    kinds = {kind(row[key]) for key in keys if isinstance(row.get(key), str | list)}
    if len(kinds) > 1:
        names = " and ".join(keys)
        report.add("wrong_type", None, f"{names} mix texts and lists of messages")


def check_trl_preference(row: Mapping[str, Json], report: RowReport) -> None:
    """Check a TRL row ``{prompt, chosen, rejected}``; the prompt may be inside the two."""
    if "prompt" in row:
        _either(row["prompt"], "/prompt", report, answer=False)
    present = [key for key in ("chosen", "rejected") if key in row]
    for key in ("chosen", "rejected"):
        if key not in row:
            report.add("pair_missing", f"/{key}", f"the key {key!r} is missing")
        else:
            _either(row[key], f"/{key}", report, answer=True)
    if len(present) == 2 and row["chosen"] == row["rejected"]:
        report.add("pair_identical", "/rejected", f"both are {describe(row['chosen'])}")
    _same_kind(row, ("chosen", "rejected"), report)


def check_trl_kto(row: Mapping[str, Json], report: RowReport) -> None:
    """Check a TRL row ``{prompt, completion, label}``."""
    for key in ("prompt", "completion"):
        if report.need(row, key, ""):
            _either(row[key], f"/{key}", report, answer=key == "completion")
    if report.need(row, "label", "") and not isinstance(row["label"], bool):
        report.add("invalid_label", "/label", f"found {describe(row['label'])}")


def check_openai_preference(row: Mapping[str, Json], report: RowReport) -> None:
    """Check a row ``{input, preferred_output, non_preferred_output}``."""
    sides = ("preferred_output", "non_preferred_output")
    report.only(row, frozenset({"input", "weight", *sides}), "", "warning")
    tools: set[str] | None = None
    if report.need(row, "input", ""):
        fields = report.object(row["input"], "/input")
        known = frozenset({"messages", "tools", "parallel_tool_calls"})
        report.only(fields or {}, known, "/input", "warning")
        if fields is not None and report.need(fields, "messages", "/input"):
            tools = tool_names(fields.get("tools"), "/input/tools", report)
            place = "/input/messages"
            check_messages(fields["messages"], place, _OPENAI, report, tools=tools, end="user")
    for side in sides:
        if side not in row:
            report.add("pair_missing", f"/{side}", f"the key {side!r} is missing")
            continue
        roles = check_messages(row[side], f"/{side}", _OPENAI, report, tools=tools, order=False)
        answers = [role for role in roles if role != "tool"]
        if any(role not in {"assistant", ""} for role in answers):
            report.add("unknown_role", f"/{side}", "an answer of another role than assistant")
        elif len(answers) > 1:
            message = f"{len(answers)} answers; Together takes exactly one"
            report.add("pair_count", f"/{side}", message, severity="warning")
    if all(side in row for side in sides) and row[sides[0]] == row[sides[1]]:
        report.add("pair_identical", f"/{sides[1]}", "both outputs are the same")


def check_alpaca(row: Mapping[str, Json], report: RowReport) -> None:
    """Check a row ``{instruction, input, output}``."""
    for key in ("instruction", "output"):
        if report.need(row, key, ""):
            report.text(row[key], f"/{key}")
    for key in ("input", "system"):
        if row.get(key) is not None:
            report.text(row[key], f"/{key}", empty=None)
    history = row.get("history")
    if history is None:
        return
    for at, turn in enumerate((history and report.items(history, "/history")) or []):
        texts = cast("list[Json]", turn) if isinstance(turn, list) else []
        if len(texts) != 2 or not all(isinstance(text, str) for text in texts):
            message = f"expected two texts, found {describe(turn)}"
            report.add("wrong_type", f"/history/{at}", message)


def _speaker(message: Mapping[str, Json], place: str, report: RowReport) -> str:
    if not report.need(message, "from", place):
        return ""
    speaker = message["from"]
    if not isinstance(speaker, str):
        report.add("wrong_type", f"{place}/from", f"expected a string, found {describe(speaker)}")
        return ""
    if speaker in _HUMAN:
        return "human"
    if speaker in _MODEL:
        return "gpt"
    if speaker == "system":
        return speaker
    lower = speaker.lower() in _HUMAN | _MODEL | {"system"}
    code = "role_case" if lower else "unknown_role"
    report.add(code, f"{place}/from", f"{shown(speaker)}; expected system, human or gpt")
    return ""


def check_sharegpt(row: Mapping[str, Json], report: RowReport) -> None:
    """Check a row ``{conversations: [{from, value}]}``."""
    if row.get("system") is not None:
        report.text(row["system"], "/system", empty=None)
    if not report.need(row, "conversations", ""):
        return
    speakers: list[str] = []
    for at, item in enumerate(report.items(row["conversations"], "/conversations") or []):
        place = f"/conversations/{at}"
        fields = report.object(item, place)
        if fields is None:
            speakers.append("")
            continue
        speakers.append(_speaker(fields, place, report))
        if report.need(fields, "value", place):
            report.text(fields["value"], f"{place}/value")
    _sharegpt_order(speakers, _TRL, report)


def _sharegpt_order(speakers: list[str], rules: ChatRules, report: RowReport) -> None:
    """LLaMA-Factory drops rows whose sides do not alternate human, gpt from the start."""
    base = "/conversations"
    if speakers[1:].count("system"):
        at = speakers.index("system", 1)
        report.add("system_not_first", f"{base}/{at}", f"message {at + 1}")
    spoken = [(at, name) for at, name in enumerate(speakers) if name not in {"system", ""}]
    if not spoken or not all(speakers):
        return
    if spoken[0][1] != "human":
        report.add("first_not_user", f"{base}/{spoken[0][0]}", "'gpt' speaks first")
    for (_, before), (at, now) in itertools.pairwise(spoken):
        if now == before:
            report.add("not_alternating", f"{base}/{at}", f"{now!r} twice in a row")
    if "gpt" not in speakers:
        report.add("no_assistant", base, f"no 'gpt' in {len(speakers)} messages")
    elif spoken[-1][1] != "gpt":
        place = f"{base}/{spoken[-1][0]}"
        severity = rules.ends_with_answer
        report.add("last_not_assistant", place, "'human' is last", severity=severity)


_SHAPES: Final[dict[str, tuple[str, str]]] = {
    "conversations (sharegpt)": ("conversations", "sharegpt"),
    "preference (openai_preference)": ("preferred_output", "openai_preference"),
    "preference (vertex_preference)": ("contents completions", "vertex_preference"),
    "contents (vertex_sft)": ("contents", "vertex_sft"),
    "preference (trl_preference)": ("chosen rejected", "trl_preference"),
    "messages": ("messages", ""),
    "instruction and output (alpaca)": ("instruction output", "alpaca"),
    "prompt and completion": (
        "prompt completion",
        "together_instruction bedrock_prompt_completion trl_prompt_completion trl_kto",
    ),
    "text": ("text", "together_text trl_text"),
}
"""What a row looks like, by the keys that it must have (the first that fits is it), and the
targets whose own rows look so; all other targets have messages."""

SHAPES: Final = {name: frozenset(keys.split()) for name, (keys, _) in _SHAPES.items()}
_OWN_SHAPE: Final = {own: name for name, (_, owns) in _SHAPES.items() for own in owns.split()}
_TOGETHER_KEYS: Final = frozenset({"messages", "prompt", "text", "preferred_output"})
_RESERVED_WORDS: Final = frozenset({"bedrock_converse", "nova_dpo", "bedrock_prompt_completion"})


def shape_of(row: Row) -> str | None:
    """Return what format family a row looks like, or None."""
    return next((name for name, keys in SHAPES.items() if keys <= row.keys()), None)


_CHECKS: Final[dict[str, Callable[[Row, RowReport], None]]] = {
    "openai_preference": check_openai_preference,
    "bedrock_converse": lambda row, report: check_converse(row, report, preference=False),
    "nova_dpo": lambda row, report: check_converse(row, report, preference=True),
    "vertex_sft": check_gemini,
    "vertex_preference": check_gemini_preference,
    "together_instruction": lambda row, report: check_instruction(row, report, others="warning"),
    "bedrock_prompt_completion": lambda row, report: check_instruction(row, report, others="error"),
    "together_text": lambda row, report: check_text(row, report, others="warning"),
    "trl_text": lambda row, report: check_text(row, report, others=None),
    "trl_preference": check_trl_preference,
    "trl_kto": check_trl_kto,
    "alpaca": check_alpaca,
    "sharegpt": check_sharegpt,
}


def _check(target: str, method: Method, row: Row, report: RowReport) -> None:
    if target in CHAT_RULES:
        learnt: End = "answer" if method == "sft" else "any"
        end: End = "user" if target == "openai_rft" else learnt
        check_chat_row(row, CHAT_RULES[target], report, end=end)
    elif target == "trl_prompt_completion":
        check_trl_prompt_completion(row, report, needs_completion=method != "grpo")
    else:
        _CHECKS[target](row, report)


def _two_formats(target: str, method: Method, row: Row, report: RowReport) -> None:
    """Report a row of the target that has the keys of another format, too."""
    mine, keys = SHAPES[_OWN_SHAPE.get(target, "messages")], row.keys()
    spared = {"text"} if method in {"rft", "grpo"} else set[str]()  # graders read keys of any name
    fits = (other for other in SHAPES.values() if other <= keys and not other <= spared)
    others = [other for other in fits if mine <= keys and not (other <= mine or mine <= other)]
    refused = target.startswith("together") and len(_TOGETHER_KEYS & keys) > 1
    if refused or others:
        both = _TOGETHER_KEYS & keys if refused else mine.union(*others)
        message = f"the row has {' and '.join(sorted(both))}"
        report.add("two_formats", None, message, severity="error" if refused else "warning")


def check_row(target: str, method: Method, row: dict[str, Json], report: RowReport) -> None:
    """Check a decoded row against a known target; findings go to the report."""
    own, found = _OWN_SHAPE.get(target, "messages"), shape_of(row)
    foreign = found is not None and found != own and not SHAPES[own] <= row.keys()
    if foreign and not (target == "vertex_preference" and "contents" in row):
        report.add("wrong_format", None, f"the row looks like {found}; expected {own}")
    else:
        _check(target, method, row, report)
    _two_formats(target, method, row, report)
    check_texts(row, report, reserved_words=target in _RESERVED_WORDS)
