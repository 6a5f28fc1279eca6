"""The PEP 517 backend that pip finds in place of setuptools: tells name and version, and runs no ``setup.py``.

``pip download`` asks the build backend of an sdist for its metadata, only to compare name and version with what was
asked for. setuptools answers by running the package's ``setup.py``; that is foreign code, and pyradiomics 3.0.1's fails
on Python 3.12 and later. Both answers stand in the archive's ``PKG-INFO``.
"""

from __future__ import annotations

import sys
from email.parser import HeaderParser
from pathlib import Path


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: object = None) -> str:  # noqa: ARG001 - PEP 517
    """Write the metadata of the sdist in the current folder and return the name of its ``.dist-info`` folder."""
    found = HeaderParser().parsestr(Path("PKG-INFO").read_text(encoding="utf-8"))
    folder = f"{found['Name']}-{found['Version']}.dist-info"
    target = Path(metadata_directory) / folder
    target.mkdir()
    content = f"Metadata-Version: 2.1\nName: {found['Name']}\nVersion: {found['Version']}\n"
    (target / "METADATA").write_text(content, encoding="utf-8")
    return folder


# An sdist without pyproject.toml is built with the backend "setuptools.build_meta:__legacy__".
__legacy__ = sys.modules[__name__]
