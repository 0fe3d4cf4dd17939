"""An exported model answers as the trained one does, or nothing is exported."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from finetuning import runs
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.evaluation import asking
from finetuning.evaluation.local import CannotRunError
from finetuning.training import demo_base, export_adapter, serving, weights
from finetuning.training.worker import export as child
from finetuning.training.worker import session

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

ROWS = [
    {
        "prompt": f"Please send {2 + k} {colour} {item} to {city} by {day}.",
        "completion": json.dumps({"item": item, "colour": colour, "city": city, "day": day}),
    }
    for k, (colour, item, city, day) in enumerate(
        zip(
            ["red", "green", "white", "grey"] * 10,
            ["tables", "vases", "frames", "tables"] * 10,
            ["Milan", "Porto", "Rome", "Madrid", "Porto"] * 8,
            ["Friday", "Monday", "Sunday", "Friday"] * 10,
            strict=True,
        )
    )
]


class Trained(NamedTuple):
    """A finished run in a home of its own."""

    root: Path
    home: Path
    base: Path
    run_id: str
    config: dict[str, Any]

    @property
    def adapter(self) -> Path:
        return self.home / "runs" / self.run_id / "adapter"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    root = tmp_path_factory.mktemp("export")
    shipped = demo_base()
    assert shipped is not None
    base = Path(shutil.copytree(shipped, root / "base"))
    for name, rows in (("train", ROWS[:24]), ("validation", ROWS[24:])):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "base_model": str(base),
        "train_file": str(root / "train.jsonl"),
        "validation_file": str(root / "validation.jsonl"),
        "test_file": str(root / "validation.jsonl"),
        "row_format": "trl_prompt_completion",
        "r": 4,
        "learning_rate": 4e-3,
        "num_train_epochs": 4.0,
        "per_device_train_batch_size": 8,
        "max_length": 96,
    }
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINE_TUNING_HOME", str(root / "home"))
        patch.setenv("FINE_TUNING_ROOTS", str(root))
        run_id = runs.create_run("launch_lora", arguments={"config": config}).run_id
        assert session.main(run_id) == 0, runs.read_run(run_id).error
        yield Trained(root, root / "home", base, run_id, config)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def same_home(
    trained: Trained, isolated_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use the home of the trained run, and write below the test's own folder."""
    monkeypatch.setenv("FINE_TUNING_HOME", str(trained.home))
    roots = f"{trained.root}{os.pathsep}{isolated_environment.parent}"
    monkeypatch.setenv("FINE_TUNING_ROOTS", roots)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the child's own code here: importing its libraries anew takes seconds."""

    def run_child(module: str, request: dict[str, Any], **_: str) -> dict[str, Any]:
        assert module == "finetuning.training.worker.export"
        try:
            reply: dict[str, Any] = json.loads(json.dumps(child.work(request)))
            return reply
        except CannotRunError as error:
            raise BadInputError("export_adapter", *map(str, error.args)) from error

    monkeypatch.setattr(asking, "run_child", run_child)


def hand_made(trained: Trained, folder: Path, name: str = "x", **changes: Any) -> str:
    """Return a finished run that left the (sealed) adapter of a folder."""
    with weights.whole_folder(folder.with_name(f"{folder.name}-sealed")) as sealed:
        unsealed = shutil.ignore_patterns(weights.MANIFEST)
        shutil.copytree(folder, sealed, dirs_exist_ok=True, ignore=unsealed)
    config = {**trained.config, **changes}
    run = runs.create_run("launch_lora", arguments={"config": config, "name": name})
    result = {"adapter_dir": str(folder.with_name(f"{folder.name}-sealed")), "steps": 1}
    runs.finish(run.run_id, "succeeded", result=result)
    return run.run_id


def random_adapter(trained: Trained, folder: Path, scale: float, **settings: Any) -> Path:
    """Write an adapter whose effect is large and arbitrary."""
    torch: Any = importlib.import_module("torch")
    peft: Any = importlib.import_module("peft")
    transformers: Any = importlib.import_module("transformers")
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_pretrained(trained.base, dtype=torch.float32)
    settings = {"target_modules": "all-linear", "r": 4, "lora_alpha": 8, **settings}
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **settings))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_().mul_(scale)
    model.save_pretrained(str(folder))
    transformers.AutoTokenizer.from_pretrained(trained.base).save_pretrained(str(folder))
    return folder


