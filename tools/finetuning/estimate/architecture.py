"""What a base model is made of, from its config.json or a table of public ones."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, cast

from finetuning.errors import BadInputError, UnknownNameError
from finetuning.files import resolve_read
from finetuning.records import Model

Targets = Literal["all", "attention", "mlp", "qv"]
"""Linear layers that carry an adapter: all of them, those of attention, of the feed-forward
block, or queries and values alone."""

_ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "n_layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "n_heads": ("num_attention_heads", "n_head", "num_heads"),
    "vocab_size": ("vocab_size",),
}
_UNGATED: Final = frozenset(
    {"gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "opt", "phi", "falcon"}
)
"""Families whose feed-forward block has two matrices instead of three."""
FOUR_NORMS: Final = ("gemma2", "gemma3", "gemma4")
"""Families with a norm after attention and feed-forward block as well as before."""
_SUFFIX: Final = re.compile(r"[-_](instruct|it|base|pt|chat|hf)([-_]\d+)?$")
_MOST_HEADER_BYTES: Final = 100_000_000
"""Longest safetensors header that is read (the format's own limit, safetensors 0.6)."""


@functools.cache
def read_tables() -> dict[str, Any]:
    """Return the shipped tables: shapes of public models, and measured points with sources."""
    text = Path(__file__).with_name("tables.json").read_text(encoding="utf-8")
    return cast("dict[str, Any]", json.loads(text))


def known_models() -> dict[str, dict[str, Any]]:
    """Return name → shape of each public base of the table, in the words of ``config.json``.

    A name stands in lower case, without organisation or tuning suffix; ``parameters`` is the
    count of transformers 5.23 for the text model.
    """
    return cast("dict[str, dict[str, Any]]", read_tables()["models"])


class Architecture(Model, defer_build=True):
    """Shape of a decoder-only model; ``parameters`` counts tied embeddings once.

    In a mixture of experts ``intermediate_size`` is that of one expert, and
    ``shared_intermediate_size`` that of the block every token passes.
    """

    name: str
    family: str
    hidden_size: int
    intermediate_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int
    gated_mlp: bool = True
    tie_word_embeddings: bool = False
    max_position_embeddings: int | None = None
    n_experts: int = 0
    n_experts_per_token: int = 0
    shared_intermediate_size: int = 0
    per_layer_embedding_size: int = 0
    parameters: int
    active_parameters: int
    source: str
    as_of: str | None = None

    @property
    def head_parameters(self) -> int:
        """Parameters of the LM head, which is the embedding too where they are tied."""
        return self.vocab_size * self.hidden_size

    @property
    def embedding_parameters(self) -> int:
        """Parameters of all embeddings and of an LM head of its own: what stays unquantised."""
        tables = self.head_parameters * (1 if self.tie_word_embeddings else 2)
        return tables + self.vocab_size * self.n_layers * self.per_layer_embedding_size

    @property
    def multiplied_parameters(self) -> int:
        """Parameters that one token is multiplied with: looking up an embedding is free."""
        return self.active_parameters - self.embedding_parameters + self.head_parameters


def read_architecture(base_model: str | Path) -> Architecture:
    """Return the shape of a base model, from its folder on disk or from the built-in table.

    Args:
        base_model: Folder with ``config.json`` (or that file), or a name of the table such as
            ``Qwen/Qwen3-8B``; organisation and ``-Instruct``, ``-Base``, ``-it`` do not matter.

    Raises:
        UnknownNameError: Neither a folder nor a known name.
        BadInputError: The folder has no usable ``config.json``.
    """
    text = str(base_model)
    if not isinstance(base_model, Path) and (known := known_models().get(plain_name(text))):
        return _of_the_table(known, text)
    if not Path(text).expanduser().exists() and not isinstance(base_model, Path):
        raise UnknownNameError("base_model", "base model", text, known_models())
    place = resolve_read(base_model, where="base_model", kind="any")
    folder = place.parent if place.is_file() else place
    config = _read_config(folder)
    shape = _from_config(config, name=folder.name, source=str(folder / "config.json"))
    sizes = _sizes_on_disk(folder)
    if not sizes:
        return shape
    tied = not any(name.endswith("lm_head.weight") for name in sizes)
    return _counted(shape, sum(sizes.values())).model_copy(update={"tie_word_embeddings": tied})


def plain_name(text: str) -> str:
    """Return a model's name as the table writes it."""
    return _SUFFIX.sub("", text.rpartition("/")[2].lower().removeprefix("meta-"))


def _of_the_table(row: Mapping[str, Any], name: str) -> Architecture:
    checked = str(read_tables()["checked"])
    shape = _from_config(row, name=name, source=str(row["source"]), as_of=checked)
    return _counted(shape, int(row["parameters"]))


def _counted(shape: Architecture, total: int) -> Architecture:
    """Return the shape with a known count instead of the computed one."""
    idle = shape.parameters - shape.active_parameters
    return shape.model_copy(update={"parameters": total, "active_parameters": total - idle})


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise BadInputError(
            "base_model",
            f"{str(folder)!r} holds no config.json",
            "the folder of a base model in Hugging Face format",
            "Name the folder that holds config.json, the weights and the tokenizer",
        )
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise _unusable(path, f"is not JSON ({type(error).__name__})") from error
    if not isinstance(config, dict):
        raise _unusable(path, f"holds a {type(config).__name__}")
    values = cast("dict[str, Any]", config)
    nested: dict[str, Any] = values.get("text_config") or {}  # a model that also sees or hears
    return {**values, **nested}


def _unusable(path: Path, what: str) -> BadInputError:
    return BadInputError(
        str(path),
        f"the file {what}",
        "the configuration of a decoder-only model",
        "Download the base model again",
    )


def _sizes_on_disk(folder: Path) -> dict[str, int]:
    """Return tensor name → number of parameters from the headers of the safetensors files."""
    sizes: dict[str, int] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length <= _MOST_HEADER_BYTES else b""
        try:
            header: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise _unusable(path, "is not in safetensors format") from error
        header.pop("__metadata__", None)
        sizes.update({name: _product(tensor["shape"]) for name, tensor in header.items()})
    return sizes


def _product(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _from_config(
    config: Mapping[str, Any], *, name: str, source: str, as_of: str | None = None
) -> Architecture:
    values = {field: _number(config, names, source) for field, names in _ALIASES.items()}
    hidden, heads = values["hidden_size"], values["n_heads"]
    family = str(config.get("model_type", "unknown"))
    experts = int(config.get("num_experts") or config.get("num_local_experts") or 0)
    chosen = int(config.get("num_experts_per_tok") or config.get("top_k_experts") or 0)
    ffn = int(config.get("intermediate_size") or config.get("n_inner") or 4 * hidden)
    shared = int(config.get("shared_expert_intermediate_size") or 0)
    if experts and family.startswith("gemma4"):
        shared = ffn  # its dense block stands beside the experts
    if experts:
        ffn = int(config.get("moe_intermediate_size") or ffn)
    shape = Architecture(
        name=name,
        family=family,
        **values,
        intermediate_size=ffn,
        n_kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        gated_mlp=family not in _UNGATED,
        tie_word_embeddings=bool(config.get("tie_word_embeddings", family.startswith("gemma"))),
        max_position_embeddings=config.get("max_position_embeddings") or config.get("n_positions"),
        n_experts=experts,
        n_experts_per_token=chosen,
        shared_intermediate_size=shared,
        per_layer_embedding_size=int(config.get("hidden_size_per_layer_input") or 0),
        parameters=0,
        active_parameters=0,
        source=source,
        as_of=as_of,
    )
    return shape.model_copy(
        update={
            "parameters": _parameters(shape, experts or 1),
            "active_parameters": _parameters(shape, chosen or 1),
        }
    )


def _number(config: Mapping[str, Any], names: tuple[str, ...], source: str) -> int:
    for name in names:
        if isinstance(value := config.get(name), int) and value > 0:
            return value
    raise _unusable(Path(source), f"has no positive {names[0]}")


def _parameters(shape: Architecture, experts: int) -> int:
    """Count parameters with ``experts`` feed-forward blocks per layer."""
    h, attention = shape.hidden_size, shape.n_heads * shape.head_dim
    keys = shape.n_kv_heads * shape.head_dim
    matrices = 3 if shape.gated_mlp else 2
    blocks = experts * shape.intermediate_size + shape.shared_intermediate_size
    layer = 2 * h * attention + 2 * h * keys + matrices * h * blocks
    layer += h * shape.n_experts  # the router
    layer += (4 if shape.family.startswith(FOUR_NORMS) else 2) * h
    if shape.family.startswith(("qwen3", "gemma3", "gemma4")):
        layer += 2 * shape.head_dim  # norms of queries and keys
    if shape.family.startswith("qwen2"):
        layer += attention + 2 * keys  # biases
    return shape.embedding_parameters + shape.n_layers * layer + h


def lora_parameters(shape: Architecture, r: int, targets: Targets = "all") -> int:
    """Count the trainable parameters of a rank-``r`` adapter on the linear layers named.

    The LM head is left alone; the router and fused experts of a mixture of experts are too.
    """
    h, attention = shape.hidden_size, shape.n_heads * shape.head_dim
    keys = shape.n_kv_heads * shape.head_dim
    outer, inner = [h + attention, h + keys], [h + keys, attention + h]  # q, v; k, o
    ffn = [] if shape.n_experts else [shape.intermediate_size]
    if shape.shared_intermediate_size:
        ffn = [shape.shared_intermediate_size]
    block = [h + size for size in ffn] * (3 if shape.gated_mlp else 2)
    chosen = {"qv": outer, "attention": outer + inner, "mlp": block}
    return r * shape.n_layers * sum(chosen.get(targets, outer + inner + block))
