"""The fields and files that other training programs read, by their own names.

The names stand in ``tables.toml`` with the version they were compared with; here they are filled
with the values of a run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from finetuning.training.config import TrainingConfig, read_tables
from finetuning.training.environment import Device

_LINEAR: Final = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_FLAVORS: Final = {"T4": "t4-small", "L4": "l4x1", "L40S": "l40sx1", "A100 80GB": "a100-large"}
"""GPU of the table → flavor of Hugging Face Jobs (huggingface_hub 1.x SpaceHardware names, from
memory: `hf jobs hardware` lists what exists)."""


def facts_of(
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


def filled(value: Any, facts: Mapping[str, Any]) -> Any:
    """Return a value of the table with its ``<name>`` places filled."""
    if isinstance(value, dict):
        return {key: filled(each, facts) for key, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [filled(each, facts) for each in cast("list[Any]", value)]
    if not isinstance(value, str):
        return value
    if whole := _PLACE.fullmatch(value):
        return facts[whole.group(1)]
    return _PLACE.sub(lambda match: str(facts[match.group(1)]), value)


def fields_of(spec: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
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
        found |= filled(block.get("set", {}), facts)
    return found


def write_plain(_: str, spec: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the one YAML file of an engine, by name."""
    return {spec["file"]: to_yaml(fields_of(spec, facts))}


def write_llama_factory(
    engine: str, spec: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, str]:
    """Return LLaMA-Factory's settings and the dataset_info.json they refer to."""
    rows = spec["rows"][facts["row_format"]]
    sets = {"train": facts["train_file"], "validation": facts["validation_file"]}
    info = {name: {"file_name": path, **rows} for name, path in sets.items() if path}
    written = write_plain(engine, spec, facts)
    return written | {"dataset_info.json": json.dumps(info, indent=2, ensure_ascii=False) + "\n"}


def trl_fields(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of TRL's command line."""
    return fields_of(read_tables()["engines"]["trl"], facts)


def write_torchrun(
    engine: str, spec: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, str]:
    """Return accelerate's settings for several processes, and TRL's."""
    chosen = filled(spec["cpu" if facts["use_cpu"] else "gpu"], facts)
    written = {spec["file"]: to_yaml(chosen)}
    if facts["method"] == "grpo" and facts["verifier_path"] is None:
        return written  # launch_lora is given the verifier; TRL's file would need it now
    return written | {"trl.yaml": to_yaml(trl_fields(facts))}


_PLAIN: Final = re.compile(r"[A-Za-z_./~][\w./~-]*")
_WORDS: Final = frozenset("true false yes no on off y n null none ~ .inf .nan".split())
"""Texts that YAML 1.1 takes for something else."""


def to_yaml(value: Any, indent: int = 0) -> str:
    """Return a value as YAML that reads the same under YAML 1.1 and 1.2."""
    pad = " " * indent
    if isinstance(value, Mapping) and value:
        items = cast("Mapping[str, Any]", value).items()
        return "".join(f"{pad}{_scalar(key)}:{_below(each, indent)}" for key, each in items)
    if isinstance(value, list) and value:
        lines = [to_yaml(each, indent + 2) for each in cast("list[Any]", value)]
        return "".join(f"{pad}- {line[indent + 2 :]}" for line in lines)
    return f"{pad}{_scalar(value)}\n"


def _below(value: Any, indent: int) -> str:
    if isinstance(value, Mapping | list) and value:
        return "\n" + to_yaml(value, indent + 2)
    if isinstance(value, str) and re.fullmatch(r"(?:[ -~]*[!-~]\n)+", value) and value[0] != " ":
        pad = " " * (indent + 2)
        return " |\n" + "".join(f"{pad}{line}\n" for line in value.splitlines())
    return f" {_scalar(value)}\n"


def _scalar(value: Any) -> str:
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, float):
        text = repr(value)  # 2e-05 is a string to YAML 1.1: it wants a point
        return text if "." in text else text.replace("e", ".0e")
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.casefold() not in _WORDS:
            return value
        quoted = json.dumps(value, ensure_ascii=False)
        return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
    return "{}" if isinstance(value, Mapping) else "[]"
