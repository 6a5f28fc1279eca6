"""The report as one HTML page: what came of it first, then why, then what it was made with. No script, no request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oncoseg_node.reports.cells import confidence, fact_list, methods, mm, slices, swatch, table, text, volume
from oncoseg_node.reports.style import SIGNS, STYLE

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What the page may load: nothing but itself."""

_DELIVERED = {
    "confirmed": ("written", "confirmed"),
    "stored": ("marked", "stored, not proved yet"),
    "failed": ("left out", "failed"),
    "not sent yet": ("waiting", "not sent yet"),
    "not made": ("left out", "not made"),
}
"""Sign and words of a delivery, by its status."""


def page(content: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        content: of :func:`~oncoseg_node.reports.content.report_content`.
        pictures: SVG texts by structure; ``""`` is the key of the overview.
    """
    parts = [
        f'<div class="banner"><b>{text(content["approval"])}.</b> {text(content["notice"])}</div>',
        f"<h1>{text(headline(content))}</h1>",
        f'<p class="meta">{text(_about(content))}</p>',
        _reason(content),
        _tiles(content),
        _attention(content["structures"]),
        _refusals(content["refusals"]),
        _delivered(content["deliveries"]),
        _table(content["structures"]),
        _pictures(content["structures"], pictures),
        _series(content["series"]),
        _list("Findings on the image", content["findings"]),
        _models(content["models"]),
        _objects(content["objects"]),
        _list("Notes on this report", content["notes"]),
        _technical(content),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">'
        f"<title>OncoSeg report {text(content['case'])}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def headline(content: Mapping[str, Any]) -> str:
    """What came of the series, in a line."""
    if content["outcome"] == "refused":
        return "Not contoured: the series is refused"
    if content["outcome"] == "failed":
        return "Failed: nothing more is tried"
    counts, total = content["counts"], len(content["structures"])
    contoured = counts["written"] + counts["marked"]
    if not total:
        return "Nothing is contoured yet"
    return f"{contoured} of {total} structure{'s' * (total != 1)} contoured"


def _about(content: Mapping[str, Any]) -> str:
    parts = [f"Case {content['case']}", f"received {content['received'].replace('T', ' ').replace('+00:00', ' UTC')}"]
    if content["rule"]:
        parts.append(f"rule {content['rule']}")
    if content["protocol"]:
        parts.append(f"protocol {content['protocol']}")
    parts.append(f"state: {content['state']}")
    return " · ".join(parts)


def _reason(content: Mapping[str, Any]) -> str:
    known = [refusal["message"] for refusal in content["refusals"]]
    if not content["reason"] or content["reason"] in known or content["outcome"] not in {"failed", "refused"}:
        return ""
    return f"<p><b>Why:</b> {text(content['reason'])}</p>"


def _tiles(content: Mapping[str, Any]) -> str:
    if not content["structures"]:
        return ""
    words = {"written": "written", "marked": "written, marked as doubtful", "left out": "left out"}
    tiles = "".join(
        f'<div class="tile">{SIGNS[decision]}<strong>{content["counts"][decision]}</strong><span>{label}</span></div>'
        for decision, label in words.items()
    )
    return f'<div class="tiles">{tiles}{_delivery_tile(content["deliveries"])}</div>'


def _delivery_tile(deliveries: Sequence[Mapping[str, str]]) -> str:
    """How much of what was to be sent is proved to be there."""
    if not deliveries:
        return ""
    proved = sum(one["status"] == "confirmed" for one in deliveries)
    sign = "written" if proved == len(deliveries) else "waiting"
    if any(one["status"] in {"failed", "not made"} for one in deliveries):
        sign = "left out"
    return (
        f'<div class="tile">{SIGNS[sign]}<strong>{proved}</strong><span>of {len(deliveries)} '
        f"deliver{'y' if len(deliveries) == 1 else 'ies'} confirmed</span></div>"
    )


def _attention(structures: Sequence[Mapping[str, Any]]) -> str:
    """The structures that a person has to look at before all others, and why."""
    items = "".join(
        f"<li>{SIGNS[decision]}<span><b>{text(one['name'])}</b> {decision}: "
        f"{text('; '.join(one['reasons']) or 'no reason recorded')}</span></li>"
        for decision in ("left out", "marked")
        for one in structures
        if one["decision"] == decision
    )
    return f'<h2>Look at these first</h2><ul class="attention">{items}</ul>' if items else ""


def _refusals(refusals: Sequence[Mapping[str, str]]) -> str:
    if not refusals:
        return ""
    items = "".join(
        f"<li>{SIGNS['left out']}<span><b>{text(one['kind'])}</b>: {text(one['message'])}</span></li>"
        for one in refusals
    )
    return f'<h2>Refused, because</h2><ul class="attention">{items}</ul>'


def _delivered(deliveries: Sequence[Mapping[str, str]]) -> str:
    if not deliveries:
        return ""
    rows = []
    for one in deliveries:
        sign, words = _DELIVERED[one["status"]]
        rows.append(
            (
                f'<td class="keep">{text(one["destination"])}</td>',
                f'<td class="keep">{text(one["format"].upper())}</td>',
                f'<td class="decision keep">{SIGNS[sign]}{words}</td>',
                f"<td>{text('; '.join(part for part in (one['how'], one['message']) if part))}</td>",
            )
        )
    return f"<h2>Sent</h2>{table(('destination', 'object', 'status', 'proof'), rows)}"


def _table(structures: Sequence[Mapping[str, Any]]) -> str:
    if not structures:
        return ""
    rows = []
    for one in structures:
        decision = one["decision"]
        rows.append(
            (
                f'<td class="keep">{swatch(one["colour"])}<b>{text(one["name"])}</b></td>',
                f'<td class="decision keep">{SIGNS[decision]}{decision}</td>',
                f'<td class="n">{volume(one["volume_ml"])}</td>',
                f'<td class="n">{slices(one["slices"])}</td>',
                f'<td class="n"><b>{confidence(one["confidence"])}</b></td>',
                f'<td class="small methods">{methods(one["confidences"])}</td>',
                f'<td class="small by">{text(one["model"])}{_source(one)}</td>',
                f'<td class="small reasons">{text("; ".join(one["reasons"]))}</td>',
            )
        )
    head = ("structure", "decision", "ml:n", "slices:n", "confidence:n", "by method", "made by", "reasons")
    return (
        f'<h2>Structures</h2><div class="structures">{table(head, rows)}</div>'
        '<p class="small">Confidence: the lowest of those by method, from 0 to 1; "–" where nothing judges. It ranks '
        "what to look at first and is no probability that a contour is right. Slices count from 0.</p>"
    )


def _source(structure: Mapping[str, Any]) -> str:
    """The model's own name, where it is another one."""
    source = structure["source"]
    return f" ({text(source)})" if source.casefold() not in {"", structure["name"].casefold()} else ""


def _pictures(structures: Sequence[Mapping[str, Any]], pictures: Mapping[str, str]) -> str:
    if not pictures:
        return ""
    figures = [
        f'<figure><figcaption class="decision">{swatch(one["colour"])}<b>{text(one["name"])}</b> · '
        f"{SIGNS[one['decision']]}{one['decision']} · {volume(one['volume_ml'])} ml · confidence "
        f"{confidence(one['confidence'])}</figcaption>{pictures[one['name']]}</figure>"
        for one in structures
        if one["name"] in pictures
    ]
    overview = ""
    if "" in pictures:
        overview = (
            '<figure class="overview"><figcaption><b>All structures</b>: their outlines seen through the body, on the '
            f"mean of the image along the view</figcaption>{pictures['']}</figure>"
        )
    return (
        '<div class="together"><h2>Pictures</h2>'
        '<p class="small">Each structure on the three planes on which it is largest, in its proportions. '
        f"R, L, A, P, H, F: right, left, front, back, head and feet of the patient.</p>{overview}</div>"
        + "".join(figures)
    )


def _series(series: Mapping[str, Any] | None) -> str:
    if series is None:
        return ""
    spacing = " × ".join(f"{one:.4g}" for one in series["pixel_spacing_mm"] if one is not None)
    matrix = "" if not series["rows"] else f"{series['columns'] or 0:g} × {series['rows']:g}"
    facts = {
        "modality": series["modality"],
        "slices": series["slices"],
        "between slices": mm(series["slice_distance_mm"]),
        "slice thickness": mm(series["slice_thickness_mm"]),
        "pixels": matrix,
        "pixel spacing": f"{spacing} mm" if spacing else "",
        "kernel": series["kernel"],
        "contrast agent": series["contrast"],
        "tube voltage": f"{series['kvp']:g} kV" if series["kvp"] else "",
        "body part": series["body_part"],
        "patient position": series["patient_position"],
    }
    return f"<h2>Image</h2>{fact_list(facts)}"


def _list(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return f'<h2>{text(title)}</h2><ul class="plain">{"".join(f"<li>{text(line)}</li>" for line in lines)}</ul>'


def _models(models: Sequence[Mapping[str, Any]]) -> str:
    if not models:
        return ""
    rows = [
        (
            f"<td class='by'><b>{text(one['key'])}</b><br>{text(one['component'])}</td>",
            f"<td>{text(one['version'])}</td>",
            f"<td><code>{text(one['weights_sha256'])}</code></td>",
            f"<td>{text(one['licence'])}</td>",
            f'<td class="n">{one["seconds"]:.1f}</td>',
            f'<td class="small">{text("; ".join(one["notes"]))}</td>',
        )
        for one in models
    ]
    head = ("model", "version", "SHA-256 of what it knows", "licence", "seconds:n", "notes")
    return f"<h2>Models</h2>{table(head, rows)}"


def _objects(objects: Sequence[Mapping[str, Any]]) -> str:
    if not objects:
        return ""
    rows = [
        (
            f'<td class="keep"><b>{text(one["format"].upper())}</b></td>',
            f'<td class="keep">{text(one["file"])}</td>',
            f"<td><code>{text(one['sha256'])}</code></td>",
            f'<td class="small">{text("; ".join(one["notes"]))}</td>',
        )
        for one in objects
    ]
    return f"<h2>Objects</h2>{table(('object', 'file', 'SHA-256', 'notes'), rows)}"


def _technical(content: Mapping[str, Any]) -> str:
    seconds = {f"{phase}": f"{value:.1f} s" for phase, value in content["seconds"].items()}
    times = f"<h2>Time by phase</h2>{fact_list(seconds)}" if seconds else ""
    return (
        f"{times}<h2>Software</h2>{fact_list(content['software'])}"
        f'<p class="small">{text(content["schema"])} · the same as data: report.json</p>'
    )
