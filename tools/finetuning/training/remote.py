"""What is written for training elsewhere: configurations, scripts and jobs."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple, cast

from finetuning.errors import BadInputError
from finetuning.records import Json
from finetuning.training.config import TrainingConfig, read_tables
from finetuning.training.engines import (
    facts_of,
    filled,
    to_yaml,
    trl_fields,
    write_llama_factory,
    write_plain,
    write_torchrun,
)
from finetuning.training.environment import Device

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
    _refuse(engine, spec, config)
    _refuse_rows(engine, spec, config, message_columns)
    facts = facts_of(config, steps, device, mirror)
    facts |= {"timeout": f"{max(_LEAST_HOURS, round(2 * (hours or _LEAST_HOURS)))}h"}
    files = _WRITERS.get(engine, write_plain)(engine, spec, facts)
    for name, text in files.items():
        if name.endswith(".py"):
            ast.parse(text)  # a script that does not parse is never handed out
    command, check = (str(filled(spec[key], facts)) for key in ("run", "check"))
    return Written(files, command, check, spec["version"], spec["checked"])


def _refuse(engine: str, spec: Mapping[str, Any], config: TrainingConfig) -> None:
    for kind, value in (("method", config.method), ("tuning", config.tuning)):
        if value not in spec[f"{kind}s"]:
            raise BadInputError(
                "configure_training",
                f"no {engine} file is written for {kind}={value!r}",
                f"{kind} {' or '.join(spec[f'{kind}s'])} with {engine}",
                "Use engine='local' or engine='trl'",
            )
    if config.method == "grpo" and config.verifier is None and engine != "torchrun":
        raise BadInputError(
            "configure_training",
            f"{engine} needs the verifier in its file, and none is named",
            "verifier: module:function",
            "Add overrides={'verifier': 'checks:score'}",
        )


def _refuse_rows(
    engine: str, spec: Mapping[str, Any], config: TrainingConfig, lists: Collection[str]
) -> None:
    """Stop where an engine would read rows of this shape as something else.

    Raises:
        BadInputError: Its file names columns that these rows do not have, or texts that are lists.
    """
    if config.row_format == "trl_messages":
        wrong, target = "messages" not in lists, "trl_messages"
    else:
        texts = {"prompt", "completion", "chosen", "rejected"}
        wrong, target = bool(texts & set(lists)), "trl_prompt_completion"
    if wrong and spec.get("plain_rows"):
        step = f"Run: fine-tuning prepare-data {config.train_file} --target {target} "
        raise BadInputError(
            "data",
            f"the rows hold messages in {' and '.join(sorted(lists))}, which {engine} cannot read",
            "one list of messages, or plain texts",
            f"{step}--output-dir prepared, or use engine='trl'",
        )


def _write_script(_: str, spec: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
    """Fill a script of the table; its dependencies stand in it as PEP 723 has it."""
    fields = trl_fields(facts)
    training = {key: value for key, value in fields.items() if not _NOT_ARGUMENTS.match(key)}
    full = facts["tuning"] == "full"
    adapter = {
        "r": facts["r"],
        "lora_alpha": facts["lora_alpha"],
        "lora_dropout": facts["lora_dropout"],
    }
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
    body = str(filled(spec["script"], values))
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
    written = {"trl.yaml": to_yaml(trl_fields(there))}
    run = str(
        filled(torchrun["run"] if several else "trl <method_command> --config trl.yaml", facts)
    )
    if several:
        written |= {"accelerate.yaml": to_yaml(filled(torchrun["gpu"], facts))}
        mounts["~/job/accelerate.yaml"] = "accelerate.yaml"
    quantised = ["bitsandbytes"] if facts["tuning"] == "qlora" else []
    packages = " ".join(shlex.quote(each) for each in [*spec["requirements"], *quantised])
    gpu = spec["gpus"].get(facts["gpu"], facts["gpu"])
    environment = (
        "export HF_ENDPOINT=" + shlex.quote(facts["mirror"]) + "\n" if facts["mirror"] else ""
    )
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
    "llama_factory": write_llama_factory,
    "unsloth": _write_script,
    "hf_jobs": _write_script,
    "skypilot": _write_skypilot,
    "torchrun": write_torchrun,
}
