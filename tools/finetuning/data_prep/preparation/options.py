"""What a person asked of ``prepare_data``, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from finetuning.data_prep.convert import Columns
from finetuning.data_prep.prepared import Engine, ExamplesMode, RedactChoice, Replay
from finetuning.data_prep.sizing import sizes_for
from finetuning.data_prep.targets import TargetName, find_target
from finetuning.errors import BadInputError, UnknownNameError, require

WHERE: Final = "prepare_data"

ROLES: Final = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Options:
    """The arguments of ``prepare_data`` after checking; paths are resolved later."""

    sources: tuple[str, ...]
    target: TargetName
    columns: Columns
    examples: ExamplesMode
    near_duplicates: bool
    semantic_duplicates: bool
    near_threshold: float
    redact: RedactChoice
    split: str | Sequence[float]
    exclude: tuple[str, ...]
    signatures_file: str | None
    replay: Replay | None
    canaries: int
    engine: Engine
    force: bool
    seed: int
    turn_table: bool = False

    @property
    def by_time(self) -> bool:
        """Rows are split by time; in a table of turns the times only order the turns."""
        turns = self.turn_table or self.columns.conversation is not None
        return self.columns.time is not None and not turns


def check_options(options: Options) -> Options:
    """Return the options if every value can be used.

    Raises:
        BadInputError: A number is out of range, or there are no sources.
        UnknownNameError: The target, a mode or a role is not known.
        MissingExtraError: The engine or the semantic search needs a package that is missing.
    """
    find_target(options.target, where=f"{WHERE}: target")
    _known("examples", options.examples, ("per_conversation", "per_reply"))
    _known("engine", options.engine, ("local", "daft"))
    if options.engine == "daft":
        require("daft", feature=f"{WHERE}: engine=daft", extra="scale")
    if options.semantic_duplicates:
        require("semhash", feature=f"{WHERE}: semantic_duplicates=true", extra="semantic")
    _known("redact", options.redact, ("none", "mask", "pseudonym"))
    for role in options.columns.role_map.values():
        _known("role_map", role, ROLES)
    if not options.sources:
        raise BadInputError(
            f"{WHERE}: sources", "the list is empty", "at least one file", "Name the data file"
        )
    if len(set(options.sources)) < len(options.sources):
        raise BadInputError(
            f"{WHERE}: sources",
            "a file is named twice",
            "each file once",
            "Leave the second one out",
        )
    if not 0 < options.near_threshold <= 1:
        raise BadInputError(
            f"{WHERE}: near_threshold",
            f"the value is {options.near_threshold}",
            "a Jaccard similarity above 0 and up to 1",
            "Leave it out to use 0.5",
        )
    for name, value, most in (
        ("canaries", options.canaries, 10_000),
        ("seed", options.seed, 2**63),
    ):
        if not 0 <= value <= most:
            raise BadInputError(
                f"{WHERE}: {name}", f"the value is {value}", f"0..{most}", "Leave it out to use 0"
            )
    foldable = not options.by_time
    sizes_for(options.split, 1_000_000, 1_000_000, where=f"{WHERE}: split", foldable=foldable)
    return options


def _known(argument: str, value: str, values: Sequence[str]) -> None:
    if value not in values:
        raise UnknownNameError(f"{WHERE}: {argument}", "value", str(value)[:80], values)


def read_replay(value: object) -> Replay | None:
    """Return the replay argument as a model; the library takes a plain dict, too.

    Raises:
        BadInputError: A key is missing or unknown, or the fraction is out of range.
    """
    if value is None or isinstance(value, Replay):
        return value
    try:
        return Replay.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        percent = first["type"] == "less_than" and 1 < first["input"] <= 100
        raise BadInputError(
            f"{WHERE}: replay",
            f"{place}: {first['msg']}",
            "an object with path and fraction, a share from 0 to below 1",
            f"Pass fraction={first['input'] / 100:g}"
            if percent
            else 'Pass replay={"path": "general.jsonl", "fraction": 0.05}',
        ) from None
