"""Turn a tool function's signature into a checked argument model, once for server and CLI.

The model forbids unknown names, its field descriptions come from the docstring's ``Args:``
section, and a wrong value becomes one error of the house template.
"""

from __future__ import annotations

import inspect
import re
import typing
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from finetuning.errors import BadInputError, FineTuningError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ARGUMENT = re.compile(r"^(\w+): (.*)$")
_SECTION = re.compile(r"^(Args|Returns|Raises|Source|Yields|Example)s?:")


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
            found = _ARGUMENT.match(line.strip()) if re.match(r"^ {4}\w", line) else None
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


_SPEAKS_OF: Final = {
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "string": frozenset({"pattern", "minLength", "maxLength", "format"}),
    "array": frozenset({"items", "minItems", "maxItems", "prefixItems"}),
    "object": frozenset({"properties", "additionalProperties", "required"}),
    "boolean": frozenset[str](),
    "null": frozenset[str](),
}
"""Keywords of JSON Schema that say something about values of one type only."""


def compact(schema: Any) -> Any:
    """Return a JSON Schema that says the same in fewer characters, for an assistant to read.

    Generated titles repeat the names, a default of null what "optional" says; alternatives that
    differ in their type alone become one schema with a list of types.
    """
    if isinstance(schema, list):
        return [compact(item) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    items = cast("dict[str, Any]", schema).items()
    made = {
        key: compact(value)
        for key, value in items
        if not (key == "title" and isinstance(value, str)) and (key, value) != ("default", None)
    }
    merged = _merged(made.get("anyOf"))
    if merged is None or merged.keys() & made.keys():
        return made
    del made["anyOf"]
    return merged | made


def _merged(alternatives: Any) -> dict[str, Any] | None:
    """Return one schema for alternatives of different types; None where they need more."""
    if not isinstance(alternatives, list):
        return None
    kinds: list[str] = []
    rest: dict[str, Any] = {}
    for each in cast("list[dict[str, Any]]", alternatives):
        words = {key: each[key] for key in each if key != "type"}
        kind = each.get("type")
        if not isinstance(kind, str) or kind in kinds or not words.keys() <= _SPEAKS_OF[kind]:
            return None
        kinds.append(kind)
        rest |= words
    return None if {"number", "integer"} <= set(kinds) else {"type": kinds, **rest}
