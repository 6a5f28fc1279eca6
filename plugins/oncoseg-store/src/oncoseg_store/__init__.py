"""The prepared store: every case of a dataset read once, and kept so that one slice of it can be had in a moment.

:mod:`~oncoseg_store.preparing` makes a store, :mod:`~oncoseg_store.store` reads it. On disk it is one file per case
(:mod:`~oncoseg_store.case_file`) and one index, written last. Each name is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from oncoseg_core.system import lazy_exports

if TYPE_CHECKING:
    from oncoseg_store.index import INDEX
    from oncoseg_store.one_case import PreparationJob
    from oncoseg_store.preparing import PreparationReport, prepare_dataset
    from oncoseg_store.store import PreparedCase, PreparedStore

__all__ = ["INDEX", "PreparationJob", "PreparationReport", "PreparedCase", "PreparedStore", "prepare_dataset"]

__getattr__ = lazy_exports(__name__, __file__)
