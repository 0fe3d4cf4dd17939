"""The files that other training programs start from, by their own names: settings, scripts, jobs.

The names stand in ``tables.toml`` with the version they were compared with; here they are _filled
with the values of a run.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from finetuning.records import Json
from finetuning.training.config import TrainingConfig, read_tables, to_yaml
from finetuning.training.environment import Device
from finetuning.training.hazards import refuse_engine

EMITTED: Final = ("trl", "axolotl", "llama_factory", "ms_swift", "unsloth", "skypilot", "hf_jobs")
"""Engines whose files are written here and run elsewhere."""
_TRAINERS: Final = {"sft": "SFT", "cpt": "SFT", "dpo": "DPO", "kto": "KTO", "grpo": "GRPO"}
_NOT_ARGUMENTS: Final = re.compile(
    r"model_|dtype|use_peft|lora_|load_in_|bnb_|dataset|reward_funcs|use_cpu|output_dir"
)
"""Keys of TRL's command line that are no arguments of its configuration classes."""
_LEAST_HOURS: Final = 2


class Written(NamedTuple):
    """What an engine starts from: files by name, the command, and how to check it there."""

    files: dict[str, str]
    command: str
    check: str
    version: str
    checked: str


def emit(
    engine: str,
    config: TrainingConfig,
    *,
    steps: int,
    device: Device,
    hours: float | None = None,
    mirror: str | None = None,
    message_columns: Collection[str] = (),
) -> Written:
    """Return the files for an engine, ready to be written.

    Args:
        engine: trl, axolotl, llama_factory, ms_swift, unsloth, torchrun, skypilot or hf_jobs.
        config: The settings.
        steps: Optimizer steps of the run (for warm-up where an engine counts steps).
        device: Where it is to run.
        hours: Estimated time, for a limit; None: not known.
        mirror: ``modelscope`` or the URL of a mirror of the hub, for the base model.
        message_columns: Columns of the rows that hold lists of messages.

    Raises:
        BadInputError: The engine has no such method or tuning, or lacks something it needs.
    """
    spec = read_tables()["engines"][engine]
    refuse_engine(engine, spec, config, message_columns)
    facts = _facts_of(config, steps, device, mirror)
    facts |= {"timeout": f"{max(_LEAST_HOURS, round(2 * (hours or _LEAST_HOURS)))}h"}
    files = _WRITERS.get(engine, _write_plain)(engine, spec, facts)
    for name, text in files.items():
        if name.endswith(".py"):
            ast.parse(text)  # a script that does not parse is never handed out
    command, check = (str(_filled(spec[key], facts)) for key in ("run", "check"))
    return Written(files, command, check, spec["version"], spec["checked"])


_LINEAR: Final = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_FLAVORS: Final = {"T4": "t4-small", "L4": "l4x1", "L40S": "l40sx1", "A100 80GB": "a100-large"}
"""GPU of the table → flavor of Hugging Face Jobs (huggingface_hub 1.x SpaceHardware names, from
memory: `hf jobs hardware` lists what exists)."""


def _facts_of(
    config: TrainingConfig, steps: int, device: Device, mirror: str | None
) -> dict[str, Any]:
    """Return everything that a name of an engine can stand for."""
    here = Path(config.base_model).exists()
    targets = config.target_modules
    names = (
        _LINEAR if targets == "all-linear" else [targets] if isinstance(targets, str) else targets
    )
    on_cpu, bf16 = device.kind == "cpu", config.precision == "bf16"
    default_beta = {"grpo": 0.0}.get(config.method, 0.1)
    return {
        **config.model_dump(mode="json"),
        "beta": default_beta if config.beta is None else config.beta,
        "warmup_steps": round(config.warmup_ratio * steps),
        "dtype": "bfloat16" if bf16 and config.tuning != "full" else "float32",
        "bf16": bf16 and not on_cpu,
        "use_cpu": on_cpu,
        "has_validation": config.validation_file is not None,
        "data_folder": str(Path(config.train_file).parent),
        "all_linear": targets == "all-linear",
        "target_list": ["all-linear"] if targets == "all-linear" else names,
        "target_words": "all" if targets == "all-linear" else ",".join(names),
        "linear_names": names,
        "all_tokens": not config.labels_on_answers_only,
        "chat_answers_only": config.row_format == "trl_messages" and config.assistant_only_loss,
        "no_checkpointing": not config.gradient_checkpointing,
        "mixed_precision": "bf16" if bf16 else "no",
        "verifier_path": _dotted(config.verifier),
        "method_command": "sft" if config.method == "cpt" else config.method,
        "from_hf": mirror != "modelscope",
        "mirror": mirror,
        "base_is_here": here,
        "gpu": device.name,
        "gpu_count": device.count,
        "flavor": _FLAVORS.get(device.name, "FLAVOR"),
    }


