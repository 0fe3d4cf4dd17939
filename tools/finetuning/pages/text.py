"""Text that may stand in a page: escaped, and numbers in one form."""

from __future__ import annotations

import html
import math
import re
from typing import Final

# Characters that HTML forbids or that could reorder a line (C0, C1, bidi overrides).
_FORBIDDEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def escape(text: str) -> str:
    """Return ``text`` safe for element content and for quoted attributes."""
    return html.escape(_FORBIDDEN.sub("\ufffd", text), quote=True)


def format_number(value: float, decimals: int | None = None) -> str:
    """Return a number as a reader wants it: few digits, grouped thousands, a true minus.

    Args:
        value: Any float; infinities and NaN are shown as symbols.
        decimals: Digits after the point; None chooses three significant ones.
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if decimals is None and size != 0 and (size >= 1e7 or size < 1e-4):
        text = f"{value:.2e}"
    elif decimals is None:
        places = 0 if size == 0 else max(0, 2 - math.floor(math.log10(size)))
        text = f"{value:,.{places}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        text = f"{value:,.{decimals}f}"
    if text.startswith("-"):
        text = text[1:] if float(text.replace(",", "")) == 0 else "−" + text[1:]
    return text
