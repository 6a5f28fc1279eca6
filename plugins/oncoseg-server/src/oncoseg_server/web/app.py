"""The app: every route, and around them the guards, from the outside in: measuring, who may enter, how much."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from oncoseg_core import Registry, __version__
from oncoseg_server.archives.routes import dicomweb_router
from oncoseg_server.config.settings import MEGABYTE, ServerSettings
from oncoseg_server.web.around.bodies import BodyLimit
from oncoseg_server.web.around.guard import API, OPENAPI, Guard
from oncoseg_server.web.around.observe import Observe
from oncoseg_server.web.errors import add_handlers
from oncoseg_server.web.routes import server_routes, session_routes, step_routes, voxel_routes
from oncoseg_server.web.server import Server
from oncoseg_server.web.sources import Sources
from oncoseg_server.wire import Failure


def create_app(
    settings: ServerSettings,
    sources: Sources,
    *,
    registry: Registry | None = None,
    environment: Mapping[str, str] | None = None,
) -> FastAPI:
    """An ASGI app; ``app.state.server`` is its :class:`Server`.

    Raises:
        ConfigError: a token is needed and there is none.
        UnknownComponentError: no plugin provides a model of that name.
        DataError, MissingDependencyError, StorageError: the viewer cannot be fetched.
    """
    server = Server(settings, sources, registry, environment)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        server.start()
        try:
            yield
        finally:
            server.close()

    # The pages of Swagger and ReDoc load scripts from other hosts: only the description itself is served.
    app = FastAPI(
        title="OncoSeg server",
        version=__version__,
        lifespan=lifespan,
        openapi_url=OPENAPI,
        docs_url=None,
        redoc_url=None,
    )
    app.state.server = server
    add_handlers(app)
    api = APIRouter(prefix=API, responses={status: {"model": Failure} for status in ("4XX", "5XX")})
    for router in (
        server_routes.router,
        voxel_routes.router,
        voxel_routes.of_one,
        session_routes.router,
        session_routes.of_one,
        step_routes.router,
    ):
        api.include_router(router)
    app.include_router(api)
    app.include_router(server_routes.outside)
    app.include_router(dicomweb_router(sources.archives))
    if settings.viewer:
        from oncoseg_server.viewer import fetch_viewer, viewer_routes

        app.include_router(viewer_routes(fetch_viewer(), list(sources.archives)))
    _guard(app, server)
    return app


def _guard(app: FastAPI, server: Server) -> None:
    """The middleware; the one that is added last is outermost."""
    limits = server.limits
    uploads = {
        f"{API}/sources/{name}/uploads": source.uploads.max_mb * MEGABYTE
        for name, source in server.settings.sources.items()
        if source.uploads is not None
    }
    uploads[f"{API}/volumes"] = limits.volumes_mb * MEGABYTE
    app.add_middleware(
        BodyLimit,
        most=lambda path: uploads.get(path, limits.body_mb * MEGABYTE),
        seconds=lambda path: limits.long_seconds if path in uploads else limits.request_seconds,
    )
    app.add_middleware(Guard, settings=server.settings, tokens=server.tokens)
    app.add_middleware(Observe, metrics=server.metrics)
