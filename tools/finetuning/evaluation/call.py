"""The arguments of one call: checked, and as JSON to repeat or approve."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from finetuning.errors import BadInputError
from finetuning.evaluation.results import Arm
from finetuning.records import Json, page

WHERE: Final = "compare_eval"
MOST_TOKENS: Final = 32_768
_HOW_TO_RUN: Final = frozenset({"dry_run", "plan_id"})
_HOW_TO_SHOW: Final = frozenset({"language", "output_dir", "overwrite", "limit", "offset"})


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments of compare_eval, by their names."""

    data: str
    base: str
    tuned: str | None
    arms: Sequence[Arm] | None
    metrics: str | Sequence[str]
    general: str
    train: str | None
    margin: float
    alpha: float
    cluster_column: str | None
    log: str | None
    max_tokens: int
    language: Literal["en", "zh"]
    output_dir: str | None
    overwrite: bool
    dry_run: bool | None
    plan_id: str | None
    price_in_usd_per_mtok: Decimal | None
    price_out_usd_per_mtok: Decimal | None
    limit: int | None
    offset: int

    def check(self) -> None:
        """Check the numbers.

        Raises:
            BadInputError: One is out of range.
        """
        page([], self.limit, self.offset, where=WHERE)
        if not (0 <= self.margin <= 1 and 0 < self.alpha < 1):
            raise BadInputError(
                WHERE,
                f"margin={self.margin}, alpha={self.alpha}",
                "margin 0..1 and alpha between 0 and 1",
                "Leave them out to use 0.02 and 0.05",
            )
        if not 1 <= self.max_tokens <= MOST_TOKENS:
            raise BadInputError(
                f"{WHERE}: max_tokens",
                f"{self.max_tokens}",
                f"1 to {MOST_TOKENS}",
                "Leave it out to use 512",
            )

    def chosen_arms(self) -> list[Arm]:
        """Return the arms as checked objects, whether they came as objects or as JSON."""
        return [Arm.model_validate(arm) for arm in self.arms or []]

    def bound(self) -> dict[str, Json]:
        """Return the arguments that a plan is bound to: all that shape what is sent."""
        return self._given(_HOW_TO_RUN | _HOW_TO_SHOW)

    def again(self, **changes: Json) -> dict[str, Json]:
        """Return the arguments of the same call with some changed, as JSON."""
        return {**self._given(_HOW_TO_RUN), **changes}

    def _given(self, without: frozenset[str]) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for field in dataclasses.fields(self):
            value: Any = getattr(self, field.name)
            if field.name not in without and value is not None and value != []:
                found[field.name] = _plain(value)
        if self.arms:
            found["arms"] = [arm.model_dump(exclude_none=True) for arm in self.chosen_arms()]
        return found


def _plain(value: Any) -> Json:
    if isinstance(value, Decimal):
        return format(value, "f")
    return value
