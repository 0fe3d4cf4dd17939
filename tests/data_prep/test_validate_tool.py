"""The tool: verdict, pages, files, tokens, limits, and the calls that come next."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning.data_prep.targets import TARGETS, TargetName, find_target, method_for
from finetuning.data_prep.validate import CODES, Limits, limits_for, validate_jsonl, validate_row
from finetuning.data_prep.validate.reports import check_length
from finetuning.data_prep.validate.scan import fast_check
from finetuning.errors import BadInputError, NotAllowedError, UnknownNameError
from finetuning.tokens import count_examples, counter_for

GOOD: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "What is due?"},
        {"role": "assistant", "content": "Nothing."},
    ]
}


def save(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_findings_are_paged_counted_and_written_to_a_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [GOOD, *({"text": "x"} for _ in range(9)), 5])
    whole = validate_jsonl(path, "trl_messages", count_tokens=False, max_findings=None)
    assert (whole.total, len(whole.findings), whole.next_offset) == (11, 11, None)
    assert whole.counts == {"wrong_format": 9, "mixed_formats": 1, "not_object": 1}
    assert (whole.n_rows, whole.n_errors, whole.n_warnings) == (11, 11, 0)
    output = str(tmp_path / "found.jsonl")
    first = validate_jsonl(path, "trl_messages", max_findings=4, findings_file=output)
    assert (len(first.findings), first.next_offset, first.total) == (4, 4, 11)
    assert first.findings_file == output
    written = [json.loads(line) for line in Path(output).read_text(encoding="utf-8").splitlines()]
    assert written == [item.model_dump() for item in whole.findings]
    last = validate_jsonl(path, "trl_messages", max_findings=4, offset=8)
    assert (last.findings, last.next_offset) == (whole.findings[8:], None)


def test_the_next_calls_can_be_made_as_they_are(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [{"text": "x"}] * 60)
    result = validate_jsonl(path, "trl_messages")
    assert [call.tool for call in result.next] == ["validate_jsonl", "prepare_data"]
    again = validate_jsonl(**result.next[0].args)
    assert len(again.findings) == 10
    good = validate_jsonl(save(tmp_path / "b.jsonl", [GOOD]), "trl_messages")
    assert [call.tool for call in good.next] == ["scan_pii"]
    assert good.next[0].args == {"path": str(tmp_path / "b.jsonl")}


def test_the_summary_says_valid_or_not(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [GOOD, 5])
    result = validate_jsonl(path, "trl_messages")
    assert result.summary() == (
        "NOT valid for trl_messages: 2 rows, 1 errors, 0 warnings (not_object 1)"
    )
    assert result.exit_code() == 1
    good = validate_jsonl(save(tmp_path / "b.jsonl", [GOOD]), "trl_messages")
    assert good.summary() == "valid for trl_messages: 1 rows, 0 errors, 0 warnings"


def test_tokens_and_facts_are_those_of_the_rows(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [GOOD] * 12)
    result = validate_jsonl(path, "openai_chat", model="gpt-4o-mini")
    tokens = count_examples([GOOD] * 12, counter_for("gpt-4o-mini"))
    assert result.tokens == tokens
    assert result.billed_tokens_per_epoch == tokens.total
    assert result.fit_facts == {"n_examples": 12, "training_tokens": tokens.total}
    skipped = validate_jsonl(path, "openai_chat", count_tokens=False)
    assert (skipped.tokens, skipped.billed_tokens_per_epoch) == (None, None)
    assert skipped.fit_facts == {"n_examples": 12}


def test_pairs_and_labels_are_facts_of_their_own(tmp_path: Path) -> None:
    pairs = save(tmp_path / "a.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b"}] * 3)
    assert validate_jsonl(pairs, "trl_preference").fit_facts["n_preference_pairs"] == 3
    row = {"prompt": "q", "completion": "a", "label": True}
    labels = validate_jsonl(save(tmp_path / "b.jsonl", [row] * 3), "trl_kto")
    assert labels.fit_facts["n_binary_feedback"] == 3
    assert labels.counts == {"one_label_only": 1}
    both = save(tmp_path / "c.jsonl", [row, {**row, "label": False}])
    assert validate_jsonl(both, "trl_kto").counts == {}


def test_google_bills_the_prompt_of_a_pair_twice(tmp_path: Path) -> None:
    contents = [{"role": "user", "parts": [{"text": "What is due?"}]}]
    completions = [
        {"score": score, "completion": {"role": "model", "parts": [{"text": "Nothing."}]}}
        for score in (1, 0)
    ]
    row = {"contents": contents, "completions": completions}
    result = validate_jsonl(save(tmp_path / "a.jsonl", [row]), "vertex_preference")
    assert result.tokens is not None
    assert result.billed_tokens_per_epoch is not None
    prompt = count_examples([{"contents": contents}], counter_for()).total
    assert result.billed_tokens_per_epoch == result.tokens.total + prompt


def test_long_rows_are_cut_at_openai_and_fail_at_bedrock(tmp_path: Path) -> None:
    long = "due " * 70_000
    chat = {"messages": [{"role": "user", "content": long}, GOOD["messages"][1]]}
    path = save(tmp_path / "a.jsonl", [*[GOOD] * 50, chat])
    result = validate_jsonl(path, "openai_chat", model="gpt-4o-mini-2024-07-18")
    assert result.valid
    assert [(item.line, item.code) for item in result.findings] == [(51, "tokens_over_limit")]
    assert result.tokens is not None
    assert result.billed_tokens_per_epoch == result.tokens.total - result.tokens.max + 65_536
    row = {"prompt": long, "completion": "x"}
    failed = validate_jsonl(save(tmp_path / "b.jsonl", [row]), "bedrock_prompt_completion")
    assert [(item.code, item.severity) for item in failed.findings] == [
        (
            "tokens_over_limit",
            "warning" if not failed.tokens or not failed.tokens.exact else "error",
        )
    ]


def test_a_count_that_is_not_exact_fails_a_row_only_beyond_its_band() -> None:
    limits = Limits(None, None, None, None, 1000, long_row_fails=True)
    assert check_length(1, 1000, limits, exact=True) is None
    for tokens, exact, severity in (
        (1001, True, "error"),
        (1100, False, "warning"),
        (1500, False, "error"),
    ):
        found = check_length(1, tokens, limits, exact=exact)
        assert found is not None
        assert found.severity == severity


def test_a_model_on_disk_brings_its_own_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenizers import Tokenizer, models

    model = tmp_path / "tiny"
    model.mkdir()
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.save(str(model / "tokenizer.json"))
    path = save(tmp_path / "a.jsonl", [GOOD])
    result = validate_jsonl(path, "trl_messages", model=str(model))
    assert result.tokens is not None
    assert result.tokens.tokenizer == "tokenizer.json of tiny"
    monkeypatch.setenv("FINE_TUNING_ROOTS", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("FINE_TUNING_HOME", str(tmp_path / "home"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    inside = save(tmp_path / "elsewhere" / "a.jsonl", [GOOD])
    other = validate_jsonl(inside, "trl_messages", model=str(model))
    assert other.tokens is not None
    assert other.tokens.tokenizer == "o200k_base"


@pytest.mark.parametrize(
    ("target", "model", "rows", "code"),
    [
        ("openai_chat", None, 9, "too_few_rows"),
        ("openai_chat", None, 10, "few_rows"),
        ("openai_chat", None, 50, None),
        ("fireworks_chat", None, 2, "too_few_rows"),
        ("fireworks_chat", None, 3, None),
        ("trl_messages", None, 1, None),
    ],
)
def test_the_row_minimum_is_the_providers(
    tmp_path: Path, target: TargetName, model: str | None, rows: int, code: str | None
) -> None:
    result = validate_jsonl(save(tmp_path / "a.jsonl", [GOOD] * rows), target, model=model)
    assert list(result.counts) == ([code] if code else [])


def test_llama_on_bedrock_has_limits_of_its_own() -> None:
    target = TARGETS["bedrock_converse"]
    assert limits_for(target, None)[:3] == (8, 100, 20_000)
    llama = limits_for(target, "meta.llama3-3-70b-instruct-v1:0")
    assert (llama.min_rows, llama.max_rows, llama.row_tokens) == (100, 10_000, 16_000)
    assert limits_for(target, "us.meta.llama3-2-90b").row_tokens == 10_000
    assert limits_for(TARGETS["openai_chat"], "o4-mini").row_tokens is None


def test_names_sizes_and_counts_beyond_the_limits_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = validate_jsonl(save(tmp_path / "a.json", [GOOD] * 3), "fireworks_chat")
    assert named.counts == {"file_name": 1}
    odd = save(tmp_path / "a b.jsonl", [{"prompt": "q", "completion": "a"}])
    assert validate_jsonl(odd, "bedrock_prompt_completion").counts == {"file_name": 1}
    small = TARGETS["tinker"]._replace(max_rows=2, max_bytes=9)
    monkeypatch.setitem(TARGETS, "tinker", small)
    result = validate_jsonl(save(tmp_path / "c.jsonl", [GOOD] * 3), "tinker")
    assert result.counts == {"file_too_large": 1, "too_many_rows": 1}


def test_a_closed_service_is_said_and_the_file_still_checked(tmp_path: Path) -> None:
    result = validate_jsonl(save(tmp_path / "a.jsonl", [GOOD]), "mistral_chat")
    assert result.valid
    assert result.counts == {"service_closed": 1}


def test_calls_that_cannot_be_made_raise(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [GOOD])
    with pytest.raises(BadInputError, match="does not exist"):
        validate_jsonl(str(tmp_path / "none"), "trl_messages")
    with pytest.raises(BadInputError, match="is a folder"):
        validate_jsonl(str(tmp_path), "trl_messages")
    with pytest.raises(NotAllowedError):
        validate_jsonl("/etc/hosts", "trl_messages")
    with pytest.raises(UnknownNameError, match="openai_chat"):
        validate_jsonl(path, "openai_chats")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - what a person may type
    with pytest.raises(UnknownNameError, match="openai_chat"):
        validate_row("openai_chats", GOOD)
    with pytest.raises(BadInputError, match=r"method='dpo' does not go with .*'trl_messages'"):
        validate_jsonl(path, "trl_messages", method="dpo")
    with pytest.raises(BadInputError, match="cannot be paged"):
        validate_jsonl(path, "trl_messages", max_findings=0)
    with pytest.raises(NotAllowedError):
        validate_jsonl(path, "trl_messages", findings_file="/etc/found.jsonl")


def test_a_method_of_the_target_changes_what_a_row_needs(tmp_path: Path) -> None:
    prompts = save(tmp_path / "a.jsonl", [{"prompt": "q"}])
    assert not validate_jsonl(prompts, "trl_prompt_completion").valid
    assert validate_jsonl(prompts, "trl_prompt_completion", method="grpo").valid
    chats = save(tmp_path / "b.jsonl", [{"messages": GOOD["messages"][:1]}])
    assert not validate_jsonl(chats, "trl_messages").valid
    result = validate_jsonl(chats, "trl_messages", method="grpo")
    assert (result.valid, result.method) == (True, "grpo")


def test_every_argument_is_documented() -> None:
    text = inspect.getdoc(validate_jsonl) or ""
    for name in inspect.signature(validate_jsonl).parameters:
        assert f"    {name}: " in text


def test_every_target_and_code_is_complete() -> None:
    from typing import get_args

    assert list(get_args(TargetName)) == list(TARGETS)
    for name, target in TARGETS.items():
        assert (find_target(name, where="x"), target.name) == (target, name)
        assert "(checked 20" in target.source
        assert method_for(target, None, where="x") == target.method
        assert method_for(target, target.methods[-1], where="x") == target.methods[-1]
        assert validate_row(name, {}) != []
    for code, entry in CODES.items():
        assert code.replace("_", "").isalnum()
        assert all((entry.meaning, entry.example, entry.fix)), code


texts = st.text(max_size=12) | st.sampled_from(
    ["I'm sorry, but I can't", " ", "", "<|x|>", "Ã©", "\u200b", "role", "user", "a\\u0041", "\x7f"]
)
roles = st.sampled_from(["system", "user", "assistant", "Assistant", "tool"])
message = st.tuples(roles, texts)


def conversation(turns: list[tuple[str, str]]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def dialogue(sides: tuple[str, str]) -> dict[str, Any]:
    return conversation([("user", sides[0]), ("assistant", sides[1])])


def keyed(*keys: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*[texts] * len(keys)).map(lambda values: dict(zip(keys, values, strict=True)))


plain: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.lists(message, max_size=5).map(conversation),
    st.tuples(texts, texts).map(dialogue),
    keyed("prompt", "completion"),
    keyed("text"),
    keyed("instruction", "output"),
    keyed("instruction", "output", "input"),
)
TARGETS_WITH_FAST_PATH = [
    name for name, target in TARGETS.items() if fast_check(name, target.method)
]


@given(st.sampled_from(TARGETS_WITH_FAST_PATH), plain, st.booleans())
def test_the_fast_path_passes_only_rows_without_finding(
    target: str, row: dict[str, Any], ascii_only: bool
) -> None:
    try:
        raw = json.dumps(row, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return
    check = fast_check(target, TARGETS[target].method)
    assert check is not None
    if check(raw):
        assert validate_row(target, row) == []


HEAD = b'{"messages": [{"role": "user", "content": '
TAIL = b'}, {"role": "assistant", "content": "a"}]}'


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b'"\xff"' + TAIL,
        HEAD + b'"\xed\xa0\x80"' + TAIL,
        HEAD + b'"b", "content": "c"' + TAIL,
        b'{"text": "a", "text": "b"}',
        b'{"text": "\xc0\xaf"}',
        b'{"instruction": "a", "output": "b", "input": "c", "input": "d"}',
        b'{"text": ' + b"[" * 5000,
        b"",
    ],
)
def test_the_fast_path_never_passes_broken_bytes(raw: bytes) -> None:
    for name in TARGETS_WITH_FAST_PATH:
        check = fast_check(name, TARGETS[name].method)
        assert check is not None
        assert not check(raw)


def test_rows_with_a_doubt_take_the_slow_path() -> None:
    chat, prompt = fast_check("trl_messages", "sft"), fast_check("trl_prompt_completion", "sft")
    assert chat is not None
    assert prompt is not None
    swapped = conversation([("assistant", "a"), ("user", "b")])
    twice = conversation([("user", "a"), ("user", "b")])
    for row in (swapped, twice, dialogue((" ", "a")), dialogue(("a", "Sorry, I can't"))):
        assert not chat(json.dumps(row).encode())
    for answer in ("", " ", "q", "As an AI"):
        assert not prompt(json.dumps({"prompt": "q", "completion": answer}).encode())
    assert prompt(b'{"prompt": "q", "completion": "a"}')


def test_most_ordinary_rows_take_the_fast_path() -> None:
    check = fast_check("openai_chat", "sft")
    assert check is not None
    assert check(json.dumps(GOOD).encode())
    chinese = {
        "messages": [
            {"role": "user", "content": "多少钱？"},
            {"role": "assistant", "content": "“三元”。"},
        ]
    }
    assert check(json.dumps(chinese, ensure_ascii=False).encode())
    assert fast_check("trl_messages", "grpo") is None
    assert fast_check("nova_dpo", "dpo") is None


@pytest.mark.parametrize(
    "package", ["finetuning.files", "finetuning.tokens", "finetuning.data_prep.validate"]
)
def test_package_gives_each_of_its_public_names_and_no_other(package: str) -> None:
    module = importlib.import_module(package)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert not hasattr(module, "unheard_of")


def test_server_start_loads_only_the_shape_of_the_tool() -> None:
    code = (
        "import sys; import finetuning.data_prep.validate; print(*sorted("
        "n for n in sys.modules if n.startswith(('finetuning.data_prep.validate.', 'msgspec'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
