"""The settings from a file and from options, which go before it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oncoseg_core import ConfigError
from oncoseg_core.plugins import read_yaml, validate
from oncoseg_server.config.settings import ServerSettings


def read_settings(path: Path | None, options: Mapping[str, Any]) -> ServerSettings:
    """The settings of the YAML file at ``path``, if there is one, with those of ``options`` in their place.

    Args:
        path: the file.
        options: by key; ``model`` makes one model of that name the only one, ``folder`` adds a source.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown or wrong.
    """
    values = {} if path is None else read_yaml(path)
    for key in ("host", "port", "viewer"):
        if options.get(key) is not None:
            values[key] = options[key]
    if options.get("model") is not None:
        values["models"] = {options["model"]: {"model": options["model"]}}
    if options.get("folder") is not None:
        given = values.get("sources") or {}
        if "folder" in given:
            raise ConfigError(f"{path}: `folder` adds a source called 'folder', and the file has one; rename that")
        values["sources"] = {"folder": {"folder": {"path": str(options["folder"])}}, **given}
    return validate(ServerSettings, values, "settings" if path is None else str(path))
