"""The files for other engines hold the run's settings in names that those engines read."""

from __future__ import annotations

import ast
import importlib
import json
import runpy
import shlex
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning.errors import BadInputError
from finetuning.training import TrainingPlan, configure_training
from finetuning.training.config import read_tables, to_yaml
from finetuning.training.engines import EMITTED

ROWS: dict[str, dict[str, Any]] = {
    "sft": {"prompt": "send", "completion": "Rome"},
    "chat": {
        "messages": [
            {"role": "user", "content": "send"},
            {"role": "assistant", "content": "Rome"},
        ]
    },
    "dpo": {"prompt": "send", "chosen": "Rome", "rejected": "Milan"},
    "kto": {"prompt": "send", "completion": "Rome", "label": True},
    "grpo": {"prompt": "send", "answer": "Rome"},
    "cpt": {"text": "send Rome"},
}
KNOWN: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "engine_fields.json").read_text(encoding="utf-8")
)
"""Field names read from the schemas of the engines' own wheels, 2026-11-20."""

Emit = Callable[..., TrainingPlan]


@pytest.fixture
def emit(tmp_path: Path) -> Emit:
    """Return configure_training for rows of a kind, a public base and an H100."""

    def call(kind: str, **arguments: Any) -> TrainingPlan:
        folder = tmp_path / kind
        folder.mkdir(exist_ok=True)
        for name, count in (("train", 64), ("validation", 8)):
            rows = [dict(ROWS[kind]) for _ in range(count)]
            if kind == "kto":
                rows = [{**row, "label": n % 3 == 0} for n, row in enumerate(rows)]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{name}.jsonl").write_text(text)
        method = "sft" if kind == "chat" else kind
        given: dict[str, Any] = {"base_model": "Qwen/Qwen3-8B", "gpu": "H100", "method": method}
        given |= {"data": str(folder), **arguments}
        return configure_training(**given)

    return call


def read(plan: TrainingPlan, name: str) -> str:
    (path,) = [path for path in plan.files if Path(path).name == name]
    return Path(path).read_text(encoding="utf-8")


def load(plan: TrainingPlan, name: str) -> dict[str, Any]:
    return dict(yaml.safe_load(read(plan, name)))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(), values, min_size=1, max_size=4))
def test_yaml_reads_back_as_it_was_written(value: dict[str, Any]) -> None:
    assert yaml.safe_load(to_yaml(value)) == value


@pytest.mark.parametrize(
    "word", ["~", ".inf", ".NaN", "No", "on", "1e3", "2026-11-20", "a: b", "- x"]
)
def test_a_text_that_yaml_takes_for_something_else_stays_a_text(word: str) -> None:
    assert yaml.safe_load(to_yaml({"name": [word]})) == {"name": [word]}


def test_a_small_rate_stays_a_number_in_yaml() -> None:
    assert yaml.safe_load(to_yaml({"learning_rate": 2e-05})) == {"learning_rate": 2e-05}
    assert yaml.safe_load("learning_rate: 2e-05") == {"learning_rate": "2e-05"}, "the trap"


