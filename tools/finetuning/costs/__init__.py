"""Costs: what tuning and serving cost, against every alternative that needs no training."""

from __future__ import annotations

from finetuning.costs.estimate import estimate_cost
from finetuning.costs.schema import (
    CostEstimate,
    CurrentModel,
    PriceOverrides,
    RftJob,
    ServingTraffic,
)

__all__ = [
    "CostEstimate",
    "CurrentModel",
    "PriceOverrides",
    "RftJob",
    "ServingTraffic",
    "estimate_cost",
]
