"""The words of a page: banner, headings, paragraphs, tables, lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from finetuning.pages.style import STYLE
from finetuning.pages.text import escape, format_number

BannerKind = Literal["good", "bad", "neutral", "warning"]
Language = Literal["en", "zh"]
Cell = str | int | float | None
"""What a table cell may hold: text as it is, numbers formatted, None as a dash."""

_ONE_LINE: Final = 28
"""Longest text of a cell that is never broken: intervals stay in one piece."""

_LANGUAGE_TAGS: Final = {"en": "en", "zh": "zh-Hans"}

# A page can neither run a script nor load anything: the browser itself refuses.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(
    title: str, sections: Sequence[str], *, language: Language = "en", subtitle: str = ""
) -> str:
    """Return one self-contained HTML page that opens offline, on any screen and on paper.

    Args:
        title: Shown as the heading and in the browser tab.
        sections: Fragments made by the functions of this package, in reading order; they are
            HTML already, so plain text goes through :func:`paragraph` first.
        language: ``en`` or ``zh``; it chooses fonts and how a reader speaks the page.
        subtitle: One line below the heading, or empty.
    """
    below = f'<p class="subtitle">{escape(subtitle)}</p>\n' if subtitle else ""
    body = "\n".join(sections)
    return (
        f'<!doctype html>\n<html lang="{_LANGUAGE_TAGS[language]}">\n<head>\n'
        '<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{below}{body}\n</main>\n</body>\n</html>\n"
    )


def banner(kind: BannerKind, headline: str, detail: str) -> str:
    """Return the verdict of a page: a coloured box with a headline and one sentence."""
    below = f"<p>{escape(detail)}</p>" if detail else ""
    return (
        f'<div class="banner {escape(kind)}" role="status"><strong>{escape(headline)}</strong>'
        f"{below}</div>"
    )


def heading(text: str) -> str:
    """Return a section heading."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """Return one paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def table(headers: Sequence[str], rows: Iterable[Sequence[Cell]], *, caption: str = "") -> str:
    """Return a table that scrolls sideways inside its own box on a phone.

    Args:
        headers: Column heads, with units.
        rows: One sequence per row; numbers are right-aligned and formatted.
        caption: What the table shows, or empty.
    """
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    lines = list(rows)
    head = "".join(
        f'<th scope="col"{_number_class(row[k] for row in lines)}>{escape(text)}</th>'
        for k, text in enumerate(headers)
    )
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in lines)
    return (
        f'<div class="scroll"><table>{above}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def key_values(pairs: Iterable[tuple[str, Cell]]) -> str:
    """Return name and value pairs, in two columns where there is room."""
    items = "\n".join(
        f"<dt>{escape(name)}</dt><dd>{escape(_words(value))}</dd>" for name, value in pairs
    )
    return f"<dl>\n{items}\n</dl>"


def bullet_list(items: Iterable[str]) -> str:
    """Return a bulleted list of plain texts."""
    inner = "\n".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>\n{inner}\n</ul>"


def _words(value: Cell) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "✓" if value else "✗"
    return value if isinstance(value, str) else format_number(value)


def _cell(value: Cell) -> str:
    words = _words(value)
    kind = _number_class([value]) or (' class="short"' if len(words) <= _ONE_LINE else "")
    return f"<td{kind}>{escape(words)}</td>"


def _number_class(values: Iterable[Cell]) -> str:
    """Return the class of a column of numbers (its head stands above them)."""
    kinds = [isinstance(value, int | float) for value in values if value is not None]
    return ' class="number"' if kinds and all(kinds) else ""
