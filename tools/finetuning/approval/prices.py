"""Amounts of money in approvals: how they are written, compared, and set beforehand."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation

from finetuning.errors import BadInputError
from finetuning.settings import settings


def standing_approval() -> Decimal | None:
    """Return what FINE_TUNING_MAX_USD approves, or None where it is not set.

    Raises:
        BadInputError: Its value is not an amount.
    """
    text = settings().max_usd
    if text is None:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise BadInputError(
            "FINE_TUNING_MAX_USD",
            f"its value is {text!r}",
            "an amount of US dollars, 0 or more, without a sign",
            "Set it to a number, for example FINE_TUNING_MAX_USD=5, or unset it",
        )
    return amount


def money(amount: Decimal) -> str:
    """Return dollars with cents, rounded up so that the amount covers the price."""
    return format(amount.quantize(Decimal("0.01"), rounding=ROUND_CEILING), "f")


def shown(price: Decimal | None) -> str:
    """Return a price for a message."""
    return "unknown" if price is None else f"${price.normalize():f}"


def price_key(price: Decimal | None) -> str | None:
    """Return a price in its one form: 5 and 5.00 are the same."""
    return None if price is None else format(price.normalize(), "f")
