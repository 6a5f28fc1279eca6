"""Which objects are taken for images of a series."""

from __future__ import annotations

from pydicom import uid

_IMAGES = frozenset(
    {
        uid.CTImageStorage,
        uid.EnhancedCTImageStorage,
        uid.LegacyConvertedEnhancedCTImageStorage,
        uid.MRImageStorage,
        uid.EnhancedMRImageStorage,
        uid.EnhancedMRColorImageStorage,
        uid.LegacyConvertedEnhancedMRImageStorage,
        uid.PositronEmissionTomographyImageStorage,
        uid.EnhancedPETImageStorage,
        uid.LegacyConvertedEnhancedPETImageStorage,
        uid.SecondaryCaptureImageStorage,
    }
)
"""A secondary capture may lie among the slices of a series, which is then refused: it must not vanish on the way."""


def is_image(sop_class_uid: str) -> bool:
    """Whether objects of a class are images that the node examines; structure sets, reports and films are not."""
    return sop_class_uid in _IMAGES
