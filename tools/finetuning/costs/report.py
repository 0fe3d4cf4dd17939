"""What surrounds an estimate: the refusal of old prices, the next calls, the page's Chinese."""

from __future__ import annotations

from typing import Final

from finetuning.costs.payback import unknown
from finetuning.costs.request import Ledger, Request
from finetuning.costs.schema import CostEstimate, Training
from finetuning.costs.training import Priced
from finetuning.providers.terms import Availability
from finetuning.records import Json, NextCall

CHINESE: Final = {
    "Cost of tuning": "微调成本",
    "billing rule": "计费规则",
    "one job": "一次训练",
    "before the first request": "首个请求之前的支出",
    "net present value": "净现值",
    "the base retires on": "基座模型下线日期",
    "per month": "每月方案",
    "note": "说明",
    "not known": "未知",
    "The same requests, month by month": "相同请求量，每月成本",
    "When it pays back": "何时回本",
    "months": "月数",
    "net gain, USD": "净收益（美元）",
    "gained so far, all spending taken off": "累计净收益（点估计）",
    "P10 to P90 of 10,000 draws": "一万次抽样的 P10 至 P90",
    "Never pays back within {} months.": "{} 个月内不会回本。",
    "Never pays back: a month costs {} more than today.": "永不回本：每月比今天多花 {}。",
    "after {} months": "{} 个月后回本",
    "Cumulative cost": "累计成本",
    "What moves the result most": "影响结果最大的因素",
    "net present value, USD": "净现值（美元）",
    "spent before the first request, USD": "首个请求之前的支出（美元）",
    "low end": "低端",
    "high end": "高端",
    "Cheapest option, one-off cost spread over {} months; without a cheaper base, which only a "
    "test can rule in": "最便宜的方案（一次性成本分摊到 {} 个月；不含更便宜的基座，须先评测）",
    "requests per month": "每月请求数",
    "tokens, × today": "词元数（今天的倍数）",
    "How long each service and the tuned model live": "各服务与微调模型的期限",
    "preview": "预览",
    "closed to new customers": "不再接受新客户",
    "last job": "最后一次训练",
    "tuned models end": "微调模型停用",
    "tuned model, as planned": "微调模型（计划）",
    "the base ends": "基座下线",
    "trained again": "重新训练",
    "Checks": "核对",
    "Warnings": "警告",
    "What this stands on": "依据",
    "assumption": "假设",
    "value": "数值",
    "unit": "单位",
    "source": "来源",
    "as of": "日期",
    "confidence": "可信度",
    "Never pays": "永不回本",
    "Pays within the horizon in {} of the draws": "{} 的抽样在期限内回本",
}
"""The page's own words in Chinese; what a tool reports in words stays as it is."""


def refuse(request: Request, priced: Priced, ledger: Ledger, known: Availability) -> CostEstimate:
    """Return the result for prices that are too old: no sums, and the call that accepts them."""
    names = ", ".join(price.name for price in ledger.stale if price.refused)
    bill = Training(
        billed_tokens=priced.training.billed_tokens, usd=None, formula=priced.training.formula
    )
    return CostEstimate(
        provider=request.provider,
        model=known.model or request.model,
        method=request.method,
        as_of=request.day,
        training=bill,
        gpu=priced.gpu,
        break_even=unknown(f"Not computed: the price of {names} was read over 180 days ago."),
        assumptions=ledger.in_order(),
        total=len(ledger.assumptions),
        stale_prices=ledger.stale,
        base_retires_on=known.base_retires_on,
        warnings=ledger.warnings,
        fit_facts=request.facts(None),
        next=[
            NextCall(
                tool="estimate_cost",
                args={**_arguments(request), "accept_stale": True},
                why="Use the old prices knowingly",
            )
        ],
    )


def _arguments(request: Request) -> dict[str, Json]:
    """Return the arguments that repeat this call."""
    given: dict[str, Json] = {
        "provider": request.provider,
        "model": request.model,
        "method": request.method,
        "tuning": request.tuning,
        "data": request.data,
        "training_tokens": request.training_tokens,
        "n_epochs": request.n_epochs,
        "gpu": request.gpu,
        "n_gpus": request.n_gpus,
        "labour_usd": str(request.labour_usd),
        "as_of": request.day.isoformat(),
    }
    for name in ("rft", "serving", "current"):
        value = getattr(request, name)
        given[name] = None if value is None else value.model_dump(mode="json", exclude_none=True)
    given["prices"] = request.overrides.model_dump(mode="json", exclude_none=True) or None
    return {name: value for name, value in given.items() if value is not None}


def next_calls(request: Request, facts: dict[str, Json]) -> list[NextCall]:
    """Return the calls that make sense after an estimate."""
    calls: list[NextCall] = []
    if request.data is not None and request.provider == "local":
        calls.append(
            NextCall(
                tool="configure_training",
                args={
                    "base_model": request.model,
                    "data": request.data,
                    "method": request.method,
                    "tuning": request.tuning,
                },
                why="Decide the knobs, and check that it fits this machine",
            )
        )
    if request.serving is not None and request.current is not None:
        calls.append(
            NextCall(tool="assess_fit", args={"facts": facts}, why="Weigh the money with the rest")
        )
    return calls
