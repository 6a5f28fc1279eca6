"""The rooms below as they are: imported when a worker process needs them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.records.job import Job
from oncoseg_node.records.results import Delivery, Made, WrittenObject
from oncoseg_node.work.rooms import Rooms

COMMITMENTS = "commitments"


def installed_rooms(data: Path) -> Rooms:
    """The functions of the rooms of the node whose folder is ``data``."""
    from oncoseg_dicom import find_series, read_voxels
    from oncoseg_node.reports import write_report
    from oncoseg_node.sending import send
    from oncoseg_node.writing import write

    return Rooms(
        examine=_room("oncoseg_node.examination", "examine"),
        make=_room("oncoseg_node.segmenting", "make"),
        read_masks=_room("oncoseg_node.segmenting", "read_masks"),
        read_series=find_series,
        read_volume=read_voxels,
        check=_room("oncoseg_node.checking", "check"),
        write=write,
        send=send,
        confirm=_confirm_with(data / COMMITMENTS),
        report=write_report,
        encapsulate=_encapsulate,
    )


def _confirm_with(commitments: Path) -> Callable[..., Sequence[Delivery]]:
    from oncoseg_node.sending import confirm

    def confirm_delivery(*arguments: Any) -> Sequence[Delivery]:
        return confirm(*arguments, commitments=commitments)

    return confirm_delivery


def _encapsulate(job: Job, settings: NodeSettings, made: Made, pdf: Path, series: Any) -> WrittenObject:
    from oncoseg_node.reports import encapsulate
    from oncoseg_node.writing.identity import moment_of, uid_seed

    return encapsulate(pdf, series, job.out / "pdf.dcm", uid_seed(job, settings, made), moment_of(job))


def _room(package: str, name: str) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(package), name)(*arguments, **options)

    return call
