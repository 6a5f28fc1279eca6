"""One atlas registered with one image: computed once, then kept."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from oncoseg_atlas.alignment import Affine, Likeness, align, likeness
from oncoseg_atlas.cache import Arrays, Cache, key_of
from oncoseg_atlas.deformation import Field, deform, folded, whole_transform
from oncoseg_atlas.folder import Atlas
from oncoseg_atlas.prepared import Prepared
from oncoseg_atlas.settings import AtlasSettings

VERSION = 4
"""Of the method; what another one made is not taken from the cache."""

_threads = threading.Lock()
_users = 0
_usual = 1


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """ITK with one thread, in this whole process, as long as anybody is within.

    With several, mutual information adds up in another order every time: the same scans gave transforms that differ
    from the fourth digit on. The number that a registration is given does not reach its metric; the global one does.
    """
    global _users, _usual  # noqa: PLW0603 - ITK's own setting is global
    with _threads:
        if _users == 0:
            _usual = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        _users += 1
    try:
        yield
    finally:
        with _threads:
            _users -= 1
            if _users == 0:
                sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(_usual)


class Target(NamedTuple):
    """The image that is contoured: made ready, and the hash of its values, grid and modality."""

    scan: Prepared
    key: str
    modality: str

    @property
    def same_scale(self) -> bool:
        """Whether intensities mean the same in every scan of the modality."""
        return self.modality == "ct"


class Aligned(NamedTuple):
    """An atlas after the affine step; ``fault`` says why it takes no part."""

    atlas: Atlas
    affine: Affine | None
    like: Likeness
    fault: str | None


class Deformed(NamedTuple):
    """An atlas after the last step; ``transform`` goes from the image's points to the atlas's."""

    atlas: Atlas
    transform: sitk.Transform
    like: Likeness
    folded: float

    def fault(self, settings: AtlasSettings) -> str | None:
        """Why it takes no part after all; None where it does."""
        if settings.deformation != "none" and self.like.inside < settings.minimum_fit:
            return f"deformed, it fits by {self.like.inside:.2f}, {settings.minimum_fit:.2f} is needed"
        return None


def align_atlas(target: Target, atlas: Atlas, settings: AtlasSettings, cache: Cache) -> Aligned:
    """The affine step, from the cache where it was made before, and whether the atlas fits."""

    def make() -> Arrays:
        affine = align(target.scan, atlas.scan, same_scale=target.same_scale)
        like = Likeness(-1.0, -1.0, 0.0) if affine is None else likeness(target.scan, atlas.scan, affine.transform())
        numbers = () if affine is None else (*affine.matrix, *affine.translation, *affine.center)
        return {"affine": np.array(numbers), "like": np.array(like)}

    arrays = cache.get(_key("affine", target, atlas), make)
    numbers, like = arrays["affine"].tolist(), Likeness(*arrays["like"].tolist())
    if not numbers:
        return Aligned(atlas, None, like, "it cannot be laid on the image")
    affine = Affine(tuple(numbers[:9]), tuple(numbers[9:12]), tuple(numbers[12:]))
    return Aligned(atlas, affine, like, _fault(affine, like, settings))


def _fault(affine: Affine, like: Likeness, settings: AtlasSettings) -> str | None:
    if affine.fault is not None:
        return affine.fault
    if like.overlap < settings.minimum_overlap:
        return f"it covers {like.overlap:.0%} of the body, {settings.minimum_overlap:.0%} are needed"
    if like.correlation < settings.minimum_similarity:
        return f"its similarity is {like.correlation:.2f}, {settings.minimum_similarity:.2f} is needed"
    return None


def deform_atlas(
    target: Target, aligned: Aligned, settings: AtlasSettings, cache: Cache, late: Callable[[], bool]
) -> Deformed:
    """The last step, from the cache where it was made before. What was cut short by time is not kept."""
    atlas, affine, kind = aligned.atlas, aligned.affine, settings.deformation
    assert affine is not None  # noqa: S101 - those without one take no part
    key = _key(kind, target, atlas)
    kept = cache.find(key) if kind != "none" else {}
    if kept is None:
        cut = False

        def watch() -> bool:
            nonlocal cut
            cut = cut or late()
            return cut

        field = deform(target.scan, atlas.scan, affine, kind, same_scale=target.same_scale, late=watch)
        kept = {} if field is None else {"field": field}
        if not cut:
            cache.keep(key, kept)
    found: Field | None = kept.get("field")
    transform = whole_transform(affine, found, target.scan.image)
    share = 0.0 if found is None else folded(found, target.scan.image)
    return Deformed(atlas, transform, likeness(target.scan, atlas.scan, transform), share)


def _key(step: str, target: Target, atlas: Atlas) -> str:
    return key_of(VERSION, sitk.Version.VersionString(), step, target.key, atlas.key)
