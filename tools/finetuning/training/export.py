"""Take a trained model out of its run, ready to serve, with proof that it answers the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

from pydantic import Field

from finetuning import files, runs
from finetuning.errors import BadInputError, require
from finetuning.records import Finding, Model, NextCall, ToolResult
from finetuning.training import serving, weights
from finetuning.training.config import TrainingConfig, parse_config
from finetuning.training.serving import finding

WHERE: Final = "export_adapter"
Format = Literal["adapter", "merged", "gguf", "ollama", "vllm"]
_MERGING: Final = frozenset({"merged", "gguf", "ollama"})
_PRECISIONS: Final = {"fp32": "float32", "bf16": "bfloat16"}


class ServeParity(Model, defer_build=True):
    """Whether what was written answers as the trained model does (greedy, token by token).

    ``max_logit_difference`` is taken over the likeliest eight tokens of each position, up to the
    first token that differs; ``gap_at_difference`` is by how much the trained model preferred its
    own token there.
    """

    prompts: int
    identical: bool
    tokens: int
    differing_prompts: int
    max_logit_difference: float
    first_difference_at_token: int | None
    gap_at_difference: float | None
    differing_side: str | None
    dtype: str


class Export(ToolResult, defer_build=True):
    """An exported model, or why there is none."""

    run_id: str
    format: Format
    output_dir: str | None
    files: list[str]
    parity: ServeParity | None
    findings: list[Finding]

    def exit_code(self) -> int:
        """Return 1 when nothing was exported."""
        return 0 if self.output_dir is not None else 1

    def summary(self) -> str:
        """Say in one line what was written, or that it was not."""
        if self.output_dir is None:
            return f"Nothing was exported: {self.findings[0].message}."
        same = "" if self.parity is None else f"; same answers to {self.parity.prompts} prompts"
        return f"Wrote {len(self.files)} files ({self.format}) to {self.output_dir}{same}."


class _RefusedError(Exception):
    """The folder being written must not become whole."""


@dataclass(frozen=True, slots=True)
class _Trained:
    """What a run has left: its settings, its base, and the folder of its weights."""

    run_id: str
    config: TrainingConfig
    base: Path
    folder: Path
    result: dict[str, Any]
    status: str

    @property
    def adapted(self) -> bool:
        return (self.folder / "adapter_config.json").is_file()

    @property
    def prompts_file(self) -> Path:
        name = self.config.validation_file or self.config.train_file
        return files.resolve_read(name, where=WHERE)

    def adapter_settings(self) -> dict[str, Any]:
        path = self.folder / "adapter_config.json"
        text = path.read_text(encoding="utf-8") if self.adapted else "{}"
        return cast("dict[str, Any]", json.loads(text))


def export_adapter(
    run_id: str,
    format: Format = "adapter",
    output_dir: str | None = None,
    prompts: Annotated[int, Field(ge=1, le=1000)] = 16,
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 48,
    dtype: Literal["auto", "fp32", "bf16"] = "auto",
    overwrite: bool = False,
) -> Export:
    """Export a run's model for serving and check that it answers the same.

    The trained model, the merged one and the one read back from the disk answer the same prompts
    greedily; if one token differs, nothing is exported. Weights are safetensors, never pickles.

    Args:
        run_id: The training run.
        format: adapter (with tokenizer and card), merged (one model), gguf (by llama.cpp's
            converter where it is installed, else its script), ollama (Modelfile), vllm (script).
        output_dir: New folder; absent: below the reports folder.
        prompts: Rows of the validation file to compare on, 1..1000; their text is not shown.
        max_tokens: Most tokens per answer, 1..4096.
        dtype: Precision of the weights; auto takes that of the training.
        overwrite: Replace a folder that holds files.

    Returns:
        files, parity and findings; output_dir is null (exit code 1) when the check failed.

    Raises:
        UnknownNameError: No such run.
        BadInputError: The run left no adapter, or its files or its base have changed.
        MissingExtraError: The extra `local` is not installed.

    Knowledge: training.md#export-and-serving
    """
    trained = _read(run_id)
    target = files.new_output_folder(
        output_dir, where=WHERE, name=f"{run_id}-{format}", overwrite=overwrite
    )
    for module in ("torch", "transformers", "peft"):
        require(module, feature=WHERE, extra="local")
    precision = _PRECISIONS[trained.config.precision if dtype == "auto" else dtype]
    found = _first_findings(trained, format)
    parity: ServeParity | None = None
    try:
        with weights.whole_folder(target) as folder:
            reply = _write(trained, folder, format, prompts, max_tokens, precision)
            parity = ServeParity(dtype=precision, **reply["parity"])
            found += _judge(parity, trained, reply, format)
            if not any(each.severity == "error" for each in found):
                found += _dress(trained, folder, format, reply, parity)
            if any(each.severity == "error" for each in found):
                raise _RefusedError
    except _RefusedError:
        worst = sorted(found, key=lambda each: each.severity != "error")
        return _export(trained, format, None, parity, worst)
    return _export(trained, format, target, parity, found)


def _read(run_id: str) -> _Trained:
    row = runs.read_run(run_id)
    result: dict[str, Any] = row.result or {}
    left = result.get("adapter_dir")
    if row.tool != "launch_lora" or not isinstance(left, str):
        raise BadInputError(
            WHERE,
            f"{run_id} ({row.tool}) is {row.status} and left no trained weights",
            "a training run with an adapter_dir",
            f"Run: fine-tuning get-run {run_id}",
        )
    folder = Path(left)
    fault = weights.fault_of(folder)
    if fault is not None:
        raise BadInputError(
            WHERE,
            f"the weights of {run_id} are not as the training left them: {fault}",
            "the sealed folder",
            f"Restore {folder} from a copy, or resume the run from a checkpoint",
        )
    config = parse_config(runs.arguments_of(run_id)["config"], where="config")
    base = weights.find_base(config.base_model)
    if base is None:
        raise BadInputError(
            "base_model",
            f"{config.base_model!r} is no longer on this machine",
            "the base that the run was trained on",
            "Put it back, in the same place",
        )
    return _Trained(run_id, config, base, folder, result, row.status)


def _first_findings(trained: _Trained, format_: Format) -> list[Finding]:
    """Return what is known before anything is loaded."""
    config, found = trained.config, list[Finding]()
    if trained.status != "succeeded":
        found.append(finding("run_not_finished", status=trained.status))
    if config.validation_file is None:
        found.append(finding("prompts_from_training"))
    if config.quantisation != "none" and format_ in _MERGING:
        found.append(finding("merged_without_4bit"))
    return found


def _write(
    trained: _Trained, folder: Path, format_: Format, prompts: int, max_tokens: int, dtype: str
) -> dict[str, Any]:
    """Let a child process write the weights below ``folder`` and compare; return its reply."""
    from finetuning.evaluation.asking import run_child

    inner = {"gguf": "merged", "ollama": "merged", "vllm": "model"}.get(format_)
    (output := folder / inner if inner else folder).mkdir(exist_ok=True)
    request = {
        "base": str(trained.base),
        "source": str(trained.folder),
        "adapted": trained.adapted,
        "merge": format_ in _MERGING or not trained.adapted,
        "dtype": dtype,
        "output": str(output),
        "prompts_file": str(trained.prompts_file),
        "prompts": prompts,
        "seed": trained.config.seed,
        "max_tokens": max_tokens,
    }
    step = "Check the memory of this machine with inspect_environment"
    return run_child("finetuning.training.worker.export", request, where=WHERE, step=step)


def _judge(
    parity: ServeParity, trained: _Trained, reply: dict[str, Any], format_: Format
) -> list[Finding]:
    """Return the reasons not to export, of the comparison and of vLLM's rules."""
    found: list[Finding] = []
    if not parity.identical:
        gap, widest = parity.gap_at_difference or 0.0, parity.max_logit_difference
        near = parity.dtype == "bfloat16" and gap <= 2 * widest
        facts = {
            "side": parity.differing_side,
            "differing": parity.differing_prompts,
            "prompts": parity.prompts,
            "token": parity.first_difference_at_token,
        }
        code = "parity_failed_by_rounding" if near else "parity_failed"
        found.append(finding(code, gap=gap, widest=widest, **facts))
    if format_ == "vllm" and trained.adapted:
        found += serving.lint_for_vllm(trained.adapter_settings(), reply["vocabulary"])
    return found


