"""Clicks for models that take boxes only: a search for the box around what was clicked on.

The names below are for plugins and programs; each is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from oncoseg_core.system import lazy_exports

if TYPE_CHECKING:
    from oncoseg_clicks.model import ClickSearch, with_clicks
    from oncoseg_clicks.record import CLICKS_READ_AS, needs_search, record_with_clicks

__all__ = ["CLICKS_READ_AS", "ClickSearch", "needs_search", "record_with_clicks", "with_clicks"]

__getattr__ = lazy_exports(__name__, __file__)
