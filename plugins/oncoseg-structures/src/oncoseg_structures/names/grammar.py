"""What TG-263 lets a site build from primary names: targets, margins, partial and derived structures, helpers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, NamedTuple

from oncoseg_structures.names.table import by_name

LONGEST = 16
"""Characters: what planning systems keep of a name."""

Category = Literal["primary", "target", "PRV", "partial", "derived", "part", "plural", "bolus", "helper"]

TARGETS = ("PTV!", "IGTV", "ICTV", "GTV", "CTV", "ITV", "PTV")
CLASSIFIERS = ("par", "vas", "sb", "n", "p", "v")
"""Parenchyma, vascular, surgical bed, nodal, primary, venous thrombosis."""
SPATIAL = ("A", "P", "I", "S", "Dist", "Prox", "NAdj")
"""Anterior, posterior, inferior, superior, distal, proximal, not adjacent: parts of a structure beside left, right."""

_TARGET = re.compile(
    rf"(?P<type>{'|'.join(map(re.escape, TARGETS))})(?P<classifier>{'|'.join(CLASSIFIERS)})?(?P<number>1?\d)?"
    r"(?P<imaging>_(?:(?:CT|PT|MR|SP)\d)+)?(?P<structure>_[A-Za-z]\w*?)??"
    r"(?P<dose>_High|_Low|_Mid(?:\d\d)?|_\d{3,5}(?:x\d{1,2})?|_\d{1,3}(?:[.p]\d{1,2})?Gy(?:x\d{1,2})?)?(?P<crop>-\d\d)?",
    re.IGNORECASE,
)
_PRV = re.compile(r"(?P<root>\w+?)_PRV(?P<margin>\d{0,2})(?P<side>_[LR])?", re.IGNORECASE)
_PARTIAL = re.compile(r"(?P<root>\w+?)(?P<side>_[LR])?~(?P<side_after>_[LR])?", re.IGNORECASE)
_BOLUS = re.compile(r"Bolus_\d\dmm", re.IGNORECASE)
_HELPER = re.compile(r"(z[A-Z0-9_]|_[A-Za-z0-9])[\w.+~!-]*")
"""For planning only, not for dose evaluation: sorted to the end or to the beginning of a list."""
_OUTSIDE = re.compile(r"E-PTV(_Ev\d\d)?_\d{4}", re.IGNORECASE)


class Reading(NamedTuple):
    """A name as the rules write it, and which rule it is by."""

    name: str
    category: Category


def read_name(text: str) -> Reading | None:
    """Read a name whatever its capital letters; None for one that no rule makes. A qualifier after ``^`` is kept."""
    base, caret, qualifier = text.partition("^")
    reading = _read_base(base)
    return reading._replace(name=reading.name + caret + qualifier) if reading is not None else None


def _read_base(text: str) -> Reading | None:
    readers: tuple[tuple[Category, Callable[[str], str | None]], ...] = (
        ("primary", _read_primary),
        ("helper", lambda text: text if _HELPER.fullmatch(text) else None),
        ("target", _read_target),
        ("PRV", _read_margin),
        ("partial", _read_partial),
        ("part", _read_part),
        ("plural", _read_plural),
        ("derived", _read_derived),
        ("bolus", lambda text: f"Bolus_{text[6:8]}mm" if _BOLUS.fullmatch(text) else None),
    )
    readings = ((read(text), category) for category, read in readers)
    return next((Reading(name, category) for name, category in readings if name is not None), None)


def _read_primary(text: str) -> str | None:
    primary = by_name().get(text.casefold())
    return primary.name if primary is not None else None


def _anatomic(text: str) -> str | None:
    primary = by_name().get(text.casefold())
    return primary.name if primary is not None and primary.type in ("anatomic", "surgical") else None


def _split_side(name: str) -> tuple[str, str]:
    """A primary name without its side, and ``_L``, ``_R`` or nothing. The L of VB_L is lumbar."""
    sided = by_name()[name.casefold()].side is not None and name.endswith(("_L", "_R"))
    return (name[:-2], name[-2:]) if sided else (name, "")


def _read_target(text: str) -> str | None:
    match = _TARGET.fullmatch(text)
    if match is None:
        return None
    parts = {key: value or "" for key, value in match.groupdict().items()}
    structure = parts["structure"]
    if structure:
        primary = by_name().get(structure[1:].casefold())  # an organ, or what it is for: Boost, Eval, Preop
        if primary is None or primary.type == "target":
            return None
        structure = f"_{primary.name}"
    dose = parts["dose"].casefold()
    for word in ("High", "Low", "Mid", "Gy"):
        dose = dose.replace(word.casefold(), word)
    name = parts["type"].upper() + parts["classifier"].casefold() + parts["number"]
    return name + parts["imaging"].upper() + structure + dose + parts["crop"]


def _read_margin(text: str) -> str | None:
    match = _PRV.fullmatch(text)
    if match is None:
        return None
    whole = _anatomic(match["root"] + (match["side"] or ""))
    if whole is None:
        return None
    root, side = _split_side(whole)
    margin = match["margin"]
    full = f"{root}_PRV{margin.zfill(2) if margin else ''}{side}"
    # One digit only where two would make the name too long.
    return full if len(full) <= LONGEST or not margin else f"{root}_PRV{int(margin)}{side}"


def _read_partial(text: str) -> str | None:
    match = _PARTIAL.fullmatch(text)
    if match is None or (match["side"] and match["side_after"]):
        return None
    whole = _anatomic(match["root"] + (match["side"] or match["side_after"] or ""))
    return "~".join(_split_side(whole)) if whole is not None else None


def _read_part(text: str) -> str | None:
    """A known structure with a spatial suffix, before the side."""
    side = next((one for one in ("_L", "_R") if text.upper().endswith(one)), "")
    root = text[: len(text) - len(side)]
    head, _, last = root.rpartition("_")
    spatial = next((one for one in SPATIAL if one.casefold() == last.casefold()), None)
    whole = _anatomic(head + side) if spatial is not None else None
    return f"_{spatial}".join(_split_side(whole)) if whole is not None else None


def _read_plural(text: str) -> str | None:
    """All of those that the list has one by one, of both sides or of one: ``LNs``, ``Ribs_L``."""
    side = text[-2:].upper() if text.casefold().endswith(("_l", "_r")) else ""
    root = _anatomic(text[: len(text) - len(side) - 1]) if text[: len(text) - len(side)].endswith("s") else None
    if root is None:
        return None
    several = re.compile(rf"{re.escape(root)}(_|\d)", re.IGNORECASE)
    return f"{root}s{side}" if any(several.match(name) for name in by_name()) else None


def _read_derived(text: str) -> str | None:
    """One structure minus another."""
    if _OUTSIDE.fullmatch(text):
        return f"E-PTV{'_Ev' + text[8:10] if '_ev' in text.casefold() else ''}{text[-5:]}"
    for at in (place for place, letter in enumerate(text) if letter == "-"):
        whole, without = _anatomic(text[:at]), text[at + 1 :]
        if whole is not None and (part := _read_target(without) or _anatomic(without)) is not None:
            return f"{whole}-{part}"
    return None
