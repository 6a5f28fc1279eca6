"""Storage commitment (PS3.4, annex J): transactions that were asked for, and the reports on them, as small files.

A node may send its report by the association that the request came by, or later by one of its own to our SCP. That one
is served by another process, so that what it hears is kept in a folder that both know.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from oncoseg_core.system import atomic_write, json_text

_ASKED, _REPORT = ".asked", ".json"
_KEPT_SECONDS = 30 * 86400.0
_MOST_REFERENCES = 1000

Report = Mapping[str, int]
"""By SOP instance UID: 0 where the node commits itself to it, else its reason for not doing so."""


def accept_commitment_reports(entity: AE, folder: Path) -> tuple[object, Callable[[evt.Event], tuple[int, None]]]:
    """Let an SCP take reports on transactions that were asked for; others are refused.

    Args:
        entity: of the SCP, before it is started; the presentation context is added to it.
        folder: the same as is given to :func:`oncoseg_node.sending.confirm`.

    Returns:
        The event and its handler, for the SCP's ``evt_handlers``.
    """
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)

    def on_report(event: evt.Event) -> tuple[int, None]:
        transaction, report = read_report(event.event_information)
        if not UID(transaction).is_valid or not (folder / f"{transaction}{_ASKED}").is_file():
            return 0x0115, None  # invalid argument value
        atomic_write(folder / f"{transaction}{_REPORT}", json_text(dict(report)))
        return 0x0000, None

    return evt.EVT_N_EVENT_REPORT, on_report


def read_report(information: Dataset) -> tuple[str, Report]:
    """The transaction of a report, and what it says of each instance (PS3.4, table J.3-2)."""
    report: dict[str, int] = {}
    for item in list(information.get("ReferencedSOPSequence") or ())[:_MOST_REFERENCES]:
        report[str(item.get("ReferencedSOPInstanceUID", ""))] = 0
    for item in list(information.get("FailedSOPSequence") or ())[:_MOST_REFERENCES]:
        report[str(item.get("ReferencedSOPInstanceUID", ""))] = int(item.get("FailureReason", 0) or 0x0110)
    return str(information.get("TransactionUID", "")), report


class Transactions:
    """Those that were asked for at one destination, and the reports that came; nothing is kept without a folder."""

    def __init__(self, folder: Path | None, destination: str) -> None:
        self._folder, self._destination = folder, destination

    def begin(self, sop_uids: Sequence[str]) -> str:
        """A new transaction on these instances."""
        transaction = str(generate_uid())
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._delete_old()
            note = {"destination": self._destination, "instances": list(sop_uids)}
            atomic_write(self._folder / f"{transaction}{_ASKED}", json_text(note))
        return transaction

    def reported(self, sop_uids: Sequence[str]) -> dict[str, int]:
        """What reports of earlier transactions say of these instances; the last word counts."""
        said: dict[str, int] = {}
        for asked in self._asked():
            report = asked.with_name(asked.name.removesuffix(_ASKED) + _REPORT)
            with suppress(OSError, ValueError, AttributeError, TypeError):
                if json.loads(asked.read_bytes())["destination"] == self._destination and report.is_file():
                    said |= {uid: int(reason) for uid, reason in json.loads(report.read_bytes()).items()}
        return {uid: reason for uid, reason in said.items() if uid in sop_uids}

    def end(self, sop_uids: Sequence[str]) -> None:
        """Forget the transactions on these instances."""
        for asked in self._asked():
            with suppress(OSError, ValueError, KeyError, TypeError):
                note = json.loads(asked.read_bytes())
                if note["destination"] == self._destination and set(note["instances"]) <= set(sop_uids):
                    _delete(asked)

    def _asked(self) -> list[Path]:
        if self._folder is None or not self._folder.is_dir():
            return []
        return sorted(self._folder.glob(f"*{_ASKED}"), key=lambda path: (path.stat().st_mtime, path.name))

    def _delete_old(self) -> None:
        for asked in self._asked():
            if asked.stat().st_mtime < time.time() - _KEPT_SECONDS:
                _delete(asked)


def _delete(asked: Path) -> None:
    asked.with_name(asked.name.removesuffix(_ASKED) + _REPORT).unlink(missing_ok=True)
    asked.unlink(missing_ok=True)