@pytest.mark.slow
def test_a_merged_model_is_whole_and_gives_the_logits_of_the_adapter(
    trained: Trained, tmp_path: Path
) -> None:
    done = export_adapter(trained.run_id, "merged", str(tmp_path / "served"), prompts=12)
    assert done.exit_code() == 0
    assert done.parity is not None
    assert (done.parity.prompts, done.parity.identical) == (12, True)
    assert done.parity.tokens > 12
    assert done.parity.max_logit_difference < 1e-3
    folder = Path(str(done.output_dir))
    assert weights.fault_of(folder) is None
    names = {Path(name).name for name in done.files}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pth", ".pkl")) for name in names)
    assert "Please send" not in done.model_dump_json() + (folder / "README.md").read_text()
    assert done.next[0].args["tuned"] == f"local:{folder}"

    torch: Any = importlib.import_module("torch")
    peft: Any = importlib.import_module("peft")
    auto: Any = importlib.import_module("transformers").AutoModelForCausalLM
    ids = torch.tensor([[5, 9, 12, 7]])
    merged = auto.from_pretrained(folder)(ids).logits
    base = auto.from_pretrained(trained.base, dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(base, str(trained.adapter))
    assert torch.allclose(merged, adapted(ids).logits, atol=1e-4)


@pytest.mark.usefixtures("in_this_process")
def test_an_adapter_is_copied_with_its_tokenizer_and_a_card(
    trained: Trained, tmp_path: Path
) -> None:
    done = export_adapter(trained.run_id, output_dir=str(tmp_path / "served"), prompts=4)
    assert done.parity is not None
    assert done.parity.max_logit_difference == 0.0
    folder = Path(str(done.output_dir))
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (folder / name).read_bytes() == (trained.adapter / name).read_bytes()
    assert (folder / "tokenizer.json").is_file()
    card = (folder / "README.md").read_text()
    assert "| steps | 12 |" in card
    assert "same answers to 4 prompts" in done.summary()


@pytest.mark.usefixtures("in_this_process")
def test_a_tied_output_layer_that_was_tuned_is_merged_without_touching_the_embeddings(
    trained: Trained, tmp_path: Path
) -> None:
    adapter = random_adapter(trained, tmp_path / "head", 0.3, target_modules=["lm_head", "q_proj"])
    run_id = hand_made(trained, adapter)
    done = export_adapter(run_id, "merged", str(tmp_path / "served"))
    assert done.exit_code() == 0, done.findings
    config = json.loads((tmp_path / "served" / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    refused = export_adapter(run_id, "vllm", str(tmp_path / "vllm"))
    assert refused.exit_code() == 1
    assert [each.code for each in refused.findings] == ["vllm_unsupported_target"]
    assert not (tmp_path / "vllm").exists()


@pytest.mark.usefixtures("in_this_process")
def test_a_merge_that_answers_differently_is_not_exported_and_says_by_how_much(
    trained: Trained, tmp_path: Path
) -> None:
    run_id = hand_made(trained, random_adapter(trained, tmp_path / "wild", 0.5))
    target = tmp_path / "served"
    target.mkdir()
    (target / "older").write_text("kept")
    done = export_adapter(run_id, "merged", str(target), dtype="bf16", overwrite=True)
    assert (done.exit_code(), done.output_dir, done.files) == (1, None, [])
    assert done.parity is not None
    assert not done.parity.identical
    assert done.parity.max_logit_difference > 0
    finding = done.findings[0]
    assert finding.code == "parity_failed_by_rounding"
    assert finding.fix == "Call again with dtype=fp32"
    assert "Nothing was exported" in done.summary()
    assert [path.name for path in target.iterdir()] == ["older"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    again = export_adapter(run_id, "merged", str(target), dtype="fp32", overwrite=True)
    assert again.exit_code() == 0, again.findings
    assert not (target / "older").exists()


@pytest.mark.usefixtures("in_this_process")
def test_an_adapter_with_weights_that_are_not_finite_is_refused(
    trained: Trained, tmp_path: Path
) -> None:
    adapter = random_adapter(trained, tmp_path / "nan", float("nan"))
    with pytest.raises(BadInputError, match="not finite"):
        export_adapter(hand_made(trained, adapter), "merged", str(tmp_path / "served"))
    assert not (tmp_path / "served").exists()


@pytest.mark.usefixtures("in_this_process")
def test_the_vllm_script_serves_the_adapter_under_the_runs_name(
    trained: Trained, tmp_path: Path
) -> None:
    done = export_adapter(trained.run_id, "vllm", str(tmp_path / "a b"), prompts=2)
    assert done.exit_code() == 0, done.findings
    vllm = tmp_path / "bin" / "vllm"
    vllm.parent.mkdir()
    vllm.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    vllm.chmod(0o755)
    path = f"{vllm.parent}{os.pathsep}{os.environ['PATH']}"
    script = tmp_path / "a b" / "serve.sh"
    said = subprocess.run(
        [str(script), "--port", "1"], env={"PATH": path}, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    model = str(tmp_path / "a b" / "model")
    assert said[:4] == ["serve", str(trained.base), "--tokenizer", model]
    assert said[4:8] == ["--enable-lora", "--max-lora-rank", "8", "--lora-modules"]
    assert said[8:] == [f"{trained.run_id}={model}", "--dtype", "float32", "--port", "1"]


CONVERTER = """
import sys
folder, _, target, _, kind = sys.argv[1:]
assert kind == "f32", kind
open(folder + "/model.safetensors").close()
open(target, "wb").write(b"GGUF" + bytes(8))
"""


@pytest.mark.usefixtures("in_this_process")
def test_ollama_gets_a_modelfile_and_gguf_only_where_the_converter_is(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FINE_TUNING_GGUF_CONVERTER", raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    plain = export_adapter(trained.run_id, "ollama", str(tmp_path / "one"), prompts=2)
    assert [each.code for each in plain.findings] == ["gguf_converter_missing"]
    text = (tmp_path / "one" / "Modelfile").read_text()
    assert text.startswith('FROM ./merged\nTEMPLATE """{{ .Prompt }}"""\nPARAMETER stop ')
    script = tmp_path / "one" / "convert_to_gguf.sh"
    missing = subprocess.run(
        [str(script)], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, check=False
    )
    assert missing.returncode == 1
    assert "was not found; expected convert_hf_to_gguf.py on PATH" in missing.stderr

    converter = tmp_path / "convert_hf_to_gguf.py"
    converter.write_text(CONVERTER)
    python = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"PATH": python, "FINE_TUNING_GGUF_CONVERTER": str(converter)}
    subprocess.run([str(script)], env=environment, check=True)
    assert (tmp_path / "one" / "model.gguf").read_bytes()[:4] == b"GGUF"

    monkeypatch.setenv("FINE_TUNING_GGUF_CONVERTER", str(converter))
    made = export_adapter(trained.run_id, "ollama", str(tmp_path / "two"), prompts=2)
    assert [each.code for each in made.findings] == ["gguf_not_compared"]
    assert (tmp_path / "two" / "Modelfile").read_text().startswith("FROM ./model.gguf\n")
    assert not (tmp_path / "two" / "merged").exists()

    converter.write_text("raise SystemExit(7)")
    failed = export_adapter(trained.run_id, "gguf", str(tmp_path / "three"), prompts=2)
    assert failed.exit_code() == 1
    assert failed.findings[0].code == "gguf_conversion_failed"
    assert "ended with 7" in failed.findings[0].message
    assert not (tmp_path / "three").exists()


def test_what_cannot_be_exported_is_refused_before_anything_is_loaded(
    trained: Trained, tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError):
        export_adapter("nope")
    queued = runs.create_run("launch_lora", arguments={"config": trained.config}).run_id
    with pytest.raises(BadInputError, match="left no trained weights"):
        export_adapter(queued)
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "x").write_text("")
    with pytest.raises(BadInputError, match="already holds files"):
        export_adapter(trained.run_id, "merged", str(folder))
    gone = hand_made(trained, trained.adapter, base_model=str(tmp_path / "none"))
    with pytest.raises(BadInputError, match="no longer on this machine"):
        export_adapter(gone)
    damaged = Path(str((runs.read_run(gone).result or {})["adapter_dir"]))
    (damaged / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(BadInputError, match=r"adapter_model.safetensors has changed"):
        export_adapter(gone)


@pytest.mark.usefixtures("in_this_process")
def test_what_a_reader_should_know_stands_in_the_findings(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.adapter, tmp_path / "copy")
    run_id = hand_made(trained, tmp_path / "copy", "y", validation_file=None, quantisation="nf4")
    done = export_adapter(run_id, "merged", str(tmp_path / "served"), prompts=2)
    codes = {each.code for each in done.findings}
    assert codes == {"prompts_from_training", "merged_without_4bit"}


@pytest.mark.usefixtures("in_this_process")
def test_a_fully_tuned_model_is_exported_whole(trained: Trained, tmp_path: Path) -> None:
    (trained.base / "LICENSE").write_text("terms")
    shutil.copytree(trained.base, tmp_path / "full")
    run_id = hand_made(trained, tmp_path / "full", "full", tuning="full")
    done = export_adapter(run_id, "vllm", str(tmp_path / "served"), prompts=2)
    assert done.exit_code() == 0, done.findings
    assert done.parity is not None
    assert done.parity.max_logit_difference == 0.0
    assert (tmp_path / "served" / "model" / "model.safetensors").is_file()
    assert (tmp_path / "served" / "model" / "LICENSE").read_text() == "terms"
    script = (tmp_path / "served" / "serve.sh").read_text()
    assert f'vllm serve "$here/model" --served-model-name {run_id} ' in script


def test_a_base_or_adapter_that_cannot_be_loaded_is_named(trained: Trained, tmp_path: Path) -> None:
    request = {
        "base": str(tmp_path),
        "source": str(trained.adapter),
        "adapted": True,
        "merge": True,
        "dtype": "float32",
        "output": str(tmp_path / "out"),
        "max_tokens": 4,
    }
    with pytest.raises(CannotRunError, match="cannot be loaded"):
        child.work(request)


# --- what vLLM refuses ------------------------------------------------------------------------

FINE = {"peft_type": "LORA", "r": 16, "bias": "none", "target_modules": ["q_proj", "up_proj"]}
SIZES = {"tokenizer": 100, "embeddings": 128}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"use_dora": True}, "dora"),
        ({"bias": "lora_only"}, "bias"),
        ({"trainable_token_indices": [3]}, "trained_tokens"),
        ({"target_modules": ["model.embed_tokens"]}, "unsupported_target"),
        ({"r": 513}, "rank_too_high"),
        ({"rank_pattern": {"layers.0": 1024}}, "rank_too_high"),
        ({"peft_type": "IA3"}, "not_lora"),
    ],
)
def test_each_thing_vllm_refuses_is_named(change: dict[str, Any], code: str) -> None:
    assert serving.lint_for_vllm(FINE, SIZES) == []
    (found,) = serving.lint_for_vllm({**FINE, **change}, SIZES)
    assert (found.code, found.severity) == (f"vllm_{code}", "error")


def test_a_vocabulary_larger_than_the_base_is_refused() -> None:
    (found,) = serving.lint_for_vllm(FINE, {"tokenizer": 130, "embeddings": 128})
    assert "130 tokens, the base 128 rows" in found.message


def test_the_rank_limit_is_the_next_that_vllm_knows() -> None:
    for rank, limit in ((1, 1), (9, 16), (300, 320), (512, 512)):
        assert f"--max-lora-rank {limit} " in serving.vllm_script("b", "n", {"r": rank}, "float32")
    assert "--served-model-name" in serving.vllm_script("b", "n", None, "float32")


# --- chat templates ----------------------------------------------------------------------------

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
) + CHATML
LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{% set first = messages[0].content + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}"
    "{% endif %}{% for m in rest %}<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ first if loop.first }}{{ m.content }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
