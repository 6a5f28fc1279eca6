"""``/dicom-web/{source}/…``: what a viewer reads a source through, on the same origin as the viewer itself.

A DICOMweb origin is passed through; a folder, uploads and the demonstration answer from their files.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request, Response

from oncoseg_dicomweb import Archive, ArchiveError, DicomwebArchive
from oncoseg_server.archives.embedded import EmbeddedDicomweb
from oncoseg_server.archives.failures import STATUS, failure
from oncoseg_server.archives.folder import FolderArchive
from oncoseg_server.archives.proxy import forward


def dicomweb_router(archives: Mapping[str, Archive]) -> APIRouter:
    """Routes for every source; an error is JSON ``{"code": …, "message": …}``. The caller says who may use them."""
    router = APIRouter(prefix="/dicom-web", tags=["dicom-web"])
    embedded = {
        name: EmbeddedDicomweb(archive) for name, archive in archives.items() if isinstance(archive, FolderArchive)
    }

    @router.get("/{source}/{path:path}")
    def get(source: str, path: str, request: Request) -> Response:
        """Searches, metadata, frames, bulk data and whole instances: QIDO-RS and WADO-RS, reading only."""
        archive = archives.get(source)
        if archive is None:
            return failure(
                404, "not_found", "there is no source of that name; see /api/v1/server for those that there are"
            )
        root = f"{str(request.base_url).rstrip('/')}/dicom-web/{source}"
        accept = request.headers.get("accept", "*/*")
        try:
            if source in embedded:
                parameters = request.query_params.multi_items()
                return embedded[source].answer(path, parameters, accept, root)
            if isinstance(archive, DicomwebArchive):
                return forward(archive, path, request.url.query, accept, root)
        except ArchiveError as error:
            return failure(STATUS[error.problem], error.problem, str(error))
        return failure(404, "not_found", "this source cannot be read by a viewer")

    return router
