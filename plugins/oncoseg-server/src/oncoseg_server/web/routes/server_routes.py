"""What this server is, what it has, how it is."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Path, Query, Response, UploadFile
from prometheus_client import CONTENT_TYPE_LATEST

from oncoseg_core import __version__
from oncoseg_dicomweb import SeriesEntry
from oncoseg_server.archives.uploads import UploadArchive
from oncoseg_server.sessions.refusal import Refusal
from oncoseg_server.web.routes.leases import TheServer
from oncoseg_server.wire import SeriesInfo, ServerInfo, SourceInfo, Uid

SourceName = Annotated[str, Path(max_length=64)]


router = APIRouter(tags=["server"])
outside = APIRouter(include_in_schema=False)
"""``/healthz`` and ``/metrics``, which are of no version."""


@router.get("/server")
async def about(server: TheServer) -> ServerInfo:
    """What this server is, its models, sources and limits."""
    return ServerInfo(
        version=__version__,
        models=server.models.infos(),
        sources=[SourceInfo(name=name, kind=archive.kind) for name, archive in server.archives.items()],
        limits={key: float(value) for key, value in server.limits.model_dump().items()},
    )


@router.get("/sources/{source}/series")
async def series(
    server: TheServer,
    source: SourceName,
    study: Annotated[Uid | None, Query(description="of this study only")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> list[SeriesInfo]:
    """The series of a source, without names, numbers and dates of patients."""
    archive = server.archive(source)
    found = await server.work(lambda: archive.series(study, limit))
    return [_info(one) for one in found]


@router.post("/sources/{source}/uploads", status_code=201)
async def upload(
    server: TheServer,
    source: SourceName,
    files: Annotated[list[UploadFile], File(description="DICOM files of one or several series, or zips of them")],
) -> list[SeriesInfo]:
    """Send series; what came is listed."""
    archive = server.archive(source)
    if not isinstance(archive, UploadArchive):
        raise Refusal("bad_request", f"source {source[:64]!r} takes no uploads; choose one of kind `uploads`")
    taken = await server.work(lambda: archive.add([one.file for one in files]), long=True)
    return [_info(one) for one in taken]


@outside.get("/healthz")
async def health() -> dict[str, str]:
    """That the server answers: nothing else, so that anyone may ask."""
    return {"status": "ok"}


@outside.get("/metrics")
async def metrics(server: TheServer) -> Response:
    """Numbers for Prometheus."""
    return Response(server.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _info(one: SeriesEntry) -> SeriesInfo:
    return SeriesInfo(
        study_uid=one.study_uid,
        series_uid=one.series_uid,
        modality=one.modality,
        instances=one.instances,
        description=one.description,
    )