def _dotted(verifier: str | None) -> str | None:
    if verifier is None:
        return None
    place, _, function = verifier.partition(":")
    return f"{Path(place).stem if place.endswith('.py') else place}.{function}"


_PLACE: Final = re.compile(r"<(\w+)>")


def _filled(value: Any, facts: Mapping[str, Any]) -> Any:
    """Return a value of the table with its ``<name>`` places _filled."""
    if isinstance(value, dict):
        return {key: _filled(each, facts) for key, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_filled(each, facts) for each in cast("list[Any]", value)]
    if not isinstance(value, str):
        return value
    if whole := _PLACE.fullmatch(value):
        return facts[whole.group(1)]
    return _PLACE.sub(lambda match: str(facts[match.group(1)]), value)


def _fields_of(spec: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return an engine's fields for the facts of a run; those without a value are left out."""
    blocks: list[Mapping[str, Any]] = [spec]
    for block in spec.get("when", ()):
        conditions = block["if"].items()
        if all(facts[k] in (v if isinstance(v, list) else [v]) for k, v in conditions):
            blocks.append(block)
    found: dict[str, Any] = {}
    for block in blocks:
        named = {theirs: facts[ours] for ours, theirs in block.get("names", {}).items()}
        found |= {key: value for key, value in named.items() if value is not None}
        found |= _filled(block.get("set", {}), facts)
    return found


def _write_plain(_: str, spec: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the one YAML file of an engine, by name."""
    return {spec["file"]: to_yaml(_fields_of(spec, facts))}


def _write_llama_factory(
    engine: str, spec: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, str]:
    """Return LLaMA-Factory's settings and the dataset_info.json they refer to."""
    rows = spec["rows"][facts["row_format"]]
    sets = {"train": facts["train_file"], "validation": facts["validation_file"]}
    info = {name: {"file_name": path, **rows} for name, path in sets.items() if path}
    written = _write_plain(engine, spec, facts)
    return written | {"dataset_info.json": json.dumps(info, indent=2, ensure_ascii=False) + "\n"}


def _trl_fields(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of TRL's command line."""
    return _fields_of(read_tables()["engines"]["trl"], facts)


def _write_torchrun(
    engine: str, spec: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, str]:
    """Return accelerate's settings for several processes, and TRL's."""
    chosen = _filled(spec["cpu" if facts["use_cpu"] else "gpu"], facts)
    written = {spec["file"]: to_yaml(chosen)}
    if facts["method"] == "grpo" and facts["verifier_path"] is None:
        return written  # launch_lora is given the verifier; TRL's file would need it now
    return written | {"trl.yaml": to_yaml(_trl_fields(facts))}


def _write_script(_: str, spec: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
    """Fill a script of the table; its dependencies stand in it as PEP 723 has it."""
    fields = _trl_fields(facts)
    training = {key: value for key, value in fields.items() if not _NOT_ARGUMENTS.match(key)}
    full = facts["tuning"] == "full"
    adapter = {name: facts[name] for name in ("r", "lora_alpha", "lora_dropout")}
    unsloth = "unsloth" in spec["file"]
    if unsloth:
        training.pop("assistant_only_loss", None)  # by markers instead, in the script
        training.pop("activation_checkpointing")  # its own way, and an older name there
        adapter |= {"target_modules": facts["linear_names"], "random_state": facts["seed"]}
    else:
        adapter |= {"target_modules": facts["target_modules"], "task_type": "CAUSAL_LM"}
    requirements = list(spec["requirements"])
    if facts["tuning"] == "qlora" and not unsloth:
        requirements.append("bitsandbytes")
    fetch = "BASE"
    if facts["mirror"] == "modelscope":
        requirements.append("modelscope")
        fetch = 'importlib.import_module("modelscope").snapshot_download(BASE)'
    kind = _TRAINERS[facts["method"]]
    revision = None if facts["mirror"] == "modelscope" else facts["base_revision"]
    values = {
        "config_class": f"{kind}Config",
        "trainer_class": f"{kind}Trainer",
        "base_source": repr(facts["base_model"]),
        "fetch_base": fetch,
        "model": _literal({"dtype": facts["dtype"]} | ({"revision": revision} if revision else {})),
        "load": _literal(
            {
                "max_seq_length": facts["max_length"],
                "load_in_4bit": facts["tuning"] == "qlora",
                "load_in_16bit": facts["tuning"] == "lora",
                "full_finetuning": full,
                "revision": revision,
            }
        ),
        "adapter": "None" if full else _literal(adapter),
        "training": _literal(training),
        "has_validation": repr(facts["has_validation"]),
        "quantised": repr(facts["tuning"] == "qlora"),
        "chat_answers_only": repr(facts["chat_answers_only"]),
    }
    body = str(_filled(spec["script"], values))
    return {spec["file"]: _header(requirements, facts) + body}


def _header(requirements: Iterable[str], facts: Mapping[str, Any]) -> str:
    lines = ["# /// script", '# requires-python = ">=3.10"', "# dependencies = ["]
    lines += [f"#     {json.dumps(each)}," for each in requirements]
    lines += ["# ]", "# ///", '"""Written by configure_training."""', ""]
    if facts["mirror"] == "modelscope":
        lines += ["import importlib"]
    elif facts["mirror"]:
        lines += ["import os", "", f'os.environ.setdefault("HF_ENDPOINT", {facts["mirror"]!r})']
    return "\n".join(lines).rstrip() + "\n"


def _literal(value: Mapping[str, Any]) -> str:
    inner = "".join(f"    {key!r}: {each!r},\n" for key, each in value.items())
    return "{\n" + inner + "}"


def _write_skypilot(
    engine: str, spec: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, str]:
    """Write a task that carries its data and TRL's own configuration with it."""
    mounts = {"~/job/train.jsonl": facts["train_file"], "~/job/trl.yaml": "trl.yaml"}
    there = {**facts, "train_file": "train.jsonl", "data_folder": "."}
    if facts["has_validation"]:
        mounts["~/job/validation.jsonl"] = facts["validation_file"]
    if facts["base_is_here"]:
        mounts["~/job/base"], there["base_model"] = facts["base_model"], "base"
    several = facts["num_processes"] > 1
    torchrun = read_tables()["engines"]["torchrun"]
    written = {"trl.yaml": to_yaml(_trl_fields(there))}
    command = torchrun["run"] if several else "trl <method_command> --config trl.yaml"
    run = str(_filled(command, facts))
    if several:
        written |= {"accelerate.yaml": to_yaml(_filled(torchrun["gpu"], facts))}
        mounts["~/job/accelerate.yaml"] = "accelerate.yaml"
    quantised = ["bitsandbytes"] if facts["tuning"] == "qlora" else []
    packages = " ".join(shlex.quote(each) for each in [*spec["requirements"], *quantised])
    gpu = spec["gpus"].get(facts["gpu"], facts["gpu"])
    mirror = facts["mirror"]
    environment = f"export HF_ENDPOINT={shlex.quote(mirror)}\n" if mirror else ""
    task: dict[str, Json] = {
        "name": "fine-tuning",
        "resources": {"accelerators": f"{gpu}:{facts['gpu_count']}"},
        "num_nodes": 1,
        "file_mounts": cast("Json", mounts),
        "setup": f"pip install {packages}\n",
        "run": f"cd ~/job\n{environment}{run}\n",
    }
    return {spec["file"]: to_yaml(task), **written}


Writer = Callable[[str, Mapping[str, Any], Mapping[str, Any]], dict[str, str]]
_WRITERS: Final[dict[str, Writer]] = {
    "llama_factory": _write_llama_factory,
    "unsloth": _write_script,
    "hf_jobs": _write_script,
    "skypilot": _write_skypilot,
    "torchrun": _write_torchrun,
}
