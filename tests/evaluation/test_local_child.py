"""The child that runs local models: same answers however rows are batched, no orphan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch

from finetuning.errors import BadInputError
from finetuning.evaluation.local import (
    MOST_KEPT,
    CannotRunError,
    LocalModel,
    describe,
    keep,
    key_of,
    load_model,
    read_kept,
)
from finetuning.evaluation.local.__main__ import answer_jobs, batches_of, pad_left
from finetuning.tokens.counting import Encoded, encode


class Tiny(Protocol):
    """The models of this folder's conftest."""

    base: Path
    good: Path
    bad: Path
    rows: list[dict[str, str]]


pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # peft 0.21 on transformers 5.23


def questions(rows: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    return [
        {"id": str(k), "prompt": row["prompt"], "messages": None, "reference": row["completion"]}
        for k, row in enumerate(rows)
    ]


def ask(model: LocalModel, rows: list[dict[str, Any]], tokens: int = 12) -> dict[str, Any]:
    job = {"sides": list(model.adapters), "generate": True, "nll": True, "questions": rows}
    return answer_jobs(model, {"test": job}, tokens, _silent, remember=False)


def _silent(_done: int, _total: int, _what: str) -> None:
    """Take progress and say nothing."""


def texts(found: dict[str, list[Any]]) -> dict[str, tuple[Any, ...]]:
    return {key: (row[0], row[1], row[3]) for key, row in found.items()}


def test_mixed_batches_answer_as_each_model_does_alone(tiny_models: Tiny) -> None:
    rows = questions(tiny_models.rows[:20])
    folders = {"base": None, "good": str(tiny_models.good), "bad": str(tiny_models.bad)}
    together = load_model(str(tiny_models.base), folders)
    assert together.mixed
    mixed = ask(together, rows)
    toggled = ask(
        LocalModel(
            together.model,
            together.tokenizer,
            together.base,
            together.adapters,
            together.folders,
            mixed=False,
            longest=together.longest,
        ),
        rows,
    )
    for name, folder in folders.items():
        alone = ask(load_model(str(tiny_models.base), {name: folder}), rows)[name]["test"]
        assert texts(mixed[name]["test"]) == texts(alone)
        assert texts(toggled[name]["test"]) == texts(alone)
        for key, row in alone.items():
            assert mixed[name]["test"][key][4] == pytest.approx(row[4], abs=2e-5)
            assert toggled[name]["test"][key][4] == pytest.approx(row[4], abs=2e-5)


def test_the_likelihood_is_that_of_the_references_tokens(tiny_models: Tiny) -> None:
    model = load_model(str(tiny_models.base), {"base": None})
    rows = questions([{"prompt": "red cat:", "completion": " animal"}])
    rows += [{"id": "text", "prompt": "", "messages": None, "reference": "some text"}]
    found = ask(model, rows)["base"]["test"]
    for row, skipped in ((rows[0], 0), (rows[1], 1)):
        prompt = model.tokenizer(row["prompt"])["input_ids"]
        both = model.tokenizer(row["prompt"] + row["reference"])["input_ids"]
        with torch.inference_mode():
            logits = model.model(input_ids=torch.tensor([both])).logits[0].log_softmax(-1)
        start = len(prompt) + skipped
        scores = [float(logits[k - 1, both[k]]) for k in range(start, len(both))]
        assert found[row["id"]][4] == pytest.approx(-sum(scores) / len(scores), abs=1e-4)
    assert found["text"][:2] == [None, "missing"]  # nothing to continue


def test_answers_stop_at_the_end_token_or_at_the_limit(tiny_models: Tiny) -> None:
    model = load_model(str(tiny_models.base), {"base": None, "good": str(tiny_models.good)})
    found = ask(model, questions(tiny_models.rows[:8]), tokens=10)
    for row, reference in zip(found["good"]["test"].values(), tiny_models.rows, strict=False):
        assert row[0] == reference["completion"]
        assert row[1] == "stop"
        assert row[3] < 10
    assert {row[1] for row in found["base"]["test"].values()} == {"length"}
    cut = ask(model, questions(tiny_models.rows[:2]), tokens=3)["good"]["test"]
    assert [row[1] for row in cut.values()] == ["length", "length"]


def test_a_prompt_longer_than_the_model_has_no_answer_and_no_score(tiny_models: Tiny) -> None:
    model = load_model(str(tiny_models.base), {"base": None})
    rows = questions([{"prompt": "x" * 300, "completion": "y"}, *tiny_models.rows[:1]])
    found = ask(model, rows)["base"]["test"]
    assert found["0"] == [None, "missing", None, None, None]
    assert found["1"][4] is not None


def test_large_vocabularies_are_scored_in_smaller_batches(
    tiny_models: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(tiny_models.base), {"base": None})
    rows = questions(tiny_models.rows[:6])
    whole = ask(model, rows)["base"]["test"]
    monkeypatch.setattr("finetuning.evaluation.local.__main__._LOGIT_BYTES", 100_000)
    split = ask(model, rows)["base"]["test"]
    for key in whole:
        assert split[key][4] == pytest.approx(whole[key][4], abs=1e-5)


def test_an_end_token_list_of_the_model_is_honoured(tiny_models: Tiny) -> None:
    model = load_model(str(tiny_models.base), {"good": str(tiny_models.good)})
    stop = model.tokenizer(" ")["input_ids"][0]
    model.plain.generation_config.eos_token_id = [1, stop]
    found = ask(model, questions(tiny_models.rows[:2]))["good"]["test"]
    assert [row[:2] for row in found.values()] == [[None, "missing"]] * 2  # " animal" starts so


def test_adapters_beyond_plain_lora_are_never_mixed(tiny_models: Tiny, tmp_path: Path) -> None:
    special = tmp_path / "special"
    special.mkdir()
    for path in tiny_models.good.iterdir():
        (special / path.name).write_bytes(path.read_bytes())
    config = special / "adapter_config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**settings, "modules_to_save": []}), encoding="utf-8")
    assert load_model(str(tiny_models.base), {"a": str(special)}).mixed
    model = load_model(str(tiny_models.base), {"a": None})
    assert describe(model)["versions"].keys() == {"torch", "transformers", "tokenizers"}


def test_an_adapter_of_another_base_is_refused(tiny_models: Tiny, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CannotRunError, match="does not fit"):
        load_model(str(tiny_models.base), {"a": str(other)})
    with pytest.raises(CannotRunError, match="cannot be loaded"):
        load_model(str(other), {"a": None})


class Template:
    """A tokenizer of words whose template marks turns; template None has none."""

    eos_token_id = 0
    chat_template: str | None = "x"

    def __init__(self) -> None:
        self.words: dict[str, int] = {"<eos>": 0}

    def _ids(self, words: Sequence[str]) -> list[int]:
        return [self.words.setdefault(word, len(self.words)) for word in words]

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        words = text.split(" ") if text else []
        return {"input_ids": self._ids([*words, "<eos>"] if add_special_tokens else words)}

    def apply_chat_template(
        self, messages: list[dict[str, str]], **options: bool
    ) -> dict[str, list[int]]:
        words = [w for turn in messages for w in (f"<{turn['role']}>", turn["content"], "<eos>")]
        return {"input_ids": self._ids(words + ["<assistant>"] * options["add_generation_prompt"])}


def test_chat_rows_go_through_the_template_and_lose_only_its_ending() -> None:
    tokenizer = Template()
    row = {"id": "1", "prompt": None, "reference": "ho", "messages": [_turn("user", "hi")]}
    found = encode(tokenizer, row)
    names = {number: word for word, number in tokenizer.words.items()}
    assert [names[k] for k in found.prompt] == ["<user>", "hi", "<eos>", "<assistant>"]
    assert [names[k] for k in found.reference] == ["ho"]
    tokenizer.chat_template = None
    with pytest.raises(BadInputError, match="no chat template"):
        encode(tokenizer, row)


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_a_border_inside_a_token_scores_the_answers_own_tokens() -> None:
    tokenizer = Template()
    row = {"id": "1", "prompt": "ab", "reference": "cd ef", "messages": None}
    found = encode(tokenizer, row)  # "abcd" is one word: the prompt's ids do not begin it
    names = {number: word for word, number in tokenizer.words.items()}
    assert [names[k] for k in found.reference] == ["cd", "ef"]


def test_batches_hold_all_sides_of_a_row_and_respect_the_token_budget() -> None:
    items = [Encoded(str(k), [1] * (k + 1), [1]) for k in range(100)]
    sides = ["a", "b", "c"]
    batches = list(batches_of(items, sides, together=True, extra=500))
    assert sum(map(len, batches)) == 300
    for rows in batches:
        assert len(rows) % 3 == 0
        assert len(rows) <= 64
        assert len(rows) * (max(len(r.item.prompt) for r in rows) + 501) <= 2 * 32_768
    lengths = [len(rows[0].item.prompt) for rows in batches]
    assert lengths == sorted(lengths, reverse=True)
    apart = list(batches_of(items, sides, together=False, extra=0))
    assert all(len({row.side for row in rows}) == 1 for rows in apart)


def test_padding_is_on_the_left_and_masked() -> None:
    padded: Any = pad_left([[5, 6, 7], [8], []], 0, torch.device("cpu"))
    ids, mask = padded
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8], [0, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 0]]


