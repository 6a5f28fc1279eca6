"""Images and labels in folders, found by a pattern of their paths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from oncoseg_core import Case, DataError
from oncoseg_datasets.layouts.base import with_fault
from oncoseg_datasets.layouts.files import FilesByName, natural, walked
from oncoseg_datasets.layouts.generic.settings import GenericSettings

_PLACEHOLDER = re.compile(r"\{(case|patient|channel)\}")


def folder_cases(root: Path, settings: GenericSettings) -> Iterator[Case]:
    """Yield the cases whose images match the pattern, in natural order.

    A label without its image, a file that is there twice, and channels that are missing or more than named make a bad
    case.

    Raises:
        DataError: no image matches.
    """
    images: dict[str, FilesByName] = {}
    labels = FilesByName()
    patients: dict[str, str] = {}
    image_pattern = _as_regex(settings.images or "")
    label_pattern = None if settings.labels is None else _as_regex(settings.labels)
    for path in walked(root):
        relative = path.relative_to(root).as_posix()
        if label_pattern is not None and (match := label_pattern.fullmatch(relative)):
            labels.add(_case_of(match), path)
        elif match := image_pattern.fullmatch(relative):
            name, found = _case_of(match), match.groupdict()
            patients[name] = found.get("patient") or name
            images.setdefault(name, FilesByName()).add(found.get("channel") or "", path)
    if not images:
        raise DataError(f"{root}: no file matches images: {settings.images}")
    for name in sorted(images.keys() | labels.keys(), key=natural):
        channels = images.get(name, FilesByName())
        label = labels.get(name)
        case = Case(
            dataset="generic",
            case_id=name,
            patient_id=patients.get(name, name),
            modality=settings.modality or "",
            images=_in_order(channels, settings) or (labels[name],),
            channel_names=settings.channel_names,
            labels=() if label is None else (label,),
            targets=() if label is None else settings.target_records(),
        )
        if not channels:
            orphan = f"{label}: a label without an image that matches {settings.images}"
            yield with_fault(case, "missing-image", orphan)
            continue
        case = with_fault(case, "missing-image", _wrong_channels(channels, settings))
        yield with_fault(case, "twice", next(iter(channels.clashes.values()), None) or labels.clashes.get(name))


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
    """A case's channel files in the order of the named channels, or in natural order."""
    names = [name for name in settings.channel_names if name in files]
    return tuple(files[name] for name in names or sorted(files, key=natural))


def _wrong_channels(files: dict[str, Path], settings: GenericSettings) -> str | None:
    """What is wrong where a case has other channels than those named, one file each; None where it has them."""
    names = settings.channel_names
    if "{channel}" not in (settings.images or "") or not names or files.keys() == set(names):
        return None
    some = next(iter(files.values()))
    return f"{some}: this case has the channels {', '.join(sorted(files))}; expected {', '.join(names)}"
