"""The prepared store: every case of a dataset read once, and kept so that one slice of it can be had in a moment.

:mod:`~oncoseg_core.data.prepared.preparing` makes a store, :mod:`~oncoseg_core.data.prepared.store` reads it. On disk
it is one file per case (:mod:`~oncoseg_core.data.prepared.case_file`) and one index, written last.
"""

from oncoseg_core.data.prepared.store import PreparedCase, PreparedStore

__all__ = ["PreparedCase", "PreparedStore"]
