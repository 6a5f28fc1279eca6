"""Writing a job's report: data, page and PDF in the folder of what is sent, and the pictures that the page holds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from oncoseg_core import BoolArray, Volume
from oncoseg_core.system import atomic_write, json_text
from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.records.job import Job
from oncoseg_node.records.results import CheckedStructure, Delivery, Made, WrittenObject
from oncoseg_node.records.series import Refusal, SeriesFacts
from oncoseg_node.reports.browser import print_pdf
from oncoseg_node.reports.content import report_content
from oncoseg_node.reports.overview import Overview
from oncoseg_node.reports.page import page
from oncoseg_node.reports.pictures import structure_picture

JSON, HTML, PDF = "report.json", "report.html", "report.pdf"
"""In ``job.out``."""

PICTURES = "pictures"
"""Folder in ``job.out``: one SVG for each structure, by its number, so that a report is written anew without masks."""

_OVERVIEW = "overview.svg"


def write_report(
    job: Job,
    settings: NodeSettings,
    facts: SeriesFacts | None,
    made: Made | None,
    checked: Sequence[CheckedStructure],
    objects: Sequence[WrittenObject],
    deliveries: Sequence[Delivery],
    refusals: Sequence[Refusal],
    *,
    masks: Mapping[str, BoolArray] | None = None,
    volume: Volume | None = None,
    beat: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Write ``report.json``, ``report.html`` and, where a browser is installed, ``report.pdf`` into ``job.out``.

    Written at every end and whenever something new is known: each call replaces the report whole. A PDF that cannot be
    made is a note in the report, and no error.

    Args:
        job: in the state that the report is to give.
        settings: of the node.
        facts: of the series; None where its headers could not be read.
        made: what the models made; None where none ran.
        checked: the structures, in the order of the protocol.
        objects: those that are sent.
        deliveries: what the destinations did with them so far.
        refusals: why the series is not contoured.
        masks: bool ``(z, y, x)`` by structure, taken one at a time; pictures are drawn of them. Without, those drawn
            before are taken.
        volume: the image that the masks are on.
        beat: called while it goes on.

    Returns:
        The files, page and PDF after the data.

    Raises:
        StorageError: they cannot be written.
    """
    if masks is not None and volume is not None:
        draw_pictures(job, checked, masks, volume, beat)
    beat("report")
    content = report_content(job, settings, facts, made, checked, objects, deliveries, refusals)
    pictures = read_pictures(job, checked)
    atomic_write(job.out / HTML, page(content, pictures))
    files = [job.out / JSON, job.out / HTML]
    if settings.report.pdf:
        beat("report as PDF")
        problem = print_pdf(job.out / HTML, job.out / PDF, job.created)
        if problem is None:
            files.append(job.out / PDF)
        else:
            content["notes"].append(problem)
            atomic_write(job.out / HTML, page(content, pictures))
    if len(files) == 2:  # a PDF of an earlier state would contradict the page
        (job.out / PDF).unlink(missing_ok=True)
    atomic_write(job.out / JSON, json_text(content, indent=2) + "\n")
    return files


def draw_pictures(
    job: Job,
    checked: Sequence[CheckedStructure],
    masks: Mapping[str, BoolArray],
    volume: Volume,
    beat: Callable[[str], None] = lambda _: None,
) -> None:
    """Draw each structure that has voxels, one mask in memory at a time, and all of them together.

    Raises:
        StorageError: they cannot be written.
    """
    overview = Overview(volume)
    for number, one in enumerate(checked):
        beat(f"picture {number + 1} of {len(checked)}")
        path = _picture_path(job, number)
        mask = masks.get(one.name)
        picture = None if mask is None else structure_picture(mask, volume, one.colour, one.name)
        if mask is None or picture is None:
            path.unlink(missing_ok=True)
            continue
        atomic_write(path, picture)
        if one.decision != "left out":
            overview.add(mask, one.colour)
    atomic_write(job.out / PICTURES / _OVERVIEW, overview.svg())


def read_pictures(job: Job, checked: Sequence[CheckedStructure]) -> dict[str, str]:
    """The pictures that were drawn, by structure; ``""`` is the overview."""
    paths = {"": job.out / PICTURES / _OVERVIEW} | {
        one.name: _picture_path(job, number) for number, one in enumerate(checked)
    }
    pictures = {}
    for name, path in paths.items():
        with contextlib.suppress(FileNotFoundError):
            pictures[name] = path.read_text(encoding="utf-8")
    return pictures


def _picture_path(job: Job, number: int) -> Path:
    return job.out / PICTURES / f"{number + 1:03d}.svg"
