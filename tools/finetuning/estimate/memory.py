"""The memory that training takes, term by term, by who trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from finetuning.estimate.architecture import (
    FOUR_NORMS,
    Architecture,
    Targets,
    lora_parameters,
)

Stack = Literal[
    "local_cpu",
    "trl",
    "plain",
    "liger",
    "unsloth",
    "torchtune",
    "axolotl",
    "llama_factory",
    "ms_swift",
    "litgpt",
    "fms",
    "fms_foak",
]
"""Who trains: our worker on a CPU; TRL >= 1.16 (fused LM head and loss); ``plain``, a Hugging
Face trainer that keeps the logits; or the program named, with its defaults."""

Tuning = Literal["lora", "qlora", "full"]
Quantisation = Literal["nf4", "nf4-dq", "gptq"]

MEMORY_ERROR_FRACTIONS: Final = (0.053, 0.101)
"""Median and 90th percentile of the formula's error on the 61 published readings that it was not
written on; the worst under-estimate there was 5.1 % (benchmarks/memory_estimate.py, 2026-11-20)."""


class Kernels(NamedTuple):
    """What a stack keeps at the peak, by the readings it was written on.

    ``logits`` are bytes per position and vocabulary entry; ``hidden`` and ``ffn`` count the
    16-bit copies of a layer's widths that are live in one recomputed layer. ``logits_upcast`` is
    set where PEFT turns embeddings and the residual stream to fp32 for bitsandbytes' weights.
    ``offloads``: layer inputs wait in the computer's memory. ``fused_step``: Adam works in place.
    """

    logits: float
    hidden: float
    ffn: float
    logits_upcast: float | None = None
    offloads: bool = False
    adapter_bytes: int = 16
    fused_step: bool = False


_HF: Final = Kernels(14, 22, 7, logits_upcast=16)
KERNELS: Final[dict[str, Kernels]] = {
    "local_cpu": Kernels(12, 18, 8, fused_step=True),
    "trl": Kernels(0, 22, 7, fused_step=True),
    "plain": _HF,
    "axolotl": _HF,
    "llama_factory": _HF,
    "ms_swift": _HF,
    "fms": Kernels(14, 22, 7),
    "fms_foak": Kernels(9, 10, 7),
    "liger": Kernels(0, 10, 7),
    "unsloth": Kernels(0, 12, 4, offloads=True),
    "torchtune": Kernels(2, 10, 7),
    "litgpt": Kernels(6, 22, 7, adapter_bytes=8),
}
"""Source: the developing half of tables.json (2026-11-20); Unsloth's two numbers from its table
of context lengths, torchtune's and our worker's from their code."""

_QUANTISED_BYTES: Final = {"nf4": 0.5 + 4 / 64, "nf4-dq": 0.5159, "gptq": 0.5195}
"""Per weight: 4 bits, and a scale per block of 64 (fp32, or quantised again) or 128."""
_FIXED_BYTES: Final = {"local_cpu": 580_000_000}
"""Python, torch and TRL on a CPU (measured 2026-11)."""
_CONTEXT_BYTES: Final = 500_000_000
"""CUDA context and libraries, outside what torch counts (0.14 GB on a T4 to 0.6 GB on an H100)."""
_WORKSPACE_BYTES: Final = 150_000_000
"""Buffers of cuBLAS and the like, which torch does count."""
_UNPACKED_COPIES: Final = 2
"""16-bit copies of the largest 4-bit matrix while a layer works: bitsandbytes unpacks it for the
product, and autograd for the gradient of its input (functional.py, matmul_4bit)."""
_TILE: Final = (4096, 32_768)
"""Positions and vocabulary entries of one tile of TRL's fused loss (trl 1.16 kernels)."""
_SAVED: Final = {"gated": 5.3, "ungated": 2.0, "hidden": 8.5, "four_norms": 16.0}
"""16-bit copies of a layer's widths that wait for the backward pass without checkpointing."""
_SAVED_QLORA: Final = 1.6
"""More copies of f + 2h there with 4-bit weights, whose product keeps its input."""
_SAVED_DROPOUT: Final = 1.5
"""More copies of f + 4h there where every linear layer carries an adapter with dropout."""


