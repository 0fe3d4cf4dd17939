"""The hyperparameters of a hosted job, in its provider's own names."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from finetuning import estimate, files, tokens
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.records import Finding, Json, NextCall, Record
from finetuning.training.config import Tuning, read_tables
from finetuning.training.hazards import finding
from finetuning.training.rates import Choice, choose_learning_rate, explain

if TYPE_CHECKING:
    from finetuning.providers import Availability

_BATCH: Final = 16
_MOST_STEPS: Final = 1000
_METHOD_WORDS: Final = {"sft": "supervised", "dpo": "dpo", "rft": "reinforcement"}


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
    """Choose the settings of a hosted job and say why.

    Args:
        provider: Provider id of the catalogue.
        model: The base's id there.
        fixed: Method, tuning, files and goal.
        given: Settings that the caller fixed, by our names.

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
        raise BadInputError(
            "method",
            f"{provider} does not train {row.id} by {method}",
            f"{' or '.join(methods) or 'another model'}",
            "Run: fine-tuning compare-providers",
        )
    train = Path(str(fixed["train_file"]))
    rows, mean = _measured(train)
    open_base = base_of(row)
    known_as = open_base.id if open_base else row.id
    ours, reasons = _ours(
        known_as, method, tuning, rows, mean, given, bool(fixed["validation_file"])
    )
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

    if provider not in _ids():
        raise UnknownNameError("engine", "provider", provider, _ids())
    state = availability(provider, model)
    if state.status == "closed":
        raise BadInputError(
            "engine",
            f"{provider} takes no job for {model}: {state.why}",
            "a provider that is open",
            "Run: fine-tuning compare-providers",
        )
    return state


def _checks(train: Path, formats: tuple[str, ...], model: str) -> list[NextCall]:
    if not formats:
        return []
    arguments: dict[str, Json] = {"path": str(train), "target": formats[0], "model": model}
    why = "checks the rows against the provider's own format"
    return [NextCall(tool="validate_jsonl", args=arguments, why=why)]


def _ids() -> tuple[str, ...]:
    from finetuning.providers.catalogue import provider_ids

    return provider_ids()


def _measured(path: Path) -> tuple[int, float]:
    """Return the rows of a file and their mean tokens, whatever the format."""
    found = (
        row.data for row in files.read_records(path, source=path.name) if isinstance(row, Record)
    )
    tally = tokens.TokenTally(tokens.counter_for("unknown"))
    rows = sum(1 for row in found if tally.add(row) >= 0)
    if not rows:
        raise BadInputError(path.name, "no readable row", "training rows", "Run validate_jsonl")
    return rows, tally.stats().mean


def _ours(
    model: str,
    method: str,
    tuning: str,
    rows: int,
    mean: float,
    given: Mapping[str, Any],
    has_validation: bool,
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
    for name, value in given.items():
        values[name] = value
        reasons[name] = f"set by the caller; proposed: {reasons.get(name, 'nothing')}"
    values |= {
        "batch": _BATCH,
        "batch_tokens": round(_BATCH * mean),
        "warmup_steps": round(float(values["warmup_ratio"]) * steps),
        "is_lora": tuning != "full",
        "target_words": "all-linear",
        "n_evals": int(values["num_train_epochs"]) if has_validation else 0,
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
    """Return a provider's hyperparameters for settings of ours.

    Args:
        provider: Provider id of the catalogue.
        method: sft, dpo, kto or rft.
        tuning: lora, qlora (as lora) or full.
        ours: Our settings by our names; those that are None stay out.
        reasons: Why each of them is as it is.

    Raises:
        BadInputError: No name of a setting of that provider is known.
    """
    from finetuning.providers.catalogue import load_provider

    spec = read_tables()["hosted"].get(provider)
    if spec is None:
        raise BadInputError(
            "configure_training",
            f"no names of settings of {provider} are known",
            f"one of {', '.join(read_tables()['hosted'])}",
            "Use its own page, or an engine that writes a job (skypilot, hf_jobs)",
        )
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
    kept = value
    if low is not None and kept < low:
        kept = type(value)(low)
    if high is not None and kept > high:
        kept = type(value)(high)
    return kept
