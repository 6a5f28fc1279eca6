"""The status page: read-only HTML, complete in itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

REFRESH_SECONDS = 5
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;width:100%;margin:.5rem 0 2rem}
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}
th{font-weight:600;color:#555}
td.n{text-align:right;font-variant-numeric:tabular-nums}
.bad{color:#a40000;font-weight:600}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th{color:#aaa}th,td{border-color:#333}.bad{color:#ff7b72}}
"""


def status_page(status: Mapping[str, Any]) -> str:
    """The page of a status as :func:`oncoseg_node.service.node.Node.status` gives it."""
    jobs = status["jobs by state"]
    problems = status["problems"]
    return "\n".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8>",
            f"<meta http-equiv=refresh content={REFRESH_SECONDS}>",
            '<meta name=viewport content="width=device-width"><title>OncoSeg node</title>',
            f"<style>{_STYLE}</style><h1>OncoSeg node</h1>",
            f"<p>{_paragraph(status)}</p>",
            *(f"<p class=bad>{escape(problem)}</p>" for problem in problems),
            "<h2>Series</h2>",
            _table([list(jobs)], [[*jobs.values()]]),
            "<h2>Workers</h2>",
            _records(status["workers"]),
            "<h2>Jobs</h2>",
            _records(status["jobs"]),
            "</html>",
        ]
    )


def _paragraph(status: Mapping[str, Any]) -> str:
    parts = [
        f"{status['state']}, version {status['version']}",
        f"running for {_duration(status['running seconds'])}",
        f"oldest series on its way: {_duration(status['oldest seconds'])}",
        f"{status['free bytes'] / 1e9:.1f} GB free",
        f"audit line {status['audit line']}",
    ]
    return " · ".join(escape(part) for part in parts)


def _records(records: Sequence[Mapping[str, Any]]) -> str:
    if not records:
        return "<p>None.</p>"
    return _table([list(records[0])], [[_shown(key, value) for key, value in one.items()] for one in records])


def _shown(key: str, value: Any) -> Any:
    if key.endswith("seconds"):
        return _duration(value)
    return "" if value is None else value


def _table(head: Sequence[Sequence[str]], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["<table>"]
    lines += [
        "<tr>" + "".join(f"<th>{escape(one.replace(' seconds', ''))}</th>" for one in row) + "</tr>" for row in head
    ]
    lines += ["<tr>" + "".join(_cell(one) for one in row) + "</tr>" for row in rows]
    return "".join([*lines, "</table>"])


def _cell(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"<td{' class=n' if number else ''}>{escape(str(value))}</td>"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
