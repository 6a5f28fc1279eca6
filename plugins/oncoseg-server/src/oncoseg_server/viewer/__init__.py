"""OHIF, unmodified, with OncoSeg's extension: fetched, checked, served on the server's origin."""

from typing import TYPE_CHECKING

from oncoseg_core.system import lazy_exports

if TYPE_CHECKING:
    from oncoseg_server.viewer.package import fetch_viewer, installed_viewer
    from oncoseg_server.viewer.routes import viewer_routes

__all__ = ["fetch_viewer", "installed_viewer", "viewer_routes"]

__getattr__ = lazy_exports(__name__, __file__)
