"""Axes of the charts: which numbers to write, and where a value falls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from finetuning.pages.blocks import format_number


class Tick(NamedTuple):
    """One number on an axis."""

    value: float
    label: str


def nice_ticks(low: float, high: float, count: int = 5) -> list[Tick]:
    """Return round numbers between ``low`` and ``high``, about ``count`` of them."""
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    decimals = max(0, -math.floor(math.log10(step)))
    if round(step * 10**decimals, 6) % 1:  # a step of 2.5 needs one digit more
        decimals += 1
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    large = max(abs(low), abs(high)) >= 1e7 or step < 1e-4
    return [
        Tick(k * step, format_number(k * step, None if large else decimals))
        for k in range(first, last + 1)
    ]


def log_ticks(low: float, high: float) -> list[Tick]:
    """Return ticks for a logarithmic axis; ``low`` and ``high`` are above zero."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, (last - first) // 6)
    factors = (1,) if last - first > 3 else (1, 2, 5)
    values = [f * 10.0**k for k in range(first, last + 1, stride) for f in factors]
    return [Tick(v, format_number(v)) for v in values if low * 0.999 <= v <= high * 1.001]


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps data values to pixels.

    Attributes:
        low: Data value at ``start``.
        high: Data value at ``end``.
        start: Pixel of ``low``.
        end: Pixel of ``high``.
        log: Logarithmic when true.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of ``value``."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self, count: int = 5) -> list[Tick]:
        """Return the numbers to write along this axis."""
        return (
            log_ticks(self.low, self.high) if self.log else nice_ticks(self.low, self.high, count)
        )


def scale_for(
    values: list[float], start: float, end: float, *, log: bool = False, pad: float = 0.04
) -> Scale:
    """Return a scale that holds every finite value with a little room on both sides."""
    if not values:
        return Scale(1.0, 10.0, start, end, log) if log else Scale(0.0, 1.0, start, end)
    low, high = min(values), max(values)
    if log:
        low, high = (low / 1.2, high * 1.2) if high / low < 1.5 else (low, high)
        return Scale(low, high, start, end, log)
    span = high - low
    if span <= 1e-12 * max(abs(low), abs(high), 1e-300):
        room = abs(high) * 0.1 or 1.0
        return Scale(low - room, high + room, start, end)
    return Scale(low - pad * span, high + pad * span, start, end)
