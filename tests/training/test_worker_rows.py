"""Rows become token ids and labels as TRL makes them, and the audit says what they cover."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuning.errors import BadInputError
from finetuning.training.config import TrainingConfig
from finetuning.training.worker import IGNORED
from finetuning.training.worker.rows import load_data, load_examples

CHAT = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }} <eos>{% endgeneration %}"
    "{% else %}{{ m.content }}\n{% endif %}{% endfor %}"
)


def tokenizer_of(base: Path, template: str | None = None) -> Any:
    transformers: Any = importlib.import_module("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer


@pytest.fixture
def config(settings_for: Callable[..., dict[str, Any]]) -> Callable[..., TrainingConfig]:
    def build(**changes: Any) -> TrainingConfig:
        return TrainingConfig.model_validate(settings_for(**changes))

    return build


@pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL's own use of older names
def test_texts_get_the_ids_and_labels_that_trl_gives_them(
    base: Path, orders: list[dict[str, str]], config: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    trl: Any = importlib.import_module("trl")
    datasets: Any = importlib.import_module("datasets")
    tokenizer = tokenizer_of(base)
    settings = config()
    ours, audit = load_examples(Path(settings.train_file), settings, tokenizer)
    trainer = trl.SFTTrainer(
        model=str(base),
        args=trl.SFTConfig(output_dir=str(tmp_path), max_length=96, use_cpu=True, bf16=False),
        train_dataset=datasets.Dataset.from_list(orders[:32]),
        processing_class=tokenizer,
    )
    theirs = [(row["input_ids"], row["labels"]) for row in trainer.train_dataset]
    assert [(row.input_ids, row.labels) for row in ours] == theirs
    assert audit.rows == 32
    assert 0.4 < audit.as_dict()["labelled_fraction"] < 0.7
    assert audit.rows_split_at_boundary == 0


def test_the_end_token_is_learned_and_the_prompt_is_not(
    base: Path, config: Callable[..., TrainingConfig]
) -> None:
    tokenizer = tokenizer_of(base)
    settings = config()
    (first, *_), _ = load_examples(Path(settings.train_file), settings, tokenizer)
    learned = [token for token in first.labels if token != IGNORED]
    assert learned[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(learned[:-1]).startswith("{")
    whole = config(completion_only_loss=False)
    (first, *_), _ = load_examples(Path(whole.train_file), whole, tokenizer)
    assert IGNORED not in first.labels


def test_a_token_across_the_border_leaves_the_prompt_as_it_will_be_asked(
    base: Path, write_lines: Callable[..., Path], config: Callable[..., TrainingConfig]
) -> None:
    tokenizer = tokenizer_of(base)
    path = write_lines("train.jsonl", json.dumps({"prompt": "send 1", "completion": "8 vases"}))
    (example,), audit = load_examples(path, config(), tokenizer)
    prompt = tokenizer("send 1")["input_ids"]
    assert audit.rows_split_at_boundary == 1
    assert example.input_ids[: len(prompt)] == prompt
    assert example.labels[: len(prompt)] == [IGNORED] * len(prompt)


def test_rows_cut_down_to_their_prompt_are_left_out_and_counted(
    base: Path, write_lines: Callable[..., Path], config: Callable[..., TrainingConfig]
) -> None:
    rows = [
        {"prompt": "send " * 20, "completion": "vases"},
        {"prompt": "send", "completion": "vases"},
    ]
    path = write_lines("train.jsonl", *map(json.dumps, rows))
    examples, audit = load_examples(path, config(max_length=8), tokenizer_of(base))
    assert len(examples) == 1
    assert (audit.rows_truncated, audit.rows_without_labels) == (1, 1)
    short = write_lines("short.jsonl", json.dumps(rows[0]))
    with pytest.raises(BadInputError, match="cuts the answer off in all 1 rows"):
        load_examples(short, config(max_length=8), tokenizer_of(base))


def chat(*contents: str) -> dict[str, Any]:
    roles = ("user", "assistant") * len(contents)
    return {
        "messages": [
            {"role": role, "content": content}
            for role, content in zip(roles, contents, strict=False)
        ]
    }


def test_every_turn_of_the_assistant_is_learned(
    base: Path, write_lines: Callable[..., Path], config: Callable[..., TrainingConfig]
) -> None:
    tokenizer = tokenizer_of(base, CHAT)
    path = write_lines("train.jsonl", json.dumps(chat("send vases", "Milan", "send", "Rome")))
    settings = config(row_format="trl_messages")
    (example,), _ = load_examples(path, settings, tokenizer)
    learned = [token for token in example.labels if token != IGNORED]
    assert tokenizer.decode(learned).split() == ["Milan", "<eos>", "Rome", "<eos>"]
    everything = config(row_format="trl_messages", assistant_only_loss=False)
    (example,), _ = load_examples(path, everything, tokenizer)
    assert IGNORED not in example.labels


def test_prompt_and_completion_may_be_messages(
    base: Path, write_lines: Callable[..., Path], config: Callable[..., TrainingConfig]
) -> None:
    messages = chat("send vases", "Milan")["messages"]
    row = {"prompt": messages[:1], "completion": messages[1:]}
    path = write_lines("train.jsonl", json.dumps(row))
    (example,), _ = load_examples(path, config(row_format="trl_messages"), tokenizer_of(base, CHAT))
    assert sum(label != IGNORED for label in example.labels) == 2


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "does not mark the assistant"),
        ("{{ messages[0].content }}{% generation %}{% endgeneration %}", "none of 1 rows"),
    ],
)
def test_a_template_that_would_hide_every_label_is_refused(
    base: Path,
    write_lines: Callable[..., Path],
    config: Callable[..., TrainingConfig],
    template: str | None,
    message: str,
) -> None:
    path = write_lines("train.jsonl", json.dumps(chat("send vases", "Milan")))
    with pytest.raises(BadInputError, match=message):
        load_examples(path, config(row_format="trl_messages"), tokenizer_of(base, template))


def test_damaged_rows_are_refused_by_line_without_their_text(
    base: Path, write_lines: Callable[..., Path], config: Callable[..., TrainingConfig]
) -> None:
    path = write_lines(
        "train.jsonl", '{"prompt": "send", "completion": "Rome"}', '{"prompt": "secret"}', "{"
    )
    with pytest.raises(BadInputError, match=r"train\.jsonl:2: 2 rows are not") as caught:
        load_examples(path, config(), tokenizer_of(base))
    assert "secret" not in str(caught.value)


def test_a_tokenizer_without_an_end_token_is_refused(
    base: Path, config: Callable[..., TrainingConfig]
) -> None:
    tokenizer = tokenizer_of(base)
    tokenizer.eos_token = None
    settings = config()
    with pytest.raises(BadInputError, match="no end-of-text token"):
        load_examples(Path(settings.train_file), settings, tokenizer)


def test_texts_are_cut_into_pieces_and_none_of_them_is_lost(
    base: Path, write_lines: Callable[..., Path], config: Callable[..., TrainingConfig]
) -> None:
    tokenizer = tokenizer_of(base)
    path = write_lines("texts.jsonl", json.dumps({"text": "send vases " * 9}), '{"text": "Rome"}')
    settings = config(method="cpt", row_format="trl_text", max_length=8)
    examples, audit = load_examples(path, settings, tokenizer)
    whole = tokenizer("send vases " * 9)["input_ids"]
    pieces = [token for each in examples[:-1] for token in each.input_ids]
    assert pieces == [*whole, tokenizer.eos_token_id]
    assert all(each.labels == each.input_ids for each in examples)
    assert max(len(each.input_ids) for each in examples) == 8
    assert audit.lines == [1] * (len(examples) - 1) + [2]
    assert audit.as_dict()["labelled_fraction"] == 1.0


@pytest.mark.parametrize(
    ("method", "form", "good", "bad"),
    [
        ("cpt", "trl_text", {"text": "send"}, {"text": ""}),
        (
            "dpo",
            "trl_preference",
            {"prompt": "a", "chosen": "b", "rejected": "c"},
            {"prompt": "a", "chosen": "b"},
        ),
        (
            "kto",
            "trl_kto",
            {"prompt": "a", "completion": "b", "label": False},
            {"prompt": "a", "completion": "b", "label": "yes"},
        ),
        ("grpo", "trl_prompt", {"prompt": "a", "answer": 4}, {"answer": 4}),
    ],
)
def test_each_method_knows_its_rows_and_counts_the_others_as_damaged(
    base: Path,
    write_lines: Callable[..., Path],
    config: Callable[..., TrainingConfig],
    method: str,
    form: str,
    good: dict[str, Any],
    bad: dict[str, Any],
) -> None:
    settings = config(method=method, row_format=form)
    path = write_lines("rows.jsonl", json.dumps(good))
    rows, audit = load_examples(path, settings, tokenizer_of(base))
    assert len(rows) == audit.rows == 1
    path = write_lines("rows.jsonl", json.dumps(good), json.dumps(bad))
    with pytest.raises(BadInputError, match=rf"rows\.jsonl:2: 1 rows are not {form}"):
        load_examples(path, settings, tokenizer_of(base))


def test_general_rows_make_up_their_share_of_the_mix_the_same_way_each_time(
    base: Path, write_lines: Callable[..., Path], config: Callable[..., TrainingConfig]
) -> None:
    general = [json.dumps({"prompt": "send", "completion": f"vases {n}"}) for n in range(5)]
    path = write_lines("general.jsonl", *general)
    settings = config(replay_file=str(path), replay_fraction=0.25, validation_file=None)
    tokenizer = tokenizer_of(base)
    train, _, audit = load_data("no-run", settings, tokenizer)
    plain, _, _ = load_data("no-run", config(validation_file=None), tokenizer)
    assert train[: len(plain)] == plain
    assert len(train) - len(plain) == round(len(plain) / 3) == 11, "a quarter of the mix"
    assert audit.lines[len(plain) :] == [0] * 11, "they stand in another file"
    again, _, _ = load_data("no-run", settings, tokenizer)
    assert again == train
    other, _, _ = load_data("no-run", settings.model_copy(update={"seed": 7}), tokenizer)
    assert other != train
    texts = write_lines("texts.jsonl", '{"text": "send vases to Rome"}')
    mixed = settings.model_copy(update={"replay_file": str(texts)})
    assert len(load_data("no-run", mixed, tokenizer)[0]) == len(train)


def test_preferences_as_messages_need_a_chat_template(
    base: Path, write_lines: Callable[..., Path], config: Callable[..., TrainingConfig]
) -> None:
    said = chat("send vases", "Milan")["messages"]
    row = {"prompt": said[:1], "chosen": said[1:], "rejected": said[1:]}
    path = write_lines("pairs.jsonl", json.dumps(row))
    settings = config(method="dpo", row_format="trl_preference")
    assert load_examples(path, settings, tokenizer_of(base, CHAT))[0] == [row]
    with pytest.raises(BadInputError, match="has no chat template"):
        load_examples(path, settings, tokenizer_of(base))