BRACES = '{% for m in messages %}{{ "{{" }}{{ m.role }}"""{{ m.content }}{% endfor %}'
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML
COUNTING = "{% for m in messages %}[{{ loop.index }}]{{ m.content }}{% endfor %}"


@pytest.fixture(scope="module")
def tokenizer(trained: Trained) -> Any:
    transformers: Any = importlib.import_module("transformers")
    return transformers.AutoTokenizer.from_pretrained(trained.base)


class Go:
    """The part of Go's template language that a Modelfile of ours uses."""

    def __init__(self, template: str) -> None:
        self.parts = re.split(r"\{\{ (.*?) \}\}", template)

    def write(self, system: str, messages: list[dict[str, str]]) -> str:
        text, _ = self._block(0, {".System": system, "messages": messages}, silent=False)
        return text

    def _block(self, at: int, values: dict[str, Any], silent: bool) -> tuple[str, int]:
        """Return the text from part ``at`` to the action that ends the block, and its place."""
        text = ""
        while True:
            text += self.parts[at]
            at += 1
            if at == len(self.parts) or self.parts[at] == "end" or self.parts[at][:4] == "else":
                return ("" if silent else text), at
            action = self.parts[at]
            if action.startswith("range "):
                more, at = self._range(at, values)
            elif action.startswith("if "):
                more, at = self._choice(at, values)
            elif action.startswith('"'):
                more = json.loads(action)
            else:
                more = values[action]
            text, at = text + more, at + 1

    def _range(self, at: int, values: dict[str, Any]) -> tuple[str, int]:
        text, messages, end = "", values["messages"], at
        for k, turn in enumerate(messages):
            here = {".Content": turn["content"], ".Role": turn["role"], "left": len(messages) - k}
            more, end = self._block(at + 1, {**values, **here}, silent=False)
            text += more
        return text, end

    def _choice(self, at: int, values: dict[str, Any]) -> tuple[str, int]:
        text, done = "", False
        while self.parts[at] != "end":
            holds = not done and self._holds(self.parts[at].removeprefix("else "), values)
            more, at = self._block(at + 1, values, silent=not holds)
            text, done = text + more, done or holds
        return text, at

    @staticmethod
    def _holds(condition: str, values: dict[str, Any]) -> bool:
        if condition == "if .System":
            return bool(values[".System"])
        if condition == "if eq (len (slice $.Messages $i)) 1":
            return bool(values["left"] == 1)
        role = re.fullmatch(r'if eq \.Role "(\w+)"', condition)
        return condition == "else" or (role is not None and values[".Role"] == role.group(1))


