"""The command line's grammar, drawn from the tool table and the functions' signatures."""

from __future__ import annotations

import argparse
import inspect
import json
import types
import typing
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

from finetuning.errors import BadInputError, UnknownNameError
from finetuning.records import describe
from finetuning_skill import dispatch

CLI_ONLY: Final[dict[str, str]] = {
    "demo": "Run the whole job on shipped or own data: raw file to tuned model, verdict, report.",
    "catalogue": "Check the provider catalogue, or ask live signals for newer rows.",
    "bundle": "Collect wheels, a base and digests for a machine without network.",
    "approve": "Approve a plan that would spend money or send data out (a person does this).",
}
_EPILOG: Final = (
    "exit codes: 0 fine, 1 the answer is no, 2 bad call, 3 undecided, 4 a job broke.\n"
    "knowledge: SKILL.md and the six files beside it."
)
_FORMAT: Final = argparse.RawDescriptionHelpFormatter


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors follow the house template."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing usage."""
        where = self.prog
        if message.startswith("unrecognized arguments: "):
            option = message.removeprefix("unrecognized arguments: ").split()[0].split("=")[0]
            known = [name for name in self._option_string_actions if name.startswith("--")]
            raise UnknownNameError(where, "option", option, known)
        raise BadInputError(
            where, message, "the arguments that --help lists", f"Run: {where} --help"
        )


