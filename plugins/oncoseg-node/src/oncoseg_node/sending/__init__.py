"""From the node to its destinations: stored, and then proven to be there."""

from typing import TYPE_CHECKING

from oncoseg_core.system import lazy_exports

if TYPE_CHECKING:
    from oncoseg_node.sending.commitment_folder import commitments_folder
    from oncoseg_node.sending.commitment_reports import accept_commitment_reports
    from oncoseg_node.sending.deliver import confirm, send

__all__ = ["accept_commitment_reports", "commitments_folder", "confirm", "send"]

__getattr__ = lazy_exports(__name__, __file__)
