"""Images and labels in folders, found by a pattern of their paths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from oncoseg_core import Case, DataError
from oncoseg_datasets.layouts.files import add_once, natural, walked
from oncoseg_datasets.layouts.generic.settings import GenericSettings

_PLACEHOLDER = re.compile(r"\{(case|patient|channel)\}")


def folder_cases(root: Path, settings: GenericSettings) -> Iterator[Case]:
    """Yield the cases whose images match the pattern, in natural order.

    Raises:
        DataError: none does; a label has no image; or channels are missing or more than named.
    """
    images: dict[str, dict[str, Path]] = {}
    labels: dict[str, Path] = {}
    patients: dict[str, str] = {}
    image_pattern = _as_regex(settings.images or "")
    label_pattern = None if settings.labels is None else _as_regex(settings.labels)
    for path in walked(root):
        relative = path.relative_to(root).as_posix()
        if label_pattern is not None and (match := label_pattern.fullmatch(relative)):
            add_once(labels, _case_of(match), path)
        elif match := image_pattern.fullmatch(relative):
            case, found = _case_of(match), match.groupdict()
            patients[case] = found.get("patient") or case
            add_once(images.setdefault(case, {}), found.get("channel") or "", path)
    if not images:
        raise DataError(f"{root}: no file matches images: {settings.images}")
    orphans = sorted(labels.keys() - images.keys(), key=natural)
    if orphans:
        raise DataError(f"{labels[orphans[0]]}: a label without an image that matches {settings.images}")
    for case in sorted(images, key=natural):
        label = labels.get(case)
        yield Case(
            dataset="generic",
            case_id=case,
            patient_id=patients[case],
            modality=settings.modality or "",
            images=_in_order(images[case], settings),
            channel_names=settings.channel_names,
            labels=() if label is None else (label,),
            targets=() if label is None else settings.target_records(),
        )


def _as_regex(pattern: str) -> re.Pattern[str]:
    """``images/{patient}_{case}.png`` as an expression; a placeholder given twice must be the same both times."""
    parts: list[str] = []
    seen: set[str] = set()
    for index, part in enumerate(_PLACEHOLDER.split(pattern)):
        if index % 2 == 0:
            parts.append(re.escape(part))
        else:
            parts.append(f"(?P={part})" if part in seen else f"(?P<{part}>[^/]+?)")
            seen.add(part)
    return re.compile("".join(parts))


def _case_of(match: re.Match[str]) -> str:
    """The case's id: its own name, after the patient's where the pattern has one."""
    found = match.groupdict()
    patient = found.get("patient")
    return found["case"] if patient is None else f"{patient}/{found['case']}"


def _in_order(files: dict[str, Path], settings: GenericSettings) -> tuple[Path, ...]:
    """A case's channel files in the order of the named channels, or in natural order.

    Raises:
        DataError: the channels are others than those named.
    """
    names = settings.channel_names
    if "{channel}" not in (settings.images or ""):
        return tuple(files.values())
    if names and files.keys() != set(names):
        some = next(iter(files.values()))
        raise DataError(f"{some}: this case has the channels {', '.join(sorted(files))}; expected {', '.join(names)}")
    return tuple(files[name] for name in names or sorted(files, key=natural))
