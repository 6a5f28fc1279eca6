"""Cases for training and scoring: selection and splits.

The names below are for plugins and programs; each is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from oncoseg_core.system.lazy_names import lazy_exports

if TYPE_CHECKING:
    from oncoseg_core.data.case_selection import (
        WEAK,
        discover_cases,
        labelled_slices,
        refuse_bad_cases,
        require_known_modalities,
        require_known_targets,
    )
    from oncoseg_core.data.splits import FileSplit, FrozenSplit, OfficialSplit, Side, SplitSettings, split_cases

__all__ = [
    "WEAK",
    "FileSplit",
    "FrozenSplit",
    "OfficialSplit",
    "Side",
    "SplitSettings",
    "discover_cases",
    "labelled_slices",
    "refuse_bad_cases",
    "require_known_modalities",
    "require_known_targets",
    "split_cases",
]

__getattr__ = lazy_exports(__name__, __file__)
