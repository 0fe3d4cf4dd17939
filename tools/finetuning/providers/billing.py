"""What each provider counts as billed training tokens: one function per published rule."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

from finetuning.errors import BadInputError
from finetuning.providers.names import Method
from finetuning.providers.schema import Formula, Provider
from finetuning.records import Model


class TrainingAmounts(Model):
    """What goes into a training job, before any rule is applied.

    ``train_tokens`` and ``prompt_tokens`` are of one epoch; ``padded_tokens`` is rows times the
    maximum length and stands for the real tokens where packing is off.
    """

    train_tokens: int
    n_epochs: int
    prompt_tokens: int | None = None
    validation_tokens: int = 0
    n_evals: int = 0
    padded_tokens: int | None = None


class Billed(Model):
    """Billed tokens and the rule in words, with its numbers."""

    tokens: int
    formula: str


def billed_tokens(formula: Formula, amounts: TrainingAmounts) -> Billed:
    """Apply a provider's rule for training tokens.

    Args:
        formula: Name of the rule, from the provider's catalogue file.
        amounts: Token counts, epochs and evaluations.

    Raises:
        BadInputError: The rule needs prompt and completion tokens apart and they are not known,
            or the rule is not one that counts tokens.

    Source: prices.md section 1, one row per provider (checked 2026-11-20); knowledge: costs.md.
    """
    train, epochs = amounts.train_tokens, amounts.n_epochs
    times = "1 epoch" if epochs == 1 else f"{epochs} epochs"
    if formula == "tokens_epochs_validation":
        once = train if amounts.padded_tokens is None else amounts.padded_tokens
        name = "training tokens" if amounts.padded_tokens is None else "rows × maximum length"
        total = epochs * once + amounts.n_evals * amounts.validation_tokens
        words = f"{times} × {once:,} {name}"
        if amounts.n_evals:
            words += f" + {amounts.n_evals} evaluations × {amounts.validation_tokens:,} tokens"
        return Billed(tokens=total, formula=words)
    if formula == "gemini_preference":
        if amounts.prompt_tokens is None:
            raise BadInputError(
                "training_tokens",
                "this provider bills the prompts of preference data twice, and the share of "
                "prompt tokens is not known",
                "the preference file itself",
                "Pass data=<file> instead of training_tokens",
            )
        once = train + amounts.prompt_tokens
        return Billed(
            tokens=epochs * once,
            formula=f"{times} × {once:,} tokens (every prompt twice, every answer once)",
        )
    if formula in {"tokens_epochs", "gpu_hours", "own_hours"}:
        name = "training tokens" if formula == "tokens_epochs" else "processed tokens"
        return Billed(tokens=epochs * train, formula=f"{times} × {train:,} {name}")
    raise BadInputError(
        "method",
        f"the rule {formula!r} does not count training tokens",
        "a token-billed method",
        "Choose method sft",
    )


def billing_rule(provider: Provider, method: Method) -> Formula:
    """Return the billing rule of a provider for a method.

    Raises:
        BadInputError: The provider does not offer the method, or its rule is not known.
    """
    rule = provider.billing.get(method)
    if rule is None or rule in {"unknown", "three_rates"}:
        offered = [name for name, known in provider.billing.items() if known != "unknown"]
        what = "is not offered" if rule is None else "has a bill that this tool cannot compute yet"
        raise BadInputError(
            "method",
            f"{method!r} {what} at {provider.id}",
            f"one of {', '.join(offered) or 'none: the provider trains nothing'}",
            f"Use method={offered[0]!r}" if offered else "Choose another provider",
        )
    return rule


def openai_auto_epochs(n_rows: int) -> int:
    """Return the epochs that OpenAI's published recipe gives a file of so many rows.

    Three; more where three passes would be under 100 rows (at most 25), fewer where they would
    be over 25,000 (at least 1).

    Source: openai/openai-cookbook, Chat_finetuning_data_prep (checked 2026-11-20).
    """
    if n_rows * 3 < 100:
        return min(25, max(1, 100 // max(1, n_rows)))
    if n_rows * 3 > 25_000:
        return max(1, 25_000 // n_rows)
    return 3


def whole_steps(seconds: Decimal, step_seconds: int) -> Decimal:
    """Round a duration up to a provider's billing step (second, minute, hour)."""
    steps = (seconds / step_seconds).to_integral_value(ROUND_CEILING)
    return steps * step_seconds
