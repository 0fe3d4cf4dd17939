"""What TRL's trainers compute on a CPU, for less: the labelled positions, joined adapters.

One seam serves every method. TRL's trainers score tokens by calling the model with
``fused_lm_head=True``; here that call projects the labelled positions only, leaves entropy and
accuracy out and keeps no logits. A linear layer and its adapter become one product, and attention
over short rows keeps its probabilities. The numbers are those of TRL (tested).
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, Final

from finetuning.training.worker import IGNORED, BucketSampler

torch: Any = importlib.import_module("torch")
peft: Any = importlib.import_module("peft")
trl: Any = importlib.import_module("trl")
attention: Any = importlib.import_module("transformers.modeling_utils")

if TYPE_CHECKING:

    class DataLoader:
        """The parts of torch.utils.data.DataLoader that are used here."""

        batch_sampler: Any

        def __init__(self, dataset: Any, **named: Any) -> None:
            """Build the loader."""

    class Function:
        """torch.autograd.Function."""

        @classmethod
        def apply(cls, *arguments: Any) -> Any:
            """Run the function."""
else:
    DataLoader, Function = torch.utils.data.DataLoader, torch.autograd.Function

_OWN_LOGITS: Final = (
    "final_logit_softcapping",
    "logit_scale",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_scaling",
)
"""Settings of models whose logits are more than the LM head's product (trl 1.16 utils)."""
_TILE: Final = 1 << 22
"""Logits held at a time (16 MB in fp32, about a core's share of the cache)."""
_SHARES: Final = 1 << 21
"""Attention probabilities kept per layer at most (4 MB in bf16)."""
_SHORT: Final = {True: 384, False: 192}
"""Longest row, by whether it is bf16, that plain products beat torch's CPU kernel on (2.13,
measured 2026-11: at 142 tokens 9.6 ms against 20.5 in bf16, 11.6 against 13.8 in fp32)."""


