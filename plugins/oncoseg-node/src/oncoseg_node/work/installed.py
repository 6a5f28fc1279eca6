"""The rooms below as they are: imported when a worker process needs them."""

from __future__ import annotations

import importlib
from typing import Any

from oncoseg_node.work.rooms import Rooms


def installed_rooms() -> Rooms:
    """The functions of the rooms of this node."""
    return Rooms(
        examine=_room("oncoseg_node.examination", "examine"),
        make=_room("oncoseg_node.segmenting", "make"),
        read_masks=_room("oncoseg_node.segmenting", "read_masks"),
        read_series=_room("oncoseg_dicom", "find_series"),
        read_volume=_room("oncoseg_dicom", "read_voxels"),
        check=_room("oncoseg_node.checking", "check"),
        write=_room("oncoseg_node.writing", "write"),
        send=_room("oncoseg_node.sending", "send"),
        confirm=_room("oncoseg_node.sending", "confirm"),
        report=_room("oncoseg_node.reports", "write_report"),
    )


def _room(package: str, name: str) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(package), name)(*arguments, **options)

    return call