def memory_terms(
    shape: Architecture,
    *,
    tuning: Tuning,
    r: int,
    tokens_per_microbatch: int,
    gradient_checkpointing: bool,
    stack: Stack,
    labelled_fraction: float = 1.0,
    targets: Targets = "all",
    quantisation: Quantisation = "nf4",
    weight_bytes: int | None = None,
) -> dict[str, float]:
    """Return the terms of the peak in bytes, by name; they add up to it.

    The peak is one of three moments: the loss (logits), the backward pass of one layer, or the
    optimizer's step; what belongs to another moment counts 0.

    Args:
        shape: The base model.
        tuning: ``lora``, ``qlora`` or ``full``.
        r: Rank of the adapter (not used for ``full``).
        tokens_per_microbatch: Rows of a micro-batch times its longest row, in tokens.
        gradient_checkpointing: Whether layer activations are recomputed.
        stack: Who trains.
        labelled_fraction: Share of positions that carry a label, 0..1; counts only where the
            stack scores labelled positions alone (``local_cpu``).
        targets: Layers that carry the adapter.
        quantisation: Format of the weights under ``qlora``.
        weight_bytes: 2 or 4 bytes of a weight that is not quantised; null: 4 on a CPU and for
            ``full`` (fp32 masters), else 2.

    Source: published readings in tables.json (2026-11-20); knowledge: training.md#memory
    """
    plan = _Plan(
        shape, tuning, r, tokens_per_microbatch, stack, targets, quantisation, weight_bytes
    )
    activations, logits, rest = plan.peak(gradient_checkpointing, labelled_fraction)
    return {
        "weights": plan.weights(),
        "trained": plan.trained()["static"] + rest,
        "activations": activations,
        "logits": logits,
        "fixed": float(_FIXED_BYTES.get(stack, _CONTEXT_BYTES + _WORKSPACE_BYTES)),
    }


