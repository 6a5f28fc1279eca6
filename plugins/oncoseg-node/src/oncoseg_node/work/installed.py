"""The rooms below as they are: imported when a worker process needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oncoseg_core import Registry
from oncoseg_node.config.settings import NodeSettings, RuleSettings
from oncoseg_node.records.job import Job
from oncoseg_node.records.results import Made, WrittenObject
from oncoseg_node.work.rooms import Beat, Masks, Rooms


def installed_rooms() -> Rooms:
    """The functions of the rooms; models are imported by who needs them."""
    from oncoseg_dicom import find_series, read_voxels
    from oncoseg_node.checking import check
    from oncoseg_node.examination import examine
    from oncoseg_node.reports import write_report
    from oncoseg_node.sending import confirm, send
    from oncoseg_node.writing import write

    return Rooms(
        examine=examine,
        make=_make,
        read_masks=_read_masks,
        read_series=find_series,
        read_volume=read_voxels,
        check=check,
        write=write,
        send=send,
        confirm=confirm,
        report=write_report,
        encapsulate=_encapsulate,
    )


def _make(job: Job, settings: NodeSettings, rule: RuleSettings, registry: Registry, device: str, beat: Beat) -> Made:
    from oncoseg_node.segmenting import make

    return make(job, settings, rule, registry, device, beat)


def _read_masks(job: Job) -> tuple[Made, Masks]:
    from oncoseg_node.segmenting import read_masks

    return read_masks(job)


def _encapsulate(job: Job, settings: NodeSettings, made: Made, pdf: Path, series: Any) -> WrittenObject:
    from oncoseg_node.reports import encapsulate
    from oncoseg_node.writing.identity import moment_of, uid_seed

    return encapsulate(pdf, series, job.out / "pdf.dcm", uid_seed(job, settings, made), moment_of(job))