@pytest.mark.parametrize(
    "template",
    [CHATML, DEFAULT_SYSTEM, LLAMA_3, GEMMA, BRACES],
    ids="chatml default llama gemma braces".split(),
)
def test_the_go_template_writes_what_the_chat_template_writes(
    tokenizer: Any, template: str
) -> None:
    tokenizer.chat_template = template
    pieces = serving.pieces_of(tokenizer)
    assert pieces is not None
    written = serving.go_template(pieces)
    assert '"""' not in written
    turns = [{"role": role, "content": f"text of {role}"} for role in ("user", "assistant") * 3]
    for system in ("", "Answer in French."):
        for count in (1, 3, 5):
            messages = turns[:count]
            first = [{"role": "system", "content": system}] if system else []
            expected = tokenizer.apply_chat_template(
                [*first, *messages], add_generation_prompt=True, tokenize=False
            ).removeprefix(tokenizer.bos_token or "")
            assert Go(written).write(system, [*first, *messages]) == expected


@pytest.mark.parametrize("template", [NO_SYSTEM, COUNTING, "{{ messages[0].role }}"])
def test_a_template_that_is_more_than_fixed_texts_is_not_guessed(
    tokenizer: Any, template: str
) -> None:
    tokenizer.chat_template = template
    assert serving.pieces_of(tokenizer) is None