@dataclass(frozen=True, slots=True)
class _Plan:
    """One way to train one model; each method returns bytes."""

    shape: Architecture
    tuning: Tuning
    r: int
    tokens: int
    stack: Stack
    targets: Targets
    quantisation: Quantisation
    weight_bytes: int | None

    @property
    def kernels(self) -> Kernels:
        return KERNELS[self.stack]

    @property
    def on_cpu(self) -> bool:
        return self.stack == "local_cpu"

    @property
    def width(self) -> int:
        """Bytes of a weight that is not quantised."""
        return self.weight_bytes or (4 if self.on_cpu or self.tuning == "full" else 2)

    @property
    def logits_upcast(self) -> float | None:
        """Bytes of a logit where PEFT has turned the residual stream to fp32, else None."""
        quantised = self.tuning == "qlora" and self.quantisation != "gptq"
        return self.kernels.logits_upcast if quantised else None

    def peak(self, checkpointing: bool, labelled_fraction: float) -> tuple[float, float, float]:
        """Return activations, logits, and gradients with temporaries at the largest moment."""
        trained = self.trained()
        gradients, logits = trained["gradients"], self.logits(labelled_fraction)
        layer, kept = (self.layer(), self.inputs()) if checkpointing else (0.0, self.saved())
        if self.tuning == "full":  # inputs are let go while gradients come
            backward = (layer, 0.0, max(kept, gradients))
        else:
            backward = (kept + layer, 0.0, self.unpacked())
        step = (0.0, 0.0, gradients + trained["step"])
        return max(((kept, logits, self.unpacked()), backward, step), key=sum)

    def unpacked(self) -> float:
        """16-bit copies of one 4-bit matrix."""
        matrix = 2.0 * self.shape.hidden_size * self.shape.intermediate_size
        return _UNPACKED_COPIES * matrix if self.tuning == "qlora" else 0.0

    def weights(self) -> float:
        parameters, width = self.shape.parameters, self.width
        if self.tuning == "qlora":
            head = self.shape.embedding_parameters
            head_width = 4 if self.logits_upcast else width
            return _QUANTISED_BYTES[self.quantisation] * (parameters - head) + head_width * head
        copies = 2 if self.tuning == "full" and not self.on_cpu and width == 4 else 0  # autocast's
        return float((width + copies) * parameters)

    def trained(self) -> dict[str, float]:
        """What training adds: always there, gradients, and temporaries of the step."""
        if self.tuning != "full":
            count = lora_parameters(self.shape, self.r, self.targets)
            adapter = float(self.kernels.adapter_bytes * count)
            return {"static": adapter, "gradients": 0.0, "step": 0.0}
        each = float(self.width * self.shape.parameters)
        step = 0.0 if self.kernels.fused_step else each
        return {"static": 2 * each, "gradients": each, "step": step}

    def layer(self) -> float:
        """What lives while one layer is computed again and goes backward."""
        shape, kernels = self.shape, self.kernels
        ffn = kernels.ffn * shape.intermediate_size
        if shape.n_experts:  # kept for every chosen expert, worked on for one at a time
            ffn = float(shape.intermediate_size * (4 * shape.n_experts_per_token + 3))
            ffn += 7 * shape.shared_intermediate_size
        width = 4 if self.on_cpu else 2
        return self.tokens * width * (ffn + kernels.hidden * shape.hidden_size)

    def inputs(self) -> float:
        """The inputs of all layers, which wait for the backward pass."""
        if self.kernels.offloads:
            return 0.0
        width = 4 if self.on_cpu or self.logits_upcast else 2
        return float(self.tokens * self.shape.hidden_size * self.shape.n_layers * width)

    def saved(self) -> float:
        """All activations that wait for the backward pass without checkpointing."""
        shape = self.shape
        h, f = shape.hidden_size, shape.intermediate_size * max(1, shape.n_experts_per_token)
        f += shape.shared_intermediate_size
        copies = _SAVED["gated" if shape.gated_mlp else "ungated"] * f + _SAVED["hidden"] * h
        if shape.family.startswith(FOUR_NORMS):
            copies += _SAVED["four_norms"] * h
        if self.tuning == "qlora":
            copies += _SAVED_QLORA * (f + 2 * h)
        if self.tuning != "full" and self.targets == "all":
            copies += _SAVED_DROPOUT * (f + 4 * h)
        return self.tokens * shape.n_layers * (4 if self.on_cpu else 2) * copies

    def logits(self, labelled_fraction: float) -> float:
        v, tokens = self.shape.vocab_size, self.tokens
        if self.stack == "trl":  # one tile and its gradient in fp32
            return float(min(tokens, _TILE[0]) * min(v, _TILE[1]) * 8)
        each = self.logits_upcast or self.kernels.logits
        share = labelled_fraction if self.on_cpu else 1.0
        return tokens * share * v * each + (tokens * self.shape.hidden_size * 8.0 if each else 0.0)


def training_memory_gb(
    arch: Architecture,
    *,
    tuning: Tuning,
    r: int,
    tokens_per_microbatch: int,
    gradient_checkpointing: bool,
    stack: Stack,
    labelled_fraction: float = 1.0,
    targets: Targets = "all",
    quantisation: Quantisation = "nf4",
    weight_bytes: int | None = None,
) -> float:
    """Return the estimated peak memory of training, in GB (10⁹ bytes).

    Read it with :data:`MEMORY_ERROR_FRACTIONS`; the arguments are those of :func:`memory_terms`.
    A monitor such as nvidia-smi shows more where memory is free: torch keeps what it no longer
    needs.
    """
    terms = memory_terms(
        arch,
        tuning=tuning,
        r=r,
        tokens_per_microbatch=tokens_per_microbatch,
        gradient_checkpointing=gradient_checkpointing,
        stack=stack,
        labelled_fraction=labelled_fraction,
        targets=targets,
        quantisation=quantisation,
        weight_bytes=weight_bytes,
    )
    return sum(terms.values()) / 1e9
