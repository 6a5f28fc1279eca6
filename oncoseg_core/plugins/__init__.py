"""Finding plugins, and building their components with checked settings.

The names below are for plugins and programs; each is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from oncoseg_core.system.lazy_names import lazy_exports

if TYPE_CHECKING:
    from oncoseg_core.plugins.configuration import (
        apply_overrides,
        built_in_names,
        find_config,
        read_yaml,
        validate,
        validation_message,
    )
    from oncoseg_core.plugins.discovery import normalised
    from oncoseg_core.plugins.environment import environment_summary, library_versions, peak_memory_mb
    from oncoseg_core.plugins.registry import Plugin, RegisteredComponent

__all__ = [
    "Plugin",
    "RegisteredComponent",
    "apply_overrides",
    "built_in_names",
    "environment_summary",
    "find_config",
    "library_versions",
    "normalised",
    "peak_memory_mb",
    "read_yaml",
    "validate",
    "validation_message",
]

__getattr__ = lazy_exports(__name__, __file__)