@pytest.mark.usefixtures("in_this_process")
def test_chats_are_asked_through_the_template_and_the_modelfile_carries_it(
    trained: Trained, tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    rows = [
        {
            "messages": [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["completion"]},
            ]
        }
        for row in ROWS[:4]
    ]
    data = tmp_path / "chats.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"broken": 1}\n')
    for name, template, code in (
        ("fixed", CHATML, None),
        ("own", COUNTING, "chat_template_not_fixed"),
    ):
        adapter = tmp_path / name
        shutil.copytree(trained.adapter, adapter)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(str(adapter))
        run_id = hand_made(
            trained, adapter, name, validation_file=str(data), row_format="trl_messages"
        )
        done = export_adapter(run_id, "ollama", str(tmp_path / f"served-{name}"))
        assert done.parity is not None
        assert done.parity.prompts == 4
        codes = {each.code for each in done.findings} - {"gguf_converter_missing"}
        assert codes == ({code} if code else set())
        text = (tmp_path / f"served-{name}" / "Modelfile").read_text()
        assert ("<|im_start|>assistant" in text) is (code is None)
        assert (tmp_path / f"served-{name}" / "merged" / "tokenizer.json").is_file()


@pytest.mark.usefixtures("in_this_process")
def test_rows_without_a_prompt_are_refused_and_plain_texts_are_continued(
    trained: Trained, tmp_path: Path
) -> None:
    data = tmp_path / "texts.jsonl"
    data.write_text('{"other": 1}\n')
    shutil.copytree(trained.adapter, tmp_path / "copy")
    run_id = hand_made(trained, tmp_path / "copy", "z", validation_file=str(data))
    with pytest.raises(BadInputError, match=r"no row of .* holds a prompt"):
        export_adapter(run_id, output_dir=str(tmp_path / "one"))
    data.write_text(json.dumps({"text": ROWS[0]["prompt"]}) + "\n")
    done = export_adapter(run_id, output_dir=str(tmp_path / "one"))
    assert done.parity is not None
    assert done.parity.identical