class BucketLoader(DataLoader):
    """A loader of such batches that leaves the random state of training alone."""

    def __init__(self, rows: Any, sampler: BucketSampler, collate: Any, *, pinned: bool) -> None:
        """Load the batches of ``sampler`` from ``rows``."""
        own = torch.Generator().manual_seed(0)
        super().__init__(
            rows, batch_sampler=sampler, collate_fn=collate, pin_memory=pinned, generator=own
        )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next."""
        self.batch_sampler.set_epoch(epoch)


class LabelledLogProbs(Function):
    """Log-probabilities of the labels of some positions, without keeping logits.

    The gradient of one position's log-probability is a row that its upstream gradient only scales,
    so it is made in the forward pass while the logits are at hand.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, labels: Any, temperature: float) -> Any:
        """Return log-probabilities (rows,) of ``labels`` (rows,) given ``hidden`` (rows, width)."""
        wanted = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden if wanted else hidden[:0])
        found = hidden.new_empty(len(labels), dtype=torch.float32)
        step = max(1, _TILE // weight.shape[0])
        for start in range(0, len(labels), step):
            part = slice(start, start + step)
            logits = (hidden[part] @ weight.T).float()
            scores = torch.log_softmax(logits.div_(temperature), dim=-1)
            at = labels[part, None]
            found[part] = scores.gather(1, at)[:, 0]
            if wanted:
                less = scores.exp_().neg_()
                less.scatter_add_(1, at, less.new_ones(at.shape))
                torch.mm(less.to(weight.dtype), weight, out=gradient[part])
        ctx.temperature = temperature
        head_too = ctx.needs_input_grad[1]
        ctx.save_for_backward(gradient, *((hidden, weight, labels) if head_too else ()))
        return found

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> tuple[Any, ...]:
        """Return the gradients of ``hidden`` and, where the head is trained, of ``weight``."""
        gradient, *rest = ctx.saved_tensors
        scale = (upstream / ctx.temperature)[:, None]
        head = LabelledLogProbs._head(scale, ctx.temperature, *rest) if rest else None
        return (gradient * scale).to(gradient.dtype), head, None, None

    @staticmethod
    def _head(scale: Any, temperature: float, hidden: Any, weight: Any, labels: Any) -> Any:
        total = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
        step = max(1, _TILE // weight.shape[0])
        for start in range(0, len(labels), step):
            part = slice(start, start + step)
            logits = (hidden[part] @ weight.T).float().div_(temperature)
            less = torch.softmax(logits, dim=-1).neg_()
            at = labels[part, None]
            less.scatter_add_(1, at, less.new_ones(at.shape)).mul_(scale[part])
            total.addmm_(less.T, hidden[part].float())
        return total.to(weight.dtype)


class AdaptedProduct(Function):
    """A linear layer and its low-rank adapter as one product in the layer's own precision."""

    @staticmethod
    def forward(ctx: Any, x: Any, layer: Any, down: Any, up: Any, scaling: float) -> Any:
        """Return ``x W' + scaling x A' B'`` for rows ``x`` (tokens, width)."""
        down, up = down.to(x.dtype), up.to(x.dtype)
        low = x @ down.T
        out = torch.nn.functional.linear(x, layer.weight, layer.bias)
        out.addmm_(low, up.T, alpha=scaling)
        ctx.save_for_backward(x, low, layer.weight, down, up)
        ctx.scaling = scaling
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> tuple[Any, ...]:
        """Return the gradients of ``x``, ``down`` and ``up``."""
        x, low, weight, down, up = ctx.saved_tensors
        through = (upstream @ up).mul_(ctx.scaling)
        for_down = (through.T @ x).float()
        for_up = (upstream.T @ low).float().mul_(ctx.scaling)
        for_x = (upstream @ weight).addmm_(through, down) if ctx.needs_input_grad[0] else None
        return for_x, None, for_down, for_up, None


def _one_product(layer: Any, name: str) -> None:
    """Let an adapted layer compute one product while its adapter is on."""
    stock, base = layer.forward, layer.base_layer

    def forward(x: Any, *rest: Any, **named: Any) -> Any:
        if rest or named or layer.disable_adapters or layer.merged or x.dtype != base.weight.dtype:
            return stock(x, *rest, **named)
        # looked up on each call: a sharded model replaces its weights
        down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
        rows = x.reshape(-1, x.shape[-1])
        rows = AdaptedProduct.apply(rows, base, down, up, layer.scaling[name])
        return rows.view(*x.shape[:-1], rows.shape[-1])

    layer.forward = forward


def join_adapters(model: Any) -> int:
    """Join plain LoRA layers to their base layers; return how many were."""
    joined = 0
    for layer in model.modules():
        if not isinstance(layer, peft.tuners.lora.layer.Linear):
            continue
        name = "default"
        plain = type(layer.base_layer) is torch.nn.Linear and not layer.lora_variant
        still = isinstance(layer.lora_dropout[name], torch.nn.Identity)
        if plain and still and layer.lora_B[name].bias is None:
            _one_product(layer, name)
            joined += 1
    return joined


def light_head(model: Any, *, temperature: float = 1.0) -> bool:
    """Let the model's fused head score labelled positions only; return whether it does.

    Args:
        model: A causal model that TRL has given its fused head.
        temperature: What logits are divided by.
    """
    text_config = model.config.get_text_config()
    own = any(getattr(text_config, name, None) is not None for name in _OWN_LOGITS)
    head = model.get_output_embeddings()
    if own or getattr(text_config, "output_router_logits", False) or head.bias is not None:
        return False
    stock = model.forward

    @functools.wraps(stock)
    def forward(*given: Any, fused_lm_head: bool = False, labels: Any = None, **named: Any) -> Any:
        if not fused_lm_head or "shift_labels" in named:
            named |= {"labels": labels} if labels is not None else {}
            named |= {"fused_lm_head": True} if fused_lm_head else {}
            return stock(*given, **named)
        named.pop("num_items_in_batch", None)
        mask = named.get("attention_mask")
        # after right padding nothing is read from the padding: causal attention needs no mask
        if mask is not None and bool((mask[:, 1:] <= mask[:, :-1]).all()):
            named["attention_mask"] = None
        hidden = model.base_model(*given, **{**named, "use_cache": False}).last_hidden_state
        labels, weight = labels[:, 1:], head.weight
        if hasattr(weight, "full_tensor"):  # sharded
            weight = weight.full_tensor()
        marked = labels != IGNORED
        scored = LabelledLogProbs.apply(hidden[:, :-1][marked], weight, labels[marked], temperature)
        log_probs = scored.new_zeros(marked.shape).masked_scatter(marked, scored)
        nothing = torch.zeros_like(log_probs, requires_grad=False)
        return trl.trainer.utils.FusedCausalLMOutput(
            loss=-log_probs.sum() / marked.sum().clamp(min=1),
            log_probs=log_probs,
            entropy=nothing,
            mean_logits=nothing,
            is_top1=nothing.bool(),
            label_mask=marked,
        )

    model.forward = forward
    return True


class ShortAttention(Function):
    """Causal attention of short rows: two products, the probabilities kept for the way back."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, scale: float) -> Any:
        """Return attention (batch, heads, tokens, width); keys may have fewer heads."""
        batch, heads, length, width = query.shape
        groups = key.shape[1]
        query = query.reshape(batch * groups, -1, width)
        key, value = (part.reshape(batch * groups, length, width) for part in (key, value))
        later = torch.full((length, length), -torch.inf, dtype=torch.float32).triu_(1)
        scores = torch.bmm(query, key.transpose(1, 2)).float()
        scores = scores.view(batch * groups, -1, length, length).mul_(scale).add_(later)
        shares = torch.softmax(scores, dim=-1).to(query.dtype).view(batch * groups, -1, length)
        ctx.save_for_backward(query, key, value, shares)
        ctx.scale, ctx.shape = scale, (batch, heads, groups, length, width)
        return torch.bmm(shares, value).view(batch, heads, length, width)

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> tuple[Any, ...]:
        """Return the gradients of query, key and value."""
        query, key, value, shares = ctx.saved_tensors
        batch, heads, groups, length, width = ctx.shape
        upstream = upstream.reshape(query.shape)
        for_value = torch.bmm(shares.transpose(1, 2), upstream)
        grown = torch.bmm(upstream, value.transpose(1, 2)).float()
        slopes = torch._softmax_backward_data(grown, shares.float(), -1, torch.float32)
        slopes = slopes.mul_(ctx.scale).to(shares.dtype)
        for_query = torch.bmm(slopes, key).view(batch, heads, length, width)
        for_key = torch.bmm(slopes.transpose(1, 2), query).view(batch, groups, length, width)
        return for_query, for_key, for_value.view(batch, groups, length, width), None


def _attend(
    stock: Any, module: Any, query: Any, key: Any, value: Any, mask: Any, **named: Any
) -> Any:
    batch, heads, length, width = query.shape
    short = (
        getattr(module, "short_rows", False)
        and mask is None
        and length == key.shape[2] > 1
        and batch * heads * length * length <= _SHARES
        and length <= _SHORT[query.dtype == torch.bfloat16]
        and getattr(module, "is_causal", True)
        and not named.get("dropout")
        and all(
            named.get(name) is None for name in ("is_causal", "position_bias", "softcap", "cache")
        )
    )
    if not short:
        return stock(module, query, key, value, mask, **named)
    scale = named.get("scaling") or width**-0.5
    return ShortAttention.apply(query, key, value, scale).transpose(1, 2), None


def short_attention(model: Any) -> bool:
    """Let the model attend over short unmasked rows by plain products; return whether it does."""
    if model.config.get_text_config()._attn_implementation != "sdpa":
        return False
    known = attention.ALL_ATTENTION_FUNCTIONS
    stock = known["sdpa"]
    if not isinstance(stock, functools.partial):
        known.register("sdpa", functools.partial(_attend, stock))
    layers = [layer for layer in model.modules() if hasattr(layer, "num_key_value_groups")]
    for layer in layers:
        layer.short_rows = True
    return bool(layers)
