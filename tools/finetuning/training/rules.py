"""Settings by published rules: the learning rate, and the hyperparameters of a hosted job."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from finetuning import estimate
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.records import Finding, Json, NextCall
from finetuning.training.config import Choice, Tuning, explain, finding, read_tables, refusal
from finetuning.training.profile import measure_rows

if TYPE_CHECKING:
    from finetuning.providers import Availability

_BATCH: Final = 16
_MOST_STEPS: Final = 1000
_METHOD_WORDS: Final = {"sft": "supervised", "dpo": "dpo", "rft": "reinforcement"}
_EXPONENTS: Final = {"llama": 0.781, "qwen": 0.0775}
_CALIBRATED_HIDDEN: Final = {"llama": (2048, 8192), "qwen": (2048, 5120)}
"""Hidden sizes of the Llama 3 and Qwen3 models that the formula's service offered when it was
published (2025-09)."""

TINY_PARAMETERS: Final = 50_000_000
"""Below this no published rule exists."""
TINY_CEILING: Final = 5e-3
"""Highest rate with a measured success at this size (hidden 128, training.md#settings)."""
_USUAL: Final = 2e-4
_FULL_RATES: Final = (1e-5, 5e-5)
_LORA_OVER_FULL: Final = 10.0
_FIXED_RATES: Final[dict[str, dict[str, float]]] = {
    **{method: {"lora": 5e-6, "full": 1e-6} for method in ("dpo", "kto", "grpo")},
    "cpt": {"lora": 5e-5},
}
"""Method → rate with LoRA and of full tuning; sources in tables.toml."""
_SHORT_RUN_STEPS: Final = 100
_SHORT_RUN_FACTOR: Final = 1.5


def formula_rate(hidden_size: int, exponent: float) -> float:
    """Return the formula's LoRA rate (lora_alpha 32)."""
    return 5e-5 * 10 * math.pow(2000 / hidden_size, exponent)


def outside_calibration(shape: estimate.Architecture) -> str | None:
    """Say why the published formula does not hold for a base; None where it does."""
    family = _family(shape)
    if family is None:
        return f"no published formula covers {shape.family}"
    low, high = _CALIBRATED_HIDDEN[family]
    if low <= shape.hidden_size <= high and shape.parameters >= TINY_PARAMETERS:
        return None
    return f"hidden size {shape.hidden_size} is outside the formula's range of {low} to {high}"


def _family(shape: estimate.Architecture) -> str | None:
    return next((name for name in _EXPONENTS if shape.family.startswith(name)), None)


def choose_learning_rate(
    shape: estimate.Architecture, steps: int, method: str = "sft", tuning: Tuning = "lora"
) -> Choice:
    """Return the rate for a base model and all optimizer steps of a run, with the reason."""
    kind = "full" if tuning == "full" else "lora"
    fixed = _FIXED_RATES.get(method, {}).get(kind)
    lora = _lora_rate(shape, steps)
    if fixed is not None:
        choice = explain(fixed, f"rate_{method}_{kind}")
        return _scaled(choice, lora.value) if shape.parameters < TINY_PARAMETERS else choice
    if kind == "lora":
        return lora
    lora = _lora_rate(shape, _SHORT_RUN_STEPS)  # the factor of short runs is LoRA's alone
    case = "rate_full" if shape.parameters >= TINY_PARAMETERS else "rate_full_tiny"
    rate = lora.value / _LORA_OVER_FULL
    if case == "rate_full":
        rate = min(max(rate, _FULL_RATES[0]), _FULL_RATES[1])
    return explain(rounded(rate), case, lora=lora.value, why=lora.reason)


def _lora_rate(shape: estimate.Architecture, steps: int) -> Choice:
    family = _family(shape)
    if shape.parameters < TINY_PARAMETERS:
        rate = min(TINY_CEILING, formula_rate(shape.hidden_size, _EXPONENTS["llama"]))
        return explain(
            rounded(rate), "rate_tiny", hidden=shape.hidden_size, parameters=shape.parameters
        )
    if family is None:
        return explain(_USUAL, "rate_usual", family=shape.family)
    exponent, (low, high) = _EXPONENTS[family], _CALIBRATED_HIDDEN[family]
    rate = formula_rate(shape.hidden_size, exponent)
    known = {"exponent": exponent, "family": family, "hidden": shape.hidden_size}
    choice = explain(rate, "rate_formula", **known)
    reason = choice.reason
    if low <= shape.hidden_size <= high:
        reason += f" (calibrated for {low} to {high})"
    else:
        reason += f"; outside its calibrated range of {low} to {high}, so an extrapolation"
    if steps < _SHORT_RUN_STEPS:
        rate *= _SHORT_RUN_FACTOR
        short = explain(rate, "rate_short", factor=_SHORT_RUN_FACTOR, steps=steps)
        reason += f"; {short.reason}"
    return Choice(rounded(rate), reason, choice.source)


def _scaled(choice: Choice, lora: float) -> Choice:
    factor = lora / _USUAL
    more = explain(None, "rate_scaled", factor=factor, lora=lora)
    return Choice(rounded(choice.value * factor), choice.reason + more.reason, choice.source)


def rounded(rate: float) -> float:
    """Return a rate with three digits."""
    return float(f"{rate:.2e}")


# --- hosted jobs


class HostedPlan(NamedTuple):
    """What a hosted job would be started with."""

    config: dict[str, Any]
    why: dict[str, str]
    findings: list[Finding]
    facts: dict[str, Any]
    next: list[NextCall]


def plan_hosted(
    provider: str, model: str, fixed: Mapping[str, Json], given: Mapping[str, Any]
) -> HostedPlan:
    """Choose the settings of a hosted job and say why; ``given`` holds those the caller fixed.

    Raises:
        BadInputError: The provider or model is closed, does not train so, or none of its
            settings' names is known.
        UnknownNameError: The provider has no such model.
    """
    from finetuning.providers.catalogue import base_of, find_model, load_provider

    method, tuning = str(fixed["method"]), str(fixed["tuning"])
    state = _open(provider, model)
    entry, row = load_provider(provider), find_model(provider, model)
    methods = row.methods or tuple(entry.billing)
    if method not in methods:
        known = " or ".join(methods) or "another model"
        trained = {"model": row.id, "method": method, "methods": known}
        raise refusal("method", "not_trained_there", provider=provider, **trained)
    train = Path(str(fixed["train_file"]))
    rows, mean = measure_rows(train)
    open_base = base_of(row)
    known_as = open_base.id if open_base else row.id
    judged = bool(fixed["validation_file"])
    ours, reasons = _ours(known_as, method, tuning, rows, mean, given, judged)
    settings = hosted_settings(provider, method, tuning, ours, reasons)
    config: dict[str, Any] = {
        "provider": provider,
        "model": row.id,
        **fixed,
        "hyperparameters": settings.values,
    }
    if read_tables()["hosted"][provider].get("request") == "openai":
        kind = _METHOD_WORDS[method]
        config["method_body"] = {"type": kind, kind: {"hyperparameters": settings.values}}
    found: list[Finding] = []
    if state.status == "existing_only":
        found.append(finding("existing_customers_only", provider=provider, why=state.why))
    facts = {"n_examples": rows, "training_tokens": round(mean * rows)}
    formats = entry.limits.formats if entry.limits else ()
    return HostedPlan(config, settings.why, found, facts, _checks(train, formats, row.id))


def _open(provider: str, model: str) -> Availability:
    """Return who can start jobs there.

    Raises:
        UnknownNameError: Nothing is known of the provider, or it has no such model.
        BadInputError: It is closed; the message has the date.
    """
    from finetuning.providers import availability
    from finetuning.providers.catalogue import provider_ids

    if provider not in (known := provider_ids()):
        raise UnknownNameError("engine", "provider", provider, known)
    state = availability(provider, model)
    if state.status == "closed":
        raise refusal("engine", "provider_closed", provider=provider, model=model, why=state.why)
    return state


def _checks(train: Path, formats: tuple[str, ...], model: str) -> list[NextCall]:
    if not formats:
        return []
    arguments: dict[str, Json] = {"path": str(train), "target": formats[0], "model": model}
    why = "checks the rows against the provider's own format"
    return [NextCall(tool="validate_jsonl", args=arguments, why=why)]


def _ours(
    model: str,
    method: str,
    tuning: str,
    rows: int,
    mean: float,
    given: Mapping[str, Any],
    judged: bool,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return our settings and their reasons, as far as they do not need the base's weights."""
    per_epoch = max(1, -(-rows // _BATCH))
    epochs = 1 if method == "dpo" else min(3, max(1, _MOST_STEPS // per_epoch))
    steps = per_epoch * epochs
    once = explain(epochs, "epochs_once", what="preferences")
    several = explain(epochs, "epochs", most=_MOST_STEPS, per_epoch=per_epoch)
    chosen: dict[str, Choice] = {
        "num_train_epochs": once if method == "dpo" else several,
        "r": explain(16, "r_preference") if method == "dpo" else explain(32, "r_hosted"),
        "lora_alpha": explain(32, "lora_alpha"),
        "lora_dropout": explain(0.0, "lora_dropout"),
        "warmup_ratio": explain(0.05, "warmup_ratio"),
        "weight_decay": explain(0.0, "weight_decay"),
        "max_grad_norm": explain(1.0, "max_grad_norm"),
        "packing": explain(False, "packing_even"),
    }
    if method == "dpo":
        chosen["beta"] = explain(0.1, "beta_dpo")
    try:
        shape = estimate.read_architecture(model.rpartition("/")[2])
    except (UnknownNameError, BadInputError):
        pass  # nobody outside knows its width: its rate stays the provider's
    else:
        kind: Tuning = "full" if tuning == "full" else "lora"
        chosen["learning_rate"] = choose_learning_rate(shape, steps, method, kind)
    values: dict[str, Any] = {name: choice.value for name, choice in chosen.items()}
    reasons = {name: choice.why() for name, choice in chosen.items()}
    values |= given
    for name in given:
        reasons[name] = f"set by the caller; proposed: {reasons.get(name, 'nothing')}"
    values |= {
        "batch": _BATCH,
        "batch_tokens": round(_BATCH * mean),
        "warmup_steps": round(float(values["warmup_ratio"]) * steps),
        "is_lora": tuning != "full",
        "target_words": "all-linear",
        "n_evals": int(values["num_train_epochs"]) if judged else 0,
        "adapter_size": 2 ** (int(values["r"]).bit_length() - 1),
    }
    return values, reasons


class Hosted(NamedTuple):
    """The settings of a hosted job in its provider's own names, each with its reason."""

    values: dict[str, Json]
    why: dict[str, str]


def hosted_settings(
    provider: str, method: str, tuning: str, ours: Mapping[str, Any], reasons: Mapping[str, str]
) -> Hosted:
    """Return a provider's hyperparameters for settings of ours; those that are None stay out.

    Raises:
        BadInputError: No name of a setting of that provider is known.
    """
    from finetuning.providers.catalogue import load_provider

    spec = read_tables()["hosted"].get(provider)
    if spec is None:
        known = ", ".join(read_tables()["hosted"])
        raise refusal("configure_training", "hosted_names_unknown", provider=provider, known=known)
    kind = "full" if tuning == "full" else "lora"
    named = {**spec["names"], **spec.get(kind, {}), **spec.get(method, {})}
    ranges = [
        row for row in load_provider(provider).settings if not row.methods or method in row.methods
    ]
    values: dict[str, Json] = {}
    why = dict.fromkeys(spec.get("auto", ()), f"left to the provider [{spec['source']}]")
    for name, theirs in named.items():
        if (value := ours.get(name)) is None:
            continue
        low = next((row.low for row in ranges if row.name == theirs), None)
        high = next((row.high for row in ranges if row.name == theirs), None)
        kept = _within(value, low, high)
        why[theirs] = reasons.get(name, "follows from the method and tuning asked for")
        if kept != value:
            why[theirs] += f"; {value} lies outside the provider's {low} to {high}"
        values[theirs] = str(kept) if spec.get("text") else kept
    return Hosted({**dict.fromkeys(spec.get("auto", ()), "auto"), **values}, why)


def _within(value: Any, low: Decimal | None, high: Decimal | None) -> Any:
    if isinstance(value, bool | str):
        return value
    kept = value if low is None or value >= low else type(value)(low)
    return kept if high is None or kept <= high else type(kept)(high)
