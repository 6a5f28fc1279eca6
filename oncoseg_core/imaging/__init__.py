"""Image files: reading, writing, comparing.

The names below are for plugins and programs, as is the module ``overlay``; each is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from oncoseg_core.system.lazy_names import lazy_exports

if TYPE_CHECKING:
    from oncoseg_core.imaging.formats import (
        ONE_FILE_SUFFIXES,
        PICTURE_SUFFIXES,
        VOLUME_SUFFIXES,
        format_suffix,
        is_own_format,
        read_label,
        read_volume,
        require_even,
        require_finite,
        target_mask,
        write_segmentation,
    )
    from oncoseg_core.imaging.label_images import numbers_of
    from oncoseg_core.imaging.open_image import (
        RecognisedPath,
        format_of,
        read_image,
        read_masks,
        reader_settings,
        recognise,
    )
    from oncoseg_core.imaging.overlay import (
        COLOURS,
        PREDICTION_COLOUR,
        PROMPT_COLOUR,
        REFERENCE_COLOUR,
        draw_edges,
        draw_legend,
        draw_outline,
        draw_slice,
        new_figure,
        outline_edges,
        png_bytes,
        set_window,
        texts_as_written,
        window_around,
    )
    from oncoseg_core.imaging.voxel_hash import content_hash

__all__ = [
    "COLOURS",
    "ONE_FILE_SUFFIXES",
    "PICTURE_SUFFIXES",
    "PREDICTION_COLOUR",
    "PROMPT_COLOUR",
    "REFERENCE_COLOUR",
    "VOLUME_SUFFIXES",
    "RecognisedPath",
    "content_hash",
    "draw_edges",
    "draw_legend",
    "draw_outline",
    "draw_slice",
    "format_of",
    "format_suffix",
    "is_own_format",
    "new_figure",
    "numbers_of",
    "outline_edges",
    "png_bytes",
    "read_image",
    "read_label",
    "read_masks",
    "read_volume",
    "reader_settings",
    "recognise",
    "require_even",
    "require_finite",
    "set_window",
    "target_mask",
    "texts_as_written",
    "window_around",
    "write_segmentation",
]

__getattr__ = lazy_exports(__name__, __file__)
