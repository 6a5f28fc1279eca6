"""Names of structures by TG-263, and protocols: what a site contours and what is plausible of it.

Each name is imported when it is first asked for, so that a command's help reads no table.
"""

from typing import TYPE_CHECKING

from oncoseg_core.system import lazy_exports

if TYPE_CHECKING:
    from oncoseg_structures.names.check import NameCheck, check_name
    from oncoseg_structures.names.nearest import nearest_names
    from oncoseg_structures.names.table import PrimaryName, primary_names
    from oncoseg_structures.plausibility.examine import examine_structures, judge_structures, measure_structures
    from oncoseg_structures.plausibility.measure import Measured
    from oncoseg_structures.plausibility.midline import TISSUE_HU
    from oncoseg_structures.protocol import Code, Doubt, Protocol, ProtocolStructure
    from oncoseg_structures.reading import protocol_names, read_protocol

__all__ = [
    "TISSUE_HU",
    "Code",
    "Doubt",
    "Measured",
    "NameCheck",
    "PrimaryName",
    "Protocol",
    "ProtocolStructure",
    "check_name",
    "examine_structures",
    "judge_structures",
    "measure_structures",
    "nearest_names",
    "primary_names",
    "protocol_names",
    "read_protocol",
]

__getattr__ = lazy_exports(__name__, __file__)