def _members(annotation: Any) -> list[Any]:
    """Flatten unions and Annotated to the plain types a value may have (None left out)."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if origin in {typing.Union, types.UnionType}:
        parts = typing.get_args(annotation)
        return [kind for part in parts if part is not type(None) for kind in _members(part)]
    return [annotation]


def _decode(text: str, where: str) -> Any:
    if text.startswith("@"):
        path = Path(text[1:])
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(
                where,
                f"{path} cannot be read ({error})",
                "a JSON file",
                f"Run: ls -l {path.parent}",
            ) from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInputError(
            where, f"the value is not JSON ({error})", "JSON or @FILE", "Quote it with '…'"
        ) from error


def read_value(raw: Any, annotation: Any, where: str) -> Any:
    """Turn one command-line string into the JSON value that the argument's type wants.

    Args:
        raw: The string (or list of strings, or bool) from the command line.
        annotation: The argument's annotation.
        where: Name of the option, for the error text.

    Raises:
        BadInputError: The value should be JSON and is not.
    """
    if not isinstance(raw, str):
        return raw
    kinds = _members(annotation)
    scalars = {str, int, float, bool, Path}
    structured = [k for k in kinds if k not in scalars and typing.get_origin(k) is not Literal]
    plain = len(structured) < len(kinds)
    if structured and (not plain or raw.startswith(("{", "[", "@"))):
        try:
            return _decode(raw, where)
        except BadInputError:
            if plain and not raw.startswith("@"):
                return raw  # for example split=[.8,.1,.1]: the tool reads its own spelling
            raise
    return raw


def _add_option(
    parser: argparse.ArgumentParser, name: str, annotation: Any, text: str, positional: bool
) -> None:
    kinds = _members(annotation)
    flag = "--" + name.replace("_", "-")
    listed = any(typing.get_origin(kind) is list for kind in kinds) and all(
        typing.get_args(kind) == (str,) for kind in kinds if typing.get_origin(kind) is list
    )
    choices = [c for k in kinds if typing.get_origin(k) is Literal for c in typing.get_args(k)]
    text = text.replace("%", "%%")
    if choices and f"{choices[0]}" not in text:
        text += f" One of: {', '.join(str(choice) for choice in choices)}."
    options: dict[str, Any] = {"help": text, "default": argparse.SUPPRESS}
    if positional:
        options["nargs"] = "+" if listed else "?"
        parser.add_argument(name, metavar=name.upper(), **options)
    elif kinds == [bool]:
        parser.add_argument(flag, dest=name, action=argparse.BooleanOptionalAction, **options)
    elif listed and len(kinds) == 1:
        parser.add_argument(flag, dest=name, action="append", metavar="VALUE", **options)
    else:
        parser.add_argument(flag, dest=name, metavar=name.upper(), **options)


def _add_surface(parser: argparse.ArgumentParser, row: dispatch.Tool | None) -> None:
    parser.add_argument("--json", action="store_true", help="Print the result as JSON on stdout.")
    if row is not None and row.page and row.page != "limit":
        parser.add_argument(
            "--limit", dest=row.page, default=argparse.SUPPRESS, help=f"Same as --{row.page}."
        )
    if row is not None and (row.detached or row.name == "launch_lora"):
        parser.add_argument(
            "--no-wait", action="store_true", help="Return a run_id at once; get-run follows it."
        )


def _fill_tool(parser: argparse.ArgumentParser, row: dispatch.Tool) -> None:
    function = dispatch.function(row.name)
    text, descriptions = describe(function)
    parser.description = text
    parser.epilog = f"example:\n  fine-tuning {row.command} {row.example}".rstrip()
    hints = typing.get_type_hints(function, include_extras=True)
    for name in inspect.signature(function).parameters:
        annotation = hints[name]
        _add_option(parser, name, annotation, descriptions.get(name, ""), name == row.positional)
    _add_surface(parser, row)


def _fill_demo(parser: argparse.ArgumentParser) -> None:
    from finetuning_skill.demo import run_demo

    text, descriptions = describe(run_demo)
    parser.description = text
    parser.epilog = (
        "example:\n  fine-tuning demo\n"
        "  fine-tuning demo --data tickets.csv --prompt-column question --completion-column answer"
    )
    hints = typing.get_type_hints(run_demo, include_extras=True)
    for name in inspect.signature(run_demo).parameters:
        _add_option(parser, name, hints[name], descriptions.get(name, ""), positional=False)
    _add_surface(parser, None)


def _fill_bundle(parser: argparse.ArgumentParser) -> None:
    from finetuning_skill.bundle import bundle

    text, descriptions = describe(bundle)
    parser.description = text
    parser.epilog = "example:\n  fine-tuning bundle carried --extras local --base models/my-base"
    hints = typing.get_type_hints(bundle, include_extras=True)
    for name in inspect.signature(bundle).parameters:
        _add_option(parser, name, hints[name], descriptions.get(name, ""), name == "output_dir")
    _add_surface(parser, None)


def _fill_approve(parser: argparse.ArgumentParser) -> None:
    parser.description = CLI_ONLY["approve"]
    parser.epilog = "example:\n  fine-tuning approve PLAN_ID --max-usd 5"
    parser.add_argument("plan_id", metavar="PLAN_ID", help="The plan's id, from a dry run.")
    parser.add_argument("--max-usd", required=True, help="Most US dollars this plan may cost.")
    _add_surface(parser, None)


def _fill_catalogue(parser: argparse.ArgumentParser) -> None:
    parser.description = CLI_ONLY["catalogue"] + (
        " verify: every row has a source younger than 90 days, every billing rule a worked case."
        " refresh: asks the services whose keys you set and writes proposed rows to a file."
    )
    parser.epilog = "examples:\n  fine-tuning catalogue verify\n  fine-tuning catalogue refresh"
    parser.add_argument("action", choices=("verify", "refresh"), metavar="verify|refresh")
    parser.add_argument("--as-of", metavar="DAY", help="Day of the check; today when left out.")
    parser.add_argument(
        "--signal", action="append", metavar="NAME", help="refresh: ask only this signal; repeats."
    )
    parser.add_argument("--output-dir", metavar="DIR", help="refresh: folder of the proposals.")
    _add_surface(parser, None)


def _fill(parser: argparse.ArgumentParser, command: str) -> None:
    if command == "demo":
        _fill_demo(parser)
    elif command == "bundle":
        _fill_bundle(parser)
    elif command == "catalogue":
        _fill_catalogue(parser)
    elif command == "approve":
        _fill_approve(parser)
    else:
        _fill_tool(parser, dispatch.tool(command.replace("-", "_")))


def commands() -> dict[str, str]:
    """Return every command of ``fine-tuning`` with its one-line description."""
    return {**CLI_ONLY, **{row.command: f"{row.title}." for row in dispatch.TOOLS.values()}}


def build_parser(*, complete: bool = True) -> argparse.ArgumentParser:
    """Return the parser of ``fine-tuning`` with all its commands.

    Args:
        complete: False leaves the commands' own options out, which imports no package.
    """
    parser = Parser(
        prog="fine-tuning",
        description="Tells you whether to fine-tune, then does it and proves it.",
        epilog=_EPILOG,
        formatter_class=_FORMAT,
    )
    parser.add_argument("--version", action="store_true", help="Print the version and exit.")
    below = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, text in commands().items():
        command = below.add_parser(name, help=text, formatter_class=_FORMAT, allow_abbrev=False)
        if complete:
            _fill(command, name)
    return parser


def command_parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of one command; imports only that command's package.

    Raises:
        UnknownNameError: The command is not known; the nearest are named.
    """
    known = commands()
    if command not in known:
        dashed = command.replace("_", "-")
        raise UnknownNameError("fine-tuning", "command", command, {dashed} & set(known) or known)
    parser = Parser(prog=f"fine-tuning {command}", formatter_class=_FORMAT, allow_abbrev=False)
    _fill(parser, command)
    return parser
