"""A DICOMweb origin as a source: QIDO-RS to find, WADO-RS to retrieve, STOW-RS to store (PS3.18)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oncoseg_core import StorageError
from oncoseg_core.system import write_failure
from oncoseg_dicomweb.archive import Archive, ArchiveError, ArchiveKind, SeriesEntry
from oncoseg_dicomweb.headers import StoredInstance, first_value, is_uid, stored_instance
from oncoseg_dicomweb.multipart import MultipartError, boundary_of, encoded, encoded_length, write_parts
from oncoseg_dicomweb.origin import JSON, Credentials, Origin, OriginLimits
from oncoseg_dicomweb.private_folders import PrivateFolders

DICOM = "application/dicom"
_AS_STORED = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
_PAGE = 1000
_MOST_INSTANCES = 100_000

_REASONS = {
    0x0110: "processing failed", 0x0111: "it has that instance already", 0x0117: "invalid instance",
    0x0122: "it does not take this kind of object", 0x0124: "not authorised", 0xA700: "it is out of room",
    0xA900: "the object does not fit its kind", 0xC000: "it does not understand the object",
}  # fmt: skip
"""What a failure reason means (PS3.4, table GG.4-1, and PS3.18, 10.5)."""


class DicomwebArchive(Archive):
    """A PACS or archive behind one DICOMweb root."""

    kind: ArchiveKind = "dicomweb"

    def __init__(
        self,
        name: str,
        url: str,
        private: PrivateFolders,
        *,
        credentials: Credentials | None = None,
        limits: OriginLimits | None = None,
        certificates: str | None = None,
    ) -> None:
        """As :class:`Origin`; ``private`` takes the copies of series.

        Raises:
            ConfigError: the address or the credentials cannot be meant.
        """
        self.name = name
        self.origin = Origin(name, url, credentials, limits, certificates)
        self._private = private

    def close(self) -> None:
        """End its connections."""
        self.origin.close()

    def check(self) -> None:
        """As :meth:`Archive.check`."""
        self.origin.search("studies", [("limit", "1")])

    def series(self, study_uid: str | None = None, limit: int = 100) -> list[SeriesEntry]:
        """As :meth:`Archive.series`."""
        self._require_uids(*([] if study_uid is None else [study_uid]))
        path = "series" if study_uid is None else f"studies/{study_uid}/series"
        fields = ("00080060", "0008103E", "00201209", "0020000D")
        parameters = [("limit", str(limit)), *(("includefield", tag) for tag in fields)]
        found = []
        for one in self.origin.search(path, parameters)[: max(0, limit)]:
            study, uid = str(_value(one, "0020000D") or study_uid or ""), str(_value(one, "0020000E") or "")
            if is_uid(study) and is_uid(uid):
                count, described = _value(one, "00201209"), str(_value(one, "0008103E") or "")
                modality = str(_value(one, "00080060") or "OT")
                found.append(SeriesEntry(study, uid, modality, _whole(count), described))
        return found

    @contextmanager
    def local(self, study_uid: str, series_uid: str, should_stop: Callable[[], bool] | None = None) -> Iterator[Path]:
        """As :meth:`Archive.local`: retrieved whole into a private folder, and compared with the archive's list."""
        self._require_uids(study_uid, series_uid)
        path = f"studies/{study_uid}/series/{series_uid}"
        expected = self._instances(path)
        if not expected:
            raise self.origin.failure("not_found", "it has no such series any more; reload the list of series")
        with self._private.folder() as folder:
            stored = self._retrieved(path, folder, study_uid, series_uid, should_stop)
            self._require_complete(expected, [one.sop_uid for one in stored])
            yield folder

    def retrieve(self, study_uid: str, series_uid: str, sop_uid: str) -> bytes:
        """As :meth:`Archive.retrieve`."""
        self._require_uids(study_uid, series_uid, sop_uid)
        series = f"studies/{study_uid}/series/{series_uid}"
        if not self._has(series, sop_uid):
            raise self.origin.failure("not_found", "its list does not hold that instance; look into its log")
        with self._private.folder() as folder:
            stored = self._retrieved(f"{series}/instances/{sop_uid}", folder, study_uid, series_uid, None)
            self._require_complete({sop_uid}, [one.sop_uid for one in stored])
            return stored[0].path.read_bytes()

    def store(self, files: Sequence[Path]) -> None:
        """As :meth:`Archive.store`: one STOW-RS request for all of them."""
        sent = []
        for file in files:
            one = stored_instance(file)
            if one is None:
                raise self.origin.failure("not_stored", "a file to store is no DICOM instance; nothing was sent")
            if self._has(f"studies/{one.study_uid}/series/{one.series_uid}", one.sop_uid):
                raise self.origin.failure(
                    "not_stored", "it holds that instance already; nothing is replaced: store it under a new UID"
                )
            sent.append(one)
        boundary = f"oncoseg-{uuid.uuid4().hex}"
        headers = {
            "Content-Type": f'multipart/related; type="{DICOM}"; boundary={boundary}',
            "Content-Length": str(encoded_length(files, boundary, DICOM)),
        }
        body = encoded(files, boundary, DICOM)
        with self.origin.request(
            "POST", "studies", JSON, content=body, headers=headers, also=(400, 409, 413, 415)
        ) as answer:
            content = b"".join(self.origin.body(answer, self.origin.limits.list_bytes))
            self._require_taken(answer.status_code, content, sent)

    def _require_uids(self, *uids: str) -> None:
        if not all(is_uid(uid) for uid in uids):
            raise self.origin.failure("not_found", "a UID is numbers and dots, 64 characters at most; correct it")

    def _has(self, series_path: str, sop_uid: str) -> bool:
        try:
            found = self.origin.search(f"{series_path}/instances", [("SOPInstanceUID", sop_uid), ("limit", "2")])
        except ArchiveError as error:
            if error.problem == "not_found":  # some say so of a series that is not there, and others give an empty list
                return False
            raise
        return any(_value(one, "00080018") == sop_uid for one in found)

    def _instances(self, series_path: str) -> set[str]:
        """The UIDs of a series' instances, page by page; an archive that knows no pages gives all of them at once."""
        found: set[str] = set()
        while len(found) <= _MOST_INSTANCES:
            page = self.origin.search(
                f"{series_path}/instances",
                [("limit", str(_PAGE)), ("offset", str(len(found))), ("includefield", "00080018")],
            )
            new = {str(_value(one, "00080018") or "") for one in page} - found
            if not all(is_uid(uid) for uid in new):
                raise self.origin.failure("damaged", "its list holds an instance without a UID; look into the archive")
            found |= new
            if not new or len(page) < _PAGE:
                return found
        raise self.origin.failure("too_large", f"the series has more than {_MOST_INSTANCES} instances")

    def _retrieved(
        self, path: str, folder: Path, study_uid: str, series_uid: str, should_stop: Callable[[], bool] | None
    ) -> list[StoredInstance]:
        """Retrieve into files of a folder, each of that study and series."""
        try:
            with self.origin.request("GET", path, _AS_STORED) as answer:
                boundary = boundary_of(answer.headers.get("Content-Type", ""))
                body = self.origin.body(answer, self.origin.limits.series_bytes, should_stop)
                files = write_parts(body, boundary, folder, DICOM)
        except MultipartError as error:
            raise self.origin.failure("damaged", f"{error}; try again, and look into its log") from None
        except OSError as error:
            raise StorageError(write_failure(error, folder.parent)) from error
        stored = []
        for file in files:
            one = stored_instance(file)
            if one is None:
                raise self.origin.failure("damaged", "it gave a file that is no DICOM instance; look into the archive")
            if (one.study_uid, one.series_uid) != (study_uid, series_uid):
                raise self.origin.failure("damaged", "it gave an instance of another series; look into the archive")
            stored.append(one)
        return stored

    def _require_complete(self, expected: set[str], retrieved: Sequence[str]) -> None:
        if len(retrieved) == len(set(retrieved)) and set(retrieved) == expected:
            return
        right = len(expected & set(retrieved))
        raise self.origin.failure(
            "damaged",
            f"it lists {len(expected)} instances and gave {len(retrieved)}, {right} of them as listed; wait until the "
            "series has arrived there whole, and try again",
        )

    def _require_taken(self, status: int, content: bytes, sent: Sequence[StoredInstance]) -> None:
        """Refuse an answer to a STOW-RS that does not list every instance as stored."""
        try:
            answer = json.loads(content or b"{}")
            answer = answer[0] if isinstance(answer, list) and answer else answer
            taken = {_value(one, "00081155") for one in answer.get("00081199", {}).get("Value", [])}
            failed = answer.get("00081198", {}).get("Value", [])
            codes = {_whole(_value(one, "00081197")) for one in failed if isinstance(one, dict)}
        except (ValueError, AttributeError, TypeError, RecursionError):
            taken, codes = set(), set()
        missing = [one for one in sent if one.sop_uid not in taken]
        if not missing and 200 <= status < 300:
            return
        reasons = ", ".join(sorted(_REASONS.get(code, f"reason {code:#06x}") for code in codes)) or f"HTTP {status}"
        raise self.origin.failure(
            "not_stored",
            f"it took {len(sent) - len(missing)} of {len(sent)} objects ({reasons}); look into its log and save again",
        )


def _value(result: Any, tag: str) -> Any:
    try:
        return first_value(result, tag)
    except (AttributeError, TypeError, KeyError, IndexError):
        return None


def _whole(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0