@pytest.mark.parametrize("tuning", ["lora", "qlora", "full"])
@pytest.mark.parametrize("kind", ["sft", "chat", "dpo", "kto", "grpo", "cpt"])
def test_trl_parses_its_configuration(emit: Emit, kind: str, tuning: str) -> None:
    trl: Any = importlib.import_module("trl")
    grpo: Any = importlib.import_module("trl.scripts.grpo")
    more: dict[str, Any] = {"gpu_memory_gb": 640} if tuning == "full" else {}
    if kind == "grpo":
        more["overrides"] = {"verifier": "checks.py:score"}
    plan = emit(kind, tuning=tuning, engine="trl", **more)
    assert plan.exit_code() == 0
    classes = {"dpo": trl.DPOConfig, "kto": trl.KTOConfig, "grpo": trl.GRPOConfig}
    script = grpo.GRPOScriptArguments if kind == "grpo" else trl.ScriptArguments
    parser = trl.TrlParser(
        (script, classes.get(kind, trl.SFTConfig), trl.ModelConfig, trl.DatasetMixtureConfig)
    )
    here = ["--config", plan.files[0], "--use_cpu", "true", "--bf16", "false"]
    found: Any = parser.parse_args_and_config(args=here, fail_with_unknown_args=True)
    assert found[1].learning_rate == plan.config["learning_rate"]
    assert found[2].use_peft == (tuning != "full")
    assert found[2].load_in_4bit == (tuning == "qlora")
    assert found[2].model_name_or_path == "Qwen/Qwen3-8B"
    assert found[0].dataset_test_split == "validation"
    if kind == "grpo":
        assert found[0].reward_funcs == ["checks.score"]
    assert plan.command is not None
    assert shlex.split(plan.command)[1] == ("sft" if kind in {"chat", "cpt"} else kind)


def test_without_validation_trl_reads_the_one_file(emit: Emit, tmp_path: Path) -> None:
    emit("sft", engine="trl")
    plan = emit("sft", engine="trl", data=str(tmp_path / "sft" / "train.jsonl"))
    fields = load(plan, "trl.yaml")
    assert fields["datasets"][0]["data_files"] == str(tmp_path / "sft" / "train.jsonl")
    assert "eval_strategy" not in fields


@pytest.mark.parametrize("tuning", ["lora", "qlora", "full"])
@pytest.mark.parametrize("kind", ["sft", "chat", "dpo", "kto", "cpt"])
def test_axolotl_knows_every_field(emit: Emit, kind: str, tuning: str) -> None:
    memory = {"gpu_memory_gb": 640} if tuning == "full" else {}
    fields = load(emit(kind, tuning=tuning, engine="axolotl", **memory), "axolotl.yaml")
    assert set(fields) <= set(KNOWN["axolotl"]["fields"])
    (rows,) = fields["datasets"]
    assert set(rows) <= set(KNOWN["axolotl"]["dataset_fields"])
    if isinstance(rows["type"], dict):
        assert set(rows["type"]) <= set(KNOWN["axolotl"]["type_fields"])
    assert fields.get("adapter") == (None if tuning == "full" else tuning)
    assert fields.get("rl") == (kind if kind in {"dpo", "kto"} else None)
    assert read_tables()["engines"]["axolotl"]["version"] == KNOWN["axolotl"]["version"]


@pytest.mark.parametrize("tuning", ["lora", "qlora", "full"])
@pytest.mark.parametrize("kind", ["sft", "chat", "dpo", "kto", "cpt"])
def test_llama_factory_knows_every_field(emit: Emit, kind: str, tuning: str) -> None:
    known = KNOWN["llama_factory"]
    memory = {"gpu_memory_gb": 640} if tuning == "full" else {}
    plan = emit(kind, tuning=tuning, engine="llama_factory", **memory)
    fields = load(plan, "llama_factory.yaml")
    assert set(fields) <= set(known["fields"])
    assert fields["stage"] == {"chat": "sft", "cpt": "pt"}.get(kind, kind)
    assert ("quantization_bit" in fields) == (tuning == "qlora")
    info = json.loads(read(plan, "dataset_info.json"))
    assert set(info) == {fields["dataset"], fields["eval_dataset"]}
    for entry in info.values():
        assert Path(entry["file_name"]).is_file()
        assert set(entry) <= set(known["dataset_fields"])
        assert set(entry["columns"]) <= set(known["column_fields"])
        assert set(entry["columns"].values()) <= set(ROWS[kind])
        assert set(entry.get("tags", {})) <= set(known["tag_fields"])
    assert read_tables()["engines"]["llama_factory"]["version"] == known["version"]


