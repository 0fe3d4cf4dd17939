"""Approval: nothing is spent and nothing is sent before a person said yes to exactly that."""

from __future__ import annotations

from finetuning.approval.decisions import approve_plan, check_plan, use_plan
from finetuning.approval.plans import Plan, create_plan, read_plan

__all__ = ["Plan", "approve_plan", "check_plan", "create_plan", "read_plan", "use_plan"]
