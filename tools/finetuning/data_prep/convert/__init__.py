"""Conversion: rows of any input shape to rows of any target, through one inner shape."""

from __future__ import annotations

from finetuning.data_prep.convert.codes import CONVERT_CODES, NOTES, Unusable
from finetuning.data_prep.convert.readers import shape_of
from finetuning.data_prep.convert.rows import Converted, Converter, Rejection, turn_columns
from finetuning.data_prep.convert.tables import (
    Columns,
    cell_text,
    check_columns,
    guess_annotator,
    guess_pair,
    time_key,
)
from finetuning.data_prep.convert.turns import is_plain
from finetuning.data_prep.convert.writers import Row, writer_for

__all__ = [
    "CONVERT_CODES",
    "NOTES",
    "Columns",
    "Converted",
    "Converter",
    "Rejection",
    "Row",
    "Unusable",
    "cell_text",
    "check_columns",
    "guess_annotator",
    "guess_pair",
    "is_plain",
    "shape_of",
    "time_key",
    "turn_columns",
    "writer_for",
]
