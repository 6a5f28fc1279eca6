"""Cases for training and scoring: selection, splits, leakage.

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
    from oncoseg_core.data.leakage import (
        Leak,
        Scan,
        TrainedOn,
        declared_leaks,
        leak_rows,
        refuse_leaks,
        same_scans,
        seen_scans,
    )
    from oncoseg_core.data.splits import FileSplit, FrozenSplit, OfficialSplit, Side, SplitSettings, split_cases

__all__ = [
    "WEAK",
    "FileSplit",
    "FrozenSplit",
    "Leak",
    "OfficialSplit",
    "Scan",
    "Side",
    "SplitSettings",
    "TrainedOn",
    "declared_leaks",
    "discover_cases",
    "labelled_slices",
    "leak_rows",
    "refuse_bad_cases",
    "refuse_leaks",
    "require_known_modalities",
    "require_known_targets",
    "same_scans",
    "seen_scans",
    "split_cases",
]

__getattr__ = lazy_exports(__name__, __file__)
