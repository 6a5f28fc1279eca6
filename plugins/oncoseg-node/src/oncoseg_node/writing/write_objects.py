"""RT Structure Set and Segmentation of the structures that passed the checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from oncoseg_core import BoolArray, ExportReport, Segmentation
from oncoseg_dicom import RTStructSettings, SegSettings, Series, read_header, write_seg, write_structures
from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.records.job import Job
from oncoseg_node.records.results import CheckedStructure, Made, WrittenObject
from oncoseg_node.writing import identity, statements
from oncoseg_node.writing.objects import sha256_of, write_list
from oncoseg_structures import Protocol, read_protocol

_FILES: dict[Literal["rtstruct", "seg"], str] = {"rtstruct": "rtstruct.dcm", "seg": "seg.dcm"}


class _Chosen(Mapping[str, BoolArray]):
    """Those masks that are written, in their order; each is made when it is taken and not kept."""

    def __init__(self, masks: Mapping[str, BoolArray], names: Sequence[str], beat: Callable[[str], None]) -> None:
        self._masks, self._names, self._beat = masks, names, beat

    def __getitem__(self, name: str) -> BoolArray:
        if name not in self._names:
            raise KeyError(name)
        self._beat("writing")
        return self._masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def write(
    job: Job,
    settings: NodeSettings,
    made: Made,
    checked: Sequence[CheckedStructure],
    masks: Mapping[str, BoolArray],
    series: Series,
    beat: Callable[[str], None] = lambda _: None,
) -> list[WrittenObject]:
    """Write ``rtstruct.dcm``, ``seg.dcm`` and, last, ``objects.json`` to the job's ``out``.

    Where all structures are left out, there is no object, and the list is empty. Called again with the same it writes
    the same bytes under the same UIDs.

    Args:
        job: whose objects they are.
        settings: of the node.
        made: the models that took part.
        checked: every structure; those ``left out`` are not written, the others in the protocol's order.
        masks: bool ``(z, y, x)`` on the series' grid by name; taken one at a time, several times each.
        series: the images.
        beat: called at least with every mask.

    Raises:
        ConfigError: the settings do not have the job's rule any more, or its protocol is not there.
        DataError: a structure is to be written and its mask is empty, or the images lack an identifier.
        GeometryError: the masks are on another grid, or the images' place in the body is not known.
        StorageError: an object cannot be written, or does not read back as the masks.
    """
    kept = [one for one in checked if one.decision != "left out"]
    if not kept:
        for name in _FILES.values():
            (job.out / name).unlink(missing_ok=True)
        write_list(job, [])
        return []
    rule = identity.rule_of(job, settings)
    protocol = read_protocol(rule.protocol)
    order = {one.name: number for number, one in enumerate(protocol.structures)}
    kept.sort(key=lambda one: order.get(one.name, len(order)))
    segmentation = Segmentation(
        masks=_Chosen(masks, [one.name for one in kept], beat),
        geometry=series.geometry,
        provenance=statements.provenance_of(job, made, rule.protocol, kept),
        details=statements.details_of(kept, made),
    )
    seed, moment = identity.uid_seed(job, settings, made), identity.moment_of(job)
    structures = RTStructSettings(
        source=series.source, label=statements.label_of(settings, kept), moment=moment, uid_seed=seed
    )
    segments = SegSettings(
        source=series.source,
        algorithm="automatic",
        codes=_codes(protocol, kept),
        series_description=statements.series_description_of(settings, kept),
        moment=moment,
        uid_seed=seed,
    )
    objects = [
        _written("rtstruct", job, write_structures(segmentation, series, job.out / _FILES["rtstruct"], structures)),
        _written("seg", job, write_seg(segmentation, series, job.out / _FILES["seg"], segments)),
    ]
    write_list(job, objects)
    return objects


def _codes(protocol: Protocol, kept: Sequence[CheckedStructure]) -> dict[str, tuple[str, str, str]]:
    """What the protocol says that the structures are; the exporter goes by the names of the others."""
    codes = {one.name: one.code for one in protocol.structures}
    known = {one.name: code for one in kept if (code := codes.get(one.name)) is not None}
    return {name: (code.value, code.scheme, code.meaning) for name, code in known.items()}


def _written(what: Literal["rtstruct", "seg"], job: Job, report: ExportReport) -> WrittenObject:
    path: Path = job.out / _FILES[what]
    header = read_header(path, ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"))
    return WrittenObject(
        format=what,
        path=path,
        sha256=sha256_of(path),
        study_uid=str(header.StudyInstanceUID),
        series_uid=str(header.SeriesInstanceUID),
        sop_uid=str(header.SOPInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
        notes=tuple(report.notes),
    )
