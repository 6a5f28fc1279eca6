"""Names of a package that are imported when they are first asked for (PEP 562)."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXTRAS = {"torch": "torch"}
"""Libraries that only some names need, and the extra of this distribution that brings each."""


def lazy_exports(package: str, file: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose ``__init__.py`` imports its names under ``if TYPE_CHECKING:``.

    That block is the only place that says where a name comes from: type checkers read it, and so does this.

    Args:
        package: ``__name__`` of the package.
        file: ``__file__`` of its ``__init__.py``.
    """
    origins: dict[str, str] = {}
    for block in ast.parse(Path(file).read_bytes()).body:
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING":
            for statement in block.body:
                if isinstance(statement, ast.ImportFrom) and statement.module is not None:
                    origins.update({alias.asname or alias.name: statement.module for alias in statement.names})

    def import_name(name: str) -> Any:
        if name not in origins:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            value = getattr(importlib.import_module(origins[name]), name)
        except ModuleNotFoundError as error:
            library = str(error.name).partition(".")[0]
            if library not in EXTRAS:
                raise
            from oncoseg_core.contract.errors import MissingDependencyError

            raise MissingDependencyError(
                f"{package}.{name} needs the library {library!r}, which is not installed: "
                f"pip install 'oncoseg-core[{EXTRAS[library]}]'"
            ) from error
        setattr(sys.modules[package], name, value)
        return value

    return import_name
