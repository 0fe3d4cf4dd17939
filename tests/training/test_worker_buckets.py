"""Batches of similar length hold every row once; the light parts compute what torch computes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning.training.worker import BucketSampler, token_budget_batches
from finetuning.training.worker.light import (
    AdaptedProduct,
    LabelledLogProbs,
    ShortAttention,
    light_head,
    short_attention,
)
from finetuning.training.worker.trainer import torch, transformers

LENGTHS = [7 + (row * 7919) % 97 * (1 + row % 5) for row in range(600)]


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 4000), min_size=1, max_size=120),
    batch=st.integers(1, 16),
    processes=st.integers(1, 3),
    epoch=st.integers(0, 3),
    same_size=st.booleans(),
)
def test_an_epoch_holds_every_row_once_and_every_process_has_as_many_batches(
    lengths: list[int], batch: int, processes: int, epoch: int, same_size: bool
) -> None:
    seen: Counter[int] = Counter()
    batches: list[list[int]] = []
    for process in range(processes):
        sampler = BucketSampler(
            lengths, batch, seed=5, processes=processes, process=process, same_size=same_size
        )
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler) == -(-len(lengths) // (batch * processes))
        assert all(batches)
        seen.update(row for rows in batches for row in rows)
        assert list(sampler) == batches, "the same whenever it is asked for"
    assert set(seen) == set(range(len(lengths)))
    if len(lengths) >= len(batches) * processes:
        assert set(seen.values()) == {1}


def test_batches_waste_less_than_a_tenth_and_cost_about_the_same() -> None:
    batches = token_budget_batches(LENGTHS, 75, seed=1, epoch=0)
    costs = [len(rows) * max(LENGTHS[row] for row in rows) for rows in batches]
    assert sum(costs) < sum(LENGTHS) / 0.9
    assert max(costs) < 1.35 * sum(costs) / len(costs)


def test_epochs_differ_in_order_and_company() -> None:
    sampler = BucketSampler(LENGTHS, 8, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert {tuple(sorted(rows)) for rows in first} != {tuple(sorted(rows)) for rows in second}
    assert [max(LENGTHS[row] for row in rows) for rows in first[:5]] != sorted(
        (max(LENGTHS[row] for row in rows) for rows in first[:5]), reverse=True
    )


def test_the_processes_of_a_step_have_about_as_much_to_do() -> None:
    shares = [list(BucketSampler(LENGTHS, 4, seed=2, processes=2, process=p)) for p in (0, 1)]
    costs = [[len(b) * max(LENGTHS[row] for row in b) for b in share] for share in shares]
    gaps = [abs(one - two) / max(one, two) for one, two in zip(*costs, strict=True)]
    assert sum(gaps) / len(gaps) < 0.1


def leaf(*shape: int, dtype: Any = None) -> Any:
    return (torch.randn(*shape) * 0.3).to(dtype or torch.float32).requires_grad_()


def gradients(result: Any, leaves: list[Any]) -> list[Any]:
    torch.manual_seed(9)
    result.backward(torch.randn(result.shape).to(result.dtype))
    found = [each.grad.clone() for each in leaves]
    for each in leaves:
        each.grad = None
    return found


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_and_both_gradients_are_exact(temperature: float) -> None:
    torch.manual_seed(0)
    hidden, weight = leaf(300, 16), leaf(20_000, 16)
    labels = torch.randint(0, 20_000, (300,))
    ours = LabelledLogProbs.apply(hidden, weight, labels, temperature)
    logits = torch.nn.functional.linear(hidden, weight) / temperature
    theirs = torch.log_softmax(logits, -1).gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for mine, other in zip(
        gradients(ours, [hidden, weight]), gradients(theirs, [hidden, weight]), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_an_adapted_layer_is_its_sum_in_one_product() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(24, 40)
    x, down, up = leaf(50, 24), leaf(4, 24), leaf(40, 4)
    layer.requires_grad_(False)
    ours = AdaptedProduct.apply(x, layer, down, up, 2.0)
    theirs = layer(x) + 2.0 * (x @ down.T) @ up.T
    torch.testing.assert_close(ours, theirs)
    for mine, other in zip(
        gradients(ours, [x, down, up]), gradients(theirs, [x, down, up]), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dtype", "close"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_short_attention_is_causal_attention_with_shared_keys(dtype: str, close: float) -> None:
    torch.manual_seed(0)
    kind = getattr(torch, dtype)
    query, key, value = (leaf(3, heads, 21, 8, dtype=kind) for heads in (4, 2, 2))
    ours = ShortAttention.apply(query, key, value, 0.3)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=0.3, enable_gqa=True
    )
    torch.testing.assert_close(ours, theirs, rtol=close, atol=close)
    leaves = [query, key, value]
    for mine, other in zip(gradients(ours, leaves), gradients(theirs, leaves), strict=True):
        torch.testing.assert_close(mine, other, rtol=close, atol=close)


def test_models_with_logits_or_attention_of_their_own_are_left_alone(base: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    stock = model.forward
    model.config.logit_scale = 2.0
    assert not light_head(model)
    assert model.forward == stock
    eager = transformers.AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    assert not short_attention(eager)