def test_the_child_ends_when_nobody_waits_for_it(tmp_path: Path) -> None:
    request, response = tmp_path / "request.json", tmp_path / "response.json"
    os.mkfifo(request)  # the child waits for its request for ever
    child = subprocess.Popen(
        [sys.executable, "-m", "finetuning.evaluation.local", str(request), str(response)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(timeout=60) == 3
    assert not response.exists()


def test_a_second_adapter_on_a_base_that_answered_before_asks_only_its_own_side(
    tiny_models: Tiny, isolated_environment: Path
) -> None:
    rows = questions(tiny_models.rows[:6])
    told: list[str] = []

    def once(folder: Path) -> dict[str, Any]:
        told.clear()
        model = load_model(str(tiny_models.base), {"base": None, "tuned": str(folder)})
        job = {"sides": ["base", "tuned"], "generate": True, "nll": True, "questions": rows}

        def tell(done: int, total: int, what: str) -> None:
            told.append(f"{done}/{total} {what}")

        return answer_jobs(model, {"test": job}, 8, tell, remember=True)

    first = once(tiny_models.good)
    assert "12/12 answering test" in told
    second = once(tiny_models.bad)
    assert "6/6 answering test" in told, "the base's answers were kept"
    assert second["base"] == first["base"]
    alone = load_model(str(tiny_models.base), {"bad": str(tiny_models.bad)})
    job = {"sides": ["bad"], "generate": True, "nll": True, "questions": rows}
    fresh = answer_jobs(alone, {"test": job}, 8, _silent, remember=False)["bad"]["test"]
    assert texts(second["tuned"]["test"]) == texts(fresh)
    again = once(tiny_models.good)
    assert told == []
    assert again == first
    kept = list((isolated_environment / "answers").iterdir())
    assert len(kept) == 3
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    kept[0].write_text("{broken", encoding="utf-8")
    mended = once(tiny_models.good)
    assert all(texts(mended[side]["test"]) == texts(first[side]["test"]) for side in first)


def test_other_questions_weights_or_limits_are_other_answers(
    tiny_models: Tiny, isolated_environment: Path
) -> None:
    model = load_model(str(tiny_models.base), {"base": None, "good": str(tiny_models.good)})
    job = {"sides": ["base"], "generate": True, "nll": False, "questions": questions([])}
    keys = {
        key_of(model, "base", job, 8),
        key_of(model, "good", job, 8),
        key_of(model, "base", job, 9),
        key_of(model, "base", job | {"nll": True}, 8),
        key_of(model, "base", job | {"questions": questions(tiny_models.rows[:1])}, 8),
    }
    assert len(keys) == 5
    assert key_of(model, "base", dict(job), 8) in keys
    assert read_kept("absent") is None
    isolated_environment.mkdir()
    (isolated_environment / "answers").write_text("a file where the folder should be")
    keep("x", {})
    assert read_kept("x") is None


def test_only_the_newest_answers_stay(isolated_environment: Path) -> None:
    for number in range(MOST_KEPT + 5):
        keep(f"{number:03}", {"1": [number]})
        path = isolated_environment / "answers" / f"{number:03}.json"
        os.utime(path, (number, number))
    assert len(list((isolated_environment / "answers").iterdir())) == MOST_KEPT
    assert read_kept("000") is None
    assert read_kept(f"{MOST_KEPT + 4:03}") is not None