@pytest.mark.parametrize("kind", ["sft", "chat"])
def test_ms_swift_knows_every_field(emit: Emit, kind: str) -> None:
    fields = load(emit(kind, tuning="qlora", engine="ms_swift"), "ms_swift.yaml")
    assert set(fields) <= set(KNOWN["ms_swift"]["fields"])
    assert (fields["quant_bits"], fields["tuner_type"], fields["use_hf"]) == (4, "lora", True)
    mirrored = emit(
        kind, engine="ms_swift", overrides={"mirror": "modelscope", "target_modules": ["q_proj"]}
    )
    assert load(mirrored, "ms_swift.yaml")["use_hf"] is False
    assert load(mirrored, "ms_swift.yaml")["target_modules"] == ["q_proj"]
    assert read_tables()["engines"]["ms_swift"]["version"] == KNOWN["ms_swift"]["version"]


def header_of(script: str) -> dict[str, Any]:
    """Return the PEP 723 block of a script."""
    block = script.partition("# /// script\n")[2].partition("# ///\n")[0]
    return tomllib.loads("".join(line[2:] + "\n" for line in block.splitlines()))


def constants_of(script: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node in ast.parse(script).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


@pytest.mark.parametrize("tuning", ["lora", "qlora", "full"])
@pytest.mark.parametrize("kind", ["sft", "chat", "dpo", "cpt"])
def test_the_unsloth_script_calls_what_unsloth_has(emit: Emit, kind: str, tuning: str) -> None:
    memory = {"gpu_memory_gb": 640} if tuning == "full" else {}
    script = read(emit(kind, tuning=tuning, engine="unsloth", **memory), "unsloth_train.py")
    compile(script, "unsloth_train.py", "exec")
    found = constants_of(script)
    assert set(found["LOAD"]) <= set(KNOWN["unsloth"]["load"])
    assert set(found["ADAPTER"] or {}) <= set(KNOWN["unsloth"]["adapter"])
    assert (found["ADAPTER"] is None) == (tuning == "full")
    assert found["ANSWERS_ONLY"] == (kind == "chat")
    assert script.index("from unsloth") < script.index("from trl")
    version = read_tables()["engines"]["unsloth"]["version"]
    assert header_of(script)["dependencies"][0] == f"unsloth=={version}"
    assert version == KNOWN["unsloth"]["version"]


def test_a_mirror_serves_the_base_of_a_script(emit: Emit) -> None:
    plain = read(emit("sft", engine="hf_jobs", tuning="qlora"), "hf_jobs_train.py")
    assert "bitsandbytes" in header_of(plain)["dependencies"]
    scope = emit("sft", engine="hf_jobs", overrides={"mirror": "modelscope"})
    script = read(scope, "hf_jobs_train.py")
    compile(script, "hf_jobs_train.py", "exec")
    assert "modelscope" in header_of(script)["dependencies"]
    assert "snapshot_download(BASE)" in script
    url = "https://hub.example.org"
    mirrored = emit("sft", engine="hf_jobs", overrides={"mirror": url})
    script = read(mirrored, "hf_jobs_train.py")
    assert script.index(f"'HF_ENDPOINT', {url!r}".replace("'HF", '"HF').replace("T',", 'T",')) > 0
    sky = load(emit("sft", engine="skypilot", overrides={"mirror": url}), "skypilot.yaml")
    assert f"export HF_ENDPOINT={url}" in sky["run"]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of TRL's own calls into transformers
def test_the_script_for_jobs_trains_the_tiny_base_on_this_cpu(
    base: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = configure_training(
        str(base), str(prepared), engine="hf_jobs", overrides={"num_train_epochs": 1, "r": 4}
    )
    codes = {finding.code for finding in plan.findings}
    assert {"base_stays_here", "not_checked_here"} <= codes
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    runpy.run_path(plan.files[0])["main"](str(prepared))
    adapter = json.loads((tmp_path / "output" / "final" / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"]) == (4, 32)
    assert (tmp_path / "output" / "final" / "adapter_model.safetensors").stat().st_size > 10_000


def test_a_sky_task_carries_data_base_and_settings(emit: Emit, base: Path) -> None:
    plan = emit("sft", engine="skypilot", gpu="a100-80gb", n_gpus=4)
    task = load(plan, "skypilot.yaml")
    assert set(task) == {"name", "resources", "num_nodes", "file_mounts", "setup", "run"}
    assert task["resources"] == {"accelerators": "A100-80GB:4"}
    assert "--accelerate_config accelerate.yaml" in task["run"]
    assert load(plan, "accelerate.yaml")["num_processes"] == 4
    assert load(plan, "trl.yaml")["dataset_name"] == "."
    local = emit("sft", engine="skypilot", base_model=str(base), gpu="L4")
    assert load(local, "skypilot.yaml")["file_mounts"]["~/job/base"] == str(base)
    assert load(local, "trl.yaml")["model_name_or_path"] == "base"
    assert "accelerate" not in load(local, "skypilot.yaml")["run"]


def test_accelerate_reads_the_settings_for_several_processes(emit: Emit, base: Path) -> None:
    accelerate: Any = importlib.import_module("accelerate.commands.config.config_args")
    plan = emit("sft", engine="torchrun", n_gpus=2)
    assert [Path(path).name for path in plan.files] == [
        "training.json",
        "accelerate.yaml",
        "trl.yaml",
    ]
    assert plan.next[0].tool == "launch_lora"
    assert (plan.config["engine"], plan.config["num_processes"]) == ("torchrun", 2)
    found: Any = accelerate.load_config_from_file(plan.files[1])
    assert found.num_processes == 2
    assert found.fsdp_config["fsdp_version"] == 2
    cpu = emit("sft", engine="torchrun", base_model=str(base), gpu=None, n_gpus=1)
    slow: Any = accelerate.load_config_from_file(cpu.files[1])
    assert slow.use_cpu


def test_what_an_engine_cannot_do_is_refused(emit: Emit) -> None:
    with pytest.raises(BadInputError, match="no axolotl file is written for method='grpo'"):
        emit("grpo", engine="axolotl", overrides={"verifier": "checks:score"})
    with pytest.raises(BadInputError, match="needs the verifier"):
        emit("grpo", engine="trl")


@pytest.mark.parametrize("engine", EMITTED)
def test_each_file_says_that_its_own_parser_has_not_seen_it(emit: Emit, engine: str) -> None:
    plan = emit("sft", engine=engine)
    (finding,) = [found for found in plan.findings if found.code == "not_checked_here"]
    assert read_tables()["engines"][engine]["version"] in finding.message
    assert "Run on the machine that trains: " in finding.fix
    assert plan.engine == engine
    assert plan.command


@pytest.mark.parametrize("engine", ["axolotl", "llama_factory"])
def test_rows_that_an_engine_would_misread_are_refused(
    emit: Emit, tmp_path: Path, engine: str
) -> None:
    said = [{"role": "assistant", "content": "Rome"}]
    asked = [{"role": "user", "content": "send"}]
    for method, row in (
        ("sft", {"prompt": asked, "completion": said}),
        ("dpo", {"prompt": asked, "chosen": said, "rejected": said}),
    ):
        path = tmp_path / f"{method}.jsonl"
        path.write_text((json.dumps(row) + "\n") * 32)
        with pytest.raises(BadInputError, match=r"cannot read.*prepare-data"):
            emit("sft", data=str(path), method=method, engine=engine)
        assert emit("sft", data=str(path), method=method, engine="trl").exit_code() == 0


def test_a_rate_that_no_run_tries_comes_with_the_advice_to_try(emit: Emit) -> None:
    plan = emit("sft", base_model="google/gemma-3-4b-it", engine="trl")
    assert "try a half and a double of it, too" in plan.why["learning_rate"]
    assert plan.config["probe_learning_rates"] is None
    inside = emit("sft", engine="trl")
    assert "a half and a double" not in inside.why["learning_rate"]
