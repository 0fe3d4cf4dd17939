"""The shapes that travel: rows, findings, results, the next step, and what a tool takes.

The model of a tool's arguments is drawn from its function once, for server and command line: it
forbids unknown names, its descriptions come from the docstring's ``Args:`` section, and a wrong
value becomes one error of the house template.
"""

from __future__ import annotations

import inspect
import re
import typing
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    create_model,
)

from finetuning.errors import BadInputError, FineTuningError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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


_NAMED: Final = re.compile(r"^(\w+): (.*)$")
_SECTION: Final = re.compile(r"^(Args|Returns|Raises|Source|Yields|Example)s?:")


def describe(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return the docstring's text before ``Args:`` and one description per argument."""
    lines = inspect.getdoc(function)
    text: list[str] = []
    arguments: dict[str, str] = {}
    section, name = "", ""
    for line in (lines or "").splitlines():
        if started := _SECTION.match(line):
            section = started.group(1)
        elif not section:
            text.append(line)
        elif section == "Args":
            found = _NAMED.match(line.strip()) if re.match(r"^ {4}\w", line) else None
            if found:
                name = found.group(1)
                arguments[name] = found.group(2)
            elif line.strip() and name:
                arguments[name] += " " + line.strip()
    return "\n".join(text).strip(), arguments


def argument_model(function: Callable[..., Any], name: str) -> type[BaseModel]:
    """Build the pydantic model of a function's arguments.

    Args:
        function: A tool function whose annotations all resolve at run time.
        name: Name of the tool, which becomes the model's name.

    Returns:
        A model that forbids unknown fields, with the function's own defaults.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    _, descriptions = describe(function)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        required = parameter.default is inspect.Parameter.empty
        default: Any = ... if required else parameter.default
        description = descriptions.get(parameter.name, "").replace("``", "`")
        fields[parameter.name] = (
            hints[parameter.name],
            Field(default=default, description=description),
        )
    model = create_model(f"{name}_arguments", __config__=ConfigDict(extra="forbid"), **fields)
    return model


def _known_names(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the field names that are known where an unknown one was found."""
    current: Any = model
    for part in location[:-1]:
        fields = cast("dict[str, Any]", getattr(current, "model_fields", {}))
        annotation = fields[part].annotation if part in fields else None
        candidates = [annotation, *typing.get_args(annotation)]
        for candidate in list(candidates):
            candidates.extend(typing.get_args(candidate))
        current = next((c for c in candidates if hasattr(c, "model_fields")), current)
    return list(getattr(current, "model_fields", {}))


def _seen(value: object) -> str:
    """Show a value by itself when it is short and plain, else by type and size."""
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str):
        return repr(value) if len(value) <= 80 else f"text of {len(value)} characters"
    return f"a {type(value).__name__}"


def _explain(tool: str, model: type[BaseModel], error: Any) -> FineTuningError:
    location: tuple[int | str, ...] = error["loc"]
    where = f"{tool}: {'.'.join(str(part) for part in location)}" if location else tool
    value, context = error["input"], error.get("ctx", {})
    step = f"Run: fine-tuning {tool.replace('_', '-')} --help"
    if error["type"] == "extra_forbidden":
        kind = "argument" if len(location) == 1 else "name"
        return UnknownNameError(tool, kind, str(location[-1]), _known_names(model, location))
    if error["type"] == "missing":
        return BadInputError(tool, f"the argument {location[-1]!r} is missing", "a value", step)
    if isinstance(value, int | float) and context.get("le") == 1 and 1 < value <= 100:
        return BadInputError(
            where, f"{value} is out of range", f"0..1; {value / 100:g}?", f"Pass {value / 100:g}"
        )
    if error["type"] == "literal_error":
        known = re.findall(r"'([^']+)'", str(context.get("expected", "")))
        return UnknownNameError(where, "value", str(value)[:80], known)
    expected = str(error["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    return BadInputError(where, f"the value is {_seen(value)}", expected, step)


def check_arguments(
    tool: str, model: type[BaseModel], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Validate arguments against a tool's model.

    Args:
        tool: Name of the tool, for the error text.
        model: What :func:`argument_model` returned.
        arguments: Names and values as the caller gave them.

    Returns:
        Keyword arguments for the function, values converted to their types.

    Raises:
        UnknownNameError: An argument, a nested name or a listed value is not known.
        BadInputError: A value has the wrong type or lies out of range.
    """
    try:
        checked = model.model_validate(dict(arguments))
    except ValidationError as error:
        first = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")[0]
        raise _explain(tool, model, first) from None
    return {name: getattr(checked, name) for name in checked.model_fields_set}
