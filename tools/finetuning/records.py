"""The shapes that travel: rows, findings, results, and the step that comes next."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from finetuning.errors import BadInputError

Json = Any
"""Any JSON value (a recursive alias costs start-up time in every schema that uses it)."""

Usd = Annotated[
    Decimal,
    PlainSerializer(lambda value: format(value, "f"), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^-?\d+(\.\d+)?$"}, mode="serialization"),
]
"""US dollars: Decimal inside, a decimal string in JSON, a string or a number on the way in."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
"""A share, score or confidence, 0..1."""

Severity = Literal["error", "warning"]

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a source, as it travels from reader to split.

    Attributes:
        source: Name of the file it came from (as the caller gave it).
        line: Physical line, counted from 1 (CSV header = 1; row number for Parquet and arrays).
        data: The decoded row.
    """

    source: str
    line: int
    data: dict[str, Json]


class Model(BaseModel):
    """Base of every shape that leaves the library: frozen, and no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


class Finding(Model):
    """One fault of the data, with the place, a code of a closed list and the mend.

    ``message`` names row content by type and length, never by value.
    """

    line: int | None = Field(default=None, description="Physical line, counted from 1.")
    field: str | None = Field(default=None, description="JSON Pointer, e.g. /messages/2/role.")
    code: str
    severity: Severity
    message: str
    fix: str


class NextCall(Model):
    """A call that makes sense now, ready to be made as it stands."""

    tool: str
    args: dict[str, Json] = Field(default_factory=dict)
    why: str


class ToolResult(Model):
    """Base of every tool's result.

    Sub-classes override :meth:`exit_code` where the answer can be "no" (1), undecided (3) or
    broken (4), and :meth:`summary` with one line that a person can read.
    """

    next: list[NextCall] = Field(default_factory=list["NextCall"], max_length=3)
    fit_facts: dict[str, Json] = Field(
        default_factory=dict, description="Measured facts that assess_fit accepts as they are."
    )

    def exit_code(self) -> int:
        """Return the process exit code that this answer means (0 = fine)."""
        return 0

    def summary(self) -> str:
        """Return one line in words."""
        return type(self).__name__


def page(
    items: list[Item], limit: int | None, offset: int, *, where: str
) -> tuple[list[Item], int | None]:
    """Cut one page out of a list.

    Args:
        items: The whole list.
        limit: Most items to return, at least 1; None returns all from ``offset``.
        offset: Items to skip, at least 0.
        where: Name of the tool, for the error text.

    Returns:
        The page and the offset of the next one (None at the end).

    Raises:
        BadInputError: ``limit`` below 1 or ``offset`` below 0.
    """
    if (limit is not None and limit < 1) or offset < 0:
        raise BadInputError(
            where,
            f"limit={limit}, offset={offset} cannot be paged",
            "limit of at least 1 and offset of at least 0",
            "Leave both out to get the first page",
        )
    end = len(items) if limit is None else offset + limit
    return items[offset:end], (end if end < len(items) else None)
