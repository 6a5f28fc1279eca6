"""Small pieces of the page as HTML: numbers as people read them, tables, lists of facts. Texts are escaped here."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence

_MILLILITRE_DIGITS = ((10.0, 2), (100.0, 1))
"""Decimals of a volume below that many millilitres."""

_EMPTY = re.compile(r"<td[^>]*></td>")


def text(value: object) -> str:
    """A value as text of the page."""
    return html.escape(str(value))


def swatch(colour: Sequence[int]) -> str:
    """A square of an RGB colour."""
    return f'<span class="swatch" style="background:rgb({",".join(str(int(one)) for one in colour)})"></span>'


def volume(value: float | None) -> str:
    """Millilitres, with decimals where they count."""
    if value is None:
        return "–"
    digits = next((digits for below, digits in _MILLILITRE_DIGITS if value < below), 0)
    return f"{value:,.{digits}f}"


def slices(value: Sequence[int] | None) -> str:
    """First and last slice."""
    return "–" if value is None else f"{value[0]}–{value[1]}"


def confidence(value: float | None) -> str:
    """Two decimals, or a dash."""
    return "–" if value is None else f"{value:.2f}"


def methods(confidences: Mapping[str, float]) -> str:
    """Each method with its confidence, on a line of its own."""
    return "".join(f"<div><b>{value:.2f}</b> {text(method)}</div>" for method, value in confidences.items())


def mm(value: float | None) -> str:
    """Millimetres; empty where they are not known."""
    return "" if value is None else f"{value:.4g} mm"


def fact_list(facts: Mapping[str, object]) -> str:
    """Names and values side by side; those that are empty are left out."""
    rows = "".join(
        f"<div><span>{text(what)}</span><span>{text(value)}</span></div>"
        for what, value in facts.items()
        if value != ""
    )
    return f'<div class="facts">{rows}</div>'


def table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """A table; a heading that ends in ``:n`` is of numbers. Cells are HTML; a column without content is left out."""
    rows = [list(line) for line in lines]
    columns = [
        (number, title) for number, title in enumerate(head) if not all(_EMPTY.fullmatch(row[number]) for row in rows)
    ]
    titles = "".join(
        f'<th class="n">{text(one.removesuffix(":n"))}</th>' if one.endswith(":n") else f"<th>{text(one)}</th>"
        for _, one in columns
    )
    body = "".join(f"<tr>{''.join(row[number] for number, _ in columns)}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
