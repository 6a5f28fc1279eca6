"""Files, folders, threads and random numbers.

The names below are for plugins and programs; each is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from oncoseg_core.system import lazy_names

if TYPE_CHECKING:
    from oncoseg_core.system.atomic import atomic_path, atomic_write, write_failure
    from oncoseg_core.system.cache_folder import cache_directory
    from oncoseg_core.system.foreign_files import open_regular, read_regular
    from oncoseg_core.system.lazy_names import lazy_exports
    from oncoseg_core.system.memory_limit import image_bytes_limit, require_image_bytes
    from oncoseg_core.system.output import json_text, printable, prints_aside
    from oncoseg_core.system.privacy import display_path
    from oncoseg_core.system.randomness import derived_generator, derived_seed
    from oncoseg_core.system.stand_ins import not_fetched
    from oncoseg_core.system.threads import for_each

__all__ = [
    "atomic_path",
    "atomic_write",
    "cache_directory",
    "derived_generator",
    "derived_seed",
    "display_path",
    "for_each",
    "image_bytes_limit",
    "json_text",
    "lazy_exports",
    "not_fetched",
    "open_regular",
    "printable",
    "prints_aside",
    "read_regular",
    "require_image_bytes",
    "write_failure",
]

__getattr__ = lazy_names.lazy_exports(__name__, __file__)
