"""The viewer's pages and files, and OncoSeg's modules, on the server's origin. No patient is in them: no token."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from oncoseg_server.viewer.page import MODULES, PAGE, app_config, file_headers, page, page_headers

_MODULES = files("oncoseg_server.viewer") / "modules"
_JAVASCRIPT = "text/javascript; charset=utf-8"
# Not what every operating system's table says.
_TYPES = {".js": _JAVASCRIPT, ".mjs": _JAVASCRIPT, ".wasm": "application/wasm", ".woff2": "font/woff2"}
# The viewer's files carry a hash of their content in their names, or belong to the pinned version.
_KEEP = {"Cache-Control": "public, max-age=86400"}


def viewer_routes(folder: Path, sources: Sequence[str]) -> APIRouter:
    """Routes of the viewer in ``folder`` (:func:`oncoseg_server.viewer.fetch_viewer`); include them after all others.

    ``sources`` are names of the server's sources: the viewer reads each below ``/dicom-web/{source}``, the first by
    default. Only files that are in the folder now are ever served; pages are below ``/viewer``.
    """
    html = page((folder / "index.html").read_text(encoding="utf-8"))
    headers = page_headers(html)
    config = app_config(sources)
    served = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for ours in ("index.html", "app-config.js", "sw.js", "google.js"):
        served.pop(ours, None)  # the last two load from other hosts
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def root() -> Response:
        return RedirectResponse(PAGE + "/")

    @router.get(PAGE)
    @router.get(PAGE + "/{_:path}")
    def viewer_page() -> Response:
        return HTMLResponse(html, headers=headers)

    @router.get("/app-config.js")
    def configuration() -> Response:
        return Response(config, media_type=_JAVASCRIPT, headers={**file_headers(), "Cache-Control": "no-store"})

    @router.get(MODULES + "/{name}")
    def module(name: str) -> Response:
        source = _MODULES / name
        if not name.endswith((".js", ".css")) or "/" in name or "\\" in name or not source.is_file():
            raise HTTPException(404, "no such module")
        kind = "text/css; charset=utf-8" if name.endswith(".css") else _JAVASCRIPT
        return Response(source.read_bytes(), media_type=kind, headers={**file_headers(), "Cache-Control": "no-cache"})

    @router.get("/{path:path}")
    def viewer_file(path: str) -> Response:
        file = served.get(path)
        if file is None:
            raise HTTPException(404, "no such file")
        kind = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        return FileResponse(file, media_type=kind, headers={**file_headers(), **_KEEP})

    return router
