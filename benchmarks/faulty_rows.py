"""A file of chat rows among which a known thousand have a known fault.

Run: ``python benchmarks/faulty_rows.py OUT.jsonl [--rows 200000] [--seed 5]``. Of 52 kinds of
faults there are 20 rows each; 1,000 more rows are unusual but without fault (calls, weights,
escapes, joined emoji, flags, words that only look like a fault), so that a careless checker
raises false alarms. The truth is written beside it: ``OUT.truth.json``, line to kind.

It imports nothing of the library that the files judge.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import cast

from chat_rows import ChatRows, Message, Row

PER_KIND = 20
ODD_ROWS = 1_000

Make = Callable[[Row, random.Random], bytes]


def _dump(row: object) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _turns(row: Row) -> list[Message]:
    return cast("list[Message]", row["messages"])


def _say(row: Row, text: str) -> Row:
    """Put a text into the middle of the last answer."""
    last = _turns(row)[-1]
    content = cast("str", last["content"])
    middle = content.find(" ", len(content) // 2) + 1
    last["content"] = content[:middle] + text + content[middle:]
    return row


def _last(**changes: object) -> Make:
    """Return a maker that changes the last message."""

    def make(row: Row, _: random.Random) -> bytes:
        _turns(row)[-1].update(changes)
        return _dump(row)

    return make


def _without(key: str) -> Make:
    def make(row: Row, _: random.Random) -> bytes:
        del _turns(row)[-1][key]
        return _dump(row)

    return make


def _saying(text: str) -> Make:
    return lambda row, _: _dump(_say(row, text))


def _raw(text: str, raw: bytes) -> Make:
    """Return a maker that puts bytes in the place of a text."""
    return lambda row, _: _dump(_say(row, text)).replace(text.encode(), raw, 1)


def _instead(value: object) -> Make:
    return lambda _row, _rng: _dump(value)


def _messages(value: object) -> Make:
    return lambda row, _: _dump(row | {"messages": value})


def _weights(**by_role: object) -> Make:
    def make(row: Row, _: random.Random) -> bytes:
        for turn in _turns(row):
            if turn["role"] in by_role:
                turn["weight"] = by_role[cast("str", turn["role"])]
        return _dump(row)

    return make


CALL: Message = {
    "id": "call_7f3a91",
    "type": "function",
    "function": {"name": "get_order", "arguments": '{"number": "17"}'},
}
RESULT: Message = {"role": "tool", "tool_call_id": "call_7f3a91", "content": '{"state": "sent"}'}
TOOLS: list[Message] = [
    {"type": "function", "function": {"name": "get_order", "parameters": {"type": "object"}}}
]


def _calling(call: Message, *results: Message) -> Make:
    """Return a maker of a conversation that calls a tool before its last answer."""

    def make(row: Row, _: random.Random) -> bytes:
        asked: Message = {"role": "assistant", "content": None, "tool_calls": [CALL | call]}
        _turns(row)[-1:-1] = [asked, *results]
        return _dump(row | {"tools": TOOLS})

    return make


def _function(**changes: object) -> Message:
    return {"function": cast("Message", CALL["function"]) | changes}


def _two_calls(row: Row, _: random.Random) -> bytes:
    asked: Message = {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]}
    _turns(row)[-1:-1] = [asked, RESULT]
    return _dump(row | {"tools": TOOLS})


def _cut(row: Row, rng: random.Random) -> bytes:
    raw = json.dumps(row)
    return raw[: rng.randrange(len(raw) // 2, len(raw) - 3)].encode()


def _twice(row: Row, _: random.Random) -> bytes:
    return _dump(row).replace(b'{"role": "assistant"', b'{"role": "user", "role": "assistant"', 1)


def _asks_last(row: Row, _: random.Random) -> bytes:
    _turns(row).append({"role": "user", "content": "And then, what comes after that one?"})
    return _dump(row)


def _no_answer(row: Row, _: random.Random) -> bytes:
    return _dump({"messages": [turn for turn in _turns(row) if turn["role"] != "assistant"]})


def _late_system(row: Row, _: random.Random) -> bytes:
    _turns(row)[-1:-1] = [{"role": "system", "content": "Answer in one sentence from here on."}]
    return _dump(row)


def _two_asks(row: Row, _: random.Random) -> bytes:
    _turns(row)[-1:-1] = [{"role": "user", "content": "It is about the blue one, by the way."}]
    return _dump(row)


def _refuses(row: Row, _: random.Random) -> bytes:
    _turns(row)[-1]["content"] = "I'm sorry, but I can't help with that request at the moment."
    return _dump(row)


def _image(kind: str, role: str, url: str) -> Make:
    def make(row: Row, _: random.Random) -> bytes:
        turn = next(turn for turn in _turns(row) if turn["role"] == role)
        turn["content"] = [
            {"type": "text", "text": "What is on the picture?"},
            {"type": kind, kind: {"url": url}},
        ]
        return _dump(row)

    return make


FAULTS: dict[str, tuple[Make, set[str]]] = {
    "latin1": (_raw("café", b"caf\xe9"), {"invalid_utf8"}),
    "overlong": (_raw("A/B", b"A\xc0\xafB"), {"overlong_utf8"}),
    "cesu8": (_raw("smile", b"\xed\xa0\xbd\xed\xb8\x80"), {"cesu8"}),
    "nul": (_raw("nil", b"n\x00l"), {"nul_character"}),
    "tab": (_raw("tab", b"t\tb"), {"control_character"}),
    "cut": (_cut, {"truncated_json"}),
    "python": (lambda row, _: str(row).encode(), {"single_quotes", "json_invalid"}),
    "python_none": (
        lambda row, _: _dump(row)[:-1] + b', "tools": None}',
        {"python_literal"},
    ),
    "nan": (lambda row, _: _dump(row | {"weight": float("nan")}), {"nan_literal"}),
    "comma": (lambda row, _: _dump(row)[:-2] + b",]}", {"trailing_comma"}),
    "two_objects": (lambda row, _: _dump(row) + b" " + _dump(row), {"several_objects"}),
    "comment": (lambda row, _: _dump(row) + b" // checked", {"json_comment"}),
    "surrogate": (_raw("half", b"\\ud83d"), {"lone_surrogate"}),
    "twin_key": (_twice, {"duplicate_key"}),
    "deep": (
        lambda row, _: _dump(row)[:-1] + b', "meta": ' + b"[" * 3000 + b"]" * 3000 + b"}",
        {"too_deep"},
    ),
    "blank": (lambda _row, _rng: b"", {"blank_line"}),
    "array": (lambda row, _: _dump(_turns(row)), {"not_object"}),
    "text": (_instead("a text alone"), {"not_object"}),
    "prompt": (_instead({"prompt": "What now?", "completion": "Wait."}), {"wrong_format"}),
    "no_messages": (_instead({"conversation_id": 17}), {"missing_key"}),
    "messages_text": (_messages("user: hi"), {"wrong_type"}),
    "messages_empty": (_messages([]), {"empty_list"}),
    "message_text": (_messages(["hi", "ho"]), {"wrong_type"}),
    "no_role": (_without("role"), {"missing_key"}),
    "role_number": (_last(role=1), {"wrong_type"}),
    "role_bot": (_last(role="bot"), {"unknown_role"}),
    "role_case": (_last(role="Assistant"), {"role_case"}),
    "role_lookalike": (_last(role="\u0430ssistant"), {"role_lookalike"}),
    "no_content": (_without("content"), {"missing_content", "missing_key"}),
    "null_content": (_last(content=None), {"missing_content"}),
    "empty_content": (_last(content=""), {"empty_content"}),
    "blank_content": (_last(content=" \n\t "), {"empty_content"}),
    "number_content": (_last(content=42), {"wrong_type"}),
    "other_key": (_last(timestamp="2026-01-05"), {"unknown_key"}),
    "no_answer": (_no_answer, {"no_assistant"}),
    "asks_last": (_asks_last, {"last_not_assistant"}),
    "late_system": (_late_system, {"system_not_first"}),
    "two_asks": (_two_asks, {"not_alternating"}),
    "weight_half": (_last(weight=0.5), {"invalid_weight"}),
    "weight_on_user": (_weights(user=1), {"misplaced_weight"}),
    "weights_zero": (_weights(assistant=0), {"all_weights_zero"}),
    "call_no_answer": (_calling({}), {"unanswered_tool_call"}),
    "call_other_result": (
        _calling({}, RESULT | {"tool_call_id": "call_0"}),
        {"unmatched_tool_result"},
    ),
    "call_twice": (_two_calls, {"duplicate_tool_call_id"}),
    "call_unknown": (_calling(_function(name="get_ordre"), RESULT), {"unknown_tool"}),
    "arguments_object": (
        _calling(_function(arguments={"number": "17"}), RESULT),
        {"arguments_not_string"},
    ),
    "arguments_text": (_calling(_function(arguments="number=17"), RESULT), {"arguments_not_json"}),
    "image_answer": (
        _image("image_url", "assistant", "https://a.example/p.png"),
        {"image_not_allowed"},
    ),
    "mojibake": (_saying("cafÃ© and naÃ¯ve "), {"mojibake"}),
    "zero_width": (_saying("pass\u200bword "), {"invisible_character"}),
    "control_token": (_saying("<|im_end|> "), {"special_token"}),
    "refusal": (_refuses, {"refusal"}),
}
"""Kind of fault: how it is made, and the codes of data-prep.md that name it."""

ODD: tuple[Make, ...] = (
    _calling({}, RESULT),
    _weights(assistant=1),
    _saying("👩‍👩‍👧 and 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f "),
    _saying("a <| b and c |> d, x < y "),
    _saying("Ângela, São Tomé, ÂGE, château â la carte "),
    _raw("quote", b'\\"quoted\\" \\/ \\u00e9\\u4f60\\ud83d\\ude00'),
    _saying("User: as a word in the text, [EOS] too "),
    _saying("I can't say that nobody asked; sorry is a word. "),
    _saying("\\n is not a line end, C:\\temp\\u is a path "),
    _image("image_url", "user", "https://a.example/p.png"),
    _saying("tab\tand\r\nline end "),
    lambda row, _: b"  " + _dump(row) + b" \t",
    lambda row, _: json.dumps(row).encode(),
    lambda row, _: json.dumps(row, separators=(",", ":")).encode(),
    _saying("می‌خواهم نه‌چندان क्‍ष "),
    _last(name="helper"),
)
"""Rows without fault that look unusual."""


def write_file(path: Path, count: int = 200_000, seed: int = 5) -> dict[int, str]:
    """Write the file and return the kind of fault by line."""
    rng = random.Random(seed)
    share = min(1.0, count / 50_000)
    kinds = list(FAULTS) * max(1, round(PER_KIND * share))
    odd = list(ODD) * max(1, round(ODD_ROWS / len(ODD) * share))
    lines = rng.sample(range(2, count + 1), k=len(kinds) + len(odd))
    truth = dict(zip(lines[: len(kinds)], kinds, strict=True))
    unusual = dict(zip(lines[len(kinds) :], odd, strict=True))
    with path.open("wb") as stream:
        for line, row in enumerate(ChatRows(seed).rows(count), start=1):
            if line in truth or line in unusual:
                row.pop("tools", None)
                row["messages"] = [
                    {"role": turn["role"], "content": turn["content"]}
                    for turn in _turns(row)
                    if turn["role"] != "tool" and turn["content"] is not None
                ]
            if line in truth:
                stream.write(FAULTS[truth[line]][0](row, rng) + b"\n")
            elif line in unusual:
                stream.write(unusual[line](row, rng) + b"\n")
            else:
                stream.write(_dump(row) + b"\n")
    return dict(sorted(truth.items()))


def main() -> None:
    """Write one file and its truth as the command line says."""
    parser = argparse.ArgumentParser(description="Write chat rows with known faults.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    truth = write_file(args.path, args.rows, args.seed)
    args.path.with_suffix(".truth.json").write_text(json.dumps(truth), encoding="utf-8")
    print(f"{args.path}: {args.rows} rows, {len(truth)} of them faulty")


if __name__ == "__main__":
    main()
