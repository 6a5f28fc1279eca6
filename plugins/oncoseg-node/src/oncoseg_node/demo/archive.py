"""A small archive for the demonstration: takes objects on loopback, lists them, and gives them back.

It stands for the PACS or planning system that a node sends to, so that the demonstration proves a delivery by the very
steps that it proves one to a hospital's archive by: C-STORE, C-FIND, C-GET.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage, RTStructureSetStorage, SegmentationStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

from oncoseg_core.system import atomic_path

AE_TITLE = "DEMO-ARCHIVE"

_KINDS = (RTStructureSetStorage, SegmentationStorage, EncapsulatedPDFStorage)
"""What a node sends, and nothing else is taken."""

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_MOST_OBJECTS = 100
_OUT_OF_RESOURCES, _CANNOT_UNDERSTAND = 0xA700, 0xC000


class DemoArchive:
    """The archive while it listens, on a free port of loopback; its objects lie in a folder as files."""

    def __init__(self, folder: Path) -> None:
        """Listen.

        Raises:
            OSError: there is no free port, or the folder cannot be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        logging.getLogger("pynetdicom").propagate = False
        logging.getLogger("pynetdicom").addHandler(logging.NullHandler())
        self._folder, self._objects, self._lock = folder, dict[str, Path](), threading.Lock()
        entity = AE(AE_TITLE)
        entity.require_called_aet = True
        for context in (
            Verification,
            StudyRootQueryRetrieveInformationModelFind,
            StudyRootQueryRetrieveInformationModelGet,
        ):
            entity.add_supported_context(context)
        for kind in _KINDS:
            entity.add_supported_context(kind, scu_role=True, scp_role=True)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find), (evt.EVT_C_GET, self._get)]
        self._server: Any = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.socket.getsockname()[1])

    def received(self, sop_class_uid: str) -> list[Path]:
        """Files of the objects of a kind, in the order in which they came."""
        with self._lock:
            paths = list(self._objects.values())
        return [path for path in paths if path.name.startswith(_prefix(sop_class_uid))]

    def _store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        with self._lock:
            number = len(self._objects)
        if number >= _MOST_OBJECTS:
            return _OUT_OF_RESOURCES
        path = self._folder / f"{_prefix(str(event.request.AffectedSOPClassUID))}-{number + 1}.dcm"
        try:
            with atomic_path(path, private=True) as temporary:
                temporary.write_bytes(event.encoded_dataset())
        except Exception:  # noqa: BLE001 - whatever goes wrong with the disk or the object, the sender is told
            return _OUT_OF_RESOURCES
        with self._lock:
            self._objects[uid] = path
        return 0x0000

    def _matching(self, event: Any) -> list[Path]:
        """Files of the objects of which each UID that is asked for is theirs."""
        with self._lock:
            paths = list(self._objects.values())
        matching = []
        for path in paths:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_UIDS))
            if all(event.identifier.get(uid) in {None, "", header[uid].value} for uid in _UIDS):
                matching.append(path)
        return matching

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        if event.identifier.get("QueryRetrieveLevel") != "IMAGE":
            yield _CANNOT_UNDERSTAND, None
            return
        for path in self._matching(event):
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_UIDS))
            answer = Dataset()
            answer.QueryRetrieveLevel = "IMAGE"
            for uid in _UIDS:
                setattr(answer, uid, header[uid].value)
            yield 0xFF00, answer

    def _get(self, event: Any) -> Iterator[Any]:
        paths = self._matching(event)
        yield len(paths)
        for path in paths:
            yield 0xFF00, pydicom.dcmread(path)


def _prefix(sop_class_uid: str) -> str:
    names: dict[str, str] = {RTStructureSetStorage: "rtstruct", SegmentationStorage: "seg"}
    return names.get(sop_class_uid, "document")
