"""Pieces of a self-contained HTML page: tables, notes, figures."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from oncoseg_core.system import json_text

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:1200px;margin:2rem auto;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;margin:.6rem 0 1.4rem;font-size:14px}
th,td{padding:.3rem .7rem;border-bottom:1px solid #d0d7de;text-align:right;vertical-align:top}
td{white-space:nowrap}td small{color:#57606a}th.text,td.text{text-align:left}td.long{white-space:normal}
.wide th:first-child,.wide td:first-child{position:sticky;left:0;background:#fff}
tr.bound{color:#57606a;font-style:italic}img{max-width:100%;height:auto}.wide{overflow-x:auto}
figure{margin:1rem 0}figcaption{color:#57606a;font-size:14px}summary{cursor:pointer}
pre{background:#f6f8fa;padding:1rem;overflow:auto;font-size:13px}
.note{background:#eef6ff;padding:.6rem 1rem;border-radius:6px}
.warning{background:#fff1c2;padding:.6rem 1rem;border-radius:6px}
"""


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page that needs nothing from elsewhere."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head><body>\n'
        f"<h1>{html.escape(title)}</h1>\n" + "\n".join(part for part in parts if part) + "\n</body></html>\n"
    )


def text(value: Any) -> str:
    """Any value as safe text."""
    return html.escape("–" if value is None else str(value))


def note(words: str, kind: str = "note") -> str:
    """A paragraph that stands out; ``kind`` is ``note`` or ``warning``."""
    return f'<p class="{kind}">{html.escape(words)}</p>'


def table(head: Sequence[str], rows: Iterable[tuple[Sequence[str], bool]], *, text_columns: int = 1) -> str:
    """A table of cells that are HTML already.

    Args:
        head: titles, as text.
        rows: cells, and whether the row is a bound (a floor or ceiling) and stands back.
        text_columns: so many columns on the left are words.
    """
    titles = "".join(f"<th{_left(number, text_columns)}>{html.escape(title)}</th>" for number, title in enumerate(head))
    body = ""
    for cells, is_bound in rows:
        own = "".join(f"<td{_left(number, text_columns)}>{cell}</td>" for number, cell in enumerate(cells))
        body += f"<tr{' class=bound' if is_bound else ''}>{own}</tr>"
    return f'<div class="wide"><table><tr>{titles}</tr>{body}</table></div>'


def figure(title: str, png: bytes, caption: str) -> str:
    """A picture with the words below it."""
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{html.escape(title)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def folded(title: str, content: str) -> str:
    """Something that is opened by who wants to see it."""
    return f"<details><summary>{html.escape(title)}</summary>{content}</details>" if content else ""


def as_json(values: Mapping[str, Any]) -> str:
    """Values for whoever wants them exactly."""
    return f"<pre>{html.escape(json_text(dict(values), indent=2))}</pre>"


def _left(number: int, text_columns: int) -> str:
    return ' class="text"' if number < text_columns else ""
