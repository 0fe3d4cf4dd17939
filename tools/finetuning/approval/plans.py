"""Plans: what would be spent or sent, and whether a person said yes to exactly that.

A plan names the tool, the digests of its arguments and files, and the price. Approval is for
that and nothing else: whatever changes afterwards makes another plan. A plan holds digests, not
arguments, so no credential and no row text can be in one.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, cast

from pydantic import ValidationError

from finetuning.errors import BadInputError, UnknownNameError
from finetuning.files import atomic_write, digest, sha256_file
from finetuning.records import Json, Model, Usd
from finetuning.settings import settings

_ID: Final = re.compile(r"plan_[0-9a-f]{12}")
_HOW_IT_IS_CALLED: Final = frozenset({"plan_id", "dry_run", "idempotency_key"})
"""Arguments that say how a call is made, not what it does: they differ between dry run and run."""


class Plan(Model):
    """One thing that would cost money or leave the machine, and who approved it."""

    plan_id: str
    tool: str
    created_at: str
    digest: str
    steps: list[str]
    cost_usd: Usd | None
    data_leaves_machine: bool
    files: dict[str, str]
    price_from_caller: bool = False
    approved: bool = False
    approved_max_usd: Usd | None = None
    approved_by: str | None = None
    approved_at: str | None = None
    used_at: str | None = None


def create_plan(
    tool: str,
    *,
    arguments: Mapping[str, Json],
    files: Sequence[Path],
    steps: Sequence[str],
    cost_usd: Decimal | None,
    data_leaves_machine: bool,
    price_from_caller: bool = False,
) -> Plan:
    """Store what a tool would do and return it; nothing is approved by this.

    Args:
        tool: Name of the tool.
        arguments: Its arguments; those that only say how it is called do not count.
        files: Files that would be read or sent.
        steps: What would happen, for a person to read.
        cost_usd: Price in US dollars, or None when it is not known.
        data_leaves_machine: Data would be sent out.
        price_from_caller: The price rests on what the caller said, not on a list of prices; an
            amount set beforehand then approves nothing, because whoever calls could say 0.

    Raises:
        BadInputError: A file cannot be read, or the price is negative.
    """
    if cost_usd is not None and not (cost_usd.is_finite() and cost_usd >= 0):
        raise BadInputError(
            tool, f"the price is {cost_usd}", "US dollars, 0 or more, or unknown", "Price it again"
        )
    digests = digests_of(files)
    plan = Plan(
        plan_id=f"plan_{secrets.token_hex(6)}",
        tool=tool,
        created_at=now(),
        digest=digest_of(tool, arguments, digests, cost_usd),
        steps=list(steps),
        cost_usd=cost_usd,
        data_leaves_machine=data_leaves_machine,
        files=digests,
        price_from_caller=price_from_caller,
    )
    store(plan)
    return plan


def read_plan(plan_id: str) -> Plan:
    """Return a stored plan.

    Raises:
        UnknownNameError: There is no such plan (BadInputError: there is none at all).
        BadInputError: Its file is damaged.
    """
    path = _path(plan_id)
    if path is None or not path.is_file():
        known = [file.stem for file in plans_folder().glob("plan_*.json")]
        if not known:
            raise BadInputError(
                "plan_id",
                f"there is no plan {plan_id!r}, and no other",
                "the plan_id that a dry run returned",
                "Make a plan with dry_run=true",
            )
        raise UnknownNameError("plan_id", "plan", plan_id, known)
    try:
        return Plan.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        raise BadInputError(
            "plan_id",
            f"the file of {plan_id} is damaged ({type(error).__name__})",
            "a plan as it was stored",
            "Make a new plan with dry_run=true",
        ) from error


def digest_of(
    tool: str, arguments: Mapping[str, Json], files: Mapping[str, str], cost_usd: Decimal | None
) -> str:
    """Return the digest of what a plan stands for: tool, arguments, files and price."""
    settled = {
        name: value
        for name, value in arguments.items()
        if value is not None and name not in _HOW_IT_IS_CALLED
    }
    return digest(
        {
            "tool": tool,
            "arguments": _plain(settled),
            "files": dict(files),
            "cost_usd": price_key(cost_usd),
        }
    )


def _plain(value: Json) -> Json:
    """Return JSON whose numbers have one form, so that 5 and Decimal("5.0") agree."""
    if isinstance(value, Mapping):
        mapping = cast("Mapping[Any, Any]", value)
        return {str(key): _plain(item) for key, item in mapping.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("list[Any]", value)]
    if isinstance(value, Decimal):
        return price_key(value)
    return str(value) if isinstance(value, Path) else value


def digests_of(files: Iterable[Path], *, missing_ok: bool = False) -> dict[str, str]:
    """Return path → SHA-256 of files; one that is gone is ``missing``, or bad input.

    Raises:
        BadInputError: A file cannot be read and ``missing_ok`` is false.
    """
    found: dict[str, str] = {}
    for file in files:
        try:
            found[str(file)] = sha256_file(file)
        except OSError as error:
            if missing_ok:
                found[str(file)] = "missing"
                continue
            raise BadInputError(
                "plan",
                f"{str(file)!r} cannot be read ({error.strerror})",
                "a file",
                "Check the path",
            ) from error
    return found


def plans_folder() -> Path:
    """Return the folder that holds the plans."""
    return settings().home / "plans"


def _path(plan_id: str) -> Path | None:
    return plans_folder() / f"{plan_id}.json" if _ID.fullmatch(plan_id) else None


def now() -> str:
    """Return the time as a plan keeps it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def store(plan: Plan) -> None:
    """Write a plan whole, readable by its owner only."""
    folder = plans_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with atomic_write(folder / f"{plan.plan_id}.json") as stream:
        os.fchmod(stream.fileno(), 0o600)
        json.dump(plan.model_dump(mode="json"), stream, indent=2)


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
