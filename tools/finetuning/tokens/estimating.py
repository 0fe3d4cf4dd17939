"""Token counts for when no exact tokenizer is at hand: by kind of character, ±30 %."""

from __future__ import annotations

import re
from typing import Final

_DENSE: Final = re.compile(r"[A-Za-z0-9+/]{48,}={0,2}")
_DENSE_TOKENS: Final = 0.68  # per character of base64, hex or keys

_RATES: Final[tuple[tuple[re.Pattern[str], float, float], ...]] = (
    # pattern of a run, tokens per run, tokens per character
    (re.compile(r"[A-Za-z]+"), 0.55, 0.10),
    (re.compile(r"[0-9]+"), 0.5, 0.29),
    (re.compile(r"[\u00aa-\u024f]+"), 0.2, 0.65),  # accented Latin
    (re.compile(r"[\u0370-\u05ff]+"), 0.55, 0.23),  # Greek, Cyrillic, Armenian, Hebrew
    (re.compile(r"[\u0600-\u0dff]+"), 0.5, 0.28),  # Arabic, Indic scripts
    (re.compile(r"[\u0e00-\u10ff]+"), 0.5, 0.42),  # Thai, Lao, Tibetan, Burmese, Georgian
    (re.compile(r"[\u3040-\u30ff]+"), 0.3, 0.62),  # kana
    (re.compile(r"[\uac00-\ud7af\u1100-\u11ff]+"), 0.3, 0.60),  # Hangul
    (re.compile(r"[\u3400-\u9fff\uf900-\ufaff]+"), 0.1, 0.78),  # Han
    (re.compile(r"\s*\n\s*"), 1.0, 0.0),
    (re.compile(r"[^\S\n]{2,}"), 1.0, 0.0),
    (re.compile(r"[!-/:-@\[-`{-~]+"), 0.40, 0.30),  # ASCII punctuation
    (re.compile(r"[\U00010000-\U0010ffff]"), 1.7, 0.0),  # emoji and rare signs
    (re.compile(r"[\u2000-\u2fff\u3000-\u303f\uff00-\uffef]"), 0.9, 0.0),  # other signs
)


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has; 0 only for the empty text."""
    if not text:
        return 0
    dense = sum(map(len, _DENSE.findall(text)))
    total = dense * _DENSE_TOKENS
    if dense:
        text = _DENSE.sub("", text)
    for pattern, per_run, per_character in _RATES:
        runs = characters = 0
        for run in pattern.findall(text):
            runs += 1
            characters += len(run)
        if runs:
            total += runs * per_run + characters * per_character
    return max(1, round(total))
