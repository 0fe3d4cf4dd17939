"""Rows without personal data: texts, numbers and keys; a second pass changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from finetuning.pii.keys import KeyNames
from finetuning.pii.kinds import RedactMode
from finetuning.pii.leaves import Leaf, open_row
from finetuning.pii.rounds import redact_leaves
from finetuning.records import Json


def redact_rows(
    rows: Sequence[Mapping[str, Json]],
    mode: RedactMode,
    *,
    types: Sequence[str] | None = None,
    detector: str = "fast",
) -> tuple[list[dict[str, Json]], Counter[str]]:
    """Return copies of the rows without personal data, and how many values of each type went.

    All texts of a row are searched, with the help of the field's name ("phone"), also JSON
    inside a text, long integers and the keys themselves. A second call changes nothing.

    Args:
        rows: Decoded rows; they are not changed.
        mode: ``mask`` or ``pseudonym``.
        types: Types to replace; None replaces all.
        detector: ``fast``, ``scrubadub`` or ``presidio``.
    """
    names = KeyNames(mode, types)
    copies: list[dict[str, Json]] = []
    leaves: list[Leaf] = []
    for row in rows:
        copy, own = open_row(row, names.safe)
        copies.append(copy)
        leaves.extend(own)
    counts = Counter(
        span.type for _, span, _ in redact_leaves(leaves, mode, types=types, detector=detector)
    )
    counts.update(span.type for _, _, span in names.take_found())
    return copies, counts
