"""Sending a series by C-STORE as a scanner does: for the demonstration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pydicom
from pynetdicom import AE

from oncoseg_core import OncoSegError

AE_TITLE = "DEMO-SCANNER"


class DemonstrationError(OncoSegError):
    """The demonstration cannot be done; the message says what a part of it did."""


def send_files(files: Sequence[Path], port: int, ae_title: str, progress: Callable[[str, int, int], None]) -> None:
    """Send DICOM files to a node on loopback; each has to be answered with success.

    Args:
        files: of one SOP class and transfer syntax.
        port: the node listens on.
        ae_title: of the node.
        progress: called with each file.

    Raises:
        DemonstrationError: the node is not reached, or answers with something else.
    """
    first = pydicom.dcmread(files[0], stop_before_pixels=True)
    entity = AE(AE_TITLE)
    entity.add_requested_context(first.SOPClassUID, first.file_meta.TransferSyntaxUID)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 60
    association = entity.associate("127.0.0.1", port, ae_title=ae_title)
    if not association.is_established:
        raise DemonstrationError(f"no node {ae_title} that takes these images answers on port {port}")
    try:
        for number, path in enumerate(files):
            progress("sending the CT", number, len(files))
            status = getattr(association.send_c_store(pydicom.dcmread(path)), "Status", None)
            if status != 0x0000:
                answer = "no answer" if status is None else f"status 0x{status:04x}"
                raise DemonstrationError(f"the node did not take image {number + 1} of {len(files)}: {answer}")
        progress("sending the CT", len(files), len(files))
    finally:
        association.release()
