"""What the node and its workers log: lines of their own, and nothing of the libraries beneath."""

from __future__ import annotations

import logging
import warnings


def quiet_logs() -> None:
    """Lines and warnings of other libraries hold addresses, UIDs, and values of DICOM elements: none is shown."""
    shown = logging.StreamHandler()
    shown.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    ours = logging.getLogger("oncoseg")
    ours.addHandler(shown)
    ours.setLevel(logging.INFO)
    ours.propagate = False
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("default", module=r"oncoseg_\w+")
