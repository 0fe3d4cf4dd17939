"""Sums that add up to the last digit, orders that never turn, the same answer twice, no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetuning.costs import CostEstimate, estimate_cost

ROUTES: list[dict[str, Any]] = [
    {"provider": "together", "model": "Qwen/Qwen3.5-9B", "method": "sft"},
    {"provider": "together", "model": "Qwen/Qwen3.5-27B", "method": "dpo", "n_evals": 3},
    {"provider": "prime_intellect", "model": "Qwen3.5-9B", "method": "sft"},
    {"provider": "openai", "model": "gpt-4.1-mini", "method": "sft", "as_of": "2026-10-01"},
    {"provider": "fireworks", "model": "gemma-4-31b-it", "method": "dpo", "gpu": "H100"},
    {"provider": "tinker", "model": "Qwen/Qwen3-8B", "method": "sft"},
    {"provider": "modal", "model": "Qwen/Qwen3-8B", "method": "sft", "gpu": "A100-80"},
    {"provider": "bedrock", "model": "nova-lite", "method": "sft"},
]
money = st.decimals("0", "1000", places=3)
routes = st.sampled_from(ROUTES)


def ask(route: dict[str, Any], **more: Any) -> CostEstimate:
    arguments: dict[str, Any] = {"as_of": "2026-11-20", "accept_stale": True, **route, **more}
    if arguments["provider"] == "bedrock":
        arguments.setdefault("prices", {"train_usd_per_mtok": "2"})
    return estimate_cost(**arguments)


def month(way: Any, requests: int) -> Decimal:
    return way.fixed_usd + requests * way.request_usd


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    route=routes,
    tokens=st.integers(1, 10**10),
    validation=st.integers(0, 10**7),
    epochs=st.integers(1, 5),
    requests=st.integers(0, 10**8),
    sizes=st.tuples(*[st.integers(0, 20_000)] * 4),
    labour=money,
    cycles=st.integers(1, 20),
    minimum=money,
)
def test_every_sum_is_the_sum_of_its_parts_to_the_last_digit(
    route: dict[str, Any],
    tokens: int,
    validation: int,
    epochs: int,
    requests: int,
    sizes: tuple[int, int, int, int],
    labour: Decimal,
    cycles: int,
    minimum: Decimal,
) -> None:
    own = {"minimum_usd_per_job": minimum}
    if route["provider"] == "bedrock":
        own["train_usd_per_mtok"] = Decimal(2)
    result = ask(
        route,
        training_tokens=tokens,
        validation_tokens=validation,
        n_epochs=epochs,
        labour_usd=labour,
        cycles=cycles,
        prices=own,
        serving={"requests_per_month": requests, "tokens_in": sizes[0], "tokens_out": sizes[1]},
        current={"model": "claude-sonnet-5-5", "tokens_in": sizes[2], "tokens_out": sizes[3]},
    )
    usd = result.training.usd
    assert usd is not None
    assert sum(result.training.parts.values()) == usd.point
    assert sum(result.one_off_parts.values()) == result.one_off_usd
    assert result.serving_usd_per_month is not None
    assert sum(result.serving_parts.values()) == result.serving_usd_per_month
    for way in result.alternatives:
        if way.usd_per_month is not None:
            assert month(way, requests) == way.usd_per_month
            assert not way.parts or sum(way.parts.values()) == way.usd_per_month
    now = next(way for way in result.alternatives if way.name == "current")
    against = next(v for v in result.break_even.versus if v.name == "current")
    assert now.usd_per_month is not None
    assert against.saving_usd_per_month == now.usd_per_month - result.serving_usd_per_month
    even = result.break_even
    assert even.months is not None or (even.probability_within_horizon or 0) <= 0.1001
    assert 0 <= (even.probability_within_horizon or 0) <= 1


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(1, 10**11),
    more=st.integers(0, 10**10),
    epochs=st.integers(1, 9),
    rate=st.decimals("0.01", "90", places=2),
    rise=st.decimals("0", "9", places=2),
)
def test_machine_hours_and_their_price_grow_with_tokens_epochs_and_rate(
    tokens: int, more: int, epochs: int, rate: Decimal, rise: Decimal
) -> None:
    route = {"provider": "modal", "model": "Qwen/Qwen3-8B", "method": "sft", "gpu": "A100-80"}

    def bill(tokens: int, epochs: int, rate: Decimal) -> list[Decimal]:
        prices = {"gpu_usd_per_hour": rate}
        result = ask(route, training_tokens=tokens, n_epochs=epochs, prices=prices)
        assert result.training.usd is not None
        usd = result.training.usd
        return [usd.p10, usd.p50, usd.point, usd.p90]

    base = bill(tokens, epochs, rate)
    assert base == sorted(base)
    for other in (
        bill(tokens + more, epochs, rate),
        bill(tokens, epochs + 1, rate),
        bill(tokens, epochs, rate + rise),
    ):
        assert all(a <= b for a, b in zip(base, other, strict=True))


@settings(max_examples=25, deadline=None)
@given(
    hours=st.decimals("0.1", "700", places=2),
    more=st.decimals("0", "40", places=2),
    replicas=st.integers(1, 50),
    train=st.decimals("0.1", "500", places=2),
)
def test_hours_never_cost_less_when_there_are_more_of_them(
    hours: Decimal, more: Decimal, replicas: int, train: Decimal
) -> None:
    def bill(hours: Decimal, replicas: int, train: Decimal) -> tuple[Decimal, Decimal]:
        traffic = {"requests_per_month": 9, "tokens_in": 9, "tokens_out": 9}
        result = ask(
            {"provider": "azure", "model": "o4-mini", "method": "rft"},
            rft={"hours": train},
            serving={**traffic, "hours": hours, "replicas": replicas},
            as_of="2026-06-01",
        )
        assert result.training.usd is not None
        assert result.serving_usd_per_month is not None
        return result.training.usd.point, result.serving_usd_per_month

    job, month = bill(hours, replicas, train)
    assert job <= bill(hours, replicas, train + more)[0]
    assert month <= bill(hours + more, replicas, train)[1]
    assert month <= bill(hours, replicas + 1, train)[1]


@settings(max_examples=15, deadline=None)
@given(route=routes, seed=st.integers(0, 2**40), requests=st.integers(0, 10**7))
def test_the_same_question_has_the_same_answer(
    route: dict[str, Any], seed: int, requests: int
) -> None:
    def answer() -> dict[str, Any]:
        return ask(
            route,
            training_tokens=10**6,
            seed=seed,
            serving={"requests_per_month": requests, "tokens_in": 400, "tokens_out": 100},
            current={"model": "gpt-6-luna", "tokens_in": 1400, "tokens_out": 100},
        ).model_dump(exclude={"chart_file"})

    assert answer() == answer()


GUARDED = """
import sys
def watch(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname":
        raise SystemExit(f"{event} {arguments}")
sys.addaudithook(watch)
import json
from finetuning.costs import estimate_cost
result = estimate_cost(
    "together", "Qwen/Qwen3.5-9B", "sft", training_tokens=2_000_000, as_of="2026-11-20",
    serving={"requests_per_month": 1_000_000, "tokens_in": 300, "tokens_out": 150},
    current={"model": "claude-sonnet-5-5", "tokens_in": 1500, "tokens_out": 150},
)
heavy = {"numpy", "polars", "torch", "openai", "httpx", "requests"} & set(sys.modules)
print(json.dumps([sorted(heavy), str(result.serving_usd_per_month)]))
"""


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "FINE_TUNING_HOME": str(home)}


def test_an_estimate_opens_no_socket_and_loads_no_numpy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GUARDED],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], "2912.70"]


@pytest.mark.slow
def test_the_benchmark_of_the_draws_runs_and_all_three_scripts_agree(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "cost_draws.py"
    done = subprocess.run(
        [sys.executable, str(script), "--quick"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if "months, share, value" in line]
    months, shares, values = zip(
        *(json.loads(f"[{r.partition('value: [')[2]}") for r in rows), strict=True
    )
    assert len(rows) == 3
    for _, middle, _ in months:  # the scripts count whole months
        assert middle == pytest.approx(months[0][1], abs=1.0)
    assert shares == pytest.approx([shares[0]] * 3, abs=0.02)
    for low, middle, high in values:
        assert [low, middle, high] == pytest.approx(values[0], rel=0.06, abs=300)
