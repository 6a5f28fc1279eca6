"""The ``oncoseg`` program.

The names below are for plugins and programs; each is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from oncoseg_core.system.lazy_names import lazy_exports

if TYPE_CHECKING:
    from oncoseg_core.cli.app import installed_registry
    from oncoseg_core.cli.command_group import AllowBroken, Overrides, SquareFit, default_command_app
    from oncoseg_core.cli.command_line import run_app
    from oncoseg_core.cli.output import cell, reserved_stdout, say, say_json
    from oncoseg_core.cli.progress import progress_bar
    from oncoseg_core.cli.show_component import draw

__all__ = [
    "AllowBroken",
    "Overrides",
    "SquareFit",
    "cell",
    "default_command_app",
    "draw",
    "installed_registry",
    "progress_bar",
    "reserved_stdout",
    "run_app",
    "say",
    "say_json",
]

__getattr__ = lazy_exports(__name__, __file__)
