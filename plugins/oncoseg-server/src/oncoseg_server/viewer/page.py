"""What is ours of the viewer's page: its configuration, the import map that loads our modules, the headers."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence

from oncoseg_core.system import json_text

PAGE = "/viewer"
"""Below it are the viewer's pages. Its own files are at the root: the built bundles load each other from there."""
MODULES = "/extension"
"""Below it are OncoSeg's modules."""
_IMPORT_MAP = json_text(
    {"imports": {"@oncoseg/extension": f"{MODULES}/extension.js", "@oncoseg/mode": f"{MODULES}/mode.js"}}
)
_SCRIPT = re.compile(r"<script(?P<attributes>[^>]*)>(?P<code>.*?)</script>", re.DOTALL)


def page(index: str) -> str:
    """The viewer's ``index.html`` with the import map before the first script; nothing else is changed."""
    return index.replace("<script", f'<script type="importmap">{_IMPORT_MAP}</script><script', 1)


def app_config(sources: Sequence[str]) -> str:
    """The viewer's ``app-config.js``: one data source for each of the server's ``sources``, the first by default."""
    config = {
        "name": "OncoSeg",
        "routerBasename": PAGE,
        "extensions": ["@oncoseg/extension"],
        "modes": ["@oncoseg/mode"],
        "showStudyList": True,
        "showErrorDetails": "production",
        "showLoadingIndicator": True,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": True,
        "maxNumberOfWebWorkers": 3,
        "investigationalUseDialog": {"option": "never"},
        "maxNumRequests": {"interaction": 20, "thumbnail": 4, "prefetch": 8},
        "defaultDataSourceName": sources[0] if sources else "",
        "dataSources": [_data_source(name) for name in sources],
    }
    # The extension shows what the archive answered; without it OHIF says nothing.
    handler = (
        "window.config.httpErrorHandler = error =>"
        " window.dispatchEvent(new CustomEvent('oncoseg:http', {detail: error.status}));"
    )
    return f"window.config = {json_text(config, indent=1)};\n{handler}\n"


def page_headers(html: str) -> dict[str, str]:
    """Headers of a page: it may load from and connect to its own origin only, and no other page may frame it.

    The page's inline scripts are allowed by their hashes. OHIF compiles code of its own where it reads a SEG (ndarray)
    and for its codecs, so evaluation cannot be forbidden; what is evaluated has nowhere else to send anything.
    """
    hashes = sorted({f"'sha256-{_digest(match['code'])}'" for match in _SCRIPT.finditer(html) if match["code"]})
    policy = {
        "default-src": "'self'",
        "script-src": " ".join(["'self'", "'unsafe-eval'", *hashes]),
        "worker-src": "'self' blob:",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' blob: data:",
        "font-src": "'self' data:",
        "connect-src": "'self' blob: data:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        **file_headers(),
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Cache-Control": "no-store",
    }


def file_headers() -> dict[str, str]:
    """Headers of every file: isolated from other origins, never guessed to be of another type."""
    return {
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Embedder-Policy": "require-corp",
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


def _data_source(name: str) -> dict[str, object]:
    root = f"/dicom-web/{name}"
    return {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": name,
        "configuration": {
            "friendlyName": name,
            "name": name,
            "qidoRoot": root,
            "wadoRoot": root,
            "wadoUriRoot": root,
            "qidoSupportsIncludeField": True,
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            "supportsFuzzyMatching": False,
            "supportsWildcard": True,
            "omitQuotationForMultipartRequest": True,
            "bulkDataURI": {"enabled": True},
        },
    }


def _digest(code: str) -> str:
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