def _dress(
    trained: _Trained, folder: Path, format_: Format, reply: dict[str, Any], parity: ServeParity
) -> list[Finding]:
    """Write what goes with the weights: card, scripts, Modelfile, GGUF."""
    found: list[Finding] = []
    if format_ in {"gguf", "ollama"}:
        found.append(serving.make_gguf(folder, parity.dtype))
    if format_ == "ollama":
        found += _modelfile(trained, folder, reply)
    if format_ == "vllm":
        adapter = trained.adapter_settings() if trained.adapted else None
        base = str(trained.base)
        script = serving.vllm_script(base, trained.run_id, adapter, parity.dtype)
        serving.write_script(folder / "serve.sh", script)
    card = serving.card(trained.config, trained.result, reply, parity.model_dump())
    (folder / "README.md").write_text(card, encoding="utf-8")
    return found


def _modelfile(trained: _Trained, folder: Path, reply: dict[str, Any]) -> list[Finding]:
    source = "./model.gguf" if (folder / "model.gguf").is_file() else "./merged"
    pieces = cast("dict[str, str] | None", reply["pieces"])
    chat = reply["chat"]
    template = serving.go_template(pieces) if chat and pieces else None if chat else "{{ .Prompt }}"
    text = serving.modelfile(source, template, stops=reply["stops"], longest=reply["longest"])
    (folder / "Modelfile").write_text(text, encoding="utf-8")
    return [] if template is not None else [finding("chat_template_not_fixed")]


def _export(
    trained: _Trained,
    format_: Format,
    target: Path | None,
    parity: ServeParity | None,
    found: list[Finding],
) -> Export:
    written = [] if target is None else sorted(p for p in target.rglob("*") if p.is_file())
    call = None
    if target is not None and format_ == "merged" and trained.config.test_file:
        call = NextCall(
            tool="compare_eval",
            args={
                "data": trained.config.test_file,
                "base": f"local:{trained.base}",
                "tuned": f"local:{target}",
            },
            why="measures the exported model itself against the base",
        )
    return Export(
        run_id=trained.run_id,
        format=format_,
        output_dir=None if target is None else str(target),
        files=[str(path) for path in written],
        parity=parity,
        findings=found,
        next=[] if call is None else [call],
    )
